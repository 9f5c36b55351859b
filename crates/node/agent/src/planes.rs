//! The data planes of all nodes, as far as this node hears of them: a pod is told to stop only when none of them sends to
//! it any more. Where this node is alone, its own is all there is, and nothing is asked or published.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use base_tasks::Tasks;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::runtime::watcher;
use machinery_client::{Change, informer};
use tokio::sync::watch;

use crate::seams::Withdrawals;

/// Where the control plane says how far all are: annotations of one Lease.
const NAMESPACE: &str = "kube-system";
const NAME: &str = "sampan-programmed";
const AWAITED: &str = "sampan.io/awaited";
/// On that Lease the lowest revision, on this node's own Lease its own.
pub const REVISION: &str = "sampan.io/programmed";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Planes {
    #[default]
    Alone,
    /// The revision of EndpointSlices that all follow which say how far they are.
    Several { minimum: Option<u64> },
}

impl Planes {
    fn of(lease: &Lease) -> Self {
        let annotations = lease.metadata.annotations.as_ref();
        let number = |key: &str| annotations.and_then(|all| all.get(key)?.parse::<u64>().ok());
        match number(AWAITED) {
            Some(nodes) if nodes > 1 => Self::Several { minimum: number(REVISION) },
            _ => Self::Alone,
        }
    }

    fn reached(self, revision: u64) -> bool {
        match self {
            Self::Alone | Self::Several { minimum: None } => true,
            Self::Several { minimum: Some(minimum) } => minimum >= revision,
        }
    }
}

pub fn follow(tasks: &Tasks, client: kube::Client) -> watch::Receiver<Planes> {
    let (sender, receiver) = watch::channel(Planes::default());
    let only = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let lease = informer(tasks, Api::<Lease>::namespaced(client, NAMESPACE), only, |lease| Some(Planes::of(&lease)));
    let mut changes = lease.subscribe();
    tasks.spawn("planes", async move {
        while let Some(change) = changes.recv().await {
            let now = match change {
                Change::Applied { new, .. } => *new,
                Change::Deleted { .. } => Planes::Alone,
            };
            sender.send_replace(now);
        }
    });
    receiver
}

/// A withdrawal from this node's data plane, then from all others'.
pub struct Everywhere {
    pub local: Arc<dyn Withdrawals>,
    pub planes: watch::Receiver<Planes>,
}

#[async_trait]
impl Withdrawals for Everywhere {
    async fn withdrawn(&self, pod_ip: IpAddr) {
        self.local.withdrawn(pod_ip).await;
        // What is followed now has the withdrawal in it.
        let revision = *self.local.programmed().borrow();
        let mut planes = self.planes.clone();
        // The sender lives as long as the node.
        let _ = planes.wait_for(|planes| planes.reached(revision)).await;
    }

    fn programmed(&self) -> watch::Receiver<u64> {
        self.local.programmed()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    /// A data plane that has withdrawn everything at once, at revision 7.
    struct At7(watch::Sender<u64>);

    #[async_trait]
    impl Withdrawals for At7 {
        async fn withdrawn(&self, _: IpAddr) {}

        fn programmed(&self) -> watch::Receiver<u64> {
            self.0.subscribe()
        }
    }

    #[test]
    fn the_lease_says_whether_there_are_others() {
        let planes = |annotations: serde_json::Value| {
            let lease = json!({"metadata": {"name": NAME, "annotations": annotations}});
            Planes::of(&serde_json::from_value(lease).unwrap())
        };
        assert_eq!(planes(json!({})), Planes::Alone);
        assert_eq!(planes(json!({AWAITED: "1", REVISION: "9"})), Planes::Alone);
        assert_eq!(planes(json!({AWAITED: "many"})), Planes::Alone);
        assert_eq!(planes(json!({AWAITED: "2"})), Planes::Several { minimum: None });
        assert_eq!(planes(json!({AWAITED: "3", REVISION: "9"})), Planes::Several { minimum: Some(9) });
    }

    #[tokio::test(start_paused = true)]
    async fn a_withdrawal_waits_for_the_slowest_data_plane() {
        let (planes, receiver) = watch::channel(Planes::Alone);
        let everywhere = Everywhere { local: Arc::new(At7(watch::Sender::new(7))), planes: receiver };
        let ip = IpAddr::from([10, 42, 0, 2]);
        everywhere.withdrawn(ip).await;
        planes.send_replace(Planes::Several { minimum: None });
        everywhere.withdrawn(ip).await;
        planes.send_replace(Planes::Several { minimum: Some(6) });
        let waiting = everywhere.withdrawn(ip);
        tokio::pin!(waiting);
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut waiting).await.is_err());
        planes.send_replace(Planes::Several { minimum: Some(7) });
        waiting.await;
    }
}
