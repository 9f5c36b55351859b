//! The smallest change from the slots in the kernel to the endpoints wanted. Pure.
//!
//! A packet reads the count N, then one slot below N, and a transaction may commit in between. Growing is safe in one
//! step, since a packet that sees the new count also sees the new slots. Shrinking takes two: first the count goes down
//! and the survivors move below it, then the surplus slots go; a packet that read the old count finds them still there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use base_sys::route::IpCidr;

use crate::frontend::{Backends, Endpoint, Frontend};
use crate::pick::Pick;

/// What the kernel has for a front end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// By slot number. An earlier run may have left one endpoint in two.
    pub endpoints: Vec<Endpoint>,
    /// `None`: slots that an earlier run left of a front end that is gone.
    pub pick: Option<Pick>,
    pub sources: BTreeSet<IpCidr>,
}

/// One transaction's worth. Deletions come before additions; a changed element is in both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    pub remove_slots: Vec<(Frontend, u32)>,
    pub add_slots: Vec<(Frontend, u32, Endpoint)>,
    pub remove_counts: Vec<Frontend>,
    pub add_counts: Vec<(Frontend, Pick)>,
    pub remove_sources: Vec<(Frontend, IpCidr)>,
    pub add_sources: Vec<(Frontend, IpCidr)>,
    pub remove_hairpins: Vec<IpAddr>,
    pub add_hairpins: Vec<IpAddr>,
}

/// What to commit, in order, and what then holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub first: Step,
    pub second: Step,
    /// The new slots of every front end that changed; `None` for one that is gone.
    pub after: BTreeMap<Frontend, Option<Slots>>,
}

impl Changes {
    /// Compares the wanted endpoints of some front ends (`None`: shall be gone) with what the kernel has.
    pub fn of(current: &HashMap<Frontend, Slots>, wanted: &BTreeMap<Frontend, Option<Backends>>) -> Self {
        let mut changes = Self::default();
        for (frontend, backends) in wanted {
            changes.frontend(*frontend, current.get(frontend), backends.as_ref());
        }
        changes
    }

    fn frontend(&mut self, frontend: Frontend, old: Option<&Slots>, wanted: Option<&Backends>) {
        let before = old.map_or(&[][..], |old| &old.endpoints);
        let new = wanted.map(|wanted| Slots {
            endpoints: arrange(before, &wanted.endpoints),
            pick: Some(Pick::of(wanted)),
            sources: wanted.sources.clone().unwrap_or_default(),
        });
        if old == new.as_ref() {
            return;
        }
        let after = new.as_ref().map_or(&[][..], |new| &new.endpoints);
        for (slot, endpoint) in after.iter().enumerate() {
            match before.get(slot) {
                Some(same) if same == endpoint => continue,
                Some(_) => self.first.remove_slots.push((frontend, number(slot))),
                None => {}
            }
            self.first.add_slots.push((frontend, number(slot), *endpoint));
        }
        self.second.remove_slots.extend((after.len()..before.len()).map(|slot| (frontend, number(slot))));
        let picks = (old.and_then(|old| old.pick), new.as_ref().and_then(|new| new.pick));
        if picks.0 != picks.1 {
            if picks.0.is_some() {
                self.first.remove_counts.push(frontend);
            }
            if let Some(pick) = picks.1 {
                self.first.add_counts.push((frontend, pick));
            }
        }
        self.sources(frontend, old, new.as_ref());
        self.after.insert(frontend, new);
    }

    fn sources(&mut self, frontend: Frontend, old: Option<&Slots>, new: Option<&Slots>) {
        let none = BTreeSet::new();
        let before = old.map_or(&none, |old| &old.sources);
        let after = new.map_or(&none, |new| &new.sources);
        let still_guarded = new.and_then(|new| new.pick).is_some_and(Pick::is_guarded);
        // A packet that was on its way to the guard when the guard went still passes it.
        let removed = if still_guarded { &mut self.first } else { &mut self.second };
        removed.remove_sources.extend(before.difference(after).map(|block| (frontend, *block)));
        self.first.add_sources.extend(after.difference(before).map(|block| (frontend, *block)));
    }

    pub fn is_empty(&self) -> bool {
        self.first.is_empty() && self.second.is_empty()
    }
}

impl Step {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Puts the wanted endpoints into slots: who stays keeps its slot, newcomers fill gaps, then the last ones do.
fn arrange(old: &[Endpoint], wanted: &BTreeSet<Endpoint>) -> Vec<Endpoint> {
    let mut unplaced = wanted.clone();
    // Each once, also where it was in two slots.
    let kept: Vec<Option<Endpoint>> =
        old.iter().map(|endpoint| unplaced.remove(endpoint).then_some(*endpoint)).collect();
    let mut newcomers = unplaced.into_iter();
    let mut slots: Vec<Option<Endpoint>> = kept.into_iter().map(|slot| slot.or_else(|| newcomers.next())).collect();
    slots.extend(newcomers.map(Some));
    let mut arranged = Vec::with_capacity(wanted.len());
    for slot in 0..wanted.len() {
        // The list holds exactly the wanted endpoints and gaps: a gap below the count means a survivor above it.
        match slots[slot].or_else(|| std::iter::from_fn(|| slots.pop()).flatten().next()) {
            Some(endpoint) => arranged.push(endpoint),
            None => break,
        }
    }
    arranged
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("a Service has far fewer than 2^32 endpoints")
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
