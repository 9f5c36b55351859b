//! All Services and slices as last seen, and which of them must be planned anew.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use machinery_client::{Change, ObjectKey};

use crate::frontend::{Backends, Frontend};
use crate::health::Health;
use crate::plan::{Locality, ServicePlan, plan};
use crate::programmed::{count_down, count_up};
use crate::slice_view::SliceView;
use crate::view::ServiceView;

#[derive(Debug)]
pub(crate) struct World {
    locality: Locality,
    services: HashMap<ObjectKey, Arc<ServiceView>>,
    /// By the Service they belong to, then by their own name.
    slices: HashMap<ObjectKey, BTreeMap<ObjectKey, Arc<SliceView>>>,
    plans: HashMap<ObjectKey, ServicePlan>,
    dirty: HashSet<ObjectKey>,
    hairpins: HashMap<IpAddr, usize>,
    in_service: HashMap<IpAddr, usize>,
    revision: u64,
    health: BTreeMap<ObjectKey, Health>,
}

/// What changed between two plannings.
#[derive(Debug, Default)]
pub(crate) struct Delta {
    /// `None`: no Service has this front end any more.
    pub(crate) frontends: BTreeMap<Frontend, Option<Backends>>,
    pub(crate) add_hairpins: Vec<IpAddr>,
    pub(crate) remove_hairpins: Vec<IpAddr>,
    pub(crate) entered: Vec<IpAddr>,
    pub(crate) left: Vec<IpAddr>,
}

impl World {
    pub(crate) fn new(locality: Locality) -> Self {
        Self {
            locality,
            services: HashMap::new(),
            slices: HashMap::new(),
            plans: HashMap::new(),
            dirty: HashSet::new(),
            hairpins: HashMap::new(),
            in_service: HashMap::new(),
            revision: 0,
            health: BTreeMap::new(),
        }
    }

    pub(crate) fn service_changed(&mut self, change: Change<ServiceView>) {
        let key = change.key().clone();
        match change {
            Change::Applied { old, new, .. } => {
                if old.as_ref() != Some(&new) {
                    self.dirty.insert(key.clone());
                }
                self.services.insert(key, new);
            }
            Change::Deleted { .. } => {
                self.services.remove(&key);
                self.dirty.insert(key);
            }
        }
    }

    pub(crate) fn slice_changed(&mut self, change: Change<SliceView>) {
        match change {
            Change::Applied { key, old, new } => {
                // A relabelled slice leaves its former Service.
                if let Some(old) = old.filter(|old| old.service != new.service) {
                    self.forget_slice(&old.service, &key);
                }
                self.revision = self.revision.max(new.revision);
                self.dirty.insert(new.service.clone());
                self.slices.entry(new.service.clone()).or_default().insert(key, new);
            }
            Change::Deleted { key, old } => self.forget_slice(&old.service, &key),
        }
    }

    fn forget_slice(&mut self, service: &ObjectKey, slice: &ObjectKey) {
        if let Some(slices) = self.slices.get_mut(service) {
            slices.remove(slice);
            if slices.is_empty() {
                self.slices.remove(service);
            }
        }
        self.dirty.insert(service.clone());
    }

    /// Where this node is, or what it thinks of others, has changed: every Service may.
    pub(crate) fn locality_changed(&mut self, change: impl FnOnce(&mut Locality)) {
        let before = self.locality.clone();
        change(&mut self.locality);
        if self.locality != before {
            self.dirty.extend(self.services.keys().cloned());
        }
    }

    /// What load balancers are told.
    pub(crate) fn health(&self) -> &BTreeMap<ObjectKey, Health> {
        &self.health
    }

    /// The highest slice revision seen; what is planned from here on includes it.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Plans the Services that changed.
    pub(crate) fn replan(&mut self) -> Delta {
        let mut delta = Delta::default();
        let dirty = std::mem::take(&mut self.dirty);
        let mut new_plans = Vec::with_capacity(dirty.len());
        for key in dirty {
            let new = self.services.get(&key).map(|service| {
                let slices: Vec<&SliceView> =
                    self.slices.get(&key).into_iter().flat_map(BTreeMap::values).map(Arc::as_ref).collect();
                plan(service, &slices, &self.locality)
            });
            let old = self.plans.remove(&key);
            let gone = old.iter().flat_map(|plan| plan.frontends.keys());
            delta.frontends.extend(gone.map(|frontend| (*frontend, None)));
            new_plans.push((key, old, new));
        }
        // After all that goes: an address released by one Service and given to another in between stays.
        for (key, old, new) in new_plans {
            let (old, new_or_none) = (old.unwrap_or_default(), new.clone().unwrap_or_default());
            delta.frontends.extend(new_or_none.frontends.iter().map(|(f, backends)| (*f, Some(backends.clone()))));
            self.count_hairpins(&mut delta, &old.local, &new_or_none.local);
            self.count_in_service(&mut delta, &old.in_service, &new_or_none.in_service);
            match new.as_ref().and_then(|new| new.health) {
                Some((port, endpoints)) => self.health.insert(key.clone(), Health { port, endpoints }),
                None => self.health.remove(&key),
            };
            if let Some(new) = new {
                self.plans.insert(key, new);
            }
        }
        delta
    }

    fn count_hairpins(&mut self, delta: &mut Delta, old: &BTreeSet<IpAddr>, new: &BTreeSet<IpAddr>) {
        for ip in new.difference(old) {
            count_up(&mut self.hairpins, *ip);
            if self.hairpins.get(ip) == Some(&1) {
                toggle(&mut delta.add_hairpins, &mut delta.remove_hairpins, *ip);
            }
        }
        for ip in old.difference(new) {
            if count_down(&mut self.hairpins, *ip) {
                toggle(&mut delta.remove_hairpins, &mut delta.add_hairpins, *ip);
            }
        }
    }

    fn count_in_service(&mut self, delta: &mut Delta, old: &BTreeSet<IpAddr>, new: &BTreeSet<IpAddr>) {
        for ip in new.difference(old) {
            count_up(&mut self.in_service, *ip);
            delta.entered.push(*ip);
        }
        for ip in old.difference(new) {
            count_down(&mut self.in_service, *ip);
            delta.left.push(*ip);
        }
    }

    /// Everything planned, for a load from scratch.
    pub(crate) fn everything(&self) -> (BTreeMap<Frontend, Backends>, BTreeSet<IpAddr>) {
        let frontends = self.plans.values().flat_map(|plan| plan.frontends.clone()).collect();
        (frontends, self.hairpins.keys().copied().collect())
    }

    pub(crate) fn in_service(&self) -> HashMap<IpAddr, usize> {
        self.in_service.clone()
    }
}

/// Notes `ip` in `to`, unless that undoes what `from` notes.
fn toggle(to: &mut Vec<IpAddr>, from: &mut Vec<IpAddr>, ip: IpAddr) {
    match from.iter().position(|other| *other == ip) {
        Some(index) => {
            from.swap_remove(index);
        }
        None => to.push(ip),
    }
}

#[cfg(test)]
#[path = "world_tests.rs"]
mod tests;
