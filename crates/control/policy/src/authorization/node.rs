//! Nodes: each reads what its own pods take, and writes of the shared world only what is its own. That a pod it writes
//! is really its own is what the NodeRestriction admission plug-in looks at: authorization does not see objects.
//!
//! What a node's pods take is asked of the pods that the server has in memory, and where none of them takes it once more
//! with every acknowledged write: a node that was told of a pod is never refused what the pod needs.

use std::sync::Arc;

use base_meta::{Gvr, Status};
use machinery_apiserver::Authorizer;
use machinery_apiserver::{Action, Attributes, Decision};
use machinery_registry::UserInfo;

use super::rules::{Rule, resources};
use super::silent;
use crate::admission::Lookups;
use crate::admission::late::{Fresh, Late, decoded, server_context};
use crate::pod_references::{Kind, References};

pub const GROUP: &str = "system:nodes";
const PREFIX: &str = "system:node:";
/// Where nodes keep their leases.
pub const LEASE_NAMESPACE: &str = "kube-node-lease";
/// The Lease by which a controller tells all nodes how far their data planes are.
const PROGRAMMED: (&str, &str) = ("kube-system", "sampan-programmed");

/// Of every node alike.
const SHARED: &[Rule] = &[
    resources(&["get", "list", "watch"], &[""], &["endpoints", "namespaces", "nodes", "pods", "services"]),
    resources(&["get", "list", "watch"], &["discovery.k8s.io"], &["endpointslices"]),
    // Each node keeps its pods' traffic to them.
    resources(&["get", "list", "watch"], &["networking.k8s.io"], &["networkpolicies"]),
    resources(&["create", "patch", "update"], &["", "events.k8s.io"], &["events"]),
    resources(&["patch", "update"], &[""], &["pods/status"]),
    resources(&["create", "delete"], &[""], &["pods"]),
    resources(&["create"], &[""], &["nodes"]),
    // Of whoever calls the node itself.
    resources(&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
    resources(&["create"], &["authorization.k8s.io"], &["localsubjectaccessreviews", "subjectaccessreviews"]),
    resources(&["get", "list", "watch"], &["storage.k8s.io"], &["csidrivers"]),
    // For its own certificates, as they come to their ends.
    resources(&["create", "get", "list", "watch"], &["certificates.k8s.io"], &["certificatesigningrequests"]),
];

/// The node that this caller is.
pub fn name_of(user: &UserInfo) -> Option<&str> {
    let name = user.name.strip_prefix(PREFIX).filter(|name| !name.is_empty())?;
    user.groups.iter().any(|group| group == GROUP).then_some(name)
}

pub struct Nodes {
    pods: Arc<Late>,
    volumes: Arc<Late>,
    attachments: Arc<Late>,
}

/// By what a request is related to a node.
enum Through<'a> {
    /// A pod on the node that takes this by name.
    Pod(Kind),
    /// The claim that this volume is bound to, and a pod that takes that.
    Claim { volume: &'a str },
}

/// Where a volume of a driver names the Secrets that the node needs for it.
const SECRETS_OF_DRIVERS: [&str; 3] = ["nodeStageSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"];

impl Nodes {
    pub(super) fn new(lookups: &Lookups) -> Self {
        Self {
            pods: lookups.pods.clone(),
            volumes: lookups.persistent_volumes.clone(),
            attachments: lookups.volume_attachments.clone(),
        }
    }

    async fn related(&self, node: &str, through: Through<'_>, namespace: &str, name: &str) -> Result<bool, Status> {
        match through {
            Through::Pod(Kind::Secret) => {
                Ok(self.taken(node, Kind::Secret, namespace, name).await?
                    || self.of_volume(node, namespace, name).await?)
            }
            Through::Pod(kind) => self.taken(node, kind, namespace, name).await,
            Through::Claim { volume } => {
                let Some(volume) = self.volumes.find_as_server(None, volume).await? else { return Ok(false) };
                let volume = decoded(&volume)?;
                self.claimed(node, &volume).await
            }
        }
    }

    /// Whether a pod on the node takes this volume.
    async fn claimed(&self, node: &str, volume: &serde_json::Value) -> Result<bool, Status> {
        let claim = |field: &str| volume["spec"]["claimRef"][field].as_str().unwrap_or("");
        self.taken(node, Kind::PersistentVolumeClaim, claim("namespace"), claim("name")).await
    }

    /// Whether a volume that a pod on the node takes names this Secret.
    async fn of_volume(&self, node: &str, namespace: &str, name: &str) -> Result<bool, Status> {
        let ctx = server_context(Gvr::of("", "v1", "persistentvolumes"), None);
        for volume in self.volumes.list(&ctx, None, Fresh::Cached).await? {
            let volume = decoded(&volume)?;
            let names = SECRETS_OF_DRIVERS.iter().any(|field| {
                let secret = &volume["spec"]["csi"][field];
                secret["name"] == name && secret["namespace"] == namespace
            });
            if names && self.claimed(node, &volume).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn attached_to(&self, node: &str, attachment: &str) -> Result<bool, Status> {
        let found = self.attachments.find_as_server(None, attachment).await?;
        // A node asks until there is one.
        let Some(found) = found else { return Ok(true) };
        Ok(decoded(&found)?["spec"]["nodeName"] == node)
    }

    /// Whether a pod on the node takes this.
    async fn taken(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> Result<bool, Status> {
        if namespace.is_empty() || name.is_empty() {
            return Ok(false);
        }
        let ctx = server_context(Gvr::of("", "v1", "pods"), Some(namespace));
        for fresh in [Fresh::Cached, Fresh::Latest] {
            for pod in self.pods.list(&ctx, Some(namespace), fresh).await? {
                let here = pod.meta.fields.iter().any(|(field, value)| *field == "spec.nodeName" && **value == *node);
                if here && References::of_stored(&pod).map_err(Status::internal)?.has(kind, name) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// What a node may do for the sake of its pods alone.
fn for_pods<'a>(verb: &str, resource: &str, subresource: &str, name: &'a str) -> Option<Through<'a>> {
    match (verb, resource, subresource) {
        // What volumes show is followed, each object by its own name.
        ("get" | "list" | "watch", "secrets", "") => Some(Through::Pod(Kind::Secret)),
        ("get" | "list" | "watch", "configmaps", "") => Some(Through::Pod(Kind::ConfigMap)),
        // The handler of tokens checks that the pod is there.
        ("get", "serviceaccounts", "") | ("create", "serviceaccounts", "token") => {
            Some(Through::Pod(Kind::ServiceAccount))
        }
        ("get" | "list" | "watch", "persistentvolumeclaims", "")
        | ("get" | "patch" | "update", "persistentvolumeclaims", "status") => {
            Some(Through::Pod(Kind::PersistentVolumeClaim))
        }
        ("get" | "list" | "watch", "persistentvolumes", "") => Some(Through::Claim { volume: name }),
        _ => None,
    }
}

fn decided(node: &str, action: &Action<'_>, related: Result<bool, Status>) -> Decision {
    match related {
        Ok(true) => Decision::Allow,
        Ok(false) => {
            Decision::NoOpinion { reason: format!("no relationship found between node {node:?} and this object") }
        }
        Err(status) => {
            tracing::warn!(node, ?action, %status, "cannot tell whether a node's pods need this");
            Decision::NoOpinion { reason: "what the node's pods take is not known".to_owned() }
        }
    }
}

#[async_trait::async_trait]
impl Authorizer for Nodes {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let Some(node) = name_of(attributes.user) else { return silent() };
        if SHARED.iter().any(|rule| rule.allows(attributes.verb, &attributes.action)) {
            return Decision::Allow;
        }
        let Action::Resource { group, resource, subresource, namespace, name, .. } = attributes.action else {
            return silent();
        };
        let change = matches!(attributes.verb, "patch" | "update" | "delete");
        match (group, resource, subresource) {
            ("", "nodes", "" | "status") if change && name == node => Decision::Allow,
            ("", "nodes", _) => Decision::NoOpinion { reason: format!("node {node:?} may only change its own node") },
            ("coordination.k8s.io", "leases", "") if namespace == LEASE_NAMESPACE => {
                // The name of a lease to be created is in its body: NodeRestriction checks it.
                if attributes.verb == "create" || (name == node && (change || attributes.verb == "get")) {
                    Decision::Allow
                } else {
                    let reason = "can only access node lease with the same name as the requesting node".to_owned();
                    Decision::NoOpinion { reason }
                }
            }
            // The name of one to be created is in its body, likewise.
            ("storage.k8s.io", "csinodes", "")
                if attributes.verb == "create" || (name == node && (change || attributes.verb == "get")) =>
            {
                Decision::Allow
            }
            ("storage.k8s.io", "volumeattachments", "") if attributes.verb == "get" => {
                decided(node, &attributes.action, self.attached_to(node, name).await)
            }
            // How far the data planes of all nodes are is followed by every node.
            ("coordination.k8s.io", "leases", "")
                if (namespace, name) == PROGRAMMED && matches!(attributes.verb, "get" | "list" | "watch") =>
            {
                Decision::Allow
            }
            ("", ..) => match for_pods(attributes.verb, resource, subresource, name) {
                Some(through) => decided(node, &attributes.action, self.related(node, through, namespace, name).await),
                None => silent(),
            },
            _ => silent(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::allowed_in;
    use super::*;
    use crate::admission::testing::fill;

    fn pod(node: &str, volumes: Value) -> Value {
        json!({"metadata": {}, "spec": {"nodeName": node, "serviceAccountName": "builder", "volumes": volumes}})
    }

    /// One pod on each of two nodes.
    fn world() -> Lookups {
        let lookups = Lookups::default();
        let takes = |what: &str| {
            json!([{"secret": {"secretName": what}}, {"configMap": {"name": what}},
                {"persistentVolumeClaim": {"claimName": what}}])
        };
        let of_driver = |claim: &str, secret: &str| {
            json!({"metadata": {}, "spec": {"claimRef": {"namespace": "a", "name": claim},
                "csi": {"nodeStageSecretRef": {"namespace": "drivers", "name": secret}}}})
        };
        let volume = of_driver("s", "mine");
        let attachment = |node: &str| json!({"metadata": {}, "spec": {"nodeName": node}});
        let free = json!({"metadata": {}, "spec": {}});
        let pods = [("pods", "a", "p", pod("n1", takes("s"))), ("pods", "a", "q", pod("n2", takes("t")))];
        fill(
            &lookups,
            &pods
                .into_iter()
                .chain([("persistentvolumes", "", "v", volume), ("persistentvolumes", "", "free", free)])
                .chain([("persistentvolumes", "", "theirs", of_driver("t", "theirs"))])
                .chain(["n1", "n2"].map(|node| ("volumeattachments", "", node, attachment(node))))
                .collect::<Vec<_>>(),
        );
        lookups
    }

    #[tokio::test]
    async fn a_node_reads_what_its_pods_take_and_writes_only_its_own() {
        let table = [
            ("get", "secrets", ("a", "s"), true),
            ("watch", "secrets", ("a", "s"), true),
            ("list", "configmaps", ("a", "s"), true),
            ("get", "serviceaccounts", ("a", "builder"), true),
            ("create", "serviceaccounts/token", ("a", "builder"), true),
            ("get", "persistentvolumeclaims", ("a", "s"), true),
            ("patch", "persistentvolumeclaims/status", ("a", "s"), true),
            ("get", "persistentvolumes", ("", "v"), true),
            // Another node's, another namespace's, nobody's, and all of them.
            ("get", "secrets", ("a", "t"), false),
            ("watch", "secrets", ("b", "s"), false),
            ("get", "configmaps", ("a", "t"), false),
            ("get", "serviceaccounts", ("a", "default"), false),
            ("create", "serviceaccounts/token", ("b", "builder"), false),
            ("get", "persistentvolumeclaims", ("a", "t"), false),
            ("get", "persistentvolumes", ("", "free"), false),
            ("get", "persistentvolumes", ("", "gone"), false),
            ("list", "secrets", ("a", ""), false),
            ("watch", "secrets", ("a", ""), false),
            ("list", "configmaps", ("", ""), false),
            ("list", "configmaps", ("kube-system", ""), false),
            ("list", "persistentvolumes", ("", ""), false),
            ("create", "secrets", ("a", "s"), false),
            ("delete", "persistentvolumeclaims", ("a", "s"), false),
            ("watch", "endpointslices.discovery.k8s.io", ("", ""), true),
            ("watch", "networkpolicies.networking.k8s.io", ("", ""), true),
            ("watch", "configmaps", ("kube-system", ""), false),
            ("update", "pods/status", ("a", "p"), true),
            ("delete", "pods", ("a", "p"), true),
            ("update", "pods", ("a", "p"), false),
            ("create", "pods/binding", ("a", "p"), false),
            ("create", "nodes", ("", ""), true),
            ("patch", "nodes/status", ("", "n1"), true),
            ("patch", "nodes/status", ("", "n2"), false),
            ("delete", "nodes", ("", "n2"), false),
            ("update", "leases.coordination.k8s.io", ("kube-node-lease", "n1"), true),
            ("update", "leases.coordination.k8s.io", ("kube-node-lease", "n2"), false),
            ("update", "leases.coordination.k8s.io", ("default", "n1"), false),
            ("watch", "leases.coordination.k8s.io", ("kube-system", "sampan-programmed"), true),
            ("patch", "leases.coordination.k8s.io", ("kube-system", "sampan-programmed"), false),
            ("watch", "leases.coordination.k8s.io", ("kube-system", ""), false),
            ("list", "deployments.apps", ("a", ""), false),
            ("get", "secrets", ("drivers", "mine"), true),
            ("get", "secrets", ("drivers", "theirs"), false),
            ("get", "volumeattachments.storage.k8s.io", ("", "n1"), true),
            ("get", "volumeattachments.storage.k8s.io", ("", "n2"), false),
            ("list", "volumeattachments.storage.k8s.io", ("", ""), false),
            ("get", "csidrivers.storage.k8s.io", ("", "d"), true),
            ("create", "csinodes.storage.k8s.io", ("", ""), true),
            ("update", "csinodes.storage.k8s.io", ("", "n1"), true),
            ("update", "csinodes.storage.k8s.io", ("", "n2"), false),
        ];
        let world = world();
        for (verb, what, place, expected) in table {
            assert_eq!(
                allowed_in(&world, "system:node:n1", &[GROUP], verb, what, place).await,
                expected,
                "{verb} {what} {place:?}"
            );
        }
    }

    #[tokio::test]
    async fn the_name_alone_makes_no_node() {
        let world = world();
        assert!(!allowed_in(&world, "system:node:n1", &[], "get", "secrets", ("a", "s")).await);
        assert!(!allowed_in(&world, "jane", &[GROUP], "get", "secrets", ("a", "s")).await);
        assert!(!allowed_in(&world, "system:node:", &[GROUP], "get", "secrets", ("a", "s")).await);
    }

    #[tokio::test]
    async fn who_cannot_be_asked_allows_nothing() {
        assert!(!allowed_in(&Lookups::default(), "system:node:n1", &[GROUP], "get", "secrets", ("a", "s")).await);
    }
}
