//! Who owns what after a write that is not an apply: the writer owns what it changed, nobody owns what is gone.

use std::collections::BTreeMap;

use serde_json::Value;

use super::compare::{Comparison, compare};
use super::ledger::{Entry, Fields, Ledger, Operation, Writer};
use super::set::Set;
use super::versions::Versions;
use super::{Error, strip};

/// Entries of updates beyond this many are joined, the oldest first.
const MOST_UPDATERS: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// A write: who makes it, when, and what it may not set (`reset`, with all below).
#[derive(Clone, Debug)]
pub struct Write {
    pub writer: Writer,
    /// RFC 3339, whole seconds, UTC.
    pub time: Box<str>,
    pub reset: Set,
}

/// `Ok(None)`: the ledger stays as it is, text and all.
pub fn updated(
    kind: &dyn Versions,
    old: &Value,
    new: &Value,
    ledger: &Ledger,
    write: &Write,
) -> Result<Option<Ledger>, Error> {
    let version = &write.writer.api_version;
    let place = kind.place(version).ok_or_else(|| Error::Unserved(version.to_string()))?;
    let difference = compare(place, old, new).without(&write.reset);
    // Other versions are made from this one: where nothing differs here, nothing does there.
    if difference.is_same() {
        return Ok(None);
    }
    let mut ledger = ledger.clone();
    let own = strip::strip(&difference.changed());
    // A writer that changes only what it owns already, and takes nothing away, keeps its entry as it is but for the time.
    let at = ledger.entries.iter().position(|entry| entry.writer.is(&write.writer));
    let steady = match at {
        Some(at) if !own.is_empty() => {
            let entry = &ledger.entries[at];
            entry.count(&own)? == own.len() && entry.count(&difference.removed)? == 0
        }
        _ => false,
    };
    Shares::new(kind, old, new, write, difference).withdraw(&mut ledger, steady.then_some(&write.writer))?;
    if !own.is_empty() {
        let mut entry = match ledger.remove(&write.writer) {
            Some(entry) if steady => entry,
            Some(entry) => Entry { fields: Fields::Set(entry.set()?.union(&own)), ..entry },
            None => Entry { writer: write.writer.clone(), time: None, fields: Fields::Set(own) },
        };
        entry.time = Some(write.time.clone());
        ledger.entries.push(entry);
    }
    cap(&mut ledger)?;
    ledger.sort();
    Ok(Some(ledger))
}

/// What a write changes, in each version that somebody owns fields in.
pub(super) struct Shares<'a> {
    kind: &'a dyn Versions,
    old: &'a Value,
    new: &'a Value,
    reset: &'a Set,
    versions: BTreeMap<String, Comparison>,
}

impl<'a> Shares<'a> {
    pub(super) fn new(
        kind: &'a dyn Versions,
        old: &'a Value,
        new: &'a Value,
        write: &'a Write,
        difference: Comparison,
    ) -> Self {
        let versions = [(write.writer.api_version.to_string(), difference)].into();
        Self { kind, old, new, reset: &write.reset, versions }
    }

    /// `None`: the version is not served any more.
    fn of(&mut self, version: &str) -> Result<Option<&Comparison>, Error> {
        if !self.versions.contains_key(version) {
            let convert = |value| self.kind.convert(value, version).map_err(Error::Convert);
            let (Some(place), Some(old), Some(new)) =
                (self.kind.place(version), convert(self.old)?, convert(self.new)?)
            else {
                return Ok(None);
            };
            self.versions.insert(version.to_owned(), compare(place, &old, &new).without(self.reset));
        }
        Ok(self.versions.get(version))
    }

    /// What others than `applier` own of what the write changes.
    pub(super) fn conflicts(&mut self, ledger: &Ledger, applier: &Writer) -> Result<Vec<(Writer, Set)>, Error> {
        let mut conflicts = Vec::new();
        for entry in ledger.entries.iter().filter(|entry| !entry.writer.is(applier)) {
            let Some(difference) = self.of(&entry.writer.api_version)? else { continue };
            let taken = entry.set()?.intersection(&difference.changed());
            if !taken.is_empty() {
                conflicts.push((entry.writer.clone(), taken));
            }
        }
        Ok(conflicts)
    }

    /// Takes from everyone but `applier` what the write changes and what is gone.
    pub(super) fn withdraw(&mut self, ledger: &mut Ledger, applier: Option<&Writer>) -> Result<(), Error> {
        let mut kept = Vec::with_capacity(ledger.entries.len() + 1);
        for mut entry in std::mem::take(&mut ledger.entries) {
            if applier.is_some_and(|applier| entry.writer.is(applier)) {
                kept.push(entry);
                continue;
            }
            let Some(difference) = self.of(&entry.writer.api_version)? else { continue };
            let changed = difference.changed();
            if entry.count(&changed)? + entry.count(&difference.removed)? > 0 {
                let left = entry.set()?.difference(&changed).difference(&difference.removed);
                entry.fields = Fields::Set(left);
            }
            if !entry.owns_nothing() {
                kept.push(entry);
            }
        }
        ledger.entries = kept;
        Ok(())
    }
}

/// Joins the oldest updaters of one version until few enough are left.
fn cap(ledger: &mut Ledger) -> Result<(), Error> {
    let updates = |entry: &&Entry| entry.writer.operation == Operation::Update;
    let mut count = ledger.entries.iter().filter(updates).count();
    if count <= MOST_UPDATERS {
        return Ok(());
    }
    let mut oldest: Vec<(Option<Box<str>>, Writer)> =
        ledger.entries.iter().filter(updates).map(|entry| (entry.time.clone(), entry.writer.clone())).collect();
    oldest.sort();
    let mut first_of: BTreeMap<String, Writer> = BTreeMap::new();
    for (_, writer) in oldest {
        if count <= MOST_UPDATERS {
            break;
        }
        let version = writer.api_version.to_string();
        let Some(first) = first_of.get(&version) else {
            first_of.insert(version, writer);
            continue;
        };
        let bucket = Writer {
            manager: ANCIENT.into(),
            operation: Operation::Update,
            api_version: writer.api_version.clone(),
            subresource: "".into(),
        };
        if writer.is(&bucket) {
            continue;
        }
        let base = ledger.remove(&bucket).or_else(|| ledger.remove(first));
        let (Some(base), Some(joined)) = (base, ledger.remove(&writer)) else { continue };
        let set = joined.set()?.union(&*base.set()?);
        // The time of the later of the two.
        ledger.entries.push(Entry { writer: bucket, time: joined.time.clone(), fields: Fields::Set(set) });
        count -= 1;
    }
    Ok(())
}
