//! Volumes and claims as those see them who bring the two together: the binder and the scheduler.

use std::collections::BTreeMap;

use base_meta::quantity::Quantity;
use base_meta::selector::LabelSelector;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PodSpec};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::csi::Handle;
use crate::node_selector::NodeSelection;

/// On a claim: it and its volume name each other.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On a claim or a volume: it was not its author who chose the other.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a volume: what made it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a claim: what is to make a volume for it. The second is what older provisioners read.
pub const PROVISIONER: [&str; 2] =
    ["volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"];
/// On a claim: the node that its first pod goes to.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// A class of it has volumes that somebody makes by hand.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
/// Makes directories on the node of a claim's first pod.
pub const LOCAL_PATH: &str = "sampan.io/local-path";
/// On a Node: below which directory [`LOCAL_PATH`]'s volumes of that node are.
pub const LOCAL_DIRECTORY: &str = "sampan.io/local-path";
/// On a Node, with a volume's name behind it: that its directory is to be removed, or is.
pub const REMOVAL: &str = "remove.sampan.io/";
pub const REMOVAL_WANTED: &str = "wanted";
pub const REMOVAL_DONE: &str = "done";

/// A claim that a pod takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// In the pod's namespace.
    pub claim: String,
    /// It is made for the pod, and must be its own.
    pub own: bool,
}

/// The claims of a pod's volumes.
pub fn uses(pod: &str, spec: &PodSpec) -> Vec<Use> {
    let of = |volume: &k8s_openapi::api::core::v1::Volume| {
        let named = volume.persistent_volume_claim.as_ref();
        let named = named.map(|source| Use { claim: source.claim_name.clone(), own: false });
        named.or_else(|| volume.ephemeral.as_ref().map(|_| Use { claim: own_claim(pod, &volume.name), own: true }))
    };
    spec.volumes.iter().flatten().filter_map(of).collect()
}

/// The name of the claim that is made for a pod's ephemeral volume.
pub fn own_claim(pod: &str, volume: &str) -> String {
    format!("{pod}-{volume}")
}

/// The annotation is from before there was a field.
pub fn class<'a>(metadata: &'a ObjectMeta, class: Option<&'a str>) -> &'a str {
    annotation(metadata, "volume.beta.kubernetes.io/storage-class").or(class).unwrap_or("")
}

fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn amount(text: Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity>) -> Quantity {
    text.and_then(|text| text.0.parse().ok()).unwrap_or_default()
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claim {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub class: String,
    /// Its volume, or the one it asks for.
    pub volume: Option<String>,
    pub request: Quantity,
    pub modes: Vec<String>,
    /// A file system, or a block device.
    pub volume_mode: String,
    pub selector: Option<LabelSelector>,
    pub attributes_class: Option<String>,
    pub bind_completed: bool,
    pub bound_by_controller: bool,
    pub selected_node: Option<String>,
    /// What it is told to be provisioned by.
    pub provisioner: Option<String>,
    pub phase: String,
    pub deleting: bool,
    /// The uid of its controller.
    pub owner: Option<String>,
}

impl Claim {
    pub fn of(claim: PersistentVolumeClaim) -> Self {
        let (meta, spec) = (claim.metadata, claim.spec.unwrap_or_default());
        let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let selector = spec.selector.as_ref();
        let owners = meta.owner_references.iter().flatten();
        Self {
            class: class(&meta, spec.storage_class_name.as_deref()).to_owned(),
            volume: given(spec.volume_name),
            request: amount(requests.and_then(|requests| requests.get("storage"))),
            modes: spec.access_modes.unwrap_or_default(),
            volume_mode: given(spec.volume_mode).unwrap_or_else(|| "Filesystem".into()),
            // Validation lets no other selector in.
            selector: selector.and_then(|selector| LabelSelector::from_typed(Some(selector)).ok()),
            attributes_class: given(spec.volume_attributes_class_name),
            bind_completed: annotation(&meta, BIND_COMPLETED).is_some(),
            bound_by_controller: annotation(&meta, BOUND_BY_CONTROLLER).is_some(),
            selected_node: annotation(&meta, SELECTED_NODE).map(ToOwned::to_owned),
            provisioner: annotation(&meta, PROVISIONER[0]).map(ToOwned::to_owned),
            phase: claim.status.and_then(|status| status.phase).unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            owner: owners.into_iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone()),
            namespace: meta.namespace.unwrap_or_default(),
            name: meta.name.unwrap_or_default(),
            uid: meta.uid.unwrap_or_default(),
        }
    }

    /// Only one pod may use it at a time.
    pub fn exclusive(&self) -> bool {
        self.modes.iter().any(|mode| mode == "ReadWriteOncePod")
    }
}

