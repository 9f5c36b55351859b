//! A pod that was to be disrupted and was not is no target any more.

use std::time::Duration;

use base_tasks::Tasks;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use machinery_client::kube::api::{Patch, PatchParams};
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, ObjectKey};
use serde_json::json;

use crate::reconcile::{self, During, is_code};
use crate::world::{PodFacts, World};

const STALE: Duration = Duration::from_secs(2 * 60);

pub fn start(tasks: &Tasks, client: &Client, world: &World) {
    let queue = reconcile::queue::<ObjectKey>();
    reconcile::wake(tasks, &world.pods, {
        let queue = queue.clone();
        move |change| {
            if let Change::Applied { key, old, new } = change
                && target(new)
                && old.as_ref().is_none_or(|old| old.disrupted_since != new.disrupted_since)
            {
                queue.add(key.clone());
            }
        }
    });
    let (client, pods) = (client.clone(), world.pods.clone());
    reconcile::run(tasks, &queue, 1, std::future::ready(()), move |key| {
        let (client, pod) = (client.clone(), pods.get(&key));
        async move {
            let Some(pod) = pod.filter(|pod| target(pod)) else { return Ok(None) };
            let Some(since) = pod.disrupted_since else { return Ok(None) };
            let age: Duration = Timestamp::now().duration_since(since).try_into().unwrap_or(Duration::ZERO);
            if age < STALE {
                return Ok(Some(STALE - age));
            }
            let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let condition = json!({
                "type": "DisruptionTarget", "status": "False", "reason": null, "message": null,
                "lastTransitionTime": now,
            });
            let patch = json!({ "metadata": { "uid": pod.uid }, "status": { "conditions": [condition] } });
            let api = Api::<Pod>::namespaced(client, &key.namespace);
            match api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(&patch)).await {
                Err(error) if is_code(&error, 404) || is_code(&error, 409) => Ok(None),
                other => other.map(|_| None).during("taking back that a pod is to be disrupted"),
            }
        }
    });
}

fn target(pod: &PodFacts) -> bool {
    pod.disrupted_since.is_some() && !pod.deleting && !pod.terminal()
}
