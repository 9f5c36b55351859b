//! The Pod's status from its spec and observed state: pure. Reasons and messages are upstream's.

mod conditions;
mod containers;
mod disruption;
mod phase;
#[cfg(test)]
mod tests;

use base_sys::ip::HostIps;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::restart::of_ephemeral;
use crate::state::PodState;

pub use phase::terminal;

/// What a status is computed with, beside pod and state.
pub struct Context<'a> {
    pub host_ips: HostIps,
    pub now: Timestamp,
    /// The status as last written: its transition times are kept where nothing changed.
    pub previous: &'a PodStatus,
}

pub fn compute(pod: &Pod, state: &PodState, context: &Context<'_>) -> PodStatus {
    let Some(spec) = &pod.spec else { return context.previous.clone() };
    let generation = pod.metadata.generation;
    let failure = state.failure.as_ref().filter(|_| state.terminal.is_some());
    let phase = phase::phase(spec, state);
    let previous = context.previous;
    let statuses = |containers: &[k8s_openapi::api::core::v1::Container], old: &Option<Vec<_>>| {
        let old = old.as_deref().unwrap_or_default();
        containers.iter().map(|container| containers::status(spec, container, state, old, phase)).collect::<Vec<_>>()
    };
    let init = statuses(spec.init_containers.as_deref().unwrap_or_default(), &previous.init_container_statuses);
    let apps = statuses(&spec.containers, &previous.container_statuses);
    let ephemeral: Vec<_> = spec.ephemeral_containers.iter().flatten().map(of_ephemeral).collect();
    let ephemeral = statuses(&ephemeral, &previous.ephemeral_container_statuses);
    let ips = pod_ips(spec.host_network == Some(true), state, context);
    let mut conditions = conditions::compute(pod, state, &init, &apps, phase, context);
    if let Some(failure) = failure.filter(|failure| failure.disrupted) {
        disruption::mark(&mut conditions, pod, failure, context);
    }
    PodStatus {
        conditions: Some(conditions),
        phase: Some(phase.into()),
        observed_generation: generation,
        host_ip: Some(context.host_ips.primary.to_string()),
        host_ips: Some(context.host_ips.iter().map(|ip| HostIP { ip: ip.to_string() }).collect()),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect()),
        start_time: previous.start_time.clone().or_else(|| state.started_at.map(Time)),
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(apps),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        reason: failure.map(|failure| failure.reason.clone()).or_else(|| previous.reason.clone()),
        message: failure.map(|failure| failure.message.clone()).or_else(|| previous.message.clone()),
        ..previous.clone()
    }
}

/// A finished pod keeps showing the address it had, also when it finished before that was reported.
fn pod_ips(host_network: bool, state: &PodState, context: &Context<'_>) -> Vec<String> {
    let ips: Vec<_> = if host_network && (state.sandbox.id().is_some() || state.terminal.is_some()) {
        context.host_ips.iter().map(|ip| ip.to_string()).collect()
    } else {
        state.last_ips.iter().map(ToString::to_string).collect()
    };
    if ips.is_empty() {
        return context.previous.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
    }
    ips
}

/// JSON merge patch (RFC 7386) from `old` to `new`: `null` removes. `None` when they are equal.
pub fn merge_patch(old: &serde_json::Value, new: &serde_json::Value) -> Option<serde_json::Value> {
    use serde_json::{Map, Value};
    if old == new {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return Some(new.clone()) };
    let mut patch = Map::new();
    for (key, value) in new {
        match old.get(key) {
            Some(before) => {
                if let Some(change) = merge_patch(before, value) {
                    patch.insert(key.clone(), change);
                }
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Some(Value::Object(patch))
}
