//! What a mutation's expression says is to be changed. Pure.

use machinery_cel::{Question, Val, misnamed, to_json};
use machinery_registry::json_patch::{self, Patch};
use serde_json::{Map, Value};

use super::super::expressions::{Scope, Stop};
use super::policy::{Mutation, PatchType};

pub(super) enum Change {
    /// Without its apiVersion and kind.
    Configuration(Value),
    Patch(Patch),
}

/// Why there is no change, in upstream's words.
pub(super) fn change(mutation: &Mutation, scope: &Scope<'_>) -> Result<Result<Change, String>, Box<Question>> {
    if let Err(problem) = &mutation.expression.program {
        return Ok(Err(problem.clone()));
    }
    let made = match scope.evaluate(&mutation.expression) {
        Err(Stop::Question(question)) => return Err(question),
        Err(Stop::OutOfBudget) => Err(Stop::OUT_OF_BUDGET.to_owned()),
        Ok(made) => made,
    };
    Ok(made.and_then(|made| match mutation.kind {
        PatchType::ApplyConfiguration => configuration(&made),
        PatchType::Json => patch(&made),
    }))
}

fn configuration(made: &Val) -> Result<Change, String> {
    if !matches!(made, Val::Made(_)) {
        return Err(format!("unsupported return type from ApplyConfiguration expression: {}", made.type_name()));
    }
    match misnamed(made) {
        Some(problem) => Err(format!("type mismatch: {problem}")),
        None => to_json(made).map(Change::Configuration).map_err(|error| format!("invalid return type: {error}")),
    }
}

fn patch(made: &Val) -> Result<Change, String> {
    let Val::List(operations) = made else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array".to_owned());
    };
    let operations = operations.iter().map(operation).collect::<Result<Vec<_>, _>>()?;
    let patch = json_patch::parse(Value::Array(operations).to_string().as_bytes());
    patch.map(Change::Patch).map_err(|status| format!("JSONPath: {}", status.message))
}

fn operation(made: &Val) -> Result<Value, String> {
    let Val::Made(made) = made else {
        return Err(format!(
            "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch, got element of {}",
            made.type_name()
        ));
    };
    let mut operation = Map::new();
    for (name, value) in &made.fields {
        if let Some(problem) = misnamed(value) {
            return Err(format!("type mismatch: {problem}"));
        }
        let value = to_json(value).map_err(|error| {
            format!("JSONPath valueExpression evaluated to a type that could not marshal to JSON: {error}")
        })?;
        // An empty one is as if it were not there.
        if name != "from" || value != "" {
            operation.insert(name.clone(), value);
        }
    }
    Ok(Value::Object(operation))
}
