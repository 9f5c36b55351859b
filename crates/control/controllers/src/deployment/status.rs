//! A Deployment's status and conditions, from its ReplicaSets.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::sets::{available, bounds, name, replicas, sum, wanted};

fn set_status(set: &ReplicaSet, of: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> i32) -> i32 {
    set.status.as_ref().map_or(0, of)
}

fn made(set: &ReplicaSet) -> i32 {
    set_status(set, |status| status.replicas)
}

/// All pods are of the new template and available, and no old one is left.
pub fn complete(deployment: &Deployment, new: &ReplicaSet, all: &[&ReplicaSet]) -> bool {
    let wanted = wanted(deployment);
    made(new) == wanted && available(new) == wanted && sum(all.iter().copied(), made) == wanted
}

/// What happened to the new set in this pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewSet {
    Created,
    Found,
}

pub struct Outcome {
    pub status: DeploymentStatus,
    /// When the progress deadline has to be looked at again.
    pub recheck: Option<Duration>,
}

pub fn status(
    deployment: &Deployment,
    new: Option<(&ReplicaSet, NewSet)>,
    all: &[&ReplicaSet],
    now: Timestamp,
) -> Outcome {
    let some = |number: i32| (number != 0).then_some(number);
    let before = deployment.status.clone().unwrap_or_default();
    let ready = sum(all.iter().copied(), |set| set_status(set, |status| status.ready_replicas.unwrap_or(0)));
    let available_total = sum(all.iter().copied(), available);
    let terminating =
        sum(all.iter().copied(), |set| set_status(set, |status| status.terminating_replicas.unwrap_or(0)));
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(sum(all.iter().copied(), made)),
        updated_replicas: some(new.map_or(0, |(new, _)| made(new))),
        ready_replicas: some(ready),
        available_replicas: some(available_total),
        unavailable_replicas: some((sum(all.iter().copied(), replicas) - available_total).max(0)),
        terminating_replicas: Some(terminating),
        collision_count: before.collision_count,
        conditions: before.conditions.clone(),
    };
    let mut conditions = Conditions { list: before.conditions.clone().unwrap_or_default(), now };
    let (_, unavailable) = bounds(deployment);
    if available_total >= wanted(deployment) - unavailable {
        conditions.set("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.");
    } else {
        let message = "Deployment does not have minimum availability.";
        conditions.set("Available", "False", "MinimumReplicasUnavailable", message);
    }
    let recheck = progress(deployment, &before, &status, new, all, &mut conditions);
    // A ReplicaSet that cannot make pods says so; the Deployment passes it on.
    let failure = all.iter().flat_map(|set| set.status.iter().flat_map(|status| status.conditions.iter().flatten()));
    match failure.into_iter().find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True") {
        Some(failure) => {
            let reason = failure.reason.as_deref().unwrap_or_default();
            conditions.set("ReplicaFailure", "True", reason, failure.message.as_deref().unwrap_or_default());
        }
        None => conditions.list.retain(|condition| condition.type_ != "ReplicaFailure"),
    }
    status.conditions = Some(conditions.list);
    Outcome { status, recheck }
}

fn progress(
    deployment: &Deployment,
    before: &DeploymentStatus,
    status: &DeploymentStatus,
    new: Option<(&ReplicaSet, NewSet)>,
    all: &[&ReplicaSet],
    conditions: &mut Conditions,
) -> Option<Duration> {
    let spec = deployment.spec.as_ref()?;
    let deadline = spec.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX)?;
    let current = conditions.get("Progressing").cloned();
    if spec.paused == Some(true) {
        conditions.set("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused");
        return None;
    }
    let reason = |condition: &Option<DeploymentCondition>| condition.as_ref().and_then(|c| c.reason.clone());
    if reason(&current).as_deref() == Some("DeploymentPaused") {
        conditions.set("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed");
    }
    let subject = match new {
        Some((new, _)) => format!("ReplicaSet {:?}", name(new)),
        None => format!("Deployment {:?}", deployment.metadata.name.as_deref().unwrap_or_default()),
    };
    let done = new.is_some_and(|(new, _)| {
        complete(deployment, new, all) && before.observed_generation >= deployment.metadata.generation
    });
    if done {
        let message = format!("{subject} has successfully progressed.");
        conditions.set("Progressing", "True", "NewReplicaSetAvailable", &message);
        return None;
    }
    if let Some((new, NewSet::Created)) = new {
        let message = format!("Created new replica set {:?}", name(new));
        conditions.set("Progressing", "True", "NewReplicaSetCreated", &message);
        conditions.touch("Progressing");
    } else if current.is_none()
        && let Some((new, NewSet::Found)) = new
    {
        let message = format!("Found new replica set {:?}", name(new));
        conditions.set("Progressing", "True", "FoundNewReplicaSet", &message);
    }
    let old = |status: &DeploymentStatus| status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0);
    let progressed = status.updated_replicas > before.updated_replicas
        || old(status) < old(before)
        || status.ready_replicas > before.ready_replicas
        || status.available_replicas > before.available_replicas;
    if progressed {
        conditions.set("Progressing", "True", "ReplicaSetUpdated", &format!("{subject} is progressing."));
        conditions.touch("Progressing");
    }
    // Finished already and merely short of pods: no deadline runs.
    let updated = conditions.get("Progressing")?.clone();
    if updated.reason.as_deref() == Some("NewReplicaSetAvailable") {
        return None;
    }
    let since = updated.last_update_time.as_ref().map_or(conditions.now, |time| time.0);
    let left = jiff::SignedDuration::from_secs(deadline.into()) - conditions.now.duration_since(since);
    if left.is_positive() {
        return Some(left.unsigned_abs() + Duration::from_secs(1));
    }
    let message = format!("{subject} has timed out progressing.");
    conditions.set("Progressing", "False", "ProgressDeadlineExceeded", &message);
    None
}

struct Conditions {
    list: Vec<DeploymentCondition>,
    now: Timestamp,
}

impl Conditions {
    fn get(&self, kind: &str) -> Option<&DeploymentCondition> {
        self.list.iter().find(|condition| condition.type_ == kind)
    }

    /// Times change only with what they date: the transition with the status, the update with the reason.
    fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let now = Some(Time::from(self.now));
        let new = DeploymentCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_transition_time: now.clone(),
            last_update_time: now,
        };
        match self.list.iter_mut().find(|condition| condition.type_ == kind) {
            None => self.list.push(new),
            Some(old) if old.status == new.status && old.reason == new.reason => old.message = new.message,
            Some(old) => {
                let transition = if old.status == new.status {
                    old.last_transition_time.clone()
                } else {
                    new.last_transition_time.clone()
                };
                *old = DeploymentCondition { last_transition_time: transition, ..new };
            }
        }
    }

    /// Progress was made: the deadline starts again.
    fn touch(&mut self, kind: &str) {
        let now = Some(Time::from(self.now));
        if let Some(condition) = self.list.iter_mut().find(|condition| condition.type_ == kind) {
            condition.last_update_time = now;
        }
    }
}
