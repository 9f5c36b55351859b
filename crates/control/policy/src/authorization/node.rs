//! Nodes: each reads what running pods takes, and writes of the shared world only what is its own. That a pod is
//! really its own is what the NodeRestriction admission plug-in looks at: authorization does not see objects.

use machinery_apiserver::Authorizer;
use machinery_apiserver::{Action, Attributes, Decision};
use machinery_registry::UserInfo;

use super::rules::{Rule, resources};
use super::silent;

pub const GROUP: &str = "system:nodes";
const PREFIX: &str = "system:node:";
/// Where nodes keep their leases.
pub const LEASE_NAMESPACE: &str = "kube-node-lease";
/// The Lease by which a controller tells all nodes how far their data planes are.
const PROGRAMMED: (&str, &str) = ("kube-system", "sampan-programmed");

/// Of every node alike.
const SHARED: &[Rule] = &[
    resources(&["get", "list", "watch"], &[""], &["endpoints", "namespaces", "nodes", "pods", "services"]),
    // By name only: a node knows which its pods take, and need not see the rest. (To follow one by name: below.)
    resources(&["get"], &[""], &["configmaps", "secrets", "serviceaccounts"]),
    resources(&["get", "list", "watch"], &["discovery.k8s.io"], &["endpointslices"]),
    // Each node keeps its pods' traffic to them.
    resources(&["get", "list", "watch"], &["networking.k8s.io"], &["networkpolicies"]),
    resources(&["create", "patch", "update"], &["", "events.k8s.io"], &["events"]),
    resources(&["patch", "update"], &[""], &["pods/status"]),
    resources(&["create", "delete"], &[""], &["pods"]),
    resources(&["create"], &[""], &["nodes"]),
    // For its own certificates, as they come to their ends.
    resources(&["create", "get", "list", "watch"], &["certificates.k8s.io"], &["certificatesigningrequests"]),
    // For pods on it alone, which the handler of tokens checks.
    resources(&["create"], &[""], &["serviceaccounts/token"]),
];

/// The node that this caller is.
pub fn name_of(user: &UserInfo) -> Option<&str> {
    let name = user.name.strip_prefix(PREFIX).filter(|name| !name.is_empty())?;
    user.groups.iter().any(|group| group == GROUP).then_some(name)
}

pub struct Nodes;

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
            // How far the data planes of all nodes are is followed by every node.
            ("coordination.k8s.io", "leases", "")
                if (namespace, name) == PROGRAMMED && matches!(attributes.verb, "get" | "list" | "watch") =>
            {
                Decision::Allow
            }
            // What volumes show is followed, each object by its own name.
            ("", "configmaps" | "secrets", "") if !name.is_empty() && matches!(attributes.verb, "list" | "watch") => {
                Decision::Allow
            }
            _ => silent(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::allowed;
    use super::*;

    #[tokio::test]
    async fn a_node_writes_only_its_own() {
        let table = [
            ("get", "secrets", ("a", "s"), true),
            ("list", "secrets", ("a", ""), false),
            ("watch", "secrets", ("a", ""), false),
            ("watch", "secrets", ("a", "s"), true),
            ("list", "configmaps", ("a", "c"), true),
            ("list", "configmaps", ("kube-system", ""), false),
            ("watch", "endpointslices.discovery.k8s.io", ("", ""), true),
            ("watch", "networkpolicies.networking.k8s.io", ("", ""), true),
            ("watch", "configmaps", ("kube-system", "sampan-dns"), true),
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
            ("create", "secrets", ("a", "s"), false),
            ("create", "serviceaccounts/token", ("a", "default"), true),
            ("list", "deployments.apps", ("a", ""), false),
        ];
        for (verb, what, place, expected) in table {
            assert_eq!(
                allowed("system:node:n1", &[GROUP], verb, what, place).await,
                expected,
                "{verb} {what} {place:?}"
            );
        }
    }

    #[tokio::test]
    async fn the_name_alone_makes_no_node() {
        assert!(!allowed("system:node:n1", &[], "get", "secrets", ("a", "s")).await);
        assert!(!allowed("jane", &[GROUP], "get", "secrets", ("a", "s")).await);
        assert!(!allowed("system:node:", &[GROUP], "get", "secrets", ("a", "s")).await);
    }
}
