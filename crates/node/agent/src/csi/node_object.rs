//! What the cluster is told of the node's drivers: its CSINode, and on the Node the labels of their topology.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::{CSINode, CSINodeDriver, CSINodeSpec, VolumeNodeResources};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use node_grpc::messages::csi::NodeGetInfoResponse;
use serde_json::json;

/// Driver → what it calls the node; read by older controllers of drivers.
const NODE_IDS: &str = "csi.volume.kubernetes.io/nodeid";

#[derive(Debug, thiserror::Error)]
pub(super) enum TellError {
    #[error(
        "detected topology value collision: driver reported {key:?}:{said:?} but existing label is {key:?}:{there:?}"
    )]
    Collision { key: String, said: String, there: String },
    #[error("the driver has no name for this node")]
    NoNodeId,
    #[error("cannot {operation}")]
    Api { operation: &'static str, source: Box<kube::Error> },
}

fn api(operation: &'static str) -> impl FnOnce(kube::Error) -> TellError {
    move |source| TellError::Api { operation, source: Box::new(source) }
}

/// One at a time: each write is of what the one before has left.
pub(super) struct NodeObject {
    client: kube::Client,
    name: String,
    turn: tokio::sync::Mutex<()>,
}

impl NodeObject {
    pub(super) fn new(client: kube::Client, name: &str) -> Self {
        Self { client, name: name.to_owned(), turn: tokio::sync::Mutex::default() }
    }

    /// Before any driver comes: until there is one, the scheduler counts no volumes against this node.
    pub(super) async fn announce(&self) -> Result<(), TellError> {
        let _turn = self.turn.lock().await;
        let node = Api::<Node>::all(self.client.clone()).get(&self.name).await.map_err(api("read this node"))?;
        self.write(&node, |_| {}).await
    }

    pub(super) async fn add(&self, driver: &str, info: &NodeGetInfoResponse) -> Result<(), TellError> {
        if info.node_id.is_empty() {
            return Err(TellError::NoNodeId);
        }
        let _turn = self.turn.lock().await;
        let nodes = Api::<Node>::all(self.client.clone());
        let node = nodes.get(&self.name).await.map_err(api("read this node"))?;
        if let Some(patch) = node_patch(&node, driver, info)? {
            let patch = Patch::Merge(patch);
            nodes.patch(&self.name, &PatchParams::default(), &patch).await.map_err(api("label this node"))?;
        }
        self.write(&node, |drivers| {
            drivers.retain(|known| known.name != driver);
            drivers.push(entry(driver, info));
        })
        .await
    }

    pub(super) async fn remove(&self, driver: &str) -> Result<(), TellError> {
        let _turn = self.turn.lock().await;
        let nodes = Api::<Node>::all(self.client.clone());
        let Some(node) = nodes.get_opt(&self.name).await.map_err(api("read this node"))? else { return Ok(()) };
        if let Some(patch) = without_id(&node, driver) {
            let patch = Patch::Merge(patch);
            nodes.patch(&self.name, &PatchParams::default(), &patch).await.map_err(api("annotate this node"))?;
        }
        self.write(&node, |drivers| drivers.retain(|known| known.name != driver)).await
    }

    async fn write(&self, node: &Node, change: impl FnOnce(&mut Vec<CSINodeDriver>)) -> Result<(), TellError> {
        let all = Api::<CSINode>::all(self.client.clone());
        let found = all.get_opt(&self.name).await.map_err(api("read this node's CSINode"))?;
        let mut object = found.clone().unwrap_or_else(|| new(node));
        change(&mut object.spec.drivers);
        let params = PostParams::default();
        match found {
            Some(before) if before == object => Ok(()),
            Some(_) => {
                all.replace(&self.name, &params, &object).await.map(drop).map_err(api("write this node's CSINode"))
            }
            None => all.create(&params, &object).await.map(drop).map_err(api("create this node's CSINode")),
        }
    }
}

