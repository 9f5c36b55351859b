//! The objects and the log, and lists over both: pure.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use super::log::{Keep, Log};
use super::{Event, EventKind, Page};
use crate::{Object, Revision};

#[derive(Debug)]
pub(super) struct State {
    objects: BTreeMap<Arc<str>, Arc<Object>>,
    /// Every change under the prefix up to here is applied.
    pub(super) revision: Revision,
    pub(super) log: Log,
}

/// One change, decoded: `None` where a stored object cannot be.
pub(super) struct Applied {
    pub(super) key: Arc<str>,
    pub(super) revision: Revision,
    pub(super) deleted: bool,
    pub(super) object: Option<Arc<Object>>,
}

impl State {
    pub(super) fn new(objects: impl Iterator<Item = Arc<Object>>, revision: Revision, keep: Keep) -> Self {
        let objects = objects.map(|object| (object.key.clone(), object)).collect();
        Self { objects, revision, log: Log::new(revision, keep) }
    }

    /// Starts over from a new list; watchers have missed something.
    pub(super) fn replace(&mut self, objects: impl Iterator<Item = Arc<Object>>, revision: Revision) {
        self.objects = objects.map(|object| (object.key.clone(), object)).collect();
        self.revision = self.revision.max(revision);
        self.log.interrupt(self.revision);
    }

    pub(super) fn apply(&mut self, change: Applied, now: Instant) {
        let Applied { key, revision, deleted, object } = change;
        let event = match object {
            Some(object) if !deleted => {
                let previous = self.objects.insert(key, object.clone());
                let kind = if previous.is_some() { EventKind::Updated } else { EventKind::Created };
                Event::new(kind, object, previous)
            }
            // An object that became undecodable is gone for readers, too.
            last => {
                let Some(previous) = self.objects.remove(&key) else { return };
                let last = last.unwrap_or_else(|| Arc::new(previous.at(revision)));
                Event::new(EventKind::Deleted, last, Some(previous))
            }
        };
        self.log.push(Arc::new(event), now);
    }

    pub(super) fn get(&self, key: &str) -> Option<&Arc<Object>> {
        self.objects.get(key)
    }

    /// In key order, those whose key starts with `prefix` and comes after `start_after`.
    pub(super) fn range<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Object>> {
        within(&self.objects, prefix, start_after).map(|(_, object)| object)
    }

    pub(super) fn page(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
        filter: impl Fn(&Object) -> bool,
    ) -> Page {
        cut(self.range(prefix, start_after), limit, filter, self.revision)
    }

    /// The page as it was at `revision`; `None` when the log does not reach back so far.
    pub(super) fn page_at(
        &self,
        revision: Revision,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
        filter: impl Fn(&Object) -> bool,
    ) -> Option<Page> {
        if revision < self.log.complete_after() {
            return None;
        }
        // Undoes the later events; of several of one key the earliest has the state asked for.
        let undone: BTreeMap<Arc<str>, Option<Arc<Object>>> =
            self.log.back_to(revision).map(|event| (event.object.key.clone(), event.previous.clone())).collect();
        let kept = self.range(prefix, start_after).filter(|object| !undone.contains_key(&object.key));
        let restored = within(&undone, prefix, start_after).filter_map(|(_, before)| before.as_ref());
        let merged = Merge { left: kept.peekable(), right: restored.peekable() };
        Some(cut(merged, limit, filter, revision))
    }
}

fn within<'a, V>(
    map: &'a BTreeMap<Arc<str>, V>,
    prefix: &'a str,
    start_after: Option<&'a str>,
) -> impl Iterator<Item = (&'a Arc<str>, &'a V)> {
    let start = match start_after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    map.range::<str, _>((start, Bound::Unbounded)).take_while(move |(key, _)| key.starts_with(prefix))
}

/// Applies filter and limit to objects in key order.
pub(super) fn cut<'a>(
    mut objects: impl Iterator<Item = &'a Arc<Object>>,
    limit: usize,
    filter: impl Fn(&Object) -> bool,
    revision: Revision,
) -> Page {
    let mut items = Vec::new();
    let mut skipped = 0;
    for object in objects.by_ref() {
        if !filter(object) {
            // Between a full page and the next match; counted as remaining if there is one.
            skipped += u64::from(limit != 0 && items.len() == limit);
        } else if limit != 0 && items.len() == limit {
            let remaining = skipped + 1 + objects.count() as u64;
            return Page { items, revision, more: true, remaining: Some(remaining) };
        } else {
            items.push(object.clone());
        }
    }
    Page { items, revision, more: false, remaining: None }
}

/// Two runs in key order, as one.
struct Merge<L: Iterator, R: Iterator> {
    left: Peekable<L>,
    right: Peekable<R>,
}

impl<'a, L, R> Iterator for Merge<L, R>
where
    L: Iterator<Item = &'a Arc<Object>>,
    R: Iterator<Item = &'a Arc<Object>>,
{
    type Item = &'a Arc<Object>;

    fn next(&mut self) -> Option<Self::Item> {
        match (self.left.peek(), self.right.peek()) {
            (Some(left), Some(right)) if right.key < left.key => self.right.next(),
            (Some(_), _) => self.left.next(),
            (None, _) => self.right.next(),
        }
    }
}
