//! What `kubectl get pods` prints: upstream's `printPod`.

use api::pod::containers::is_sidecar;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use machinery_registry::Column;
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME, or_none};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    columns::text("Ready", "Ready containers of all that should be."),
    columns::text("Status", "What its containers are doing, in a word."),
    columns::text("Restarts", "How often its containers were restarted, and how long ago the last time."),
    AGE,
    columns::wide("IP", "Its own address."),
    columns::wide("Node", "Where it runs."),
    columns::wide("Nominated Node", "Where it will run once others have made room."),
    columns::wide("Readiness Gates", "Further conditions that hold, of those it waits for."),
];

pub(super) fn row(pod: &Pod) -> Vec<Value> {
    let summary = Summary::of(pod);
    let status = pod.status.as_ref();
    let spec = pod.spec.as_ref();
    let ip = status.and_then(|status| status.pod_ips.as_ref()?.first()).map(|ip| ip.ip.as_str());
    vec![
        columns::name(&pod.metadata),
        json!(format!("{}/{}", summary.ready, summary.containers)),
        json!(summary.reason),
        json!(summary.restarts.to_string()),
        columns::age(&pod.metadata),
        json!(or_none(ip)),
        json!(or_none(spec.and_then(|spec| spec.node_name.as_deref()))),
        json!(or_none(status.and_then(|status| status.nominated_node_name.as_deref()))),
        json!(readiness_gates(pod)),
    ]
}

fn readiness_gates(pod: &Pod) -> String {
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let holds = |kind: &str| pod.status.as_ref().is_some_and(|status| is_true(status, kind));
    format!("{}/{}", gates.iter().filter(|gate| holds(&gate.condition_type)).count(), gates.len())
}

fn is_true(status: &PodStatus, kind: &str) -> bool {
    api::pod::conditions::condition(status, kind).is_some_and(|condition| condition.status == "True")
}

/// Restarts and when the last of them was.
#[derive(Default)]
struct Restarts {
    count: i32,
    last: Option<Time>,
}

impl Restarts {
    fn add(&mut self, status: &ContainerStatus) {
        self.count += status.restart_count;
        let finished = status.last_state.as_ref().and_then(|state| state.terminated.as_ref()?.finished_at.clone());
        self.last = self.last.take().max(finished);
    }
}

impl std::fmt::Display for Restarts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.last {
            Some(last) if self.count != 0 => write!(f, "{} ({} ago)", self.count, columns::since(Some(last))),
            _ => self.count.fmt(f),
        }
    }
}

struct Summary {
    ready: usize,
    containers: usize,
    reason: String,
    restarts: Restarts,
}

impl Summary {
    fn of(pod: &Pod) -> Self {
        let empty = PodStatus::default();
        let status = pod.status.as_ref().unwrap_or(&empty);
        let sidecars = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten()).filter(|c| is_sidecar(c));
        let phase = status.phase.clone().unwrap_or_default();
        let mut summary = Self {
            ready: 0,
            containers: pod.spec.as_ref().map_or(0, |spec| spec.containers.len()) + sidecars.count(),
            reason: status.reason.clone().filter(|reason| !reason.is_empty()).unwrap_or_else(|| phase.clone()),
            restarts: Restarts::default(),
        };
        let scheduled = api::pod::conditions::condition(status, api::pod::conditions::POD_SCHEDULED);
        if scheduled.is_some_and(|condition| condition.reason.as_deref() == Some("SchedulingGated")) {
            summary.reason = "SchedulingGated".to_owned();
        }
        let (initializing, sidecar_restarts) = summary.initialize(pod, status);
        if !initializing || is_true(status, api::pod::conditions::INITIALIZED) {
            summary.restarts = sidecar_restarts;
            summary.run(status);
        }
        if pod.metadata.deletion_timestamp.is_some() {
            if status.reason.as_deref() == Some("NodeLost") {
                summary.reason = "Unknown".to_owned();
            } else if !matches!(phase.as_str(), "Succeeded" | "Failed") {
                summary.reason = "Terminating".to_owned();
            }
        }
        summary
    }

    /// Init containers in order; the first that is not through names the state. Answers whether one is not, and the
    /// restarts of sidecars.
    fn initialize(&mut self, pod: &Pod, status: &PodStatus) -> (bool, Restarts) {
        let spec = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
        let containers: Vec<_> = spec.collect();
        let mut sidecar_restarts = Restarts::default();
        for (index, each) in status.init_container_statuses.iter().flatten().enumerate() {
            self.restarts.add(each);
            let sidecar = containers.iter().any(|container| container.name == each.name && is_sidecar(container));
            if sidecar {
                sidecar_restarts.add(each);
            }
            let state = each.state.clone().unwrap_or_default();
            let waiting = state.waiting.and_then(|waiting| waiting.reason).unwrap_or_default();
            match state.terminated {
                Some(ended) if ended.exit_code == 0 => continue,
                _ if sidecar && each.started == Some(true) => {
                    self.ready += usize::from(each.ready);
                    continue;
                }
                Some(ended) => self.reason = format!("Init:{}", ending(&ended)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => self.reason = format!("Init:{waiting}"),
                None => self.reason = format!("Init:{index}/{}", containers.len()),
            }
            return (true, sidecar_restarts);
        }
        (false, sidecar_restarts)
    }

    /// The first container that is not well names the state.
    fn run(&mut self, status: &PodStatus) {
        let mut running = false;
        for each in status.container_statuses.iter().flatten().rev() {
            self.restarts.add(each);
            let state = each.state.clone().unwrap_or_default();
            let waiting = state.waiting.and_then(|waiting| waiting.reason).unwrap_or_default();
            if !waiting.is_empty() {
                self.reason = waiting;
            } else if let Some(ended) = state.terminated {
                self.reason = ending(&ended);
            } else if each.ready && state.running.is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            let ready = is_true(status, api::pod::conditions::READY);
            self.reason = if ready { "Running" } else { "NotReady" }.to_owned();
        }
    }
}