/// Goes with its node.
fn new(node: &Node) -> CSINode {
    let owner = OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.metadata.name.clone().unwrap_or_default(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    let metadata =
        ObjectMeta { name: node.metadata.name.clone(), owner_references: Some(vec![owner]), ..ObjectMeta::default() };
    CSINode { metadata, spec: CSINodeSpec { drivers: Vec::new() } }
}

fn segments(info: &NodeGetInfoResponse) -> BTreeMap<String, String> {
    info.accessible_topology.clone().unwrap_or_default().segments
}

fn entry(driver: &str, info: &NodeGetInfoResponse) -> CSINodeDriver {
    let count = i32::try_from(info.max_volumes_per_node).unwrap_or(i32::MAX);
    CSINodeDriver {
        name: driver.to_owned(),
        node_id: info.node_id.clone(),
        topology_keys: Some(segments(info).into_keys().collect::<Vec<_>>()).filter(|keys| !keys.is_empty()),
        allocatable: (count > 0).then_some(VolumeNodeResources { count: Some(count) }),
    }
}

fn ids(node: &Node) -> BTreeMap<String, String> {
    let annotation = node.metadata.annotations.as_ref().and_then(|all| all.get(NODE_IDS));
    // What somebody has spoilt is written anew.
    annotation.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// What the Node lacks of labels and of the driver's name for it.
fn node_patch(node: &Node, driver: &str, info: &NodeGetInfoResponse) -> Result<Option<serde_json::Value>, TellError> {
    let mut labels = segments(info);
    for (key, there) in node.metadata.labels.iter().flatten() {
        match labels.get(key) {
            Some(said) if said != there => {
                return Err(TellError::Collision { key: key.clone(), said: said.clone(), there: there.clone() });
            }
            Some(_) => drop(labels.remove(key)),
            None => {}
        }
    }
    let mut all = ids(node);
    let same = all.insert(driver.to_owned(), info.node_id.clone()).as_ref() == Some(&info.node_id);
    if same && labels.is_empty() {
        return Ok(None);
    }
    Ok(Some(json!({"metadata": {"labels": labels, "annotations": {NODE_IDS: json!(all).to_string()}}})))
}

fn without_id(node: &Node, driver: &str) -> Option<serde_json::Value> {
    let mut all = ids(node);
    all.remove(driver)?;
    let left = if all.is_empty() { serde_json::Value::Null } else { json!(json!(all).to_string()) };
    Some(json!({"metadata": {"annotations": {NODE_IDS: left}}}))
}

#[cfg(test)]
mod tests {
    use node_grpc::messages::csi::Topology;

    use super::*;

    fn info(zone: &str) -> NodeGetInfoResponse {
        let segments = BTreeMap::from([("topology.example/zone".to_owned(), zone.to_owned())]);
        let accessible_topology = Some(Topology { segments });
        NodeGetInfoResponse { node_id: "id-1".into(), max_volumes_per_node: 3, accessible_topology }
    }

    fn node(meta: serde_json::Value) -> Node {
        serde_json::from_value(json!({"metadata": meta})).unwrap()
    }

    #[test]
    fn a_driver_is_told_with_its_name_for_the_node_its_limit_and_its_topology() {
        let told = entry("a.example", &info("z1"));
        let told = serde_json::to_value(told).unwrap();
        let wanted = json!({"name": "a.example", "nodeID": "id-1", "allocatable": {"count": 3},
            "topologyKeys": ["topology.example/zone"]});
        assert_eq!(told, wanted);
        let plain = NodeGetInfoResponse { node_id: "x".into(), ..Default::default() };
        assert_eq!(serde_json::to_value(entry("b", &plain)).unwrap(), json!({"name": "b", "nodeID": "x"}));
    }

    #[test]
    fn the_node_gets_labels_and_the_annotation_and_keeps_those_of_others() {
        let fresh = node(json!({}));
        let patch = node_patch(&fresh, "a.example", &info("z1")).unwrap().unwrap();
        assert_eq!(patch["metadata"]["labels"], json!({"topology.example/zone": "z1"}));
        assert_eq!(patch["metadata"]["annotations"][NODE_IDS], json!(r#"{"a.example":"id-1"}"#));
        let there = node(json!({"labels": {"topology.example/zone": "z1"},
            "annotations": {NODE_IDS: r#"{"a.example":"id-1","b.example":"2"}"#}}));
        assert_eq!(node_patch(&there, "a.example", &info("z1")).unwrap(), None);
        let said = node_patch(&there, "a.example", &info("z2")).unwrap_err().to_string();
        assert!(said.starts_with("detected topology value collision: driver reported"), "{said}");
        let left = without_id(&there, "a.example").unwrap();
        assert_eq!(left["metadata"]["annotations"][NODE_IDS], json!(r#"{"b.example":"2"}"#));
        assert_eq!(without_id(&there, "c.example"), None);
    }
}
