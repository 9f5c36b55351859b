//! Everything known of policies, namespaces and pods. A pod that starts here is known before the API shows its address.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use machinery_client::{Change, ObjectKey};

use crate::plan::{Plan, Snapshot, plan};
use crate::view::{Labels, PodView, PolicyView};

#[derive(Debug, Default)]
pub struct World {
    policies: HashMap<ObjectKey, Arc<PolicyView>>,
    namespaces: HashMap<ObjectKey, Arc<Labels>>,
    pods: HashMap<ObjectKey, Arc<PodView>>,
    /// Of this node, told by who starts them, until the API shows their addresses.
    starting: HashMap<ObjectKey, PodView>,
    changed: bool,
}

impl World {
    pub fn policy_changed(&mut self, change: Change<PolicyView>) {
        self.changed |= keep(&mut self.policies, change);
    }

    pub fn namespace_changed(&mut self, change: Change<Labels>) {
        self.changed |= keep(&mut self.namespaces, change);
    }

    pub fn pod_changed(&mut self, change: Change<PodView>) {
        let over = |starting: &PodView| match &change {
            // A new sandbox of the same pod may have another address than the API still shows.
            Change::Applied { new, .. } => starting.uid == new.uid && starting.ips == new.ips,
            Change::Deleted { old, .. } => starting.uid == old.uid,
        };
        if self.starting.get(change.key()).is_some_and(over) {
            self.starting.remove(change.key());
        }
        self.changed |= keep(&mut self.pods, change);
    }

    pub fn pod_starts(&mut self, key: ObjectKey, pod: PodView) {
        let known = self.pods.get(&key).is_some_and(|known| **known == pod);
        if !known {
            self.changed = true;
            self.starting.insert(key, pod);
        }
    }

    pub fn has_policies(&self) -> bool {
        !self.policies.is_empty()
    }

    /// Whether anything has changed since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub fn plan(&self) -> Plan {
        if self.policies.is_empty() {
            return Plan::default();
        }
        let policies = self.policies.iter().map(|(key, policy)| (key.clone(), &**policy)).collect();
        let namespaces = self.namespaces.iter().map(|(key, labels)| (key.name.as_str(), &**labels)).collect();
        let mut pods: BTreeMap<ObjectKey, &PodView> =
            self.pods.iter().map(|(key, pod)| (key.clone(), &**pod)).collect();
        pods.extend(self.starting.iter().map(|(key, pod)| (key.clone(), pod)));
        plan(Snapshot { policies: &policies, namespaces: &namespaces, pods: &pods })
    }
}

/// Whether that made a difference.
fn keep<P: PartialEq>(all: &mut HashMap<ObjectKey, Arc<P>>, change: Change<P>) -> bool {
    match change {
        Change::Applied { key, new, .. } => {
            let same = all.get(&key) == Some(&new);
            all.insert(key, new);
            !same
        }
        Change::Deleted { key, .. } => all.remove(&key).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, ips: &[&str]) -> PodView {
        let ips = ips.iter().map(|ip| ip.parse().expect("an address")).collect();
        PodView { uid: uid.into(), labels: Labels::new(), ips, ports: Vec::new(), local: true }
    }

    #[test]
    fn a_starting_pod_is_known_until_the_api_shows_it_or_takes_it_away() {
        let key = ObjectKey::new("default", "web");
        let mut world = World::default();
        let bare = Arc::new(pod("1", &[]));
        world.pod_changed(Change::Applied { key: key.clone(), old: None, new: bare.clone() });
        world.pod_starts(key.clone(), pod("1", &["10.42.0.2"]));
        assert!(world.take_changed() && world.starting.len() == 1);
        // A change that shows no address yet.
        world.pod_changed(Change::Applied { key: key.clone(), old: Some(bare.clone()), new: bare.clone() });
        assert_eq!(world.starting.len(), 1);
        assert!(!world.take_changed(), "nothing is new");
        let shown = Arc::new(pod("1", &["10.42.0.2"]));
        world.pod_changed(Change::Applied { key: key.clone(), old: Some(bare), new: shown.clone() });
        assert!(world.starting.is_empty());
        world.take_changed();
        world.pod_starts(key.clone(), pod("1", &["10.42.0.2"]));
        assert!(!world.take_changed() && world.starting.is_empty(), "the API has shown it before");

        world.pod_starts(key.clone(), pod("2", &["10.42.0.3"]));
        world.pod_changed(Change::Deleted { key: key.clone(), old: shown });
        assert_eq!(world.starting.len(), 1, "the next pod of that name stays");
        world.pod_changed(Change::Deleted { key, old: Arc::new(pod("2", &[])) });
        assert!(world.starting.is_empty());
    }
}
