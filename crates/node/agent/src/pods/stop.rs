//! Taking one container down: traffic and preStop hook, signals, and what the runtime knows of the dead.

use std::time::Duration;

use k8s_openapi::api::core::v1::LifecycleHandler;
use machinery_client::EventKind::Normal;

use crate::container::signal_number;
use crate::plan::StopCause;
use crate::pods::Message;
use crate::pods::fold::unknown_exit;
use crate::pods::worker::Worker;
use crate::seams::{ContainerState, ExecSpec, Runtime, chain};
use crate::state::{Stage, Stopping};

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;
/// For connections whose handshake was under way when the last node withdrew the endpoint.
const HANDSHAKES: Duration = Duration::from_millis(50);

impl Worker {
    /// Begins a stop: traffic is steered away and the preStop hook runs, side by side.
    pub(super) fn drain(&mut self, name: &str, withdrawal: Duration, stop: Stopping, cause: StopCause) {
        let message = match cause {
            StopCause::PodDeleted | StopCause::PodCompleted => format!("Stopping container {name}"),
            StopCause::ProbeFailed(kind) => format!("Container {name} failed {} probe, will be restarted", kind.word()),
            StopCause::SpecChanged => format!("Container {name} definition changed, will be restarted"),
        };
        self.event(Some(name), Normal, "Killing", &message);
        let hook = self.container(name).and_then(|container| container.lifecycle.clone()?.pre_stop);
        let ip = self.state.sandbox.ips().first().copied();
        let now = self.now();
        let Some(running) = self.running_mut(name) else { return };
        let served = running.health.started;
        let container = running.id.clone();
        let left = Duration::try_from(stop.deadline.duration_since(now)).unwrap_or_default();
        running.stop = Some(stop);
        let (withdrawals, runtime, outbox) =
            (self.machine.withdrawals.clone(), self.machine.runtime.clone(), self.outbox.clone());
        let task = self.tasks.spawn(async move {
            let withdrawn = async {
                if let Some(ip) = ip
                    && served
                    && !withdrawal.is_zero()
                {
                    // Late is late: the signal waits no longer than the limit.
                    let _ = tokio::time::timeout(withdrawal, withdrawals.withdrawn(ip)).await;
                    tokio::time::sleep(HANDSHAKES).await;
                }
            };
            let hook = async {
                if let Some(hook) = hook
                    && !withdrawal.is_zero()
                {
                    let _ = tokio::time::timeout(left, pre_stop(&*runtime, &container, &hook)).await;
                }
            };
            tokio::join!(withdrawn, hook);
            let _ = outbox.send(Message::Drained { container });
        });
        self.attached.entry(name.to_owned()).or_default().push(task);
    }

    pub(super) async fn signal(&mut self, name: &str, kill: bool) {
        let Some(running) = self.running_mut(name) else { return };
        let id = running.id.clone();
        let own = running.stop_signal.as_deref().and_then(signal_number).unwrap_or(SIGTERM);
        if let Some(stop) = running.stop.as_mut() {
            stop.stage = if kill { Stage::Killed } else { Stage::Signalled };
        }
        let signal = if kill { SIGKILL } else { own };
        if let Err(error) = self.machine.runtime.signal_container(&id, signal).await {
            tracing::debug!(container = id, signal, error = %chain(&error), "signal not delivered");
            self.recheck(&id).await;
        }
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

async fn pre_stop(runtime: &dyn Runtime, container: &str, hook: &LifecycleHandler) {
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
    }
    if let Some(exec) = &hook.exec {
        let args = exec.command.clone().unwrap_or_default();
        let spec = ExecSpec { args, tty: false, stdin: false, stdout: false, stderr: false };
        match runtime.exec(container, spec).await {
            Ok(streams) => {
                if let Err(error) = streams.exit.await {
                    tracing::warn!(container, error = %chain(&error), "preStop hook lost");
                }
            }
            Err(error) => tracing::warn!(container, error = %chain(&error), "preStop hook not run"),
        }
    }
}
