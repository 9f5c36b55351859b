//! The node's heartbeat: its Lease in kube-node-lease.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::api::{Api, Patch, PatchParams, PostParams};

use crate::seams::chain;

const NAMESPACE: &str = "kube-node-lease";
const RENEW: Duration = Duration::from_secs(10);
const DURATION_SECONDS: i32 = 40;

/// Renews until dropped; a failure is tried again sooner.
pub(super) async fn renew(client: kube::Client, node: String, uid: String) {
    let api: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let mut known = false;
    loop {
        let wait = match beat(&api, &node, &uid, known).await {
            Ok(()) => {
                known = true;
                RENEW
            }
            Err(error) => {
                tracing::warn!(node, error = %chain(&error), "node lease not renewed; will retry");
                known = false;
                RENEW / 10
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn beat(api: &Api<Lease>, node: &str, uid: &str, known: bool) -> Result<(), kube::Error> {
    let now = MicroTime(Timestamp::now());
    if !known && api.get_opt(node).await?.is_none() {
        api.create(&PostParams::default(), &lease(node, uid, now)).await?;
        return Ok(());
    }
    let renewal = serde_json::json!({ "spec": {
        "holderIdentity": node, "leaseDurationSeconds": DURATION_SECONDS, "renewTime": now,
    }});
    api.patch(node, &PatchParams::default(), &Patch::Merge(renewal)).await?;
    Ok(())
}

fn lease(node: &str, uid: &str, now: MicroTime) -> Lease {
    let owner = OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.into(),
        uid: uid.into(),
        ..OwnerReference::default()
    };
    Lease {
        metadata: ObjectMeta {
            name: Some(node.into()),
            namespace: Some(NAMESPACE.into()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(node.into()),
            lease_duration_seconds: Some(DURATION_SECONDS),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    }
}
