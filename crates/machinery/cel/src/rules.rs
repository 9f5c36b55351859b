//! `x-kubernetes-validations`: compiled once with their schema, run over each object.
//!
//! A rule stands at a node of the schema and sees the value there as `self` and, where it names it, the value that stood
//! there before as `oldSelf`. Items of lists have a before only where the list is a map. What did not change is
//! tolerated, as a rule that is newer than its objects must not lock them; rules that look at `oldSelf` are about the
//! change itself, and hold in any case.

use std::collections::BTreeMap;

use base_meta::field::{Error, Path};
use machinery_structural::{Additional, Before, Rule, Schema};
use serde_json::Value;

use crate::program::Program;
use crate::schema::{declare, to_value};
use crate::types::{Kind, Ty};
use crate::value::Val;
use crate::{Budget, Declarations, ESTIMATE_LIMIT, ESTIMATE_TOTAL_LIMIT, EvalError, PER_CALL_LIMIT, PER_OBJECT_LIMIT};

#[derive(Debug)]
struct Compiled {
    rule: Rule,
    program: Program,
    message: Option<Program>,
    transition: bool,
}

/// What the rules say against an object.
#[derive(Debug, Default)]
pub struct Verdict {
    pub errors: Vec<Error>,
    /// Of values that the update leaves as they were: worth a warning, no reason to refuse.
    pub tolerated: Vec<Error>,
}

/// The rules of a schema, in its shape.
#[derive(Debug, Default)]
pub struct Rules {
    here: Vec<Compiled>,
    properties: BTreeMap<String, Rules>,
    additional: Option<Box<Rules>>,
    items: Option<Box<Rules>>,
}

impl Rules {
    /// Compiles every rule; what does not compile or could cost too much is said below `path`, the schema's.
    pub fn compile(schema: &Schema, path: &Path) -> (Self, Vec<Error>) {
        let mut errors = Vec::new();
        let mut total = 0u64;
        let rules = compile(schema, true, path, 1, &mut total, &mut errors);
        if total > ESTIMATE_TOTAL_LIMIT {
            let factor = factor(total, ESTIMATE_TOTAL_LIMIT);
            let detail = format!(
                "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
            );
            errors.push(Error::forbidden(path, detail));
        }
        (rules, errors)
    }

    pub fn is_empty(&self) -> bool {
        self.here.is_empty()
            && self.properties.values().all(Self::is_empty)
            && self.items.as_ref().is_none_or(|items| items.is_empty())
            && self.additional.as_ref().is_none_or(|values| values.is_empty())
    }

    /// Everything that the rules say against a whole object, given the one it replaces.
    pub fn validate(&self, schema: &Schema, object: &Value, old: Option<&Value>) -> Verdict {
        let mut run = Run { budget: Budget::new(PER_OBJECT_LIMIT), verdict: Verdict::default() };
        if !self.is_empty() {
            let place = Place { path: &Path::default(), whole: true, old, unchanged: false };
            let _spent = run.node(self, schema, &place, object);
        }
        run.verdict
    }
}

fn factor(cost: u64, limit: u64) -> String {
    #[allow(clippy::cast_precision_loss)]
    let factor = cost as f64 / limit as f64;
    if factor > 100.0 { "more than 100x".to_owned() } else { format!("{factor:.1}x") }
}

fn compile(schema: &Schema, whole: bool, path: &Path, times: u64, total: &mut u64, errors: &mut Vec<Error>) -> Rules {
    let mut rules = Rules::default();
    for (index, rule) in schema.rules.iter().enumerate() {
        let path = path.child("x-kubernetes-validations").index(index);
        match compile_rule(schema, whole, rule, &path) {
            Ok(compiled) => {
                let cost = compiled.program.estimated_cost().saturating_mul(times);
                *total = total.saturating_add(cost);
                if cost > ESTIMATE_LIMIT {
                    let factor = factor(cost, ESTIMATE_LIMIT);
                    let detail = format!(
                        "estimated rule cost exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
                    );
                    errors.push(Error::forbidden(&path.child("rule"), detail));
                }
                rules.here.push(compiled);
            }
            Err(error) => errors.push(error),
        }
    }
    for (name, property) in &schema.properties {
        if property.has_rules() {
            let path = path.child("properties").key(name);
            rules.properties.insert(name.clone(), compile(property, false, &path, times, total, errors));
        }
    }
    let mut many = |inner: &Schema, name: &str| {
        let times = times.saturating_mul(declare(schema, whole).max);
        Box::new(compile(inner, false, &path.child(name), times, total, errors))
    };
    if let Some(items) = schema.items.as_deref().filter(|items| items.has_rules()) {
        rules.items = Some(many(items, "items"));
    }
    if let Some(Additional::Schema(values)) = &schema.additional
        && values.has_rules()
    {
        rules.additional = Some(many(values, "additionalProperties"));
    }
    rules
}

