//! Nodes.

use std::collections::BTreeSet;

use base_meta::{Gvk, field};
use k8s_openapi::api::core::v1::Node;
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::text("Status", "Whether it can run pods."),
    columns::text("Roles", "What its role labels say."),
    AGE,
    columns::text("Version", "The version of its agent."),
    columns::wide("Internal-IP", "Its address inside the cluster."),
    columns::wide("External-IP", "Its address for the outside."),
    columns::wide("OS-Image", "Its operating system."),
    columns::wide("Kernel-Version", "Its kernel."),
    columns::wide("Container-Runtime", "What runs its containers."),
];

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE: &str = "kubernetes.io/role";

pub struct NodeStrategy;

impl Strategy for NodeStrategy {
    type Object = Node;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            short_names: &["no"],
            scope: Scope::Cluster,
            subresources: vec![
                define::subresource("proxy", Gvk::of("", "v1", "NodeProxyOptions"), define::PROXY),
                define::status::<Node>(),
            ],
            fields: &["spec.unschedulable"],
            ..define::resource::<Node>("nodes", "node", COLUMNS)
        }
    }

    fn is_created_with_status(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Node) {
        api::defaults::node(object);
    }

    fn validate(&self, _: &RequestContext, object: &Node) -> Vec<field::Error> {
        api::validation::node::node(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &Node, old: &Node) -> Vec<field::Error> {
        api::validation::node::node_update(new, old)
    }

    fn validate_status_update(&self, _: &RequestContext, new: &Node, old: &Node) -> Vec<field::Error> {
        api::validation::node::node_update(new, old)
    }

    fn selectable(&self, object: &Node) -> Vec<(&'static str, String)> {
        let unschedulable = object.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
        vec![("spec.unschedulable", unschedulable.to_string())]
    }

    fn row(&self, object: &Node) -> Vec<Value> {
        let info = object.status.as_ref().and_then(|status| status.node_info.as_ref());
        let known =
            |text: Option<&String>| json!(text.filter(|text| !text.is_empty()).map_or("<unknown>", String::as_str));
        vec![
            columns::name(&object.metadata),
            json!(status(object)),
            json!(roles(object)),
            columns::age(&object.metadata),
            json!(info.map_or("", |info| info.kubelet_version.as_str())),
            json!(columns::or_none(address(object, "InternalIP"))),
            json!(columns::or_none(address(object, "ExternalIP"))),
            known(info.map(|info| &info.os_image)),
            known(info.map(|info| &info.kernel_version)),
            known(info.map(|info| &info.container_runtime_version)),
        ]
    }
}

/// The first address of a type.
pub(crate) fn address<'a>(node: &'a Node, kind: &str) -> Option<&'a str> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses.iter().find(|address| address.type_ == kind).map(|address| address.address.as_str())
}

fn status(node: &Node) -> String {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    let mut text = match ready.map(|ready| ready.status.as_str()) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        text.push_str(",SchedulingDisabled");
    }
    text
}

fn roles(node: &Node) -> String {
    let labels = node.metadata.labels.iter().flatten();
    let role = |(key, value): (&String, &String)| match key.strip_prefix(ROLE_PREFIX) {
        Some(role) if !role.is_empty() => Some(role.to_owned()),
        _ => (key == ROLE && !value.is_empty()).then(|| value.clone()),
    };
    let roles: BTreeSet<String> = labels.filter_map(role).collect();
    columns::or_none(Some(&roles.into_iter().collect::<Vec<_>>().join(","))).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_roles() {
        let node = |value| -> Node { serde_json::from_value(value).expect("a node") };
        let bare = node(json!({}));
        assert_eq!((status(&bare), roles(&bare)), ("Unknown".into(), "<none>".into()));
        let full = node(json!({
            "metadata": {"labels": {"node-role.kubernetes.io/control-plane": "true", "kubernetes.io/role": "agent"}},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]},
        }));
        assert_eq!((status(&full), roles(&full)), ("Ready,SchedulingDisabled".into(), "agent,control-plane".into()));
        assert_eq!(address(&full, "InternalIP"), Some("10.0.0.1"));
        assert_eq!(NodeStrategy.row(&full).len(), COLUMNS.len());
    }
}
