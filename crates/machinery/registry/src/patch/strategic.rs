//! Strategic merge patch: a merge that knows, from the schema, which lists merge and by which key.
//!
//! Follows apimachinery's `util/strategicpatch`, directives included:
//! `$patch: replace|delete`, `$deleteFromPrimitiveList/<list>`, `$setElementOrder/<list>`, `$retainKeys`.

use std::collections::HashSet;

use base_meta::schema::{SchemaRef, Shape, Table};
use base_meta::{Reason, Status};
use serde_json::{Map, Value};

use super::lists;

pub(super) const MARKER: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("unknown patch type: {directive} in map: {map}")]
    Directive { directive: String, map: String },
    #[error("map: {map} does not contain declared merge key: {key}")]
    NoMergeKey { map: String, key: String },
    #[error("invalid patch format of retainKeys")]
    RetainKeys,
    #[error("invalid patch format of primitive list")]
    PrimitiveList,
    #[error("invalid patch format of setElementOrder list")]
    SetElementOrder,
    #[error("merging lists cannot yet be specified in the patch")]
    MergeDirective,
    #[error("the order in patch list {patch} does not match that of $setElementOrder {order}")]
    Order { patch: String, order: String },
    #[error("unable to find api field in struct {owner} for the json field {field:?}")]
    UnknownField { owner: &'static str, field: String },
    #[error("lists of lists are not supported")]
    ListOfLists,
    #[error("the elements of list {field} are not all of one type")]
    MixedList { field: String },
    #[error("cannot merge lists without merge key for {field}")]
    NoDeclaredKey { field: String },
}

impl Error {
    pub(super) fn status(&self) -> Status {
        match self {
            Self::ListOfLists => Status::new(Reason::Invalid, self.to_string()),
            _ => Status::bad_request(self.to_string()),
        }
    }
}

/// What a value at some place is, as far as the schema says.
#[derive(Clone, Copy)]
pub(super) struct Place {
    table: Option<&'static Table>,
    shape: Shape,
}

/// How the field of a map is to be merged.
pub(super) struct Rule {
    pub(super) place: Place,
    pub(super) merge: bool,
    pub(super) replace: bool,
    pub(super) key: Option<&'static str>,
}

impl Place {
    /// `Err` where the type has no such field.
    fn field(self, name: &str) -> Result<Rule, Error> {
        let plain = |shape| Rule { place: Self { shape, ..self }, merge: false, replace: false, key: None };
        let Some(table) = self.table else { return Ok(plain(Shape::Any)) };
        match self.shape {
            Shape::Object(id) => {
                let field = table
                    .field(id, name)
                    .ok_or_else(|| Error::UnknownField { owner: table.get(id).go_name(), field: name.to_owned() })?;
                Ok(Rule {
                    place: Self { shape: field.shape, ..self },
                    merge: field.patch_strategy.merge,
                    replace: field.patch_strategy.replace,
                    key: field.patch_merge_key,
                })
            }
            Shape::Map(value) => Ok(plain(table.nested(value))),
            _ => Ok(plain(Shape::Any)),
        }
    }

    /// Of a list's elements.
    pub(super) fn element(self) -> Self {
        match (self.table, self.shape) {
            (Some(table), Shape::List(element)) => Self { shape: table.nested(element), ..self },
            _ => Self { shape: Shape::Any, ..self },
        }
    }
}

pub(super) fn apply(document: Value, patch: Value, schema: Option<SchemaRef>) -> Result<Value, Error> {
    let place = match schema {
        Some(schema) => Place { table: Some(schema.table), shape: Shape::Object(schema.root) },
        None => Place { table: None, shape: Shape::Any },
    };
    match (document, patch) {
        (Value::Object(document), Value::Object(patch)) => merge_map(document, patch, place).map(Value::Object),
        (document, _) => Ok(document),
    }
}

