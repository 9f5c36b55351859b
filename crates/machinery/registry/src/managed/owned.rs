//! The set of a value: every field, item and atomic value that a configuration speaks of.

use serde_json::Value;

use super::element::Element;
use super::place::{Kind, Place};
use super::set::Set;

/// A path that is not declared (a map's key) is a member itself; a declared field only where it holds nothing.
pub(super) fn set_of(place: Place<'_>, value: &Value) -> Set {
    visit(place, value).1
}

/// Whether the value itself is one of the paths, and those below it.
fn visit(place: Place<'_>, value: &Value) -> (bool, Set) {
    let mut set = Set::default();
    let kind = place.kind(value);
    match (kind, value) {
        (Kind::Leaf, _) => return (true, set),
        (Kind::Map, Value::Object(entries)) => {
            for (name, value) in entries {
                let (place, declared) = place.entry_or_deduced(name);
                let (member, below) = visit(place, value);
                let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                set.push(Element::field(name), member || empty || !declared, below);
            }
        }
        (Kind::Set | Kind::Keyed(_), Value::Array(items)) => {
            let mut seen: Vec<Element> = Vec::with_capacity(items.len());
            let elements: Vec<_> = items.iter().map(|item| place.item_element(kind, item).ok()).collect();
            let mut sorted: Vec<_> = elements.iter().flatten().collect();
            sorted.sort();
            for pair in sorted.windows(2).filter(|pair| pair[0] == pair[1]) {
                if seen.last() != Some(pair[0]) {
                    seen.push(pair[0].clone());
                }
            }
            for (element, item) in elements.into_iter().zip(items) {
                let Some(element) = element else { continue };
                // Items that are there twice are owned as a whole.
                let below = if seen.contains(&element) { Set::default() } else { visit(place.item(), item).1 };
                set.push(element, true, below);
            }
        }
        _ => {}
    }
    (false, set)
}

/// Makes every declared field that has paths below it a member too, so that removing what is below leaves no shell.
pub(super) fn with_declared(place: Place<'_>, set: &Set) -> Set {
    let mut result = Set::default();
    for entry in &set.entries {
        let (below, declared) = match &entry.element {
            Element::Field(name) => place.entry_or_deduced(name),
            Element::Key(_) => (place.item(), false),
            _ => (Place::Deduced, false),
        };
        let member = entry.member || (declared && !entry.children.is_empty());
        result.push(entry.element.clone(), member, with_declared(below, &entry.children));
    }
    result
}
