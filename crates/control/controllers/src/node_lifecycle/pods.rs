//! Pods of a node that is not heard of.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use machinery_client::kube::api::{Patch, PatchParams};
use machinery_client::kube::{Api, Client};
use machinery_client::{EventKind, Recorder};
use serde_json::json;

use crate::reconcile::{During, Error, is_code};
use crate::world::World;

/// None of them is ready any more, whatever it last said.
pub async fn not_ready(client: &Client, world: &World, recorder: &Recorder, node: &str) -> Result<(), Error> {
    for (key, pod) in world.pods.select(|_, pod| pod.ready() && pod.node.as_deref() == Some(node)) {
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let patch = json!({
            "metadata": { "uid": pod.uid },
            "status": { "conditions": [{ "type": "Ready", "status": "False", "lastTransitionTime": now }] },
        });
        let api = Api::<Pod>::namespaced(client.clone(), &key.namespace);
        let written = match api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(&patch)).await {
            // Gone, or another of that name.
            Err(error) if is_code(&error, 404) || is_code(&error, 409) => continue,
            other => other.during("saying that a pod of a silent node is not ready")?,
        };
        recorder.event(&pod.regarding(), EventKind::Warning, "NodeNotReady", "Node is not ready");
        world.pods.caught_up(&written.metadata.resource_version.unwrap_or_default()).await?;
    }
    Ok(())
}