fn compile_rule(schema: &Schema, whole: bool, rule: &Rule, path: &Path) -> Result<Compiled, Error> {
    let ty = declare(schema, whole);
    let optional = rule.optional_old_self == Some(true);
    let old = if optional { Ty::optional(ty.clone()) } else { ty.clone() };
    let declarations = Declarations::default().with("self", ty).with("oldSelf", old);
    let refuse = |field: &str, text: &str, detail: String| Error::invalid(&path.child(field), text, detail);
    let program =
        Program::compile(&rule.rule, &declarations).map_err(|error| refuse("rule", &rule.rule, error.to_string()))?;
    if !Ty::from(Kind::Bool).accepts(program.ty()) || program.ty().is_dyn() {
        return Err(refuse("rule", &rule.rule, "cel expression must evaluate to a bool".into()));
    }
    let message = match rule.message_expression.as_str() {
        "" => None,
        text => {
            let program = Program::compile(text, &declarations)
                .map_err(|error| refuse("messageExpression", text, error.to_string()))?;
            if !Ty::from(Kind::String).accepts(program.ty()) {
                let detail = "messageExpression must evaluate to a string".to_owned();
                return Err(refuse("messageExpression", text, detail));
            }
            Some(program)
        }
    };
    let transition = program.mentions("oldSelf");
    Ok(Compiled { rule: rule.clone(), program, message, transition })
}

struct Run {
    budget: Budget,
    verdict: Verdict,
}

/// Nothing more may be run.
struct Spent;

/// Where in an object, and what was there before.
struct Place<'a> {
    path: &'a Path,
    /// An object with metadata of its own.
    whole: bool,
    old: Option<&'a Value>,
    /// It, or what it is part of, is as it was.
    unchanged: bool,
}

impl Place<'_> {
    fn inside<'a>(&self, path: &'a Path, schema: &Schema, old: Option<&'a Value>) -> Place<'a> {
        Place { path, whole: schema.embedded, old, unchanged: self.unchanged }
    }
}

