//! A pod that is made on a node carries the node's zone and region; one that is bound to a node gets them from the
//! binding.

use std::sync::Arc;

use base_meta::{Gvr, Status};
use machinery_registry::{Admission, Attributes, Operation};
use serde_json::{Value, json};

use super::{Late, is, member, text};

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

pub(super) struct PodTopologyLabels {
    pub(super) nodes: Arc<Late>,
}

#[async_trait::async_trait]
impl Admission for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        is(gvr, "", "pods") && subresource.is_none() && operation == Operation::Create
    }

    async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        let name = text(object, "/spec/nodeName");
        if name.is_empty() {
            return Ok(());
        }
        let Some(node) = self.nodes.find(attributes.ctx, None, name).await? else { return Ok(()) };
        let found: Vec<_> = LABELS.iter().filter_map(|label| Some((*label, node.meta.labels.get(*label)?))).collect();
        if found.is_empty() {
            return Ok(());
        }
        let Some(pod) = object.as_object_mut() else { return Ok(()) };
        let Some(metadata) = member(pod, "metadata", json!({})).as_object_mut() else { return Ok(()) };
        if let Some(labels) = member(metadata, "labels", json!({})).as_object_mut() {
            for (label, value) in found {
                labels.entry(label).or_insert_with(|| json!(&**value));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Asked, objects};
    use super::*;

    #[tokio::test]
    async fn a_pod_on_a_node_says_where_that_is() {
        let [zone, region] = LABELS;
        let node = json!({"metadata": {"name": "n", "labels": {zone: "z", region: "r", "other": "x"}}});
        let plugin = PodTopologyLabels { nodes: objects(&[node]) };
        let asked = Asked::new(Gvr::of("", "v1", "pods"), "a", "p", Operation::Create);
        for (pod, labels) in [
            (json!({"metadata": {}, "spec": {"nodeName": "n"}}), json!({zone: "z", region: "r"})),
            (
                json!({"metadata": {"labels": {zone: "own"}}, "spec": {"nodeName": "n"}}),
                json!({zone: "own", region: "r"}),
            ),
            (json!({"metadata": {}, "spec": {"nodeName": "gone"}}), Value::Null),
            (json!({"metadata": {}, "spec": {}}), Value::Null),
        ] {
            let mut pod = pod;
            plugin.mutate(&asked.attributes(None), &mut pod).await.expect("admitted");
            assert_eq!(pod["metadata"]["labels"], labels);
        }
    }
}