/// Why a container ended.
fn ending(ended: &ContainerStateTerminated) -> String {
    match (ended.reason.as_deref(), ended.signal) {
        (Some(reason), _) if !reason.is_empty() => reason.to_owned(),
        (_, Some(signal)) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", ended.exit_code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(name: &str, state: Value) -> Value {
        let ready = state.get("running").is_some();
        json!({"name": name, "image": "", "imageID": "", "ready": ready, "restartCount": 0, "state": state})
    }

    fn printed(value: Value) -> (String, String, String) {
        let row = row(&serde_json::from_value(value).expect("a pod"));
        assert_eq!(row.len(), COLUMNS.len());
        let text = |index: usize| row[index].as_str().expect("text").to_owned();
        (text(1), text(2), text(3))
    }

    fn pod(statuses: &[Value]) -> Value {
        let containers: Vec<_> = statuses.iter().map(|status| json!({"name": status["name"]})).collect();
        json!({"spec": {"containers": containers}, "status": {"phase": "Running", "containerStatuses": statuses}})
    }

    fn is(ready: &str, reason: &str) -> (String, String, String) {
        (ready.into(), reason.into(), "0".into())
    }

    #[test]
    fn containers_name_the_state() {
        let running = || status("a", json!({"running": {}}));
        let ended = |reason: Value, code: i32| status("b", json!({"terminated": {"exitCode": code, "reason": reason}}));
        let waiting = |reason: &str| status("b", json!({"waiting": {"reason": reason}}));
        let table = [
            (pod(&[running()]), is("1/1", "Running")),
            (pod(&[running(), waiting("ContainerCreating")]), is("1/2", "ContainerCreating")),
            (pod(&[running(), waiting("CrashLoopBackOff")]), is("1/2", "CrashLoopBackOff")),
            (pod(&[ended(json!("Completed"), 0)]), is("0/1", "Completed")),
            (pod(&[running(), ended(json!("Completed"), 0)]), is("1/2", "NotReady")),
            (pod(&[ended(json!("Error"), 1)]), is("0/1", "Error")),
            (pod(&[ended(Value::Null, 3)]), is("0/1", "ExitCode:3")),
            (json!({"spec": {"containers": [{"name": "a"}]}, "status": {"phase": "Pending"}}), is("0/1", "Pending")),
        ];
        for (value, expected) in table {
            assert_eq!(printed(value.clone()), expected, "{value}");
        }
    }

    #[test]
    fn deletion_shows() {
        let mut value = pod(&[status("a", json!({"running": {}}))]);
        value["metadata"] = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert_eq!(printed(value.clone()), is("1/1", "Terminating"));
        value["status"]["reason"] = json!("NodeLost");
        assert_eq!(printed(value), is("1/1", "Unknown"));
    }

    #[test]
    fn init_containers_come_first() {
        let with = |init: Value| {
            json!({"spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "j"}]},
                "status": {"phase": "Pending", "initContainerStatuses": init}})
        };
        let done = || status("i", json!({"terminated": {"exitCode": 0}}));
        let table = [
            (json!([status("i", json!({"running": {}}))]), "Init:0/2"),
            (json!([done(), status("j", json!({"waiting": {"reason": "PodInitializing"}}))]), "Init:1/2"),
            (json!([done(), status("j", json!({"waiting": {"reason": "ErrImagePull"}}))]), "Init:ErrImagePull"),
            (json!([status("i", json!({"terminated": {"exitCode": 2}}))]), "Init:ExitCode:2"),
            (json!([status("i", json!({"terminated": {"exitCode": 1, "reason": "Error"}}))]), "Init:Error"),
        ];
        for (init, expected) in table {
            assert_eq!(printed(with(init.clone())).1, expected, "{init}");
        }
    }

    #[test]
    fn restarts_tell_when() {
        let mut crashed = status("a", json!({"running": {}}));
        crashed["restartCount"] = json!(2);
        let then = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(5);
        crashed["lastState"] = json!({"terminated": {"exitCode": 1, "finishedAt": then.to_string()}});
        assert_eq!(printed(pod(&[crashed])).2, "2 (5m ago)");
    }

    #[test]
    fn sidecars_count_as_containers() {
        let mut sidecar = status("s", json!({"running": {}}));
        sidecar["started"] = json!(true);
        let value = json!({
            "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]},
            "status": {"phase": "Running", "initContainerStatuses": [sidecar],
                "containerStatuses": [status("a", json!({"running": {}}))]},
        });
        assert_eq!(printed(value), is("2/2", "Running"));
    }

    #[test]
    fn gates() {
        let made = |status: Value| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [], "readinessGates": [{"conditionType": "x"}]},
                "status": status}))
            .expect("a pod")
        };
        assert_eq!(readiness_gates(&made(json!({}))), "0/1");
        assert_eq!(readiness_gates(&made(json!({"conditions": [{"type": "x", "status": "True"}]}))), "1/1");
    }
}
