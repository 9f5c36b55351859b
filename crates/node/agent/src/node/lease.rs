//! The node's heartbeat: its Lease in kube-node-lease. Where there are other nodes, it also says how far this node's data
//! plane is.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::api::{Api, Patch, PatchParams, PostParams};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::planes::{Planes, REVISION};
use crate::seams::chain;

const NAMESPACE: &str = "kube-node-lease";
const RENEW: Duration = Duration::from_secs(10);
const DURATION_SECONDS: i32 = 40;
/// Between two reports of how far the data plane is.
const COALESCE: Duration = Duration::from_millis(20);

pub(super) struct Heartbeat {
    pub client: kube::Client,
    pub node: String,
    pub uid: String,
    /// The revision of EndpointSlices that this node's kernel follows.
    pub programmed: watch::Receiver<u64>,
    pub planes: watch::Receiver<Planes>,
}

impl Heartbeat {
    /// Renews until dropped; a failure is tried again sooner.
    pub(super) async fn run(mut self) {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), NAMESPACE);
        let (mut known, mut said) = (false, None);
        loop {
            let revision = self.revision();
            let began = Instant::now();
            let wait = match self.beat(&api, revision, known).await {
                Ok(()) => {
                    (known, said) = (true, revision);
                    RENEW
                }
                Err(error) => {
                    tracing::warn!(node = self.node, error = %chain(&error), "node lease not renewed; will retry");
                    known = false;
                    RENEW / 10
                }
            };
            // After a failure the news waits for the next attempt.
            tokio::select! {
                () = tokio::time::sleep_until(began + wait) => {}
                () = self.news(said), if known => tokio::time::sleep_until(began + COALESCE).await,
            }
        }
    }

    /// What is to be said: nothing where nobody asks.
    fn revision(&self) -> Option<u64> {
        match *self.planes.borrow() {
            Planes::Alone => None,
            Planes::Several { .. } => Some(*self.programmed.borrow()),
        }
    }

    /// Until there is another revision to say than the one that was said.
    async fn news(&mut self, said: Option<u64>) {
        loop {
            // Seen before looking, so that a change in between wakes us.
            self.programmed.mark_unchanged();
            self.planes.mark_unchanged();
            if self.revision().is_some_and(|revision| said != Some(revision)) {
                return;
            }
            let ended = tokio::select! {
                changed = self.planes.changed() => changed.is_err(),
                changed = self.programmed.changed() => changed.is_err(),
            };
            if ended {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn beat(&self, api: &Api<Lease>, revision: Option<u64>, known: bool) -> Result<(), kube::Error> {
        let now = MicroTime(Timestamp::now());
        if !known && api.get_opt(&self.node).await?.is_none() {
            api.create(&PostParams::default(), &self.lease(now.clone())).await?;
            if revision.is_none() {
                return Ok(());
            }
        }
        let mut renewal = serde_json::json!({ "spec": {
            "holderIdentity": self.node, "leaseDurationSeconds": DURATION_SECONDS, "renewTime": now,
        }});
        if let Some(revision) = revision {
            renewal["metadata"] = serde_json::json!({ "annotations": { REVISION: revision.to_string() } });
        }
        api.patch(&self.node, &PatchParams::default(), &Patch::Merge(renewal)).await?;
        Ok(())
    }

    fn lease(&self, now: MicroTime) -> Lease {
        let owner = OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: self.node.clone(),
            uid: self.uid.clone(),
            ..OwnerReference::default()
        };
        Lease {
            metadata: ObjectMeta {
                name: Some(self.node.clone()),
                namespace: Some(NAMESPACE.into()),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.node.clone()),
                lease_duration_seconds: Some(DURATION_SECONDS),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        }
    }
}
