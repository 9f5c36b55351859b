//! How many volumes of each driver a node can have: what the driver has said of it, in the node's CSINode.

use std::collections::{BTreeMap, BTreeSet};

use api::csi::Handle;
use k8s_openapi::api::storage::v1::CSINode;

use crate::facts::PodFacts;
use crate::volumes::Storage;

pub const EXCEEDED: &str = "node(s) exceed max volume count";

/// By driver; without an entry there is no limit.
pub type Limits = BTreeMap<String, usize>;

pub fn of(node: CSINode) -> Limits {
    let drivers = node.spec.drivers.into_iter();
    let count = |driver: k8s_openapi::api::storage::v1::CSINodeDriver| {
        let count = driver.allocatable.and_then(|allocatable| allocatable.count)?;
        Some((driver.name, usize::try_from(count).ok()?))
    };
    drivers.filter_map(count).collect()
}

/// The volumes that a pod's claims are, or are to be: one that is not made yet counts as its provisioner's, by its claim.
pub fn volumes(pod: &PodFacts, storage: &dyn Storage) -> BTreeSet<Handle> {
    let namespace = &pod.key.namespace;
    let volume = |claim: &str| {
        let claim = storage.claim(namespace, claim)?;
        match &claim.volume {
            Some(volume) => storage.volume(volume)?.driver.clone(),
            None => {
                let driver = storage.class(&claim.class)?.provisioner.clone();
                Some(Handle { driver, handle: format!("{namespace}/{}", claim.name) })
            }
        }
    };
    pod.claims.iter().filter_map(|used| volume(&used.claim)).collect()
}

/// Whether the node cannot have the wanted volumes beside those that are there.
pub fn exceeded(wanted: &BTreeSet<Handle>, there: &BTreeSet<Handle>, limits: &Limits) -> bool {
    limits.iter().any(|(driver, limit)| {
        let of_driver = |volume: &&Handle| volume.driver == *driver;
        let more = wanted.difference(there).filter(of_driver).count();
        more > 0 && there.iter().filter(of_driver).count() + more > *limit
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use api::volume::{Claim, Class, Use, Volume};

    use super::*;

    struct Fake;

    impl Storage for Fake {
        fn claim(&self, _: &str, name: &str) -> Option<Arc<Claim>> {
            let volume = (name != "new").then(|| name.to_owned());
            Some(Arc::new(Claim { name: name.into(), class: "k".into(), volume, ..Claim::default() }))
        }
        fn volume(&self, name: &str) -> Option<Arc<Volume>> {
            let driver = (name != "local").then(|| Handle { driver: "d".into(), handle: name.into() });
            Some(Arc::new(Volume { name: name.into(), driver, ..Volume::default() }))
        }
        fn class(&self, _: &str) -> Option<Arc<Class>> {
            Some(Arc::new(Class { provisioner: "d".into(), ..Class::default() }))
        }
        fn volumes(&self) -> Vec<Arc<Volume>> {
            Vec::new()
        }
    }

    fn of_claims(claims: &[&str]) -> BTreeSet<Handle> {
        let claims = claims.iter().map(|claim| Use { claim: (*claim).to_owned(), own: false }).collect();
        volumes(&PodFacts { claims, ..PodFacts::default() }, &Fake)
    }

    #[test]
    fn a_node_has_room_for_as_many_volumes_as_its_driver_says() {
        let node = serde_json::json!({"metadata": {"name": "one"}, "spec": {"drivers": [
            {"name": "d", "nodeID": "1", "allocatable": {"count": 2}}, {"name": "e", "nodeID": "1"}]}});
        let limits = of(serde_json::from_value(node).expect("a CSINode"));
        assert_eq!(limits, Limits::from([("d".to_owned(), 2)]));
        let there = of_claims(&["a", "local"]);
        assert_eq!(there.len(), 1, "a volume of no driver is not counted");
        assert!(!exceeded(&of_claims(&["b"]), &there, &limits));
        assert!(exceeded(&of_claims(&["b", "new"]), &there, &limits), "one that is to be made counts, too");
        let full = of_claims(&["a", "b"]);
        assert!(!exceeded(&of_claims(&["a"]), &full, &limits), "it is there already");
        assert!(exceeded(&of_claims(&["c"]), &full, &limits));
        assert!(!exceeded(&of_claims(&["c"]), &full, &Limits::new()));
    }
}
