//! Structures that an expression makes: `Object{…}`, `Object.spec{…}` with any fields, and `JSONPatch{…}`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::{Kind, Ty};
use crate::value::Val;

pub const OBJECT: &str = "Object";
pub const JSON_PATCH: &str = "JSONPatch";

#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    pub name: Arc<str>,
    pub fields: BTreeMap<String, Val>,
}

/// Whether a structure of this name can be made.
pub(crate) fn is_known(name: &str) -> bool {
    name == JSON_PATCH || name == OBJECT || name.starts_with("Object.")
}

/// The type of a field; none where the structure has no such field.
pub(crate) fn field(of: &str, name: &str) -> Option<Ty> {
    match (of, name) {
        (JSON_PATCH, "op" | "path" | "from") => Some(Kind::String.into()),
        (JSON_PATCH, "value") => Some(Kind::Dyn.into()),
        (JSON_PATCH, _) => None,
        _ => Some(Kind::Dyn.into()),
    }
}

/// Each structure inside another must be named by the path of fields that leads to it. In upstream's words, a line for
/// each that is not.
pub fn misnamed(value: &Val) -> Option<String> {
    let Val::Made(made) = value else { return None };
    let mut problems = Vec::new();
    visit(value, &made.name, &mut problems);
    (!problems.is_empty()).then(|| problems.join("\n"))
}

fn visit(value: &Val, path: &str, problems: &mut Vec<String>) {
    match value {
        Val::Made(made) => {
            if *made.name != *path {
                problems.push(format!(
                    "unexpected type name {:?}, expected {path:?}, which matches field name path from root Object type",
                    made.name
                ));
            }
            made.fields.iter().for_each(|(name, value)| visit(value, &format!("{path}.{name}"), problems));
        }
        Val::List(items) => items.iter().for_each(|item| visit(item, path, problems)),
        Val::Map(entries) => entries.values().for_each(|value| visit(value, path, problems)),
        _ => {}
    }
}
