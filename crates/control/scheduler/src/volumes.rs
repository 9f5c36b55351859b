//! What a pod's claims have to say about its node: pure.
//!
//! A claim that is bound binds its pod to the nodes of its volume. One that waits for its first pod is bound because of
//! that pod: a free volume is set aside for it on the pod's node, or the node is written on it for a provisioner; the
//! pod follows once the binder has done the rest.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use api::volume::{Claim, Class, NO_PROVISIONER, Volume, best};
use machinery_client::{Informer, ObjectKey};

use crate::facts::{NodeFacts, PodFacts};

const CONFLICT: &str = "node(s) didn't match PersistentVolume's node affinity";
const NOTHING: &str = "node(s) didn't find available persistent volumes to bind";
const NO_VOLUME: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
const ZONE: &str = "node(s) had no available volume zone";
const EXCLUSIVE: &str = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
const UNBOUND: &str = "pod has unbound immediate PersistentVolumeClaims";

/// Of a volume in a zone, values of several joined by `__`.
const ZONES: [&str; 4] = [
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
];

/// Where to look claims, volumes and classes up.
pub trait Storage {
    fn claim(&self, namespace: &str, name: &str) -> Option<Arc<Claim>>;
    fn volume(&self, name: &str) -> Option<Arc<Volume>>;
    fn class(&self, name: &str) -> Option<Arc<Class>>;
    fn volumes(&self) -> Vec<Arc<Volume>>;
}

#[derive(Clone)]
pub struct Informers {
    pub claims: Informer<Claim>,
    pub volumes: Informer<Volume>,
    pub classes: Informer<Class>,
}

impl Informers {
    pub async fn synced(&self) {
        self.claims.synced().await;
        self.volumes.synced().await;
        self.classes.synced().await;
    }
}

impl Storage for Informers {
    fn claim(&self, namespace: &str, name: &str) -> Option<Arc<Claim>> {
        self.claims.get(&ObjectKey::new(namespace, name))
    }

    fn volume(&self, name: &str) -> Option<Arc<Volume>> {
        self.volumes.get(&ObjectKey::new("", name))
    }

    fn class(&self, name: &str) -> Option<Arc<Class>> {
        self.classes.get(&ObjectKey::new("", name))
    }

    fn volumes(&self) -> Vec<Arc<Volume>> {
        self.volumes.list().into_iter().map(|(_, volume)| volume).collect()
    }
}

/// What a pod's claims ask of its node.
#[derive(Debug, Default)]
pub struct Demand {
    /// Volumes that it has; `None`: one that is gone.
    bound: Vec<Option<Arc<Volume>>>,
    /// Claims that wait for it, the smallest first, with their classes.
    waiting: Vec<(Arc<Claim>, Arc<Class>)>,
    /// Only this pod may use them.
    exclusive: Vec<String>,
    /// Every volume, where some claim has none.
    all: Vec<Arc<Volume>>,
}

/// What is to be written before a pod can go to its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The volume is to be that claim's.
    SetAside { volume: String, claim: String },
    /// A volume for the claim is to be made there.
    Select { claim: String },
}

