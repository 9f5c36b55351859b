//! A node changes its own Node, its own Lease and its own pods, and nothing that would let it reach further.

use std::sync::Arc;

use base_meta::{Gvr, Status};
use machinery_registry::{Admission, Attributes, Operation};
use serde_json::Value;

use super::{Late, forbidden, is, text};
use crate::authorization::node::{LEASE_NAMESPACE, name_of};

const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// Labels with this prefix are for administrators to fence nodes off with.
const RESTRICTED_LABELS: &str = "node-restriction.kubernetes.io/";

pub(super) struct NodeRestriction {
    pods: Arc<Late>,
}

impl NodeRestriction {
    pub(super) fn new(pods: Arc<Late>) -> Self {
        Self { pods }
    }

    /// What is evicted is not in the request.
    async fn evict(&self, node: &str, attributes: &Attributes<'_>) -> Result<Option<String>, Status> {
        let namespace = attributes.ctx.namespace.as_deref();
        let pod = self.pods.find(attributes.ctx, namespace, attributes.name).await?;
        let pod = pod.ok_or_else(|| Status::not_found(attributes.gvr, attributes.name))?;
        let pod = pod.to_value().map_err(Status::internal)?;
        let mine = text(&pod, "/spec/nodeName") == node;
        Ok((!mine).then(|| format!("node {node:?} can only evict pods with spec.nodeName set to itself")))
    }
}

#[async_trait::async_trait]
impl Admission for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, gvr: &Gvr, _: Option<&str>, operation: Operation) -> bool {
        operation != Operation::Connect
            && (is(gvr, "", "pods") || is(gvr, "", "nodes") || is(gvr, "coordination.k8s.io", "leases"))
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(node) = name_of(&attributes.ctx.user) else { return Ok(()) };
        let evicts =
            attributes.operation == Operation::Create && attributes.ctx.subresource.as_deref() == Some("eviction");
        let problem = match &*attributes.gvr.resource {
            "pods" if evicts => self.evict(node, attributes).await?,
            "pods" => pod(node, attributes, object),
            "nodes" => own_node(node, attributes, object),
            _ => lease(node, attributes, object),
        };
        match problem {
            Some(message) => Err(forbidden(attributes, object, &message)),
            None => Ok(()),
        }
    }
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
        (Operation::Update, Some("status")) => (!mine(attributes.old))
            .then(|| format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself")),
        (operation, _) => {
            Some(format!("unexpected operation {operation:?}, node {node:?} can only create and delete mirror pods"))
        }
    }
}

fn own_node(node: &str, attributes: &Attributes<'_>, object: Option<&Value>) -> Option<String> {
    let name = match attributes.name {
        "" => object.map_or("", |object| text(object, "/metadata/name")),
        name => name,
    };
    if name != node {
        return Some(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    if attributes.operation == Operation::Delete {
        return None;
    }
    let part = |object: Option<&Value>, pointer: &str| object.and_then(|object| object.pointer(pointer)).cloned();
    let fenced = |object: Option<&Value>| -> Vec<(String, Value)> {
        let labels = part(object, "/metadata/labels");
        let labels = labels.as_ref().and_then(Value::as_object).into_iter().flatten();
        labels
            .filter(|(key, _)| key.starts_with(RESTRICTED_LABELS))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    if fenced(object) != fenced(attributes.old) {
        return Some(format!("node {node:?} is not allowed to modify labels with the prefix {RESTRICTED_LABELS}"));
    }
    let taints =
        |object| part(object, "/spec/taints").filter(|taints| taints.as_array().is_some_and(|all| !all.is_empty()));
    if attributes.operation == Operation::Update && taints(object) != taints(attributes.old) {
        return Some(format!("node {node:?} is not allowed to modify taints"));
    }
    None
}

fn lease(node: &str, attributes: &Attributes<'_>, object: Option<&Value>) -> Option<String> {
    if attributes.ctx.namespace.as_deref() != Some(LEASE_NAMESPACE) {
        return Some(format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace"));
    }
    let name = match attributes.name {
        "" => object.map_or("", |object| text(object, "/metadata/name")),
        name => name,
    };
    (name != node).then(|| "can only access node lease with the same name as the requesting node".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Lookups;
    use super::super::testing::{Asked, accounts, fill};
    use super::*;

    /// In a world without pods.
    fn plugin() -> NodeRestriction {
        NodeRestriction::new(accounts(&[]))
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
        let plugin = NodeRestriction::new(lookups.pods.clone());
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
        let tainted = json!({"spec": {"taints": [{"key": "a"}]}});
        assert!(refused(nodes("n1"), "", json!({}), tainted).await.is_some());
        let leases =
            |namespace, name| (Gvr::of("coordination.k8s.io", "v1", "leases"), namespace, name, Operation::Update);
        assert_eq!(refused(leases("kube-node-lease", "n1"), "", json!({}), json!({})).await, None);
        assert!(refused(leases("kube-node-lease", "n2"), "", json!({}), json!({})).await.is_some());
        assert!(refused(leases("default", "n1"), "", json!({}), json!({})).await.is_some());
    }

    #[tokio::test]
    async fn others_are_not_restricted() {
        let asked = Asked::new(Gvr::of("", "v1", "nodes"), "", "n2", Operation::Update);
        assert_eq!(plugin().validate(&asked.attributes(None), Some(&json!({}))).await, Ok(()));
    }
}
