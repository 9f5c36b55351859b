//! What differs between two values of one place.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::element::{Element, same};
use super::place::{Kind, Place};
use super::set::Set;

/// No path is in more than one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    pub(super) added: Set,
    pub(super) modified: Set,
    pub(super) removed: Set,
}

impl Comparison {
    pub(super) fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// Without `paths` and all below them.
    pub(super) fn without(self, paths: &Set) -> Self {
        if paths.is_empty() || self.is_same() {
            return self;
        }
        Self {
            added: self.added.recursive_difference(paths),
            modified: self.modified.recursive_difference(paths),
            removed: self.removed.recursive_difference(paths),
        }
    }

    pub(super) fn changed(&self) -> Set {
        self.added.union(&self.modified)
    }

    /// Takes in what was found at `element` and below it.
    fn take(&mut self, element: Element, found: Found) {
        let Found { mark, below } = found;
        let Self { added, modified, removed } = below;
        self.added.push(element.clone(), mark == Some(Mark::Added), added);
        self.modified.push(element.clone(), mark == Some(Mark::Modified), modified);
        self.removed.push(element, mark == Some(Mark::Removed), removed);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Added,
    Modified,
    Removed,
}

#[derive(Debug, Default)]
struct Found {
    mark: Option<Mark>,
    below: Comparison,
}

impl Found {
    fn nothing(&self) -> bool {
        self.mark.is_none() && self.below.is_same()
    }
}

pub(super) fn compare(place: Place<'_>, old: &Value, new: &Value) -> Comparison {
    visit(place, Some(old), Some(new)).below
}

fn visit(place: Place<'_>, old: Option<&Value>, new: Option<&Value>) -> Found {
    let mark = match (old, new) {
        (None, _) => Some(Mark::Added),
        (_, None) => Some(Mark::Removed),
        _ => None,
    };
    let deciding = match (old, new) {
        (Some(old), Some(Value::Null) | None) => old,
        (_, Some(new)) => new,
        (None, None) => return Found::default(),
    };
    let kind = place.kind(deciding);
    // Where nothing is said, a map and a scalar have nothing in common.
    let alike = |value: Option<&Value>| match kind {
        Kind::Map => value.is_none_or(|value| value.is_object() || value.is_null()),
        Kind::Set | Kind::Keyed(_) => value.is_none_or(|value| value.is_array() || value.is_null()),
        Kind::Leaf => true,
    };
    let empty = |value: Option<&Value>| match value {
        Some(Value::Object(entries)) => entries.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        _ => true,
    };
    if matches!(kind, Kind::Leaf) || !alike(old) || !alike(new) || (empty(old) && empty(new)) {
        let differs = matches!((old, new), (Some(old), Some(new)) if !same(old, new));
        return Found { mark: mark.or(differs.then_some(Mark::Modified)), below: Comparison::default() };
    }
    let below = match kind {
        Kind::Map => maps(place, old.and_then(Value::as_object), new.and_then(Value::as_object)),
        kind => lists(place, kind, old, new),
    };
    Found { mark, below }
}

fn maps(place: Place<'_>, old: Option<&Map<String, Value>>, new: Option<&Map<String, Value>>) -> Comparison {
    let mut result = Comparison::default();
    let (mut old, mut new) = (old.into_iter().flatten().peekable(), new.into_iter().flatten().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return result,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.0.cmp(new.0),
        };
        let old = if order.is_le() { old.next() } else { None };
        let new = if order.is_ge() { new.next() } else { None };
        let Some((name, _)) = old.or(new) else { return result };
        let (old, new) = (old.map(|(_, value)| value), new.map(|(_, value)| value));
        // Most of an object is as it was; scalars and atoms take the same comparison a little later.
        if matches!((old, new), (Some(Value::String(old)), Some(Value::String(new))) if old == new) {
            continue;
        }
        let found = visit(place.entry_or_deduced(name).0, old, new);
        if !found.nothing() {
            result.take(Element::field(name), found);
        }
    }
}

/// The items of a list with their elements, sorted by them; equal ones in their order.
fn indexed<'v>(place: Place<'_>, kind: Kind<'_>, list: Option<&'v Value>) -> Vec<(Element, &'v Value)> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    let mut all: Vec<_> =
        items.filter_map(|item| place.item_element(kind, item).ok().map(|element| (element, item))).collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

fn lists(place: Place<'_>, kind: Kind<'_>, old: Option<&Value>, new: Option<&Value>) -> Comparison {
    let mut result = Comparison::default();
    if let (Some(old), Some(new)) = (old, new)
        && old == new
    {
        return result;
    }
    let (old, new) = (indexed(place, kind, old), indexed(place, kind, new));
    let (mut old, mut new) = (old.as_slice(), new.as_slice());
    while let Some((element, _)) = match (old.first(), new.first()) {
        (Some(one), Some(other)) if other.0 < one.0 => Some(other),
        (one, other) => one.or(other),
    } {
        let element = element.clone();
        let (was, is) = (run(&mut old, &element), run(&mut new, &element));
        let found = match (was.len(), is.len()) {
            (0 | 1, 0 | 1) => visit(place.item(), was.first().map(|pair| pair.1), is.first().map(|pair| pair.1)),
            // Items that are there twice are one value.
            (2.., 2..) => {
                let same = was.len() == is.len() && was.iter().zip(is).all(|(was, is)| same(was.1, is.1));
                Found { mark: (!same).then_some(Mark::Modified), below: Comparison::default() }
            }
            (2.., _) => {
                let now = is.first().map(|pair| visit(place.item(), None, Some(pair.1))).unwrap_or_default();
                if now.mark.is_some() {
                    result.take(element.clone(), now);
                }
                Found { mark: Some(Mark::Removed), below: Comparison::default() }
            }
            _ => {
                let gone = was.first().map(|pair| visit(place.item(), Some(pair.1), None)).unwrap_or_default();
                if gone.mark.is_some() {
                    result.take(element.clone(), gone);
                }
                Found { mark: Some(Mark::Added), below: Comparison::default() }
            }
        };
        if !found.nothing() {
            result.take(element, found);
        }
    }
    result
}

/// Cuts the items of `element` off the front.
fn run<'a, 'v>(items: &mut &'a [(Element, &'v Value)], element: &Element) -> &'a [(Element, &'v Value)] {
    let count = items.iter().take_while(|item| item.0 == *element).count();
    let (run, rest) = items.split_at(count);
    *items = rest;
    run
}