impl Demand {
    /// An error keeps the pod from all nodes.
    pub fn of(pod: &PodFacts, storage: &dyn Storage) -> Result<Self, String> {
        let (namespace, mut demand) = (&pod.key.namespace, Self::default());
        for used in &pod.claims {
            let name = &used.claim;
            let Some(claim) = storage.claim(namespace, name) else {
                return Err(match used.own {
                    true => {
                        format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}")
                    }
                    false => format!("persistentvolumeclaim {name:?} not found"),
                });
            };
            if used.own && claim.owner.as_ref() != Some(&pod.uid) {
                let pod = &pod.key;
                return Err(format!("PVC {namespace}/{name} was not created for pod {pod} (pod is not owner)"));
            }
            if claim.phase == "Lost" {
                let volume = claim.volume.as_deref().unwrap_or_default();
                return Err(format!(
                    "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
                ));
            }
            if claim.deleting {
                return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
            }
            if claim.exclusive() {
                demand.exclusive.push(name.clone());
            }
            match (&claim.volume, storage.class(&claim.class)) {
                (Some(volume), _) if claim.bind_completed => demand.bound.push(storage.volume(volume)),
                (None, Some(class)) if class.waits => demand.waiting.push((claim, class)),
                _ => return Err(UNBOUND.to_owned()),
            }
        }
        if !demand.waiting.is_empty() {
            demand.waiting.sort_by(|(one, _), (two, _)| (one.request, &one.name).cmp(&(two.request, &two.name)));
            demand.all = storage.volumes();
        }
        Ok(demand)
    }

    /// Whether it must be bound before the pod is.
    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Why a node cannot hold the pod. `taken` are claims of its namespace that running pods use.
    pub fn reasons(&self, node: &NodeFacts, taken: &HashSet<String>) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.exclusive.iter().any(|claim| taken.contains(claim)) {
            reasons.push(EXCLUSIVE);
        }
        let bound = || self.bound.iter().flatten();
        if self.bound.iter().any(Option::is_none) {
            reasons.push(NO_VOLUME);
        }
        if bound().any(|volume| !in_zone(volume, &node.labels)) {
            reasons.push(ZONE);
        }
        if bound().any(|volume| !volume.nodes.matches(&node.name, &node.labels)) {
            reasons.push(CONFLICT);
        }
        if self.steps(node).is_none() {
            reasons.push(NOTHING);
        }
        reasons.into_iter().map(ToOwned::to_owned).collect()
    }

    /// What must be written so that the waiting claims get volumes on this node; `None` where they cannot.
    pub fn steps(&self, node: &NodeFacts) -> Option<Vec<Step>> {
        let (mut steps, mut chosen) = (Vec::new(), HashSet::new());
        for (claim, class) in &self.waiting {
            let selected = claim.selected_node.as_ref();
            if selected.is_some_and(|selected| *selected != node.name) {
                return None;
            }
            let free = self.all.iter().map(|volume| &**volume).filter(|volume| !chosen.contains(&volume.name));
            if let Some(volume) = best(claim, free, Some((&node.name, &node.labels)), false) {
                chosen.insert(volume.name.clone());
                if !volume.is_for(claim) {
                    steps.push(Step::SetAside { volume: volume.name.clone(), claim: claim.name.clone() });
                }
            } else if class.provisioner == NO_PROVISIONER || !class.reaches(&node.labels) {
                return None;
            } else if selected.is_none() {
                steps.push(Step::Select { claim: claim.name.clone() });
            }
        }
        Some(steps)
    }
}

/// A node without zones is in all of them.
fn in_zone(volume: &Volume, node: &BTreeMap<String, String>) -> bool {
    let zones = || ZONES.into_iter().filter_map(|key| Some((volume.labels.get(key)?, node.get(key))));
    !ZONES.into_iter().any(|key| node.contains_key(key))
        || zones().all(|(all, own)| own.is_some_and(|own| all.split("__").any(|zone| zone == own)))
}

#[cfg(test)]
mod tests {
    use api::node_selector::NodeSelection;
    use api::volume::{ClaimRef, Use};

    use super::*;

    #[derive(Default)]
    struct Fake {
        claims: Vec<Claim>,
        volumes: Vec<Volume>,
        classes: Vec<Class>,
    }

    impl Storage for Fake {
        fn claim(&self, _: &str, name: &str) -> Option<Arc<Claim>> {
            self.claims.iter().find(|claim| claim.name == name).cloned().map(Arc::new)
        }
        fn volume(&self, name: &str) -> Option<Arc<Volume>> {
            self.volumes.iter().find(|volume| volume.name == name).cloned().map(Arc::new)
        }
        fn class(&self, name: &str) -> Option<Arc<Class>> {
            self.classes.iter().find(|class| class.name == name).cloned().map(Arc::new)
        }
        fn volumes(&self) -> Vec<Arc<Volume>> {
            self.volumes.iter().cloned().map(Arc::new).collect()
        }
    }

    fn node(name: &str) -> NodeFacts {
        let labels = BTreeMap::from([("kubernetes.io/hostname".to_owned(), name.to_owned())]);
        NodeFacts { name: name.into(), labels, ..NodeFacts::default() }
    }

