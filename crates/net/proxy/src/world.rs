//! All Services, slices and host ports as last seen, and which of them must be planned anew.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use machinery_client::{Change, ObjectKey};

use crate::frontend::{Backends, Frontend, FrontendAddress};
use crate::health::Health;
use crate::host_ports::HostPorts;
use crate::plan::{Locality, ServicePlan, plan};
use crate::programmed::{count_down, count_up};
use crate::slice_view::SliceView;
use crate::view::ServiceView;

/// What front ends are planned for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Owner {
    Service(ObjectKey),
    /// For its host ports.
    Pod(ObjectKey),
}

/// Of two that want one front end, the older has it.
type Claim = (Option<Timestamp>, Owner);

#[derive(Debug)]
pub(crate) struct World {
    locality: Locality,
    services: HashMap<ObjectKey, Arc<ServiceView>>,
    /// By the Service they belong to, then by their own name.
    slices: HashMap<ObjectKey, BTreeMap<ObjectKey, Arc<SliceView>>>,
    /// Pods of this node that have some.
    host_ports: HashMap<ObjectKey, Arc<HostPorts>>,
    plans: HashMap<Owner, ServicePlan>,
    /// Who wants the front ends that several could, the first one has it. Cluster IPs are not among them: each is one
    /// Service's.
    claims: HashMap<Frontend, BTreeSet<Claim>>,
    dirty: HashSet<Owner>,
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
            host_ports: HashMap::new(),
            plans: HashMap::new(),
            claims: HashMap::new(),
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
                    self.dirty.insert(Owner::Service(key.clone()));
                }
                self.services.insert(key, new);
            }
            Change::Deleted { .. } => {
                self.services.remove(&key);
                self.dirty.insert(Owner::Service(key));
            }
        }
    }

    pub(crate) fn host_ports_changed(&mut self, change: Change<HostPorts>) {
        let key = change.key().clone();
        self.dirty.insert(Owner::Pod(key.clone()));
        match change {
            Change::Applied { new, .. } => self.host_ports.insert(key, new),
            Change::Deleted { .. } => self.host_ports.remove(&key),
        };
    }

    pub(crate) fn slice_changed(&mut self, change: Change<SliceView>) {
        match change {
            Change::Applied { key, old, new } => {
                // A relabelled slice leaves its former Service.
                if let Some(old) = old.filter(|old| old.service != new.service) {
                    self.forget_slice(&old.service, &key);
                }
                self.revision = self.revision.max(new.revision);
                self.dirty.insert(Owner::Service(new.service.clone()));
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
        self.dirty.insert(Owner::Service(service.clone()));
    }

    /// Where this node is, or what it thinks of others, has changed: every Service may.
    pub(crate) fn locality_changed(&mut self, change: impl FnOnce(&mut Locality)) {
        let before = self.locality.clone();
        change(&mut self.locality);
        if self.locality != before {
            self.dirty.extend(self.services.keys().cloned().map(Owner::Service));
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

    /// Plans what changed.
    pub(crate) fn replan(&mut self) -> Delta {
        let mut delta = Delta::default();
        let dirty = std::mem::take(&mut self.dirty);
        let mut new_plans = Vec::with_capacity(dirty.len());
        for owner in dirty {
            let new = self.plan(&owner);
            let old = self.plans.remove(&owner);
            let gone = old.iter().flat_map(|plan| plan.frontends.keys());
            for frontend in gone {
                self.unclaim(frontend, &owner);
                delta.frontends.insert(*frontend, None);
            }
            new_plans.push((owner, old, new));
        }
        // After all that goes: an address released by one Service and given to another in between stays.
        for (owner, old, new) in new_plans {
            let (old, new_or_none) = (old.unwrap_or_default(), new.clone().unwrap_or_default());
            for frontend in new_or_none.frontends.keys() {
                self.claim(frontend, &owner);
            }
            delta.frontends.extend(new_or_none.frontends.iter().map(|(f, backends)| (*f, Some(backends.clone()))));
            self.count_hairpins(&mut delta, &old.local, &new_or_none.local);
            self.count_in_service(&mut delta, &old.in_service, &new_or_none.in_service);
            if let Owner::Service(key) = &owner {
                match new.as_ref().and_then(|new| new.health) {
                    Some((port, endpoints)) => self.health.insert(key.clone(), Health { port, endpoints }),
                    None => self.health.remove(key),
                };
            }
            if let Some(new) = new {
                self.plans.insert(owner, new);
            }
        }
        for (frontend, backends) in &mut delta.frontends {
            if let Some(holder) = self.holder(frontend) {
                *backends = self.plans.get(holder).and_then(|plan| plan.frontends.get(frontend)).cloned();
            }
        }
        delta
    }

    fn plan(&self, owner: &Owner) -> Option<ServicePlan> {
        match owner {
            Owner::Service(key) => self.services.get(key).map(|service| {
                let slices: Vec<&SliceView> =
                    self.slices.get(key).into_iter().flat_map(BTreeMap::values).map(Arc::as_ref).collect();
                plan(service, &slices, &self.locality)
            }),
            Owner::Pod(key) => self.host_ports.get(key).map(|ports| ports.plan()),
        }
    }

    fn claim(&mut self, frontend: &Frontend, owner: &Owner) {
        let contestable = match frontend.address {
            FrontendAddress::Node(_) => true,
            FrontendAddress::Ip(ip) => !self.locality.service_ranges.iter().any(|range| range.contains(ip)),
        };
        if contestable {
            let created = match owner {
                Owner::Service(key) => self.services.get(key).and_then(|service| service.created),
                Owner::Pod(key) => self.host_ports.get(key).and_then(|ports| ports.created),
            };
            self.claims.entry(*frontend).or_default().insert((created, owner.clone()));
        }
    }

    fn unclaim(&mut self, frontend: &Frontend, owner: &Owner) {
        if let Some(claims) = self.claims.get_mut(frontend) {
            claims.retain(|(_, other)| other != owner);
            if claims.is_empty() {
                self.claims.remove(frontend);
            }
        }
    }

    /// Whose a front end is that several could want.
    fn holder(&self, frontend: &Frontend) -> Option<&Owner> {
        self.claims.get(frontend)?.first().map(|(_, owner)| owner)
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
        let all = self.plans.iter().flat_map(|(owner, plan)| plan.frontends.iter().map(move |one| (owner, one)));
        let held = all.filter(|(owner, (frontend, _))| self.holder(frontend).is_none_or(|holder| holder == *owner));
        let frontends = held.map(|(_, (frontend, backends))| (*frontend, backends.clone())).collect();
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
