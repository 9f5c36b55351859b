//! A configuration laid over a live value: leaves are the configuration's, the rest stays.
//!
//! The order of a list that is a map or a set: the configuration's, with live-only items kept where they stand.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::element::Element;
use super::place::{Kind, Place};

pub(super) fn merge(place: Place<'_>, live: &Value, config: &Value) -> Value {
    visit(place, Some(live), Some(config)).unwrap_or_else(|| Value::Object(Map::new()))
}

/// `None`: nothing is left to hold. A value with nothing beside it stays as it is.
fn visit(place: Place<'_>, live: Option<&Value>, config: Option<&Value>) -> Option<Value> {
    let (Some(live), Some(config)) = (live, config) else { return live.or(config).cloned() };
    let kind = place.kind(if config.is_null() { live } else { config });
    match (kind, live, config) {
        (Kind::Map, Value::Object(live), Value::Object(config)) if !(live.is_empty() && config.is_empty()) => {
            maps(place, live, config)
        }
        (Kind::Set | Kind::Keyed(_), Value::Array(live), Value::Array(config))
            if !(live.is_empty() && config.is_empty()) =>
        {
            lists(place, kind, live, config)
        }
        // Null says nothing of a map's entries or a list's items.
        (Kind::Map | Kind::Set | Kind::Keyed(_), live, Value::Null) if !is_empty(live) => Some(live.clone()),
        (_, _, config) => Some(config.clone()),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(entries) => entries.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    }
}

fn maps(place: Place<'_>, live: &Map<String, Value>, config: &Map<String, Value>) -> Option<Value> {
    let mut merged = Map::new();
    for (name, value) in live {
        let value = match config.get(name) {
            Some(wanted) => visit(place.entry_or_deduced(name).0, Some(value), Some(wanted)),
            None => Some(value.clone()),
        };
        if let Some(value) = value {
            merged.insert(name.clone(), value);
        }
    }
    for (name, value) in config.iter().filter(|(name, _)| !live.contains_key(*name)) {
        merged.insert(name.clone(), value.clone());
    }
    (!merged.is_empty()).then_some(Value::Object(merged))
}

fn lists(place: Place<'_>, kind: Kind<'_>, live: &[Value], config: &[Value]) -> Option<Value> {
    let index = |items: &[Value]| -> Vec<(usize, Element)> {
        let elements = items.iter().enumerate();
        elements.filter_map(|(at, item)| place.item_element(kind, item).ok().map(|element| (at, element))).collect()
    };
    let (left, right) = (index(live), index(config));
    // An item that the live list holds twice is not merged with the new one: that one replaces them.
    let mut alive: BTreeMap<&Element, Option<usize>> = BTreeMap::new();
    for (at, element) in &left {
        alive.entry(element).and_modify(|at| *at = None).or_insert(Some(*at));
    }
    let wanted: BTreeMap<&Element, usize> = right.iter().map(|(at, element)| (element, *at)).collect();
    let mut shared = right.iter().map(|(_, element)| element).filter(|element| alive.contains_key(element));
    let mut next_shared = shared.next();
    let mut done: BTreeSet<&Element> = BTreeSet::new();
    let mut merged = Vec::with_capacity(live.len().max(config.len()));
    let join = |element: &Element, at: usize| {
        let old = alive.get(element).copied().flatten().map(|at| &live[at]);
        visit(place.item(), old, Some(&config[at]))
    };
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if let (Some((_, old)), Some((at, new))) = (left.get(l), right.get(r)) {
            if old == new {
                done.insert(new);
                merged.extend(join(new, *at));
                (l, r) = (l + 1, r + 1);
                next_shared = shared.next();
                continue;
            }
            if wanted.contains_key(old) && next_shared.is_some_and(|next| next != old) {
                l += 1;
                continue;
            }
        }
        if let Some((at, old)) = left.get(l) {
            if !wanted.contains_key(old) {
                merged.push(live[*at].clone());
                l += 1;
                continue;
            }
            if done.contains(old) {
                l += 1;
            }
        }
        if let Some((at, new)) = right.get(r) {
            done.insert(new);
            merged.extend(join(new, *at));
            r += 1;
            if next_shared == Some(new) {
                next_shared = shared.next();
            }
        }
    }
    (!merged.is_empty()).then_some(Value::Array(merged))
}