    fn on(name: &str) -> NodeSelection {
        let host = serde_json::json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [name]});
        let selector = serde_json::json!({"nodeSelectorTerms": [{"matchExpressions": [host]}]});
        NodeSelection::required(&serde_json::from_value(selector).expect("a selector"))
    }

    fn pod(claims: &[&str]) -> PodFacts {
        let claims = claims.iter().map(|claim| Use { claim: (*claim).to_owned(), own: false }).collect();
        PodFacts { uid: "pod".into(), claims, ..PodFacts::default() }
    }

    fn claim(name: &str, class: &str) -> Claim {
        Claim { name: name.into(), uid: format!("uid-{name}"), class: class.into(), ..Claim::default() }
    }

    fn class(provisioner: &str) -> Class {
        Class { name: "k".into(), provisioner: provisioner.into(), waits: true, ..Class::default() }
    }

    fn free(name: &str, nodes: NodeSelection) -> Volume {
        Volume { name: name.into(), class: "k".into(), nodes, phase: "Available".into(), ..Volume::default() }
    }

    fn reasons(pod: &PodFacts, fake: &Fake, node: &NodeFacts, taken: &[&str]) -> Vec<String> {
        let taken = taken.iter().map(|claim| (*claim).to_owned()).collect();
        Demand::of(pod, fake).expect("a demand").reasons(node, &taken)
    }

    #[test]
    fn what_is_not_there_keeps_a_pod_from_all_nodes() {
        let of = |pod: &PodFacts, fake: &Fake| Demand::of(pod, fake).err().unwrap_or_default();
        assert_eq!(of(&pod(&["c"]), &Fake::default()), "persistentvolumeclaim \"c\" not found");
        let fake = Fake { claims: vec![claim("c", "")], ..Fake::default() };
        assert_eq!(of(&pod(&["c"]), &fake), UNBOUND);
        let fake = Fake { claims: vec![Claim { deleting: true, ..claim("c", "") }], ..Fake::default() };
        assert_eq!(of(&pod(&["c"]), &fake), "persistentvolumeclaim \"c\" is being deleted");
        let mut own = pod(&["c"]);
        own.claims[0].own = true;
        assert!(of(&own, &Fake::default()).starts_with("waiting for ephemeral volume controller"));
        assert!(of(&own, &fake).ends_with("(pod is not owner)"), "{}", of(&own, &fake));
    }

    #[test]
    fn a_bound_claim_binds_its_pod_to_the_nodes_of_its_volume() {
        let bound = Claim { bind_completed: true, volume: Some("v".into()), ..claim("c", "k") };
        let mut fake = Fake { claims: vec![bound.clone()], volumes: vec![free("v", on("one"))], ..Fake::default() };
        assert!(reasons(&pod(&["c"]), &fake, &node("one"), &[]).is_empty());
        assert_eq!(reasons(&pod(&["c"]), &fake, &node("two"), &[]), [CONFLICT]);
        assert!(reasons(&pod(&["c"]), &fake, &node("one"), &["c"]).is_empty());
        fake.claims[0].modes = vec!["ReadWriteOncePod".into()];
        assert_eq!(reasons(&pod(&["c"]), &fake, &node("one"), &["c"]), [EXCLUSIVE]);
        fake.volumes[0] =
            Volume { labels: BTreeMap::from([(ZONES[0].to_owned(), "a__b".to_owned())]), ..free("v", on("one")) };
        let in_zone = |zone: &str| {
            let mut node = node("one");
            node.labels.insert(ZONES[0].into(), zone.into());
            node
        };
        assert!(reasons(&pod(&["c"]), &fake, &in_zone("b"), &[]).is_empty());
        assert_eq!(reasons(&pod(&["c"]), &fake, &in_zone("c"), &[]), [ZONE]);
        fake.volumes.clear();
        assert_eq!(reasons(&pod(&["c"]), &fake, &node("one"), &[]), [NO_VOLUME]);
    }

    #[test]
    fn a_claim_that_waits_gets_a_volume_on_the_node() {
        let steps = |fake: &Fake, pod: &PodFacts, on: &str| Demand::of(pod, fake).expect("a demand").steps(&node(on));
        let mut fake = Fake {
            claims: vec![claim("c", "k"), claim("d", "k")],
            volumes: vec![free("v", on("one"))],
            classes: vec![class("p")],
        };
        let aside = |claim: &str| Step::SetAside { volume: "v".into(), claim: claim.into() };
        let select = |claim: &str| Step::Select { claim: claim.into() };
        assert_eq!(steps(&fake, &pod(&["c"]), "one"), Some(vec![aside("c")]));
        assert_eq!(steps(&fake, &pod(&["c", "d"]), "one"), Some(vec![aside("c"), select("d")]), "one each");
        assert_eq!(steps(&fake, &pod(&["c"]), "two"), Some(vec![select("c")]));
        fake.claims[0].selected_node = Some("two".into());
        assert_eq!(steps(&fake, &pod(&["c"]), "two"), Some(vec![]));
        assert_eq!(steps(&fake, &pod(&["c"]), "one"), None, "it is being made elsewhere");
        fake.claims[0].selected_node = None;
        fake.classes[0] = class(NO_PROVISIONER);
        assert_eq!(reasons(&pod(&["c"]), &fake, &node("two"), &[]), [NOTHING]);
        let whose = ClaimRef { name: "c".into(), ..ClaimRef::default() };
        fake.volumes[0].claim = Some(whose);
        assert_eq!(steps(&fake, &pod(&["c"]), "one"), Some(vec![]), "it is set aside already");
    }
}
