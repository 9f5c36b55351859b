//! Label selectors: what they are and what they match.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde_json::Value;

use super::SelectorError;
use crate::names;

/// A parsed label selector; the default selects everything. All requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    pub requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    /// Sorted, without repeats.
    pub values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Also `=` and `==`, with one value.
    In,
    /// Also `!=`, with one value. Holds where the key is absent.
    NotIn,
    Exists,
    DoesNotExist,
    /// Node selectors and the query syntax only: `values` holds one integer.
    GreaterThan,
    LessThan,
}

impl Requirement {
    /// Checks what upstream's `NewRequirement` checks; `values` may come in any order.
    pub fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Self, SelectorError> {
        values.sort();
        values.dedup();
        let mut problems = Vec::new();
        let key_problems = names::label_key(key);
        if !key_problems.is_empty() {
            problems.push(format!("key: Invalid value: {key:?}: {}", key_problems.join("; ")));
        }
        let shown = || serde_json::to_string(&values).unwrap_or_default();
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                problems
                    .push("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty".into());
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => problems.push(format!(
                "values: Invalid value: {}: values set must be empty for exists and does not exist",
                shown()
            )),
            Operator::GreaterThan | Operator::LessThan => {
                if values.len() != 1 {
                    problems.push(format!(
                        "values: Invalid value: {}: for 'Gt', 'Lt' operators, exactly one value is required",
                        shown()
                    ));
                }
                for (index, value) in values.iter().enumerate() {
                    if value.parse::<i64>().is_err() {
                        problems.push(format!(
                            "values[{index}]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
                        ));
                    }
                }
            }
            _ => {}
        }
        for (index, value) in values.iter().enumerate() {
            let value_problems = names::label_value(value);
            if !value_problems.is_empty() {
                problems
                    .push(format!("values[{index}][{key}]: Invalid value: {value:?}: {}", value_problems.join("; ")));
            }
        }
        match problems.as_slice() {
            [] => Ok(Self { key: key.to_owned(), operator, values }),
            [one] => Err(SelectorError(one.clone())),
            many => Err(SelectorError(format!("[{}]", many.join(", ")))),
        }
    }

    fn holds(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|wanted| wanted == value);
        match (self.operator, value) {
            (Operator::In, Some(value)) => listed(value),
            (Operator::NotIn, Some(value)) => !listed(value),
            (Operator::Exists, value) => value.is_some(),
            (Operator::DoesNotExist, value) => value.is_none(),
            (Operator::In, None) => false,
            (Operator::NotIn, None) => true,
            (Operator::GreaterThan | Operator::LessThan, value) => {
                let number = |text: &str| text.parse::<i64>().ok();
                let (Some(value), Some(bound)) =
                    (value.and_then(number), self.values.first().and_then(|bound| number(bound)))
                else {
                    return false;
                };
                if self.operator == Operator::GreaterThan { value > bound } else { value < bound }
            }
        }
    }
}

impl LabelSelector {
    /// Selects every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Selects no object: what an absent `metav1.LabelSelector` means. It holds one set without members.
    pub fn nothing() -> Self {
        Self { requirements: vec![Requirement { key: String::new(), operator: Operator::In, values: Vec::new() }] }
    }

    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether the labels that `lookup` reads satisfy every requirement.
    pub fn matches<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|requirement| requirement.holds(lookup(&requirement.key)))
    }

    /// The labels of an object's metadata.
    pub fn matches_labels<'a>(
        &self,
        labels: impl Into<Option<&'a std::collections::BTreeMap<String, String>>>,
    ) -> bool {
        let labels = labels.into();
        self.matches(|key| labels.and_then(|labels| labels.get(key)).map(String::as_str))
    }

    /// Exact pairs, as `spec.selector` of a Service or a ReplicationController. Not checked: they were when stored.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let requirement = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::In,
            values: vec![value.clone()],
        };
        Self { requirements: pairs.into_iter().map(requirement).collect() }
    }

    /// Upstream's `LabelSelectorAsSelector`: absent selects nothing, empty selects everything.
    pub fn from_typed(selector: Option<&meta::LabelSelector>) -> Result<Self, SelectorError> {
        let Some(selector) = selector else { return Ok(Self::nothing()) };
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            requirements.push(Requirement::new(key, Operator::In, vec![value.clone()])?);
        }
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(SelectorError(format!("{other:?} is not a valid label selector operator"))),
            };
            let values = expression.values.clone().unwrap_or_default();
            requirements.push(Requirement::new(&expression.key, operator, values)?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements })
    }

    /// The same from a selector's JSON; `null` selects nothing.
    pub fn from_json(selector: &Value) -> Result<Self, SelectorError> {
        use serde::Deserialize as _;
        let selector = Option::<meta::LabelSelector>::deserialize(selector)
            .map_err(|error| SelectorError(format!("invalid label selector: {error}")))?;
        Self::from_typed(selector.as_ref())
    }
}

/// The query syntax, which parses back to an equal selector. One value prints as `key=value` or `key!=value`.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, operator, values } = self;
        match (operator, values.as_slice()) {
            (Operator::Exists, _) => write!(f, "{key}"),
            (Operator::DoesNotExist, _) => write!(f, "!{key}"),
            (Operator::In, [value]) => write!(f, "{key}={value}"),
            (Operator::NotIn, [value]) => write!(f, "{key}!={value}"),
            (Operator::In, values) => write!(f, "{key} in ({})", values.join(",")),
            (Operator::NotIn, values) => write!(f, "{key} notin ({})", values.join(",")),
            (Operator::GreaterThan, values) => write!(f, "{key}>{}", values.join(",")),
            (Operator::LessThan, values) => write!(f, "{key}<{}", values.join(",")),
        }
    }
}
