//! The pod's conditions.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::resize;
use crate::state::{PodState, SandboxState};
use crate::status::Context;
use api::pod::containers::is_sidecar;

const OURS: [&str; 4] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"];

/// A condition's status with what explains it.
#[derive(Clone, Default)]
struct Verdict {
    status: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn yes() -> Self {
        Self { status: true, ..Self::default() }
    }
    fn no(reason: &'static str, message: Option<String>) -> Self {
        Self { status: false, reason: Some(reason), message }
    }
}

pub(super) fn compute(
    pod: &Pod,
    state: &PodState,
    init: &[ContainerStatus],
    apps: &[ContainerStatus],
    phase: &str,
    context: &Context<'_>,
) -> Vec<PodCondition> {
    // Others' conditions (PodScheduled, readiness gates) come from the object as last seen.
    let seen = pod.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    let ours = |kind: &str| OURS.contains(&kind) || [resize::PENDING, resize::IN_PROGRESS].contains(&kind);
    let foreign: Vec<_> = seen.filter(|condition| !ours(&condition.type_)).cloned().collect();
    let containers_ready = containers_ready(pod, init, apps, phase);
    let verdicts = [
        match state.sandbox {
            SandboxState::Ready { .. } => Verdict::yes(),
            _ => Verdict::default(),
        },
        initialized(pod, init, apps, phase),
        ready(pod, &containers_ready, &foreign),
        containers_ready,
    ];
    let mut conditions: Vec<_> = OURS
        .iter()
        .zip(verdicts)
        .map(|(kind, verdict)| {
            let status = if verdict.status { "True" } else { "False" };
            let before = context.previous.conditions.iter().flatten().find(|before| before.type_ == *kind);
            let since = before.filter(|before| before.status == status).and_then(|b| b.last_transition_time.clone());
            PodCondition {
                type_: (*kind).to_owned(),
                status: status.to_owned(),
                reason: verdict.reason.map(Into::into),
                message: verdict.message,
                observed_generation: pod.metadata.generation,
                last_transition_time: Some(since.unwrap_or(Time(context.now))),
                last_probe_time: None,
            }
        })
        .collect();
    let previous = context.previous.conditions.as_deref().unwrap_or_default();
    conditions.extend(resize::conditions(state, context.now, previous));
    conditions.extend(foreign);
    conditions
}

/// Names as Go prints a slice.
fn list(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn containers_ready(pod: &Pod, init: &[ContainerStatus], apps: &[ContainerStatus], phase: &str) -> Verdict {
    match phase {
        "Succeeded" => return Verdict::no("PodCompleted", None),
        "Failed" => return Verdict::no("PodFailed", None),
        _ => {}
    }
    let sidecar = |name: &str| {
        let init = pod.spec.iter().filter_map(|spec| spec.init_containers.as_ref()).flatten();
        init.filter(|init| is_sidecar(init)).any(|init| init.name == name)
    };
    let watched = init.iter().filter(|status| sidecar(&status.name)).chain(apps);
    let unready: Vec<_> = watched.filter(|status| !status.ready).map(|status| status.name.as_str()).collect();
    if unready.is_empty() {
        return Verdict::yes();
    }
    Verdict::no("ContainersNotReady", Some(format!("containers with unready status: {}", list(&unready))))
}

fn initialized(pod: &Pod, init: &[ContainerStatus], apps: &[ContainerStatus], phase: &str) -> Verdict {
    if phase == "Succeeded" {
        return Verdict { status: true, reason: Some("PodCompleted"), message: None };
    }
    let started = |status: &ContainerStatus| {
        status.started == Some(true) || status.restart_count > 0 || status.container_id.is_some()
    };
    if apps.iter().any(started) {
        return Verdict::yes();
    }
    let specs = pod.spec.iter().filter_map(|spec| spec.init_containers.as_ref()).flatten();
    let incomplete: Vec<_> = specs
        .zip(init)
        .filter(|(spec, status)| if is_sidecar(spec) { status.started != Some(true) } else { !status.ready })
        .map(|(_, status)| status.name.as_str())
        .collect();
    if incomplete.is_empty() {
        return Verdict::yes();
    }
    let message = format!("containers with incomplete status: {}", list(&incomplete));
    Verdict::no("ContainersNotInitialized", Some(message))
}

fn ready(pod: &Pod, containers: &Verdict, foreign: &[PodCondition]) -> Verdict {
    if !containers.status {
        return containers.clone();
    }
    let gates = pod.spec.iter().filter_map(|spec| spec.readiness_gates.as_ref()).flatten();
    let messages: Vec<_> = gates
        .filter_map(|gate| {
            let kind = &gate.condition_type;
            match foreign.iter().find(|condition| condition.type_ == *kind) {
                None => Some(format!("corresponding condition of pod readiness gate {kind:?} does not exist.")),
                Some(condition) if condition.status != "True" => {
                    Some(format!("the status of pod readiness gate {kind:?} is not \"True\", but {}", condition.status))
                }
                Some(_) => None,
            }
        })
        .collect();
    if messages.is_empty() { Verdict::yes() } else { Verdict::no("ReadinessGatesNotReady", Some(messages.join(", "))) }
}
