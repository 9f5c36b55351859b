//! The condition of a pod that the node has ended for its own sake.

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Context;
use crate::state::PodFailure;

const KIND: &str = "DisruptionTarget";
const REASON: &str = "TerminationByKubelet";

/// Says so in place of whoever has said before that the pod is to go.
pub(super) fn mark(conditions: &mut Vec<PodCondition>, pod: &Pod, failure: &PodFailure, context: &Context<'_>) {
    let before = context.previous.conditions.iter().flatten().find(|one| one.type_ == KIND && one.status == "True");
    let since = before.and_then(|before| before.last_transition_time.clone());
    conditions.retain(|one| one.type_ != KIND);
    conditions.push(PodCondition {
        type_: KIND.into(),
        status: "True".into(),
        reason: Some(REASON.into()),
        message: Some(failure.message.clone()),
        observed_generation: pod.metadata.generation,
        last_transition_time: Some(since.unwrap_or(Time(context.now))),
        last_probe_time: None,
    });
}
