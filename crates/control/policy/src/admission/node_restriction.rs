//! A node changes its own Node, its own Lease, and pods bound to it; nothing else.

use base_meta::{Gvr, Status};
use machinery_registry::{Admission, Attributes, Operation};
use serde_json::Value;

use crate::authorization::node_of;

pub struct NodeRestriction;

#[async_trait::async_trait]
impl Admission for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, gvr: &Gvr, _subresource: Option<&str>, operation: Operation) -> bool {
        let guarded = match &*gvr.group {
            "" => matches!(&*gvr.resource, "nodes" | "pods"),
            "coordination.k8s.io" => gvr.resource == "leases",
            _ => false,
        };
        guarded && operation != Operation::Connect
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(node) = node_of(&attributes.ctx.user) else { return Ok(()) };
        let Attributes { gvr, name, operation, old, .. } = attributes;
        let refuse = |message: String| Err(Status::forbidden(gvr, name, &message));
        if gvr.resource == "pods" {
            if *operation == Operation::Create {
                return refuse(format!(
                    "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
                ));
            }
            let bound = old.and_then(|pod| pod.pointer("/spec/nodeName")).and_then(Value::as_str).unwrap_or_default();
            if bound != node {
                return refuse(format!("node {node:?} can only change pods with spec.nodeName set to itself"));
            }
            return Ok(());
        }
        let named = object.and_then(|object| object.pointer("/metadata/name")).and_then(Value::as_str).unwrap_or(name);
        if named != node {
            return refuse(format!("node {node:?} is not allowed to modify node {named:?}"));
        }
        if gvr.resource == "nodes" && *operation == Operation::Delete {
            return refuse(format!("node {node:?} cannot delete itself"));
        }
        // Taints keep pods away from a node: it must not lift its own. On registration it may set them.
        let taints = |value: Option<&Value>| value.and_then(|value| value.pointer("/spec/taints")).cloned();
        if gvr.resource == "nodes" && *operation == Operation::Update && taints(object) != taints(*old) {
            return refuse(format!("node {node:?} is not allowed to modify taints"));
        }
        Ok(())
    }
}