impl Run {
    fn node(&mut self, rules: &Rules, schema: &Schema, place: &Place<'_>, value: &Value) -> Result<(), Spent> {
        if value.is_null() {
            return Ok(());
        }
        let place = Place { unchanged: place.unchanged || place.old == Some(value), ..*place };
        self.here(rules, schema, &place, value)?;
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let old = place.old.and_then(|old| old.get(name));
                    let (inner, path) = (schema.properties.get(name), place.path.child(name));
                    if let (Some(rules), Some(inner)) = (rules.properties.get(name), inner) {
                        self.node(rules, inner, &place.inside(&path, inner, old), value)?;
                    } else if let (Some(rules), Some(Additional::Schema(inner)), None) =
                        (&rules.additional, &schema.additional, inner)
                    {
                        self.node(rules, inner, &place.inside(&path, inner, old), value)?;
                    }
                }
            }
            Value::Array(items) => {
                let (Some(rules), Some(inner)) = (&rules.items, &schema.items) else { return Ok(()) };
                let before = Before::new(schema, place.old);
                for (index, item) in items.iter().enumerate() {
                    let path = place.path.index(index);
                    self.node(rules, inner, &place.inside(&path, inner, before.of(item)), item)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn here(&mut self, rules: &Rules, schema: &Schema, place: &Place<'_>, value: &Value) -> Result<(), Spent> {
        if rules.here.is_empty() {
            return Ok(());
        }
        let this = to_value(schema, place.whole, value);
        let before = place.old.map(|old| to_value(schema, place.whole, old));
        for compiled in &rules.here {
            let optional = compiled.rule.optional_old_self == Some(true);
            if compiled.transition && before.is_none() && !optional {
                continue;
            }
            let mut variables = BTreeMap::from([("self", this.clone())]);
            match (&before, optional) {
                (Some(before), false) => variables.insert("oldSelf", before.clone()),
                (Some(before), true) => variables.insert("oldSelf", Val::some(before.clone())),
                (None, true) => variables.insert("oldSelf", Val::NONE),
                (None, false) => None,
            };
            self.run(compiled, schema, place, &variables)?;
        }
        Ok(())
    }

    /// One evaluation within both budgets.
    fn evaluate(&mut self, program: &Program, variables: &BTreeMap<&str, Val>) -> Result<Val, EvalError> {
        let allowed = PER_CALL_LIMIT.min(self.budget.left());
        let mut budget = Budget::new(allowed);
        let result = program.evaluate(variables, &mut budget);
        // What was spent of the allowance is there to be charged.
        self.budget.charge(allowed - budget.left())?;
        result
    }

    fn run(
        &mut self,
        compiled: &Compiled,
        schema: &Schema,
        place: &Place<'_>,
        variables: &BTreeMap<&str, Val>,
    ) -> Result<(), Spent> {
        let rule = &compiled.rule;
        let path = &below(place.path, &rule.field_path);
        let named = if *path == Path::default() { &Path::new("<nil>") } else { path };
        let shown = if rule.message.is_empty() { &rule.rule } else { &rule.message };
        let kind = if schema.int_or_string { "" } else { schema.kind.as_str() };
        let invalid = |detail: String| Error::invalid(named, kind, detail);
        if self.budget.left() == 0 {
            self.verdict.errors.push(invalid(
                "validation failed due to running out of cost budget, no further validation rules will be run".into(),
            ));
            return Err(Spent);
        }
        let error = match self.evaluate(&compiled.program, variables) {
            Ok(Val::Bool(true)) => return Ok(()),
            Ok(Val::Bool(false)) => {
                let message = self.message(compiled, variables);
                let error = match rule.reason.as_str() {
                    "FieldValueForbidden" => Error::forbidden(named, message),
                    "FieldValueRequired" => Error::required(named, message),
                    "FieldValueDuplicate" => {
                        let mut error = Error::duplicate(named, kind);
                        error.detail = message;
                        error
                    }
                    _ => Error::invalid(named, kind, message),
                };
                let tolerated = place.unchanged && !compiled.transition;
                let list = if tolerated { &mut self.verdict.tolerated } else { &mut self.verdict.errors };
                list.push(error);
                return Ok(());
            }
            Ok(_) | Err(EvalError::NoSuchOverload) => invalid(format!(
                "'no such overload': call arguments did not match a supported operator, function or macro signature for rule: {shown}"
            )),
            Err(error @ EvalError::Budget) => {
                self.verdict.errors.push(invalid(format!("'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {shown}")));
                return Err(Spent);
            }
            Err(error) => invalid(format!("{error} evaluating rule: {shown}")),
        };
        self.verdict.errors.push(error);
        Ok(())
    }

    /// The rule's own words, else that it failed.
    fn message(&mut self, compiled: &Compiled, variables: &BTreeMap<&str, Val>) -> String {
        if let Some(program) = &compiled.message
            && let Ok(Val::String(text)) = self.evaluate(program, variables)
        {
            let text = text.trim();
            if !text.is_empty() && !text.contains('\n') && text.len() <= 5 * 1024 {
                return text.to_owned();
            }
        }
        match compiled.rule.message.trim() {
            "" => format!("failed rule: {}", compiled.rule.rule.trim()),
            message => message.to_owned(),
        }
    }
}

/// `.spec.size` and `['a-b']` below a path.
fn below(path: &Path, field: &str) -> Path {
    let mut path = path.clone();
    let mut rest = field;
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix("['") {
            let Some((name, tail)) = tail.split_once("']") else { break };
            path = path.child(name);
            rest = tail;
        } else {
            let tail = rest.strip_prefix('.').unwrap_or(rest);
            let end = tail.find(['.', '[']).unwrap_or(tail.len());
            if end == 0 {
                break;
            }
            path = path.child(&tail[..end]);
            rest = &tail[end..];
        }
    }
    path
}
