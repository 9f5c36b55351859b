//! The worker's voice: the pod's status to the API server and the view to the node's own API.
//!
//! At most one write is under way; what changes meanwhile goes out together afterwards.

use std::time::Duration;

use api::pod::conditions::{READY, condition};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::Value;

use crate::cluster::version;
use crate::pods::worker::Worker;
use crate::pods::{ContainerView, Message};
use crate::seams::chain;
use crate::state::{Instance, RETRY_INITIAL, RETRY_MAX, Removal, Volumes, later};
use crate::status;

pub(super) struct StatusWriter {
    /// The status as the API server has it once the write under way is through.
    sent: PodStatus,
    /// What the next patch is made against; `None` after a failure, when a patch states everything.
    base: Option<Value>,
    writing: bool,
    /// The newest version that shows what was sent.
    version: u64,
    failing: Option<(Duration, Timestamp)>,
}

impl StatusWriter {
    pub(super) fn new(pod: &Pod) -> Self {
        let sent = pod.status.clone().unwrap_or_default();
        let base = serde_json::to_value(&sent).ok();
        Self { sent, base, writing: false, version: 0, failing: None }
    }

    /// Takes the version of what was written, where that went well.
    pub(super) fn written(&mut self, written: Option<Option<u64>>, now: Timestamp) {
        self.writing = false;
        if let Some(version) = written {
            self.version = version.unwrap_or(self.version);
            self.failing = None;
            return;
        }
        self.base = None;
        let delay = self.failing.map_or(RETRY_INITIAL, |(delay, _)| (delay * 2).min(RETRY_MAX));
        self.failing = Some((delay, later(now, delay)));
    }

    /// The next patch states everything.
    pub(super) fn forget(&mut self) {
        self.base = None;
    }

    /// When a failed write is due again.
    pub(super) fn retry_at(&self) -> Option<Timestamp> {
        self.failing.filter(|_| !self.writing).map(|(_, at)| at)
    }

    /// Somebody else has said since whether the pod is ready (a node that was silent has pods that are not): what is true
    /// is said again.
    fn contradicted(&mut self, pod: &Pod) {
        let Some(status) = pod.status.as_ref().filter(|_| !self.writing) else { return };
        let ready = |status| condition(status, READY).map(|ready| &ready.status);
        if version(pod).is_some_and(|version| version > self.version) && ready(status) != ready(&self.sent) {
            self.base = serde_json::to_value(status).ok();
        }
    }

    /// Whether the API has that the pod is over.
    fn is_told(&self) -> bool {
        let over = matches!(self.sent.phase.as_deref(), Some("Succeeded" | "Failed"));
        over && !self.writing && self.failing.is_none()
    }

    pub(super) fn previous(&self) -> &PodStatus {
        &self.sent
    }
}

impl Worker {
    /// Reports what changed, without waiting.
    pub(super) fn publish(&mut self, now: Timestamp) {
        self.show();
        let gone = self.state.termination.as_ref().is_some_and(|termination| termination.object_gone);
        if gone || self.status.writing || self.state.removal != Removal::Pending {
            return;
        }
        if let Some((_, retry_at)) = self.status.failing
            && now < retry_at
        {
            return;
        }
        self.status.contradicted(&self.pod);
        let Some(patch) = self.patch(now) else { return };
        self.status.writing = true;
        let (cluster, pod, outbox) = (self.machine.cluster.clone(), self.pod.clone(), self.outbox.clone());
        self.tasks.spawn(async move {
            let result = cluster.patch_status(&pod, patch).await.map_err(|error| chain(&error));
            let _ = outbox.send(Message::StatusWritten(result));
        });
    }

    /// The last status, then the deletion of the object, in this order.
    pub(super) fn report_removal(&mut self, now: Timestamp) {
        let patch = self.patch(now);
        self.state.removal = Removal::Requested;
        let (cluster, pod, outbox) = (self.machine.cluster.clone(), self.pod.clone(), self.outbox.clone());
        self.tasks.spawn(async move {
            let written = match patch {
                Some(patch) => cluster.patch_status(&pod, patch).await.map(drop),
                None => Ok(()),
            };
            let result = match written {
                Ok(()) => cluster.delete(&pod).await,
                Err(error) => Err(error),
            };
            let _ = outbox.send(Message::Deleted(result.map_err(|error| chain(&error))));
        });
    }

    /// The change of status to write, if any; from here on it counts as sent.
    fn patch(&mut self, now: Timestamp) -> Option<Value> {
        let host_ips = self.machine.config.node_ips;
        let context = status::Context { host_ips, now, previous: self.status.previous() };
        let wanted = status::compute(&self.pod, &self.state, &context);
        let value = serde_json::to_value(&wanted).ok()?;
        let base = self.status.base.take().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        let patch = status::merge_patch(&base, &value);
        self.status.base = Some(value);
        self.status.sent = wanted;
        patch
    }

    fn show(&self) {
        let log_dir = self.log_dir();
        let spec = self.spec();
        let init = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
        let apps = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
        let ephemeral = spec.and_then(|spec| spec.ephemeral_containers.as_deref()).unwrap_or_default();
        let names = init.iter().chain(apps).map(|container| &container.name);
        let containers = names.chain(ephemeral.iter().map(|container| &container.name)).map(|name| {
            let record = self.state.containers.get(name);
            let (running, attempt) = match record.map(|record| (&record.instance, record)) {
                Some((Instance::Running(running), record)) => (Some(running.id.clone()), Some(record.attempt)),
                Some((Instance::Ended(_), record)) => (None, Some(record.attempt)),
                Some((Instance::None, record)) => (None, record.attempt.checked_sub(1)),
                None => (None, None),
            };
            let waiting = record.and_then(|record| record.waiting_for()).map(|failure| failure.reason.to_owned());
            let log_dir = log_dir.join(name);
            (name.clone(), ContainerView { running, attempt, waiting, log_dir })
        });
        let containers = containers.collect();
        let left = self.state.sandbox.id().is_some() || self.state.volumes == Volumes::Mounted;
        let ended = self.state.terminal.is_some() && !left;
        let told = ended && self.status.is_told();
        self.view.send_if_modified(|view| {
            let changed = view.containers != containers || (view.ended, view.told) != (ended, told);
            view.containers = containers;
            (view.ended, view.told) = (ended, told);
            changed
        });
    }
}
