//! The condition that tells who looks at a pod's end that something else than the pod itself ended it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use machinery_client::kube::api::{Patch, PatchParams};
use machinery_client::kube::{Api, Client};
use serde_json::json;

use crate::reconcile::{During, Error, is_code};
use crate::world::PodFacts;

/// Writes the condition, and the phase where one is given; answers whether the pod is still there.
pub async fn mark(
    client: &Client,
    pod: &PodFacts,
    (reason, message): (&str, &str),
    phase: Option<&str>,
) -> Result<bool, Error> {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": reason, "message": message, "lastTransitionTime": now,
    });
    write(client, pod, json!({ "conditions": [condition] }), phase).await
}

/// As [`mark`], without saying why.
pub async fn fail(client: &Client, pod: &PodFacts) -> Result<bool, Error> {
    write(client, pod, json!({}), Some("Failed")).await
}

async fn write(
    client: &Client,
    pod: &PodFacts,
    mut status: serde_json::Value,
    phase: Option<&str>,
) -> Result<bool, Error> {
    if let Some(phase) = phase {
        status["phase"] = phase.into();
    }
    let patch = json!({ "metadata": { "uid": pod.uid }, "status": status });
    let api = Api::<Pod>::namespaced(client.clone(), &pod.key.namespace);
    match api.patch_status(&pod.key.name, &PatchParams::default(), &Patch::Strategic(&patch)).await {
        Err(error) if is_code(&error, 404) || is_code(&error, 409) => Ok(false),
        other => other.map(|_| true).during("saying why a pod ends"),
    }
}
