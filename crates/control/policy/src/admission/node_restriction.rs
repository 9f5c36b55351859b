//! A node changes its own Node, its own Lease and CSINode and its own pods, and nothing that would let it reach further.

use std::collections::BTreeSet;
use std::sync::Arc;

use base_meta::{Gvr, Status};
use machinery_registry::{Admission, Attributes, Operation};
use serde_json::Value;

use super::{Late, forbidden, items, text};
use crate::authorization::node::{LEASE_NAMESPACE, name_of};
use crate::pod_references::{Kind, References};

pub(super) const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// Labels of this domain are for administrators to fence nodes off with.
const FENCES: &str = "node-restriction.kubernetes.io";
/// Of Kubernetes' own domains these, and those below [`OWN_DOMAINS`], are a node's to say.
const OWN_LABELS: [&str; 12] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "node.kubernetes.io/windows-build",
];
const OWN_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

pub(super) struct NodeRestriction {
    pub(super) nodes: Arc<Late>,
    pub(super) pods: Arc<Late>,
}

#[async_trait::async_trait]
impl Admission for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        operation != Operation::Connect
            && match (&*gvr.group, &*gvr.resource) {
                ("", "pods" | "nodes") | ("coordination.k8s.io", "leases") | ("storage.k8s.io", "csinodes") => true,
                ("", "persistentvolumeclaims") => subresource == Some("status"),
                _ => false,
            }
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(node) = name_of(&attributes.ctx.user) else { return Ok(()) };
        let evicts =
            attributes.operation == Operation::Create && attributes.ctx.subresource.as_deref() == Some("eviction");
        let problem = match &*attributes.gvr.resource {
            "pods" if evicts => self.evict(node, attributes).await?,
            "pods" => match pod(node, attributes, object) {
                None if attributes.operation == Operation::Create => self.mirror(node, attributes, object).await?,
                problem => problem,
            },
            "nodes" => own_node(node, attributes, object),
            "persistentvolumeclaims" => claim(node, attributes, object),
            "csinodes" => (name(attributes, object) != node)
                .then(|| "can only access CSINode with the same name as the requesting node".to_owned()),
            _ => lease(node, attributes, object),
        };
        match problem {
            Some(message) => Err(forbidden(attributes, object, &message)),
            None => Ok(()),
        }
    }
}

/// On create it is in the object alone.
fn name<'a>(attributes: &Attributes<'a>, object: Option<&'a Value>) -> &'a str {
    match attributes.name {
        "" => object.map_or("", |object| text(object, "/metadata/name")),
        name => name,
    }
}

impl NodeRestriction {
    /// What is evicted is not in the request.
    async fn evict(&self, node: &str, attributes: &Attributes<'_>) -> Result<Option<String>, Status> {
        let namespace = attributes.ctx.namespace.as_deref();
        let pod = self.pods.find(attributes.ctx, namespace, attributes.name).await?;
        let pod = pod.ok_or_else(|| Status::not_found(attributes.gvr, attributes.name))?;
        let pod = pod.to_value().map_err(Status::internal)?;
        let mine = text(&pod, "/spec/nodeName") == node;
        Ok((!mine).then(|| format!("node {node:?} can only evict pods with spec.nodeName set to itself")))
    }

