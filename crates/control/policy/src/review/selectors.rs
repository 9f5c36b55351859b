//! The selectors that a review may name: which are refused, and what of them cannot be followed. No authorizer of this
//! server tells requests apart by what they select, so an answer holds with and without them.

use base_meta::field::{Error, Path};
use base_meta::names;
use base_meta::selector::{FieldSelector, LabelSelector};
use k8s_openapi::api::authorization::v1::ResourceAttributes;

struct Requirement<'a> {
    key: &'a str,
    operator: &'a str,
    values: &'a [String],
}

struct Selector<'a> {
    name: &'static str,
    raw: &'a str,
    requirements: Vec<Requirement<'a>>,
    /// Of labels, else of fields.
    labels: bool,
}

macro_rules! selector {
    ($name:literal, $labels:literal, $given:expr) => {
        $given.as_ref().map(|given| Selector {
            name: $name,
            raw: given.raw_selector.as_deref().unwrap_or_default(),
            requirements: given
                .requirements
                .iter()
                .flatten()
                .map(|one| Requirement {
                    key: &one.key,
                    operator: &one.operator,
                    values: one.values.as_deref().unwrap_or_default(),
                })
                .collect(),
            labels: $labels,
        })
    };
}

fn of(wanted: &ResourceAttributes) -> impl Iterator<Item = Selector<'_>> {
    let fields = selector!("fieldSelector", false, wanted.field_selector);
    fields.into_iter().chain(selector!("labelSelector", true, wanted.label_selector))
}

pub(super) fn problems(wanted: &ResourceAttributes, path: &Path) -> Vec<Error> {
    of(wanted).flat_map(|selector| selector.problems(&path.child(selector.name))).collect()
}

/// What a review's status says of selectors that were not understood; empty if all were.
pub(super) fn ignored(wanted: &ResourceAttributes, path: &Path) -> String {
    let told = of(wanted).filter_map(|selector| {
        let (good, bad) = selector.understood();
        let partially = if good > 0 { "partially " } else { "" };
        (bad > 0).then(|| format!("{} {partially}ignored due to parse error", path.child(selector.name)))
    });
    told.collect::<Vec<_>>().join("; ")
}

impl Selector<'_> {
    fn problems(&self, path: &Path) -> Vec<Error> {
        let mut errors = Vec::new();
        match (self.raw.is_empty(), self.requirements.is_empty()) {
            (false, false) => {
                let detail = "may not specified at the same time as requirements";
                errors.push(Error::invalid(&path.child("rawSelector"), self.raw, detail));
            }
            (true, true) => {
                let detail = format!("when {path} is specified, requirements or rawSelector is required");
                errors.push(Error::required(&path.child("requirements"), detail));
            }
            _ => {}
        }
        for (index, requirement) in self.requirements.iter().enumerate() {
            requirement.problems(self.labels, &path.child("requirements").index(index), &mut errors);
        }
        errors
    }

    /// How many requirements can be followed, and how many cannot: clients may know operators of later versions.
    fn understood(&self) -> (usize, usize) {
        if !self.raw.is_empty() {
            let good = if self.labels {
                LabelSelector::parse(self.raw).is_ok()
            } else {
                FieldSelector::parse(self.raw).is_ok()
            };
            return (0, usize::from(!good));
        }
        let good = self.requirements.iter().filter(|one| match one.operator {
            "In" | "NotIn" => self.labels || one.values.len() == 1,
            "Exists" | "DoesNotExist" => self.labels,
            _ => false,
        });
        let good = good.count();
        (good, self.requirements.len() - good)
    }
}

impl Requirement<'_> {
    fn problems(&self, labels: bool, path: &Path, errors: &mut Vec<Error>) {
        let (key, values) = (path.child("key"), path.child("values"));
        if !labels && self.key.is_empty() {
            errors.push(Error::required(&key, "must be specified"));
        }
        match self.operator {
            "In" | "NotIn" if self.values.is_empty() => {
                errors.push(Error::required(&values, "must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if !self.values.is_empty() => errors
                .push(Error::forbidden(&values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")),
            _ => {}
        }
        if labels {
            let name = names::qualified_name(self.key).into_iter();
            errors.extend(name.map(|problem| Error::invalid(&key, self.key, problem)));
            for (index, value) in self.values.iter().enumerate() {
                let problems = names::label_value(value).into_iter();
                errors.extend(problems.map(|problem| Error::invalid(&values.index(index), value, problem)));
            }
        }
    }
}
