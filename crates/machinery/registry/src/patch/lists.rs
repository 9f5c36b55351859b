//! Lists in a strategic merge: elements found by their merge key (or by value), then put in order.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::strategic::{Error, MARKER, Rule, merge_map, strip as strip_value};

/// What a patched list is, after `old`, by its field's rule.
pub(super) fn merge(field: &str, old: Vec<Value>, new: Vec<Value>, rule: &Rule) -> Result<Vec<Value>, Error> {
    if !rule.merge {
        return Ok(strip(new));
    }
    let Some(first) = old.first().or(new.first()) else { return Ok(old) };
    if first.is_array() {
        return Err(Error::ListOfLists);
    }
    let maps = first.is_object();
    if old.iter().chain(&new).any(|item| item.is_object() != maps || item.is_array()) {
        return Err(Error::MixedList { field: field.to_owned() });
    }
    if !maps {
        let mut seen = HashSet::new();
        let merged = old.iter().chain(&new).filter(|item| seen.insert(item.to_string())).cloned().collect();
        return arrange(merged, &new, &old, None);
    }
    let key = rule.key.ok_or_else(|| Error::NoDeclaredKey { field: field.to_owned() })?;
    let (mut merged, patches) = apply_directives(old, new, key)?;
    let before = merged.clone();
    let mut places = places(&merged, Some(key));
    for patch in &patches {
        let name = key_of(patch, key)?.to_string();
        match places.get(&name).copied() {
            Some(at) => {
                let old = std::mem::take(&mut merged[at]);
                merged[at] = Value::Object(merge_map(into_map(old), into_map(patch.clone()), rule.place.element())?);
            }
            None => {
                if let Some(item) = strip_value(patch.clone()) {
                    places.insert(name, merged.len());
                    merged.push(item);
                }
            }
        }
    }
    arrange(merged, &patches, &before, Some(key))
}

/// Carries out elements like `{$patch: delete, name: x}` and takes them out of the patch.
fn apply_directives(mut old: Vec<Value>, new: Vec<Value>, key: &str) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let mut patches = Vec::with_capacity(new.len());
    let mut gone = HashSet::new();
    let mut replace = false;
    for item in new {
        match item.get(MARKER) {
            None => patches.push(item),
            Some(directive) => match directive.as_str() {
                Some("delete") => drop(gone.insert(key_of(&item, key)?.to_string())),
                Some("replace") => replace = true,
                Some("merge") => return Err(Error::MergeDirective),
                _ => return Err(Error::Directive { directive: directive.to_string(), map: item.to_string() }),
            },
        }
    }
    if !gone.is_empty() {
        old.retain(|present| present.get(key).is_none_or(|name| !gone.contains(&name.to_string())));
    }
    Ok(if replace { (strip(patches), Vec::new()) } else { (old, patches) })
}

/// Puts the items that `wanted` speaks of in its order, and the others among them where they were.
pub(super) fn arrange(
    merged: Vec<Value>,
    wanted: &[Value],
    before: &[Value],
    key: Option<&str>,
) -> Result<Vec<Value>, Error> {
    if let Some(key) = key {
        merged.iter().try_for_each(|item| key_of(item, key).map(drop))?;
    }
    let (wanted, before) = (places(wanted, key), places(before, key));
    /// An item, and where it stands in the patch and stood before.
    type Placed = (Value, Option<usize>, Option<usize>);
    let placed = merged.into_iter().map(|item| -> Placed {
        let name = name_of(&item, key);
        let at = |places: &HashMap<String, usize>| places.get(name.as_ref()?).copied();
        let (next, last) = (at(&wanted), at(&before));
        (item, next, last)
    });
    let (mut ordered, mut others): (Vec<Placed>, Vec<Placed>) = placed.partition(|(_, next, _)| next.is_some());
    ordered.sort_by_key(|(_, next, _)| *next);
    others.sort_by_key(|(_, _, last)| *last);

    let mut result = Vec::with_capacity(ordered.len() + others.len());
    let mut ordered = ordered.into_iter().peekable();
    let mut others = others.into_iter().peekable();
    loop {
        // An untouched item goes first only where it stood before the next of the patch's; new ones come early.
        let other_first = match (others.peek(), ordered.peek()) {
            (None, None) => return Ok(result),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some((.., other)), Some((.., next))) => {
                matches!((other, next), (Some(other), Some(next)) if other < next)
            }
        };
        let next = if other_first { others.next() } else { ordered.next() };
        result.extend(next.map(|(item, ..)| item));
    }
}

/// The patch's items must appear in `order`, in that order.
pub(super) fn check_order(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), Error> {
    if order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in patch.iter().filter(|item| item.get(MARKER).is_none()) {
        let mut found = false;
        for next in rest.by_ref() {
            found = match key {
                None => next == item,
                Some(key) => key_of(next, key)? == key_of(item, key)?,
            };
            if found {
                break;
            }
        }
        if !found {
            let text = |list: &[Value]| Value::from(list).to_string();
            return Err(Error::Order { patch: text(patch), order: text(order) });
        }
    }
    Ok(())
}

/// Without the elements that are directives, and without nulls inside the others.
pub(super) fn strip(items: Vec<Value>) -> Vec<Value> {
    let directive = |item: &Value| item.as_object().is_some_and(|map| map.contains_key(MARKER));
    items
        .into_iter()
        .filter(|item| !directive(item))
        .filter_map(|item| if item.is_null() { Some(item) } else { strip_value(item) })
        .collect()
}

/// Where each item stands, by its name; of items of one name the first counts. Lists may be long, and looking one
/// through for each item of another would take the square of that.
fn places(list: &[Value], key: Option<&str>) -> HashMap<String, usize> {
    let mut places = HashMap::with_capacity(list.len());
    for (at, item) in list.iter().enumerate() {
        if let Some(name) = name_of(item, key) {
            places.entry(name).or_insert(at);
        }
    }
    places
}

/// What tells an item from the others: its key, or all of it.
fn name_of(item: &Value, key: Option<&str>) -> Option<String> {
    Some(key.map_or(Some(item), |key| item.get(key))?.to_string())
}

fn key_of<'a>(item: &'a Value, key: &str) -> Result<&'a Value, Error> {
    item.get(key).ok_or_else(|| Error::NoMergeKey { map: item.to_string(), key: key.to_owned() })
}

fn into_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
