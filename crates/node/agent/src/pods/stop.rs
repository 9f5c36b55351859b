//! Taking one container down: traffic and preStop hook, signals, and what the runtime knows of the dead.

use std::time::Duration;

use base_sys::crash;
use machinery_client::EventKind::Normal;

use crate::container::signal_number;
use crate::hook;
use crate::plan::StopCause;
use crate::pods::Message;
use crate::pods::fold::unknown_exit;
use crate::pods::worker::Worker;
use crate::seams::{ContainerState, chain};
use crate::state::{Stage, Stopping};

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;
/// For connections whose handshake was under way when the last node withdrew the endpoint.
const HANDSHAKES: Duration = Duration::from_millis(50);

impl Worker {
    /// Begins a stop: traffic is steered away and the preStop hook runs, side by side.
    pub(super) fn drain(&mut self, name: &str, withdrawal: Duration, stop: Stopping, cause: StopCause) {
        let message = match cause {
            StopCause::PodDeleted | StopCause::PodCompleted | StopCause::PodFailed => {
                format!("Stopping container {name}")
            }
            StopCause::ProbeFailed(kind) => format!("Container {name} failed {} probe, will be restarted", kind.word()),
            StopCause::PostStartFailed => "FailedPostStartHook".into(),
            StopCause::SpecChanged => format!("Container {name} definition changed, will be restarted"),
        };
        self.event(Some(name), Normal, "Killing", &message);
        let hook = self.container(name).and_then(|container| container.lifecycle?.pre_stop);
        let target = self.target(name);
        let ips = self.state.sandbox.ips().to_vec();
        let now = self.now();
        let Some(running) = self.running_mut(name) else { return };
        let served = running.health.started;
        let container = running.id.clone();
        let left = Duration::try_from(stop.deadline.duration_since(now)).unwrap_or_default();
        running.stop = Some(stop);
        let (withdrawals, outbox) = (self.machine.withdrawals.clone(), self.outbox.clone());
        let task = self.tasks.spawn(async move {
            let withdrawn = async {
                if !ips.is_empty() && served && !withdrawal.is_zero() {
                    let all = async {
                        for ip in ips {
                            withdrawals.withdrawn(ip).await;
                        }
                    };
                    // Late is late: the signal waits no longer than the limit.
                    if tokio::time::timeout(withdrawal, all).await.is_err() {
                        tracing::warn!(container, limit = ?withdrawal, "told to stop while some node may still send to it");
                    }
                    tokio::time::sleep(HANDSHAKES).await;
                }
            };
            let hook = async {
                match (hook, target) {
                    // A hook that is still at it is let go; the signal no longer waits.
                    (Some(hook), Some(target)) if !withdrawal.is_zero() => {
                        tokio::time::timeout(left, hook::run(&hook, &target)).await.unwrap_or(Ok(()))
                    }
                    _ => Ok(()),
                }
            };
            let ((), hook) = tokio::join!(withdrawn, hook);
            let _ = outbox.send(Message::Drained { container, hook });
        });
        self.attached.entry(name.to_owned()).or_default().push(task);
        crash::point("drain begun");
    }

    pub(super) async fn signal(&mut self, name: &str, kill: bool) {
        let now = self.now();
        let Some(running) = self.running_mut(name) else { return };
        let id = running.id.clone();
        let own = running.stop_signal.as_deref().and_then(signal_number).unwrap_or(SIGTERM);
        if let Some(stop) = running.stop.as_mut() {
            stop.stage = if kill { Stage::Killed } else { Stage::Signalled { at: now } };
        }
        let signal = if kill { SIGKILL } else { own };
        if let Err(error) = self.machine.runtime.signal_container(&id, signal).await {
            tracing::debug!(container = id, signal, error = %chain(&error), "signal not delivered");
            self.recheck(&id).await;
        }
        crash::point("signal sent");
    }

    /// A container that cannot be signalled is most likely gone; the runtime knows.
    async fn recheck(&mut self, id: &str) {
        let Ok(sandboxes) = self.machine.runtime.list().await else { return };
        let found = sandboxes.into_iter().flat_map(|sandbox| sandbox.containers).find(|known| known.id == id);
        let exit = match found.map(|container| container.state) {
            Some(ContainerState::Running { .. }) => return,
            Some(ContainerState::Exited(exit)) => exit,
            Some(ContainerState::Created) | None => unknown_exit(self.now(), "The container could not be located"),
        };
        self.exited(id, exit);
    }
}
