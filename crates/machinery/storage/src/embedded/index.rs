//! Current keys with their revisions: what the writer checks expectations against before it touches the disk.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use rusqlite::Connection;

use super::schema;
use crate::{Error, Expect, Result, Revision};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Current {
    pub(super) created: Revision,
    pub(super) modified: Revision,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    keys: HashMap<Arc<str>, Current>,
    /// What the uncommitted batch replaced, oldest first.
    undo: Vec<(Arc<str>, Option<Current>)>,
}

/// Rows that go when history up to a revision goes (first), by their own revision (second); in that order.
pub(super) type Superseded = VecDeque<(Revision, Revision)>;

/// What the history says of the present.
pub(super) struct Loaded {
    pub(super) index: Index,
    /// The newest revision.
    pub(super) newest: Revision,
    pub(super) superseded: Superseded,
}

pub(super) fn load(connection: &Connection) -> rusqlite::Result<Loaded> {
    let mut index = Index::default();
    let mut newest = Revision(1);
    let mut superseded = Vec::new();
    // Of one key the oldest first, from the index alone.
    let mut statement =
        connection.prepare("SELECT key, revision, created, deleted FROM history ORDER BY key, revision")?;
    let mut rows = statement.query([])?;
    let mut last: Option<(Arc<str>, Revision)> = None;
    while let Some(row) = rows.next()? {
        let (bytes, modified) = (row.get_ref(0)?.as_blob()?, schema::revision(row.get(1)?));
        newest = newest.max(modified);
        let key = match last {
            Some((key, older)) if key.as_bytes() == bytes => {
                superseded.push((modified, older));
                key
            }
            _ => String::from_utf8_lossy(bytes).into(),
        };
        if row.get::<_, bool>(3)? {
            superseded.push((modified, modified));
            index.keys.remove(&key);
        } else {
            index.keys.insert(key.clone(), Current { created: schema::revision(row.get(2)?), modified });
        }
        last = Some((key, modified));
    }
    superseded.sort_unstable();
    Ok(Loaded { index, newest, superseded: superseded.into() })
}

impl Index {
    /// The key's state where it is as expected (`None`: absent), and the key as the index already holds it.
    pub(super) fn check(&self, key: &Arc<str>, expected: Expect) -> Result<(Arc<str>, Option<Current>)> {
        let found = self.keys.get_key_value(key);
        let actual = found.map(|(_, current)| current.modified);
        match (expected, actual) {
            (Expect::Absent, None) => Ok((key.clone(), None)),
            (Expect::At(revision), Some(modified)) if revision == modified => {
                Ok(found.map_or_else(|| (key.clone(), None), |(key, current)| (key.clone(), Some(*current))))
            }
            _ => Err(Error::Conflict { key: key.to_string(), expected, actual }),
        }
    }

    pub(super) fn set(&mut self, key: Arc<str>, to: Option<Current>) {
        let before = match to {
            Some(current) => self.keys.insert(key.clone(), current),
            None => self.keys.remove(&key),
        };
        self.undo.push((key, before));
    }

    pub(super) fn commit(&mut self) {
        self.undo.clear();
    }

    pub(super) fn roll_back(&mut self) {
        while let Some((key, before)) = self.undo.pop() {
            match before {
                Some(current) => self.keys.insert(key, current),
                None => self.keys.remove(&key),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_batch_that_fails_leaves_no_trace() {
        let key: Arc<str> = "/a".into();
        let at = |n| Some(Current { created: Revision(2), modified: Revision(n) });
        let mut index = Index::default();
        index.set(key.clone(), at(2));
        index.commit();
        index.set(key.clone(), at(3));
        index.set(key.clone(), None);
        index.set(key.clone(), at(5));
        index.set("/b".into(), at(6));
        index.roll_back();
        assert_eq!(index.check(&key, Expect::At(Revision(2))).unwrap().1, at(2));
        assert!(index.check(&"/b".into(), Expect::Absent).is_ok());
    }

    #[test]
    fn expectations_are_met_or_name_what_is_there() {
        let key: Arc<str> = "/a".into();
        let mut index = Index::default();
        let conflict = |result: Result<_>| match result {
            Err(Error::Conflict { actual, .. }) => actual,
            other => panic!("{other:?}"),
        };
        assert_eq!(conflict(index.check(&key, Expect::At(Revision(2)))), None);
        index.set(key.clone(), Some(Current { created: Revision(2), modified: Revision(4) }));
        assert_eq!(conflict(index.check(&key, Expect::Absent)), Some(Revision(4)));
        assert_eq!(conflict(index.check(&key, Expect::At(Revision(2)))), Some(Revision(4)));
    }
}
