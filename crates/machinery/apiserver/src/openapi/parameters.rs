//! Query and path parameters of operations; clients look for `fieldValidation`, `dryRun` and `fieldManager`.

use serde_json::{Value, json};

use super::schemas::Dialect;

#[derive(Clone, Copy)]
enum Type {
    String,
    Integer,
    Boolean,
}

impl Type {
    const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
        }
    }
}

fn parameter(dialect: Dialect, place: &str, name: &str, kind: Type, required: bool) -> Value {
    let mut parameter = json!({ "name": name, "in": place });
    if required {
        parameter["required"] = json!(true);
    }
    match dialect {
        Dialect::V2 => {
            parameter["type"] = json!(kind.name());
            parameter["uniqueItems"] = json!(true);
        }
        Dialect::V3 => parameter["schema"] = json!({ "type": kind.name(), "uniqueItems": true }),
    }
    parameter
}

fn all(dialect: Dialect, parameters: &[(&str, Type)]) -> Vec<Value> {
    parameters.iter().map(|(name, kind)| parameter(dialect, "query", name, *kind, false)).collect()
}

/// Of every operation on a path.
pub(super) fn of_path(dialect: Dialect, namespaced: bool, named: bool) -> Vec<Value> {
    let mut parameters = Vec::new();
    if named {
        parameters.push(parameter(dialect, "path", "name", Type::String, true));
    }
    if namespaced {
        parameters.push(parameter(dialect, "path", "namespace", Type::String, true));
    }
    parameters.extend(all(dialect, &[("pretty", Type::String)]));
    parameters
}

pub(super) fn of_write(dialect: Dialect) -> Vec<Value> {
    let names = [("dryRun", Type::String), ("fieldManager", Type::String), ("fieldValidation", Type::String)];
    all(dialect, &names)
}

pub(super) fn of_patch(dialect: Dialect) -> Vec<Value> {
    let mut parameters = of_write(dialect);
    parameters.extend(all(dialect, &[("force", Type::Boolean)]));
    parameters
}

pub(super) fn of_delete(dialect: Dialect) -> Vec<Value> {
    let names = [
        ("dryRun", Type::String),
        ("gracePeriodSeconds", Type::Integer),
        ("orphanDependents", Type::Boolean),
        ("propagationPolicy", Type::String),
    ];
    all(dialect, &names)
}

pub(super) fn of_list(dialect: Dialect) -> Vec<Value> {
    let names = [
        ("allowWatchBookmarks", Type::Boolean),
        ("continue", Type::String),
        ("fieldSelector", Type::String),
        ("labelSelector", Type::String),
        ("limit", Type::Integer),
        ("resourceVersion", Type::String),
        ("resourceVersionMatch", Type::String),
        ("sendInitialEvents", Type::Boolean),
        ("timeoutSeconds", Type::Integer),
        ("watch", Type::Boolean),
    ];
    all(dialect, &names)
}
