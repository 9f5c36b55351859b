//! Server-side apply: the configuration is merged into the live object, and what its manager no longer speaks of goes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::compare::compare;
use super::ledger::{Entry, Fields, Ledger, Operation, Writer};
use super::merge::merge;
use super::owned::{set_of, with_declared};
use super::place::Place;
use super::prune::{settle, without};
use super::set::Set;
use super::update::{Shares, Write, updated};
use super::versions::Versions;
use super::{Conflict, Error, check, last_applied, strip};

/// Who owns the fields of an object that nobody was recorded for.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// What an apply makes of the live object.
#[derive(Debug)]
pub struct Applied {
    /// `None`: nothing of the object changes (the ledger may).
    pub object: Option<Value>,
    pub ledger: Ledger,
}

/// `live` and `config` are of the request's version, without managedFields; `empty` is what the kind looks like before
/// anything is set.
pub fn applied(
    kind: &dyn Versions,
    live: &Value,
    config: &Value,
    ledger: &Ledger,
    write: &Write,
    force: bool,
    empty: &Value,
) -> Result<Applied, Error> {
    let adopted = if ledger.is_empty() { adopt(kind, live, write, empty)? } else { None };
    let ledger = adopted.as_ref().unwrap_or(ledger);
    let from_kubectl = write.writer.manager == last_applied::MANAGER;
    let mut result = merged(kind, live, config, ledger, write, force);
    if let (true, Err(Error::Conflicts(conflicts))) = (from_kubectl, &mut result) {
        // What client-side apply set last may be taken over, as long as the object still has it.
        if let Some(allowed) = last_applied::allowed(kind, live, &write.writer.api_version) {
            conflicts.retain(|conflict| !allowed.has(&conflict.path));
            if conflicts.is_empty() {
                result = merged(kind, live, config, ledger, write, true);
            }
        }
    }
    let mut applied = result?;
    if from_kubectl {
        last_applied::refresh(live, &mut applied.object, config);
    }
    Ok(applied)
}

/// An object that nobody was recorded for, about to be applied to for the first time.
fn adopt(kind: &dyn Versions, live: &Value, write: &Write, empty: &Value) -> Result<Option<Ledger>, Error> {
    let writer = Writer { manager: BEFORE_FIRST_APPLY.into(), operation: Operation::Update, ..write.writer.clone() };
    let before = Write { writer, ..write.clone() };
    updated(kind, empty, live, &Ledger::default(), &before)
}

fn merged(
    kind: &dyn Versions,
    live: &Value,
    config: &Value,
    ledger: &Ledger,
    write: &Write,
    force: bool,
) -> Result<Applied, Error> {
    let version = &write.writer.api_version;
    let place = kind.place(version).ok_or_else(|| Error::Unserved(version.to_string()))?;
    check::check(place, config).map_err(Error::Config)?;
    let last = match ledger.find(&write.writer) {
        Some(entry) => Some((entry.writer.api_version.to_string(), entry.set()?.into_owned())),
        None => None,
    };

    let set = set_of(place, config).recursive_difference(&write.reset);
    let mut ledger = ledger.clone();
    let previous = ledger.remove(&write.writer);
    let time = previous.and_then(|entry| entry.time);
    ledger.entries.push(Entry { writer: write.writer.clone(), time, fields: Fields::Set(set) });

    let mut new = merge(place, live, config);
    if let Some((at, last)) = last.filter(|(_, last)| !last.is_empty()) {
        new = Pruning { kind, ledger: &ledger }.prune(new, &at, &last, version)?;
    }

    let difference = compare(place, live, &new).without(&write.reset);
    let mut shares = Shares::new(kind, live, &new, write, difference);
    if !force {
        let conflicts = shares.conflicts(&ledger, &write.writer)?;
        if !conflicts.is_empty() {
            let each = |(writer, set): (Writer, Set)| {
                set.paths().into_iter().map(move |path| Conflict { writer: writer.clone(), path })
            };
            return Err(Error::Conflicts(conflicts.into_iter().flat_map(each).collect()));
        }
    }
    shares.withdraw(&mut ledger, Some(&write.writer))?;
    let changed = new != *live;
    if let Some(mut entry) = ledger.remove(&write.writer) {
        let set = strip::strip(&*entry.set()?);
        if !set.is_empty() {
            entry.fields = Fields::Set(set);
            if changed {
                entry.time = Some(write.time.clone());
            }
            ledger.entries.push(entry);
        }
    }
    ledger.sort();
    Ok(Applied { object: changed.then_some(new), ledger })
}

/// Removes what the manager applied the last time and does not apply now, unless somebody else owns it.
struct Pruning<'a> {
    kind: &'a dyn Versions,
    /// With the new set of the applying manager.
    ledger: &'a Ledger,
}

impl Pruning<'_> {
    /// `None` where the version is not served any more.
    fn convert(&self, value: &Value, version: &str) -> Result<Option<(Value, Place<'_>)>, Error> {
        let Some(place) = self.kind.place(version) else { return Ok(None) };
        let converted = self.kind.convert(value, version).map_err(Error::Convert)?;
        Ok(converted.map(|value| (value.into_owned(), place)))
    }

    fn prune(&self, merged: Value, at: &str, last: &Set, now: &str) -> Result<Value, Error> {
        let Some((before, place)) = self.convert(&merged, at)? else { return Ok(merged) };
        let pruned = without(place, &before, &with_declared(place, last));
        let pruned = self.add_back_owned(&before, pruned, at)?;
        // Only what the manager itself owned goes.
        let gone = with_declared(place, &set_of(place, &before))
            .difference(&with_declared(place, &set_of(place, &pruned)))
            .intersection(&with_declared(place, last));
        let mut pruned = without(place, &before, &gone);
        settle(&mut pruned, &before);
        Ok(self.convert(&pruned, now)?.map_or(pruned, |(value, _)| value))
    }

    /// The version that was pruned comes first: the others are converted from it.
    fn add_back_owned(&self, merged: &Value, mut pruned: Value, at: &str) -> Result<Value, Error> {
        let mut owned: BTreeMap<(bool, String), Set> = BTreeMap::new();
        for entry in &self.ledger.entries {
            let version = entry.writer.api_version.to_string();
            let slot = owned.entry((version != at, version)).or_default();
            *slot = slot.union(&*entry.set()?);
        }
        let mut current = at.to_owned();
        for ((_, version), owned) in owned {
            let (Some((merged, place)), Some((seen, _))) =
                (self.convert(merged, &version)?, self.convert(&pruned, &version)?)
            else {
                continue;
            };
            let all = with_declared(place, &set_of(place, &merged));
            let kept = with_declared(place, &set_of(place, &seen)).union(&with_declared(place, &owned));
            pruned = without(place, &merged, &all.difference(&kept));
            current = version;
        }
        if current != at
            && let Some((back, _)) = self.convert(&pruned, at)?
        {
            pruned = back;
        }
        Ok(pruned)
    }
}