    /// A mirror pod is its node's, and refers to nothing that the node could not read otherwise.
    async fn mirror(
        &self,
        node: &str,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<Option<String>, Status> {
        let Some(pod) = object else { return Ok(None) };
        let owners: Vec<&Value> = items(pod, "/metadata/ownerReferences").collect();
        let only = |what: &str| Ok(Some(format!("node {node:?} can only create pods with {what}")));
        let [owner] = owners[..] else {
            return only(if owners.is_empty() {
                "an owner reference set to itself"
            } else {
                "a single owner reference set to itself"
            });
        };
        let flag = |field: &str| owner.get(field) == Some(&Value::Bool(true));
        if text(owner, "/apiVersion") != "v1" || text(owner, "/kind") != "Node" || text(owner, "/name") != node {
            return only("an owner reference set to itself");
        }
        if !flag("controller") {
            return only("a controller owner reference set to itself");
        }
        if flag("blockOwnerDeletion") {
            return Ok(Some(format!("node {node:?} must not set blockOwnerDeletion on an owner reference")));
        }
        let Some(found) = self.nodes.find(attributes.ctx, None, node).await? else {
            return Err(Status::not_found(&Gvr::of("", "v1", "nodes"), node));
        };
        let (asked, uid) = (text(owner, "/uid"), &*found.meta.uid);
        if asked != uid {
            return Ok(Some(format!("node {node} UID mismatch: expected {asked} got {uid}")));
        }
        Ok(reference(pod).map(|what| format!("node {node:?} can not create pods that reference {what}")))
    }
}

/// Another object that the pod takes something from.
fn reference(pod: &Value) -> Option<&'static str> {
    References::of(pod).kinds().next().map(|kind| match kind {
        Kind::ServiceAccount => "a service account",
        Kind::Secret => "secrets",
        Kind::ConfigMap => "configmaps",
        Kind::ClusterTrustBundle => "clustertrustbundles",
        Kind::PersistentVolumeClaim => "persistentvolumeclaims",
        Kind::ResourceClaim => "resourceclaims",
    })
}

fn pod(node: &str, attributes: &Attributes<'_>, object: Option<&Value>) -> Option<String> {
    let mine = |pod: Option<&Value>| pod.is_some_and(|pod| text(pod, "/spec/nodeName") == node);
    match (attributes.operation, attributes.ctx.subresource.as_deref()) {
        (Operation::Create, None) => {
            let annotations = object.and_then(|object| object.pointer("/metadata/annotations"));
            if annotations.and_then(|all| all.get(MIRROR_ANNOTATION)).is_none() {
                return Some(format!(
                    "pod does not have {MIRROR_ANNOTATION:?} annotation, node {node:?} can only create mirror pods"
                ));
            }
            (!mine(object)).then(|| format!("node {node:?} can only create pods with spec.nodeName set to itself"))
        }
        (Operation::Delete, None) => (!mine(attributes.old))
            .then(|| format!("node {node:?} can only delete pods with spec.nodeName set to itself")),
        (Operation::Update, Some("status")) => {
            if !mine(attributes.old) {
                return Some(format!(
                    "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
                ));
            }
            let changed = |pointer: &str| {
                let part = |pod: Option<&Value>| pod.and_then(|pod| pod.pointer(pointer)).cloned();
                part(object) != part(attributes.old)
            };
            if changed("/metadata/labels") {
                return Some(format!("node {node:?} cannot update labels through pod status"));
            }
            changed("/status/resourceClaimStatuses")
                .then(|| format!("node {node:?} cannot update resource claim statues"))
        }
        (operation, _) => {
            let operation = format!("{operation:?}").to_uppercase();
            Some(format!("unexpected operation {operation:?}, node {node:?} can only create and delete mirror pods"))
        }
    }
}

/// Kubernetes' own labels that are not a node's to say, and those that fence it off.
fn foreign(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let within = |of: &str| domain == of || domain.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
    let own = OWN_LABELS.contains(&label) || OWN_DOMAINS.iter().any(|own| within(own));
    within(FENCES) || ((within("kubernetes.io") || within("k8s.io")) && !own)
}

