//! Look-ups that the informers' keys do not give: slices by Service, everything by address. Pure.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use machinery_client::{Change, ObjectKey};

use crate::facts::{ServiceFacts, ServiceKind, SliceFacts};

/// A pod that searches names as the cluster tells it to.
#[derive(Debug, PartialEq, Eq)]
pub struct PodFacts {
    pub namespace: Arc<str>,
    pub addresses: Vec<IpAddr>,
}

#[derive(Debug, Default)]
pub struct Index {
    pub slices: HashMap<ObjectKey, BTreeMap<String, Arc<SliceFacts>>>,
    pub services_at: HashMap<IpAddr, Vec<ObjectKey>>,
    pub slices_at: HashMap<IpAddr, Vec<Arc<SliceFacts>>>,
    pub pods_at: HashMap<IpAddr, Vec<Arc<PodFacts>>>,
}

impl Index {
    pub fn service_changed(&mut self, change: Change<ServiceFacts>) {
        let (key, old, new) = parts(change);
        for address in old.iter().flat_map(|old| cluster_ips(old)) {
            remove(&mut self.services_at, address, |other| *other == key);
        }
        for address in new.iter().flat_map(|new| cluster_ips(new)) {
            self.services_at.entry(*address).or_default().push(key.clone());
        }
    }

    pub fn slice_changed(&mut self, change: Change<SliceFacts>) {
        let (key, old, new) = parts(change);
        if let Some(old) = old {
            if let Some(slices) = self.slices.get_mut(&old.service) {
                slices.remove(&key.name);
                if slices.is_empty() {
                    self.slices.remove(&old.service);
                }
            }
            for endpoint in &old.endpoints {
                remove(&mut self.slices_at, &endpoint.address, |other| Arc::ptr_eq(other, &old));
            }
        }
        if let Some(new) = new {
            for endpoint in &new.endpoints {
                let there = self.slices_at.entry(endpoint.address).or_default();
                if !there.iter().any(|other| Arc::ptr_eq(other, &new)) {
                    there.push(Arc::clone(&new));
                }
            }
            self.slices.entry(new.service.clone()).or_default().insert(key.name, new);
        }
    }

    pub fn pod_changed(&mut self, change: Change<PodFacts>) {
        let (_, old, new) = parts(change);
        if let Some(old) = old {
            for address in &old.addresses {
                remove(&mut self.pods_at, address, |other| Arc::ptr_eq(other, &old));
            }
        }
        if let Some(new) = new {
            for address in &new.addresses {
                self.pods_at.entry(*address).or_default().push(Arc::clone(&new));
            }
        }
    }
}

fn parts<P>(change: Change<P>) -> (ObjectKey, Option<Arc<P>>, Option<Arc<P>>) {
    match change {
        Change::Applied { key, old, new } => (key, old, Some(new)),
        Change::Deleted { key, old } => (key, Some(old), None),
    }
}

fn cluster_ips(facts: &ServiceFacts) -> &[IpAddr] {
    match &facts.kind {
        ServiceKind::Cluster(ips) => ips,
        ServiceKind::Headless | ServiceKind::External(_) => &[],
    }
}

fn remove<K: Hash + Eq, V>(map: &mut HashMap<K, Vec<V>>, key: &K, gone: impl Fn(&V) -> bool) {
    if let Some(there) = map.get_mut(key) {
        there.retain(|value| !gone(value));
        if there.is_empty() {
            map.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Endpoint;

    fn slice(service: &str, ips: &[IpAddr]) -> Arc<SliceFacts> {
        let endpoints = ips.iter().map(|ip| Endpoint { address: *ip, hostname: None }).collect();
        Arc::new(SliceFacts { service: ObjectKey::new("default", service), endpoints, ports: Box::new([]) })
    }

    #[test]
    fn what_goes_leaves_nothing_behind() {
        let (one, two) = (IpAddr::from([10, 42, 0, 1]), IpAddr::from([10, 42, 0, 2]));
        let mut index = Index::default();
        let key = ObjectKey::new("default", "db-x");
        // The same address twice in one slice is one entry.
        let first = slice("db", &[one, one]);
        index.slice_changed(Change::Applied { key: key.clone(), old: None, new: first.clone() });
        assert_eq!(index.slices_at[&one].len(), 1);
        let second = slice("cache", &[two]);
        index.slice_changed(Change::Applied { key: key.clone(), old: Some(first), new: second.clone() });
        assert_eq!(index.slices.keys().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["cache"]);
        index.slice_changed(Change::Deleted { key, old: second });
        assert!(index.slices.is_empty() && index.slices_at.is_empty(), "{index:?}");
    }

    #[test]
    fn an_address_that_changes_hands_is_the_new_ones() {
        let ip = IpAddr::from([10, 43, 0, 7]);
        let facts = || Arc::new(ServiceFacts { kind: ServiceKind::Cluster([ip].into()), ports: Box::new([]) });
        let (a, b) = (ObjectKey::new("default", "a"), ObjectKey::new("default", "b"));
        let mut index = Index::default();
        let old = facts();
        index.service_changed(Change::Applied { key: a.clone(), old: None, new: old.clone() });
        // The new one may be seen before the old one goes.
        index.service_changed(Change::Applied { key: b.clone(), old: None, new: facts() });
        index.service_changed(Change::Deleted { key: a, old });
        assert_eq!(index.services_at[&ip], [b]);
    }
}
