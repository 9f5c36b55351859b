//! Pods: their number while they have not ended, and what they ask for and may take at most.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Amounts, amounts_of, number};
use crate::decoders::pod_spec;
use crate::pod::requests::{limits, requests, set_for_pod};

const NAMES: [&str; 10] = [
    "pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];
/// What every container must say where a quota has it. A mistake, upstream says, and not repeated for others.
const SAID: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// Of a domain other than Kubernetes' own.
fn extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/")
}

pub(super) fn tracks(name: &str) -> bool {
    NAMES.contains(&name)
        || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
        || (name.starts_with("requests.") && extended(name))
}

pub(super) fn usage(pod: &Value, now: Timestamp, used: &mut Amounts) {
    if ended(pod, now) {
        return;
    }
    let spec = pod_spec(pod).unwrap_or_default();
    used.extend(compute(&requests(&spec), &limits(&spec)));
}

fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::from([("pods".to_owned(), number(1))]);
    for (name, amount) in requests {
        let plain = matches!(&**name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
        if plain {
            used.insert(name.clone(), *amount);
        }
        if plain || extended(name) {
            used.insert(format!("requests.{name}"), *amount);
        }
    }
    for (name, amount) in limits {
        if matches!(&**name, "cpu" | "memory" | "ephemeral-storage") {
            used.insert(format!("limits.{name}"), *amount);
        }
    }
    used
}

/// Has run its course, or should have been gone by now: its node may be lost.
fn ended(pod: &Value, now: Timestamp) -> bool {
    let phase = pod.pointer("/status/phase").and_then(Value::as_str);
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return true;
    }
    let deleted = pod.pointer("/metadata/deletionTimestamp").and_then(Value::as_str);
    let grace = pod.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64);
    let (Some(Ok(deleted)), Some(grace)) = (deleted.map(str::parse::<Timestamp>), grace) else { return false };
    deleted.checked_add(SignedDuration::from_secs(grace)).is_ok_and(|end| now > end)
}

pub(super) fn unsaid<'a>(constrained: impl Iterator<Item = &'a str>, pod: &Value) -> Option<String> {
    let wanted: Vec<&str> = constrained.filter(|name| SAID.contains(name)).collect();
    let spec = pod_spec(pod).unwrap_or_default();
    if wanted.is_empty() || set_for_pod(&spec) {
        return None;
    }
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let containers = ["/spec/containers", "/spec/initContainers"];
    let containers = containers.iter().filter_map(|list| pod.pointer(list).and_then(Value::as_array)).flatten();
    for container in containers {
        let amounts = |field| amounts_of(container.pointer(field));
        let said = compute(&amounts("/resources/requests"), &amounts("/resources/limits"));
        for name in wanted.iter().filter(|name| !said.contains_key(**name)) {
            let container = container.get("name").and_then(Value::as_str).unwrap_or("");
            missing.entry(name).or_default().insert(container);
        }
    }
    let text = |(name, containers): (&&str, &BTreeSet<&str>)| {
        format!("{name} for: {}", containers.iter().copied().collect::<Vec<_>>().join(","))
    };
    let all: Vec<String> = missing.iter().map(text).collect();
    (!all.is_empty()).then(|| format!("must specify {}", all.join("; ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::print;
    use super::*;

    fn used(pod: &Value) -> String {
        let mut used = Amounts::new();
        usage(pod, "2026-01-01T01:00:00Z".parse().expect("a time"), &mut used);
        print(&used)
    }

    #[test]
    fn what_a_pod_uses() {
        let mut pod = json!({"metadata": {}, "spec": {"containers": [{"name": "c", "resources": {
            "requests": {"cpu": "100m", "memory": "1Mi", "hugepages-2Mi": "2Mi", "nvidia.com/gpu": "1"},
            "limits": {"cpu": "1", "hugepages-2Mi": "2Mi", "nvidia.com/gpu": "1"}}}]}});
        assert_eq!(
            used(&pod),
            "cpu=100m,hugepages-2Mi=2Mi,limits.cpu=1,memory=1Mi,pods=1,requests.cpu=100m,requests.hugepages-2Mi=2Mi,\
             requests.memory=1Mi,requests.nvidia.com/gpu=1"
        );
        pod["metadata"] = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 3600});
        assert_ne!(used(&pod), "", "its grace period is not over");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
        assert_eq!(used(&pod), "");
        assert_eq!(used(&json!({"status": {"phase": "Succeeded"}})), "");
        assert_eq!(used(&json!({"spec": "nonsense"})), "pods=1");
    }

    #[test]
    fn what_containers_must_say() {
        let pod = json!({"spec": {"containers": [{"name": "b"}, {"name": "a", "resources": {"requests": {"cpu": "1"}}}],
            "initContainers": [{"name": "i"}]}});
        let ask = |names: &[&str], pod: &Value| unsaid(names.iter().copied(), pod);
        assert_eq!(
            ask(&["limits.cpu", "cpu", "pods"], &pod).as_deref(),
            Some("must specify cpu for: b,i; limits.cpu for: a,b,i")
        );
        assert_eq!(ask(&["pods", "ephemeral-storage"], &pod), None);
        let whole = json!({"spec": {"containers": [{"name": "b"}], "resources": {"requests": {"cpu": "1"}}}});
        assert_eq!(ask(&["cpu"], &whole), None);
    }
}
