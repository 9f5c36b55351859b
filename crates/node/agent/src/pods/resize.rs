//! A running pod gets more or less of the node: first from the node, then into the cgroups, the pod's around the containers'.

use std::cmp::Reverse;
use std::sync::Arc;

use api::pod::containers::all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use machinery_client::EventKind::{Normal, Warning};

use crate::container::resources;
use crate::plan::spec_hash;
use crate::pods::capacity::{Shortage, Turn, asked};
use crate::pods::worker::Worker;
use crate::resize::{self, Pending, Progress, Reason};
use crate::seams::{SeamError, chain};
use crate::state::{Failure, Instance, RETRY_INITIAL, RETRY_MAX};
use crate::static_pods::is_static;

impl Worker {
    /// A new version of the object. What its containers may use stays what they were given.
    pub(super) fn updated(&mut self, pod: Arc<Pod>) {
        self.wanted = pod;
        self.run_as_allocated();
    }

    fn run_as_allocated(&mut self) {
        self.pod = resize::as_allocated(&self.wanted, &self.allocated);
        self.view.send_modify(|view| view.pod = Arc::clone(&self.pod));
    }

    /// What an earlier agent gave.
    pub(super) fn recall_allocated(&mut self) {
        self.allocated.extend(resize::recalled(&self.wanted));
        self.run_as_allocated();
        if resize::was_in_progress(&self.wanted) {
            self.state.progress = Some(Progress { generation: self.wanted.metadata.generation, ..Progress::default() });
        }
        let bounds = &self.machine.bounds;
        self.state.group = self.spec().map(|spec| resources::of_pod(spec, bounds));
    }

    /// Asks the node for what the object asks.
    pub(super) fn allocate(&mut self, now: Timestamp) {
        let ending = self.state.termination.is_some() || self.state.failure.is_some() || self.state.terminal.is_some();
        if ending || Arc::ptr_eq(&self.pod, &self.wanted) || is_static(&self.pod) {
            if self.state.pending.take().is_some() {
                self.wait_no_more();
            }
            return;
        }
        let Some(spec) = self.wanted.spec.clone() else { return };
        let asks = asked(&spec);
        let short = match self.machine.capacity.take(self.uid(), &asks) {
            Ok(()) => return self.allocated(),
            Err(short) => short,
        };
        let reason = match short {
            Shortage::Ever { .. } => Reason::Infeasible,
            Shortage::Now { .. } => Reason::Deferred,
        };
        let generation = self.wanted.metadata.generation;
        let message = short.to_string();
        let before = self.state.pending.take().filter(|before| before.reason == reason);
        let since = before.as_ref().map_or(now, |before| before.since);
        if before.is_none_or(|before| before.generation != generation) {
            let about = resize::summary(&self.wanted);
            let said = format!("Pod resize {}: {about}, {message}", reason.word());
            self.event(None, Warning, &format!("Resize{}", reason.word()), &said);
        }
        if reason == Reason::Deferred {
            let turn = Turn {
                priority: Reverse(spec.priority.unwrap_or(0)),
                guaranteed: Reverse(api::pod::qos_class(&spec) == "Guaranteed"),
                since,
                uid: self.uid().to_owned(),
            };
            self.machine.capacity.wait(turn, asks, self.outbox.clone());
        }
        self.state.pending = Some(Pending { reason, message, generation, since });
    }

    /// What it waited for, and may have been given a moment ago, is others'.
    fn wait_no_more(&self) {
        self.machine.capacity.forget(self.uid());
        if let Some(spec) = self.spec().filter(|_| self.state.progress.is_none()) {
            self.machine.capacity.settle(self.uid(), asked(spec));
        }
    }

    fn allocated(&mut self) {
        if let Some(spec) = &self.wanted.spec {
            self.allocated = resize::allocated(spec);
        }
        self.run_as_allocated();
        self.state.pending = None;
        self.state.progress = Some(Progress { generation: self.pod.metadata.generation, ..Progress::default() });
        self.event(None, Normal, "ResizeStarted", &format!("Pod resize started: {}", resize::summary(&self.pod)));
    }

    pub(super) async fn resize(&mut self) {
        match self.change_bounds().await {
            Ok(false) => {
                if let Some(progress) = &mut self.state.progress {
                    progress.failure = None;
                }
            }
            Ok(true) => {
                self.state.progress = None;
                if let Some(spec) = self.spec() {
                    self.machine.capacity.settle(self.uid(), asked(spec));
                }
                let said = format!("Pod resize completed: {}", resize::summary(&self.pod));
                self.event(None, Normal, "ResizeCompleted", &said);
            }
            Err(error) => {
                let message = chain(&error);
                let now = self.now();
                let before = self.state.progress.as_ref().and_then(|progress| progress.failure.as_ref());
                let failure = Failure::after(before, (RETRY_INITIAL, RETRY_MAX), "Error", message, now);
                if before.is_none_or(|before| before.message != failure.message) {
                    let said = format!("Pod resize error: {}, {}", resize::summary(&self.pod), failure.message);
                    self.event(None, Warning, "ResizeError", &said);
                }
                if let Some(progress) = &mut self.state.progress {
                    progress.failure = Some(failure);
                }
            }
        }
    }

    /// Whether all that runs has what it was given.
    async fn change_bounds(&mut self) -> Result<bool, SeamError> {
        let Some(spec) = self.spec().cloned() else { return Ok(true) };
        let Some(sandbox) = self.state.sandbox.id().map(ToOwned::to_owned) else { return Ok(true) };
        let (runtime, machine) = (self.machine.runtime.clone(), self.machine.clone());
        let whole = resources::of_pod(&spec, &machine.bounds);
        let widest = self.state.group.as_ref().map_or_else(|| whole.clone(), |group| resize::widest(group, &whole));
        let widened = self.state.progress.as_ref().is_some_and(|progress| progress.widened);
        if !widened {
            runtime.resize_sandbox(&sandbox, &widest).await?;
            self.state.group = Some(widest.clone());
            if let Some(progress) = &mut self.state.progress {
                progress.widened = true;
            }
        }
        let mut left = false;
        for container in all(&spec) {
            let given = container.resources.clone().unwrap_or_default();
            let Some(Instance::Running(running)) =
                self.state.containers.get_mut(&container.name).map(|one| &mut one.instance)
            else {
                continue;
            };
            if resize::same(Some(&running.resources), Some(&given)) {
                continue;
            }
            if running.spec_hash != spec_hash(container) {
                left = true;
                continue;
            }
            let bounds = resources::of_container(&spec, container, &machine.bounds);
            runtime.resize_container(&running.id, &bounds).await?;
            running.resources = given;
        }
        if !left && widest != whole {
            runtime.resize_sandbox(&sandbox, &whole).await?;
            self.state.group = Some(whole);
        }
        Ok(!left)
    }
}