pub(super) fn merge_map(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    place: Place,
) -> Result<Map<String, Value>, Error> {
    if let Some(directive) = patch.remove(MARKER) {
        return match directive.as_str() {
            Some("replace") => Ok(strip_map(patch)),
            Some("delete") => Ok(Map::new()),
            _ => Err(Error::Directive { directive: directive.to_string(), map: Value::Object(patch).to_string() }),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    order_lists(&mut original, &mut patch, place)?;
    for (name, value) in patch {
        if let Some(list) = directive_target(&name, DELETE_FROM, Error::PrimitiveList)? {
            let Value::Array(gone) = value else { return Err(Error::PrimitiveList) };
            if let Some(Value::Array(present)) = original.get_mut(list) {
                let gone: HashSet<String> = gone.iter().map(Value::to_string).collect();
                present.retain(|item| !gone.contains(&item.to_string()));
            }
            continue;
        }
        let merged = match (original.remove(&name), value) {
            (_, Value::Null) => continue,
            (Some(Value::Object(old)), Value::Object(new)) => {
                let rule = place.field(&name)?;
                Some(Value::Object(if rule.replace { strip_map(new) } else { merge_map(old, new, rule.place)? }))
            }
            (Some(Value::Array(old)), Value::Array(new)) => {
                let rule = place.field(&name)?;
                Some(Value::Array(lists::merge(&name, old, new, &rule)?))
            }
            (_, new) => strip(new),
        };
        if let Some(merged) = merged {
            original.insert(name, merged);
        }
    }
    Ok(original)
}

/// `$retainKeys` names every key that may stay; a union's other members go.
fn retain_keys(original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), Error> {
    let Some(directive) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(keep) = directive else { return Err(Error::RetainKeys) };
    let kept = |name: &str| keep.iter().any(|key| key.as_str() == Some(name));
    let unlisted = patch.iter().any(|(name, value)| {
        !value.is_null() && !name.starts_with(DELETE_FROM) && !name.starts_with(SET_ORDER) && !kept(name)
    });
    if unlisted {
        return Err(Error::RetainKeys);
    }
    original.retain(|name, _| kept(name));
    Ok(())
}

/// Merges and orders the lists that a `$setElementOrder/<list>` speaks of, and takes them out of the patch.
fn order_lists(original: &mut Map<String, Value>, patch: &mut Map<String, Value>, place: Place) -> Result<(), Error> {
    let directives: Vec<String> = patch.keys().filter(|name| name.starts_with(SET_ORDER)).cloned().collect();
    for directive in directives {
        let Some(list) = directive_target(&directive, SET_ORDER, Error::SetElementOrder)? else { continue };
        let Some(Value::Array(order)) = patch.remove(&directive) else { return Err(Error::SetElementOrder) };
        let rule = place.field(list)?;
        let patched = match patch.get(list) {
            None => None,
            Some(Value::Array(items)) => Some(items.clone()),
            Some(_) => return Err(Error::SetElementOrder),
        };
        let present = match original.get(list) {
            None => None,
            Some(Value::Array(items)) => Some(items.clone()),
            Some(_) => return Err(Error::SetElementOrder),
        };
        patch.remove(list);
        if let Some(patched) = &patched {
            lists::check_order(patched, &order, rule.key)?;
        }
        let merged = match (&present, patched) {
            (None, None) => continue,
            (Some(present), None) => present.clone(),
            (None, Some(patched)) => lists::strip(patched),
            (Some(present), Some(patched)) => lists::merge(list, present.clone(), patched, &rule)?,
        };
        let ordered = lists::arrange(merged, &order, present.as_deref().unwrap_or_default(), rule.key)?;
        original.insert(list.to_owned(), Value::Array(ordered));
    }
    Ok(())
}

/// The list that a directive like `$setElementOrder/containers` is about.
fn directive_target<'a>(name: &'a str, directive: &str, malformed: Error) -> Result<Option<&'a str>, Error> {
    match name.strip_prefix(directive) {
        None => Ok(None),
        Some(rest) => rest.strip_prefix('/').filter(|list| !list.is_empty()).map(Some).ok_or(malformed),
    }
}

/// A patch's value where there is nothing to merge it into: without nulls and directives.
pub(super) fn strip(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(map) if map.get(MARKER).is_some_and(|directive| directive == "delete") => None,
        Value::Object(map) => Some(Value::Object(strip_map(map))),
        Value::Array(items) => Some(Value::Array(lists::strip(items))),
        scalar => Some(scalar),
    }
}

fn strip_map(map: Map<String, Value>) -> Map<String, Value> {
    let directive = |name: &str| {
        name == MARKER || name == RETAIN_KEYS || name.starts_with(DELETE_FROM) || name.starts_with(SET_ORDER)
    };
    map.into_iter()
        .filter(|(name, _)| !directive(name))
        .filter_map(|(name, value)| strip(value).map(|value| (name, value)))
        .collect()
}
