//! Keeps the node going when memory, disk or processes run short: says so, frees what nobody needs, and ends pods, one
//! at a time. Upstream's eviction manager; see README.md.

mod look;
mod message;
mod options;
mod plan;
mod rank;
mod signal;
mod storage;

use std::sync::Arc;
use std::time::Duration;

use base_sys::stalls::Stalls;
use base_tasks::Tasks;
use k8s_openapi::api::core::v1::Pod;
use machinery_client::{EventKind, ObjectKey};
use tokio::time::Instant;

use crate::collect;
use crate::pods::{Machine, Message};
use crate::seams::{SeamError, chain};
use look::Weighed;
use plan::{History, Step};
use rank::Candidate;
use signal::{Observations, Resource, Threshold};

pub use message::Ending;
pub use options::{EvictionError, EvictionPolicy, Graces, Limits, Reclaims};
pub use plan::Pressures;
pub use rank::is_critical;
pub use signal::{Pressure, Signal};

/// Upstream's monitoring period: no event tells that a disk fills or that a directory grows.
const PERIOD: Duration = Duration::from_secs(10);
/// Upstream's: how long an evicted pod may take before the next look.
const CLEANUP: Duration = Duration::from_secs(30);

pub fn start(tasks: &Tasks, machine: Arc<Machine>) {
    tasks.spawn("eviction", async move {
        let mut manager = Manager { machine, history: History::default() };
        let mut stalls = Stalls::follow().inspect_err(untold).ok();
        loop {
            match manager.look().await {
                Ok(evicted) if !evicted.is_empty() => {
                    manager.gone(&evicted).await;
                    continue;
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(error = %chain(&error), "what the node is short of is not known"),
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = stalled(&mut stalls) => {}
            }
        }
    });
}

/// Programs wait for memory: somebody may have to go before the kernel takes whom it likes.
async fn stalled(stalls: &mut Option<Stalls>) {
    if let Some(told) = stalls {
        match told.next().await {
            Ok(()) => return,
            Err(error) => untold(&error),
        }
        *stalls = None;
    }
    std::future::pending().await
}

fn untold(error: &std::io::Error) {
    tracing::debug!(%error, "the kernel does not tell when memory is short: that is seen at the next look");
}

struct Manager {
    machine: Arc<Machine>,
    history: History,
}

impl Manager {
    /// One look, and what follows from it; answers who was evicted.
    async fn look(&mut self) -> Result<Vec<Arc<Pod>>, SeamError> {
        let policy = &self.machine.config.eviction;
        let observed = look::observe(&self.machine).await?;
        let step = self.history.step(policy, &observed, Instant::now());
        self.say(&step);
        let greedy = self.greedy().await?;
        if !greedy.is_empty() {
            return Ok(greedy);
        }
        let Some(threshold) = step.acting.first() else { return Ok(Vec::new()) };
        let resource = threshold.signal.resource();
        let message = format!("Attempting to reclaim {}", resource.name());
        self.machine.cluster.report_node(EventKind::Warning, "EvictionThresholdMet", &message);
        if matches!(resource, Resource::Storage | Resource::Inodes) {
            collect::all_unused(&self.machine).await?;
            if plan::is_enough(policy, &look::observe(&self.machine).await?) {
                tracing::info!("removing unused images has freed enough of the disk");
                return Ok(Vec::new());
            }
        }
        self.evict_one(threshold, &step.acting, &observed).await
    }

    /// What the node is short of, to whoever asks.
    fn say(&self, step: &Step) {
        let mut before = Pressures::new();
        let changed = self.machine.pressures.send_if_modified(|said| {
            before = std::mem::replace(said, step.pressures.clone());
            before != step.pressures
        });
        if !changed {
            return;
        }
        for pressure in Pressure::ALL {
            let holds = step.pressures.contains(&pressure);
            if holds != before.contains(&pressure) {
                let reason = pressure.event(holds);
                let message = format!("Node {} status is now: {reason}", self.machine.config.node_name);
                self.machine.cluster.report_node(EventKind::Normal, reason, &message);
            }
        }
    }

    /// Ends the pods that take more of the disk than they may.
    async fn greedy(&self) -> Result<Vec<Arc<Pod>>, SeamError> {
        let mut limited = self.evictable();
        limited.retain(|pod| pod.spec.as_ref().is_some_and(storage::is_limited));
        if limited.is_empty() {
            return Ok(Vec::new());
        }
        let mut evicted = Vec::new();
        for Weighed { candidate: Candidate { pod, usage }, volumes } in
            look::weigh(&self.machine, limited, true).await?
        {
            let over = pod.spec.as_ref().zip(usage).and_then(|(spec, usage)| storage::over(spec, &usage, &volumes));
            if let Some(message) = over
                && self.evict(&pod, Ending::of_own_doing(message))
            {
                evicted.push(pod);
            }
        }
        Ok(evicted)
    }

    async fn evict_one(
        &self,
        threshold: &Threshold,
        met: &[Threshold],
        observed: &Observations,
    ) -> Result<Vec<Arc<Pod>>, SeamError> {
        let resource = threshold.signal.resource();
        let disk = matches!(resource, Resource::Storage | Resource::Inodes);
        let weighed = look::weigh(&self.machine, self.evictable(), disk).await?;
        let mut candidates: Vec<Candidate> = weighed.into_iter().map(|weighed| weighed.candidate).collect();
        rank::rank(&mut candidates, resource);
        for candidate in &candidates {
            let max_grace = self.machine.config.eviction.max_grace;
            if self.evict(&candidate.pod, message::eviction(candidate, threshold, met, observed, max_grace)) {
                return Ok(vec![Arc::clone(&candidate.pod)]);
            }
        }
        tracing::warn!(resource = resource.name(), "the node is short, and no pod is left to evict");
        Ok(Vec::new())
    }

    /// The pods that are not over, but for those that stay whatever they take.
    fn evictable(&self) -> Vec<Arc<Pod>> {
        let mut pods = self.machine.pods.active();
        pods.retain(|pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            !matches!(phase, Some("Succeeded" | "Failed"))
                && pod.metadata.deletion_timestamp.is_none()
                && !is_critical(pod)
        });
        pods
    }

    fn evict(&self, pod: &Pod, ending: Ending) -> bool {
        tracing::warn!(pod = %ObjectKey::of(pod), message = ending.message, "evicting a pod");
        self.machine.pods.tell(pod, Message::Ended(ending))
    }

    /// Waits until nothing of them runs any more.
    async fn gone(&self, pods: &[Arc<Pod>]) {
        let all = async {
            for pod in pods {
                let Some(mut view) = self.machine.pods.get(&ObjectKey::of(&**pod)) else { continue };
                // Its worker may have ended.
                let _ = view.wait_for(|view| view.ended || view.pod.metadata.uid != pod.metadata.uid).await;
            }
        };
        if tokio::time::timeout(CLEANUP, all).await.is_err() {
            tracing::warn!("evicted pods still run");
        }
    }
}