/// Whose a volume is, or is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimRef {
    pub namespace: String,
    pub name: String,
    /// Without, whoever made the volume has named a claim in advance.
    pub uid: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Volume {
    pub name: String,
    pub uid: String,
    pub class: String,
    pub capacity: Quantity,
    pub modes: Vec<String>,
    pub volume_mode: String,
    pub labels: BTreeMap<String, String>,
    /// Where it can be used.
    pub nodes: NodeSelection,
    /// The one node where it can be used, by its host name.
    pub only_host: Option<String>,
    pub attributes_class: Option<String>,
    /// Whose volume it is, where a driver has made it.
    pub driver: Option<Handle>,
    pub claim: Option<ClaimRef>,
    pub bound_by_controller: bool,
    pub provisioned_by: Option<String>,
    pub reclaim: String,
    pub phase: String,
    pub deleting: bool,
}

impl Volume {
    pub fn of(volume: PersistentVolume) -> Self {
        let (meta, spec) = (volume.metadata, volume.spec.unwrap_or_default());
        let claim = spec.claim_ref.map(|claim| ClaimRef {
            namespace: claim.namespace.unwrap_or_default(),
            name: claim.name.unwrap_or_default(),
            uid: given(claim.uid),
        });
        let affinity = spec.node_affinity.as_ref().and_then(|affinity| affinity.required.as_ref());
        Self {
            class: class(&meta, spec.storage_class_name.as_deref()).to_owned(),
            capacity: amount(spec.capacity.as_ref().and_then(|capacity| capacity.get("storage"))),
            modes: spec.access_modes.unwrap_or_default(),
            volume_mode: given(spec.volume_mode).unwrap_or_else(|| "Filesystem".into()),
            nodes: affinity.map(NodeSelection::required).unwrap_or_default(),
            only_host: affinity.and_then(only_host),
            attributes_class: given(spec.volume_attributes_class_name),
            driver: spec.csi.map(|source| Handle { driver: source.driver, handle: source.volume_handle }),
            claim,
            bound_by_controller: annotation(&meta, BOUND_BY_CONTROLLER).is_some(),
            provisioned_by: annotation(&meta, PROVISIONED_BY).map(ToOwned::to_owned),
            reclaim: spec.persistent_volume_reclaim_policy.unwrap_or_else(|| "Retain".into()),
            phase: volume.status.and_then(|status| status.phase).unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            labels: meta.labels.unwrap_or_default(),
            name: meta.name.unwrap_or_default(),
            uid: meta.uid.unwrap_or_default(),
        }
    }

    /// Whether it is this claim's, or set aside for it.
    pub fn is_for(&self, claim: &Claim) -> bool {
        self.claim.as_ref().is_some_and(|whose| {
            whose.namespace == claim.namespace
                && whose.name == claim.name
                && whose.uid.as_ref().is_none_or(|uid| *uid == claim.uid)
        })
    }

    /// Why it cannot be what a claim asks for that has chosen it.
    pub fn mismatch(&self, claim: &Claim) -> Option<&'static str> {
        if self.capacity < claim.request {
            Some("requested PV is too small")
        } else if self.class != claim.class {
            Some("storageClassName does not match")
        } else if self.attributes_class != claim.attributes_class {
            Some("volumeAttributesClassName does not match")
        } else if self.volume_mode != claim.volume_mode {
            Some("incompatible volumeMode")
        } else if !self.offers(claim) {
            Some("incompatible accessMode")
        } else {
            None
        }
    }

    fn offers(&self, claim: &Claim) -> bool {
        claim.modes.iter().all(|mode| self.modes.contains(mode))
    }
}