fn own_node(node: &str, attributes: &Attributes<'_>, object: Option<&Value>) -> Option<String> {
    let name = name(attributes, object);
    if name != node {
        return Some(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    if attributes.operation == Operation::Delete {
        return None;
    }
    let labels = |object: Option<&Value>| object.and_then(|object| object.pointer("/metadata/labels")).cloned();
    let (new, old) = (labels(object).unwrap_or_default(), labels(attributes.old).unwrap_or_default());
    let keys = [&new, &old].into_iter().filter_map(Value::as_object).flat_map(|all| all.keys());
    let changed: BTreeSet<&str> =
        keys.map(String::as_str).filter(|key| new.get(key) != old.get(key) && foreign(key)).collect();
    let changed = changed.into_iter().collect::<Vec<_>>().join(", ");
    if attributes.operation == Operation::Create {
        return (!changed.is_empty())
            .then(|| format!("node {node:?} is not allowed to set the following labels: {changed}"));
    }
    let part = |object: Option<&Value>, pointer: &str| object.and_then(|object| object.pointer(pointer)).cloned();
    let taints =
        |object| part(object, "/spec/taints").filter(|taints| taints.as_array().is_some_and(|all| !all.is_empty()));
    if taints(object) != taints(attributes.old) {
        return Some(format!("node {node:?} is not allowed to modify taints"));
    }
    (!changed.is_empty()).then(|| format!("is not allowed to modify labels: {changed}"))
}

/// Only how much it holds, and how it fares.
fn claim(node: &str, attributes: &Attributes<'_>, object: Option<&Value>) -> Option<String> {
    let rest = |claim: Option<&Value>| {
        let mut claim = claim.cloned().unwrap_or_default();
        for field in ["capacity", "conditions", "allocatedResources", "allocatedResourceStatuses"] {
            if let Some(status) = claim.get_mut("status").and_then(Value::as_object_mut) {
                status.remove(field);
            }
        }
        if let Some(metadata) = claim.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("resourceVersion");
            metadata.remove("managedFields");
        }
        claim
    };
    (rest(object) != rest(attributes.old)).then(|| {
        format!("node {node:?} is not allowed to update fields other than status.capacity and status.conditions")
    })
}

fn lease(node: &str, attributes: &Attributes<'_>, object: Option<&Value>) -> Option<String> {
    if attributes.ctx.namespace.as_deref() != Some(LEASE_NAMESPACE) {
        return Some(format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace"));
    }
    (name(attributes, object) != node)
        .then(|| "can only access node lease with the same name as the requesting node".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Lookups;
    use super::super::testing::{Asked, fill, objects};
    use super::*;

    /// In a world without pods.
    fn plugin() -> NodeRestriction {
        NodeRestriction { nodes: objects(&[json!({"metadata": {"name": "n1"}})]), pods: objects(&[]) }
    }

    async fn refused(
        asked: (Gvr, &'static str, &'static str, Operation),
        subresource: &str,
        object: Value,
        old: Value,
    ) -> Option<String> {
        let (gvr, namespace, name, operation) = asked;
        let asked = Asked::new(gvr, namespace, name, operation).by("system:node:n1", &["system:nodes"]).of(subresource);
        let old = (!old.is_null()).then_some(&old);
        plugin().validate(&asked.attributes(old), Some(&object)).await.err().map(|status| status.message)
    }

    #[tokio::test]
    async fn pods() {
        let pods = |operation| (Gvr::of("", "v1", "pods"), "a", "p", operation);
        let on = |node: &str| json!({"spec": {"nodeName": node}});
        assert_eq!(refused(pods(Operation::Update), "status", on("n1"), on("n1")).await, None);
        assert_eq!(refused(pods(Operation::Delete), "", Value::Null, on("n1")).await, None);
        assert_eq!(
            refused(pods(Operation::Update), "status", on("n1"), on("n2")).await.expect("refused"),
            "pods \"p\" is forbidden: node \"n1\" can only update pod status for pods with spec.nodeName set to itself"
        );
        assert!(refused(pods(Operation::Delete), "", Value::Null, on("n2")).await.is_some());
        assert!(refused(pods(Operation::Create), "", on("n1"), Value::Null).await.is_some());
        assert!(refused(pods(Operation::Update), "", on("n1"), on("n1")).await.is_some());
    }

    #[tokio::test]
    async fn a_node_evicts_its_own_pods() {
        let lookups = Lookups::default();
        let on = |node: &str| json!({"metadata": {}, "spec": {"nodeName": node}});
        fill(&lookups, &[("pods", "a", "mine", on("n1")), ("pods", "a", "other", on("n2"))]);
        let plugin = NodeRestriction { nodes: lookups.nodes.clone(), pods: lookups.pods.clone() };
        let evict = |name: &'static str| {
            let plugin = &plugin;
            async move {
                let asked = Asked::new(Gvr::of("", "v1", "pods"), "a", name, Operation::Create);
                let asked = asked.by("system:node:n1", &["system:nodes"]).of("eviction");
                plugin.validate(&asked.attributes(None), Some(&json!({}))).await
            }
        };
        assert_eq!(evict("mine").await, Ok(()));
        assert_eq!(
            evict("other").await.expect_err("refused").message,
            "pods \"other\" is forbidden: node \"n1\" can only evict pods with spec.nodeName set to itself"
        );
        assert_eq!(evict("gone").await.expect_err("missing").code, 404);
    }

    #[tokio::test]
    async fn nodes_and_leases() {
        let nodes = |name| (Gvr::of("", "v1", "nodes"), "", name, Operation::Update);
        assert_eq!(refused(nodes("n1"), "", json!({}), json!({})).await, None);
        assert_eq!(
            refused(nodes("n2"), "", json!({}), json!({})).await.expect("refused"),
            "nodes \"n2\" is forbidden: node \"n1\" is not allowed to modify node \"n2\""
        );
        let fenced = json!({"metadata": {"labels": {"node-restriction.kubernetes.io/x": "y"}}});
        assert!(refused(nodes("n1"), "", fenced, json!({})).await.is_some());
        let role = json!({"metadata": {"labels": {"node-role.kubernetes.io/x": "", "own.example/x": "", "kubernetes.io/os": "linux"}}});
        assert_eq!(
            refused(nodes("n1"), "", role, json!({})).await.expect("refused"),
            "nodes \"n1\" is forbidden: is not allowed to modify labels: node-role.kubernetes.io/x"
        );
        let tainted = json!({"spec": {"taints": [{"key": "a"}]}});
        assert!(refused(nodes("n1"), "", json!({}), tainted).await.is_some());
        let leases =
            |namespace, name| (Gvr::of("coordination.k8s.io", "v1", "leases"), namespace, name, Operation::Update);
        assert_eq!(refused(leases("kube-node-lease", "n1"), "", json!({}), json!({})).await, None);
        assert!(refused(leases("kube-node-lease", "n2"), "", json!({}), json!({})).await.is_some());
        assert!(refused(leases("default", "n1"), "", json!({}), json!({})).await.is_some());
    }

    #[tokio::test]
    async fn mirror_pods_are_their_nodes_and_take_nothing_from_others() {
        let mirror = |owners: Value, spec: Value| json!({"metadata": {"annotations": {MIRROR_ANNOTATION: ""}, "ownerReferences": owners}, "spec": spec});
        let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "", "controller": true}]);
        let on = json!({"nodeName": "n1"});
        let account = json!({"nodeName": "n1", "serviceAccountName": "default"});
        let secret =
            json!({"nodeName": "n1", "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s"}}}]}]});
        let table = [
            (owner.clone(), on.clone(), None),
            (json!([]), on.clone(), Some("node \"n1\" can only create pods with an owner reference set to itself")),
            (owner.clone(), account, Some("node \"n1\" can not create pods that reference a service account")),
            (owner, secret, Some("node \"n1\" can not create pods that reference secrets")),
        ];
        for (owners, spec, expected) in table {
            let asked = (Gvr::of("", "v1", "pods"), "a", "p", Operation::Create);
            let told = refused(asked, "", mirror(owners, spec), Value::Null).await;
            assert_eq!(told, expected.map(|problem| format!("pods \"p\" is forbidden: {problem}")));
        }
    }

    #[tokio::test]
    async fn others_are_not_restricted() {
        let asked = Asked::new(Gvr::of("", "v1", "nodes"), "", "n2", Operation::Update);
        assert_eq!(plugin().validate(&asked.attributes(None), Some(&json!({}))).await, Ok(()));
    }
}
