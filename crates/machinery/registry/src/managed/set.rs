//! A set of field paths: upstream's `fieldpath.Set`, as one sorted tree.

use std::cmp::Ordering;

use super::element::Element;

/// Entries are sorted; each is a member or has children.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    pub(super) entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) element: Element,
    /// The path that ends here is in the set.
    pub(super) member: bool,
    pub(super) children: Set,
}

impl Entry {
    fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }
}

impl Set {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many paths it holds.
    pub fn len(&self) -> usize {
        self.entries.iter().map(|entry| usize::from(entry.member) + entry.children.len()).sum()
    }

    /// Of paths of fields.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(&path.iter().map(|name| Element::field(name)).collect::<Vec<_>>());
        }
        set
    }

    pub(super) fn find(&self, element: &Element) -> Option<&Entry> {
        self.entries.binary_search_by(|entry| entry.element.cmp(element)).ok().map(|at| &self.entries[at])
    }

    pub(super) fn find_field(&self, name: &str) -> Option<&Entry> {
        // Fields come before all other elements.
        let order = |entry: &Entry| match &entry.element {
            Element::Field(field) => (**field).cmp(name),
            _ => Ordering::Greater,
        };
        self.entries.binary_search_by(order).ok().map(|at| &self.entries[at])
    }

    fn slot(&mut self, element: &Element) -> &mut Entry {
        let at = match self.entries.binary_search_by(|entry| entry.element.cmp(element)) {
            Ok(at) => at,
            Err(at) => {
                let entry = Entry { element: element.clone(), member: false, children: Self::default() };
                self.entries.insert(at, entry);
                at
            }
        };
        &mut self.entries[at]
    }

    pub fn insert(&mut self, path: &[Element]) {
        let Some((first, rest)) = path.split_first() else { return };
        let entry = self.slot(first);
        if rest.is_empty() {
            entry.member = true;
        } else {
            entry.children.insert(rest);
        }
    }

    /// Adds an entry; one that holds nothing is not added. In any order, but an element that is there is joined with.
    pub(super) fn push(&mut self, element: Element, member: bool, children: Self) {
        let entry = Entry { element, member, children };
        if entry.is_empty() {
            return;
        }
        if self.entries.last().is_none_or(|last| last.element < entry.element) {
            self.entries.push(entry);
            return;
        }
        let slot = self.slot(&entry.element);
        slot.member |= entry.member;
        slot.children = if slot.children.is_empty() { entry.children } else { slot.children.union(&entry.children) };
    }

    pub fn has(&self, path: &[Element]) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        self.find(first).is_some_and(|entry| if rest.is_empty() { entry.member } else { entry.children.has(rest) })
    }

    /// Both trees side by side, in order; what `keep` makes of each pair is the result.
    fn zip(&self, other: &Self, keep: impl Fn(Option<&Entry>, Option<&Entry>) -> Option<Entry>) -> Self {
        let (mut left, mut right) = (self.entries.iter().peekable(), other.entries.iter().peekable());
        let mut entries = Vec::with_capacity(self.entries.len());
        loop {
            let order = match (left.peek(), right.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(left), Some(right)) => left.element.cmp(&right.element),
            };
            let kept = match order {
                Ordering::Less => keep(left.next(), None),
                Ordering::Greater => keep(None, right.next()),
                Ordering::Equal => keep(left.next(), right.next()),
            };
            entries.extend(kept.filter(|entry| !entry.is_empty()));
        }
        Self { entries }
    }

    pub fn union(&self, other: &Self) -> Self {
        self.zip(other, |left, right| match (left, right) {
            (Some(left), Some(right)) => Some(Entry {
                element: left.element.clone(),
                member: left.member || right.member,
                children: left.children.union(&right.children),
            }),
            (one, other) => one.or(other).cloned(),
        })
    }

    /// Path by path: a path's children stay when only the path itself is taken away.
    pub fn difference(&self, other: &Self) -> Self {
        self.zip(other, |left, right| match (left, right) {
            (Some(left), Some(right)) => Some(Entry {
                element: left.element.clone(),
                member: left.member && !right.member,
                children: left.children.difference(&right.children),
            }),
            (left, _) => left.cloned(),
        })
    }

    /// Takes each path of `other` away with everything below it.
    pub fn recursive_difference(&self, other: &Self) -> Self {
        self.zip(other, |left, right| match (left, right) {
            (Some(_), Some(right)) if right.member => None,
            (Some(left), Some(right)) => Some(Entry {
                element: left.element.clone(),
                member: left.member,
                children: left.children.recursive_difference(&right.children),
            }),
            (left, _) => left.cloned(),
        })
    }

    pub fn intersection(&self, other: &Self) -> Self {
        self.zip(other, |left, right| match (left, right) {
            (Some(left), Some(right)) => Some(Entry {
                element: left.element.clone(),
                member: left.member && right.member,
                children: left.children.intersection(&right.children),
            }),
            _ => None,
        })
    }

    /// The paths that no other path of the set goes on from.
    pub fn leaves(&self) -> Self {
        let leaf = |entry: &Entry| Entry {
            element: entry.element.clone(),
            member: entry.member && entry.children.is_empty(),
            children: entry.children.leaves(),
        };
        Self { entries: self.entries.iter().map(leaf).collect() }
    }

    /// Every path: those that end at a level before those that go on below it, as upstream lists conflicts.
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let mut all = Vec::new();
        self.collect(&mut Vec::new(), &mut all);
        all
    }

    fn collect(&self, prefix: &mut Vec<Element>, all: &mut Vec<Vec<Element>>) {
        for entry in self.entries.iter().filter(|entry| entry.member) {
            let mut path = prefix.clone();
            path.push(entry.element.clone());
            all.push(path);
        }
        for entry in &self.entries {
            prefix.push(entry.element.clone());
            entry.children.collect(prefix, all);
            prefix.pop();
        }
    }
}