/// The value of a lone requirement for a host name.
fn only_host(selector: &k8s_openapi::api::core::v1::NodeSelector) -> Option<String> {
    let [term] = selector.node_selector_terms.as_slice() else { return None };
    let mut requirements = term.match_expressions.iter().flatten();
    let host = requirements.find(|one| one.key == "kubernetes.io/hostname" && one.operator == "In")?;
    match host.values.as_deref()? {
        [name] => Some(name.clone()),
        _ => None,
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Class {
    pub name: String,
    pub provisioner: String,
    /// A claim gets its volume once a pod wants it, and not before.
    pub waits: bool,
    pub reclaim: String,
    /// Labels of nodes where it has volumes, all of any entry; without entries everywhere.
    pub topologies: Vec<BTreeMap<String, Vec<String>>>,
}

impl Class {
    pub fn of(class: StorageClass) -> Self {
        let topology = |term: k8s_openapi::api::core::v1::TopologySelectorTerm| {
            let labels = term.match_label_expressions.into_iter().flatten();
            labels.map(|requirement| (requirement.key, requirement.values)).collect()
        };
        Self {
            name: class.metadata.name.unwrap_or_default(),
            provisioner: class.provisioner,
            waits: class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"),
            reclaim: class.reclaim_policy.unwrap_or_else(|| "Delete".into()),
            topologies: class.allowed_topologies.into_iter().flatten().map(topology).collect(),
        }
    }

    /// Whether it can make a volume that a node can use.
    pub fn reaches(&self, labels: &BTreeMap<String, String>) -> bool {
        let fits = |term: &BTreeMap<String, Vec<String>>| {
            term.iter().all(|(key, values)| labels.get(key).is_some_and(|value| values.contains(value)))
        };
        self.topologies.is_empty() || self.topologies.iter().any(fits)
    }
}

/// The volume that a claim gets: the one set aside for it, else the smallest of those that are free and fit. `node` is
/// where it must be usable; `reserved` leaves only the first kind. As upstream's `FindMatchingVolume`.
pub fn best<'a>(
    claim: &Claim,
    volumes: impl IntoIterator<Item = &'a Volume>,
    node: Option<(&str, &BTreeMap<String, String>)>,
    reserved: bool,
) -> Option<&'a Volume> {
    let mut best: Option<&Volume> = None;
    for volume in volumes {
        if volume.volume_mode != claim.volume_mode || volume.deleting {
            continue;
        }
        let usable = node.is_none_or(|(name, labels)| volume.nodes.matches(name, labels));
        if volume.claim.is_some() {
            if volume.is_for(claim) && volume.capacity >= claim.request && usable {
                return Some(volume);
            }
            continue;
        }
        let fits = !reserved
            && usable
            && volume.phase == "Available"
            && volume.mismatch(claim).is_none()
            && claim.selector.as_ref().is_none_or(|selector| selector.matches_labels(&volume.labels));
        // Of equals the first by name, so that everybody finds the same.
        if fits && best.is_none_or(|best| (volume.capacity, &volume.name) < (best.capacity, &best.name)) {
            best = Some(volume);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim(spec: Value) -> Claim {
        let claim = json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"}, "spec": spec});
        Claim::of(serde_json::from_value(claim).expect("a claim"))
    }

    fn volume(name: &str, size: &str, more: Value) -> Volume {
        let mut spec = json!({"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce", "ReadOnlyMany"]});
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        let labels = json!({"disk": name});
        let volume =
            json!({"metadata": {"name": name, "labels": labels}, "spec": spec, "status": {"phase": "Available"}});
        Volume::of(serde_json::from_value(volume).expect("a volume"))
    }

    fn wants(more: Value) -> Claim {
        let mut spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}});
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        claim(spec)
    }

    #[test]
    fn the_smallest_that_fits_is_taken() {
        let volumes = [volume("a", "20Gi", json!({})), volume("b", "10Gi", json!({})), volume("c", "1Gi", json!({}))];
        let found = |claim: &Claim| best(claim, &volumes, None, false).map(|volume| volume.name.clone());
        assert_eq!(found(&wants(json!({}))).as_deref(), Some("b"));
        assert_eq!(found(&wants(json!({"selector": {"matchLabels": {"disk": "a"}}}))).as_deref(), Some("a"));
        for other in [
            json!({"accessModes": ["ReadWriteMany"]}),
            json!({"storageClassName": "fast"}),
            json!({"volumeMode": "Block"}),
            json!({"resources": {"requests": {"storage": "21Gi"}}}),
        ] {
            assert_eq!(found(&wants(other.clone())), None, "{other}");
        }
        assert_eq!(best(&wants(json!({})), &volumes, None, true), None, "none is set aside");
    }

    #[test]
    fn what_is_set_aside_goes_before_and_to_nobody_else() {
        let aside = |name: &str, of: &str| volume(name, "50Gi", json!({"claimRef": {"namespace": "n", "name": of}}));
        let volumes = [volume("a", "5Gi", json!({})), aside("b", "c"), aside("d", "other")];
        assert_eq!(best(&wants(json!({})), &volumes, None, true).map(|volume| &*volume.name), Some("b"));
        assert_eq!(best(&wants(json!({})), &volumes[2..], None, false), None);
        let before = volume("e", "5Gi", json!({"claimRef": {"namespace": "n", "name": "c", "uid": "older"}}));
        assert_eq!(best(&wants(json!({})), &[before], None, false), None);
    }

    #[test]
    fn a_volume_of_one_node_is_no_use_elsewhere() {
        let terms =
            json!([{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["one"]}]}]);
        let local = volume("a", "5Gi", json!({"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}));
        assert_eq!(local.only_host.as_deref(), Some("one"));
        let on = |name: &str| BTreeMap::from([("kubernetes.io/hostname".to_owned(), name.to_owned())]);
        let found = |name: &str| best(&wants(json!({})), [&local], Some((name, &on(name))), false).is_some();
        assert!(found("one") && !found("two"));
    }

    #[test]
    fn a_class_reaches_the_nodes_of_its_topologies() {
        let class = json!({"metadata": {"name": "c"}, "provisioner": "p", "volumeBindingMode": "WaitForFirstConsumer",
            "allowedTopologies": [{"matchLabelExpressions": [{"key": "zone", "values": ["a", "b"]}]}]});
        let class = Class::of(serde_json::from_value(class).expect("a class"));
        let zone = |name: &str| BTreeMap::from([("zone".to_owned(), name.to_owned())]);
        assert!(
            class.waits && class.reaches(&zone("b")) && !class.reaches(&zone("c")) && !class.reaches(&BTreeMap::new())
        );
    }
}
