//! The authorizers, in the order they are asked.

use machinery_apiserver::{Action, Attributes, Authorizer, Decision};

use crate::rules::{BUILT_IN, NODE, Rule};

const NODES_GROUP: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";
/// Where node leases live.
const LEASES: &str = "kube-node-lease";

fn no_opinion() -> Decision {
    Decision::NoOpinion { reason: String::new() }
}

fn by_rules(rules: &[Rule], attributes: &Attributes<'_>) -> bool {
    match attributes.action {
        Action::Resource { group, resource, subresource, .. } => {
            rules.iter().any(|rule| rule.allows(group, resource, subresource, attributes.verb))
        }
        // Discovery and health are for whoever has a name.
        Action::Path(path) => {
            attributes.verb == "get"
                && ["/api", "/apis", "/openapi", "/version", "/healthz", "/livez", "/readyz"]
                    .iter()
                    .any(|open| path == *open || path.strip_prefix(open).is_some_and(|rest| rest.starts_with('/')))
        }
    }
}

/// `system:masters` may do everything.
#[derive(Debug, Default)]
pub struct Masters;

#[async_trait::async_trait]
impl Authorizer for Masters {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.groups.iter().any(|group| group == "system:masters") {
            Decision::Allow
        } else {
            no_opinion()
        }
    }
}

/// The binary's own parts, each under its own name.
#[derive(Debug, Default)]
pub struct BuiltIn;

#[async_trait::async_trait]
impl Authorizer for BuiltIn {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        match BUILT_IN.iter().find(|(name, _)| *name == attributes.user.name) {
            Some((_, rules)) if by_rules(rules, attributes) => Decision::Allow,
            _ => no_opinion(),
        }
    }
}

/// The name of the node that `user` is.
pub fn node_of(user: &machinery_registry::UserInfo) -> Option<&str> {
    let name = user.name.strip_prefix(NODE_PREFIX).filter(|name| !name.is_empty())?;
    user.groups.iter().any(|group| group == NODES_GROUP).then_some(name)
}

/// A node: what every node reads, and its own objects by name. Whose pod a pod is, admission checks (NodeRestriction).
#[derive(Debug, Default)]
pub struct Nodes;

#[async_trait::async_trait]
impl Authorizer for Nodes {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let Some(node) = node_of(attributes.user) else { return no_opinion() };
        if !by_rules(NODE, attributes) {
            return no_opinion();
        }
        let refuse = |reason: String| Decision::NoOpinion { reason };
        match attributes.action {
            Action::Resource { resource: "leases", namespace, name, .. } => {
                // A create's name is in its body; NodeRestriction reads that.
                if namespace == LEASES && (name == node || (attributes.verb == "create" && name.is_empty())) {
                    Decision::Allow
                } else {
                    refuse(format!("can only access node lease with the same name as the requesting node, {node:?}"))
                }
            }
            Action::Resource { resource: "nodes", name, .. }
                if !matches!(attributes.verb, "get" | "list" | "watch" | "create") && name != node =>
            {
                refuse(format!("node {node:?} cannot modify node {name:?}"))
            }
            _ => Decision::Allow,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use machinery_registry::UserInfo;

    use super::*;

    fn user(name: &str, groups: &[&str]) -> UserInfo {
        UserInfo {
            name: name.into(),
            groups: groups.iter().map(|group| (*group).into()).collect(),
            ..UserInfo::default()
        }
    }

    fn ask(authorizer: &dyn Authorizer, user: &UserInfo, verb: &str, path: &str) -> bool {
        let parts: Vec<&str> = path.split(' ').collect();
        let [group, resource, namespace, name] = parts[..] else { panic!("group resource namespace name") };
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let action = Action::Resource { group, version: "v1", resource, subresource, namespace, name };
        block_on(authorizer.authorize(&Attributes { user, verb, action })) == Decision::Allow
    }

    #[test]
    fn masters_may_do_everything_and_others_nothing() {
        assert!(ask(&Masters, &user("admin", &["system:masters"]), "delete", " nodes  one"));
        assert!(!ask(&Masters, &user("admin", &["system:authenticated"]), "get", " nodes  one"));
    }

    #[test]
    fn a_part_has_its_own_rights_only() {
        let scheduler = user("system:kube-scheduler", &[]);
        assert!(ask(&BuiltIn, &scheduler, "create", " pods/binding default web"));
        assert!(!ask(&BuiltIn, &scheduler, "create", " pods default web"));
        assert!(!ask(&BuiltIn, &scheduler, "get", " secrets default web"));
        assert!(!ask(&BuiltIn, &user("mallory", &["system:masters"]), "list", " pods default "));
    }

    #[test]
    fn a_node_changes_itself_only() {
        let node = user("system:node:one", &["system:nodes"]);
        assert!(ask(&Nodes, &node, "patch", " nodes/status  one"));
        assert!(!ask(&Nodes, &node, "patch", " nodes/status  two"));
        assert!(ask(&Nodes, &node, "update", "coordination.k8s.io leases kube-node-lease one"));
        assert!(!ask(&Nodes, &node, "update", "coordination.k8s.io leases kube-node-lease two"));
        assert!(!ask(&Nodes, &node, "update", "coordination.k8s.io leases default one"));
        assert!(!ask(&Nodes, &node, "list", " secrets default "));
        assert!(!ask(&Nodes, &user("system:node:one", &[]), "get", " nodes  one"));
    }
}
