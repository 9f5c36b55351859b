//! Which pod goes first. Pure.

use std::cmp::Reverse;
use std::sync::Arc;

use api::pod::requests::{Amounts, requests};
use k8s_openapi::api::core::v1::Pod;

use super::signal::Resource;
use crate::seams::DiskUsage;
use crate::static_pods::{is_static, mirrored};

/// From which priority on pods are the system's own.
const SYSTEM: i32 = 2_000_000_000;

/// A pod that could go, with what it uses.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub pod: Arc<Pod>,
    /// `None` where nothing runs yet.
    pub usage: Option<PodUsage>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodUsage {
    /// Working set in bytes.
    pub memory: u64,
    pub processes: u64,
    /// Its containers' writable layers and logs, and its volumes on the disk.
    pub disk: DiskUsage,
    pub containers: Vec<ContainerUsage>,
}

/// Of a container that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerUsage {
    pub name: String,
    /// Working set in bytes.
    pub memory: u64,
    /// Bytes of its writable layer and its logs; where it was asked for.
    pub disk: Option<u64>,
}

/// The node's own pods and the system's stay, whatever they take.
pub fn is_critical(pod: &Pod) -> bool {
    let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default();
    is_static(pod) || mirrored(pod).is_some() || priority >= SYSTEM
}

/// The first to go first, as upstream ranks them: who uses more than it asked for, then by priority, then by how much
/// more. Processes are not asked for: there priority decides, then their number. Whose usage nobody knows goes before.
pub fn rank(candidates: &mut [Candidate], resource: Resource) {
    candidates.sort_by_cached_key(|candidate| {
        let priority = candidate.pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default();
        let known = candidate.usage.as_ref();
        let over = known.map_or(i128::MAX, |usage| over(&candidate.pod, usage, resource));
        let exceeds = match resource {
            Resource::Pids => false,
            _ => over > 0,
        };
        (known.is_some(), Reverse(exceeds), priority, Reverse(over))
    });
}

/// How much more a pod uses than it asked for.
fn over(pod: &Pod, usage: &PodUsage, resource: Resource) -> i128 {
    let asked = |name: &str| {
        let all: Amounts = pod.spec.as_ref().map(requests).unwrap_or_default();
        all.get(name).map_or(0, |amount| i128::from(amount.value()))
    };
    match resource {
        Resource::Memory => i128::from(usage.memory) - asked("memory"),
        Resource::Storage => i128::from(usage.disk.bytes) - asked("ephemeral-storage"),
        Resource::Inodes => i128::from(usage.disk.inodes),
        Resource::Pids => i128::from(usage.processes),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn candidate(name: &str, priority: i32, requests: Value, usage: Option<PodUsage>) -> Candidate {
        let container = json!({"name": "c", "resources": {"requests": requests}});
        let pod = json!({"metadata": {"name": name}, "spec": {"priority": priority, "containers": [container]}});
        Candidate { pod: Arc::new(serde_json::from_value(pod).unwrap()), usage }
    }

    fn memory(bytes: u64) -> Option<PodUsage> {
        Some(PodUsage { memory: bytes, ..PodUsage::default() })
    }

    fn order(mut candidates: Vec<Candidate>, resource: Resource) -> Vec<String> {
        rank(&mut candidates, resource);
        candidates.iter().map(|one| one.pod.metadata.name.clone().unwrap()).collect()
    }

    #[test]
    fn who_takes_more_than_asked_goes_first_then_the_least_important_then_the_largest() {
        let pods = vec![
            candidate("modest", -5, json!({"memory": "1Gi"}), memory(1 << 29)),
            candidate("important", 9, json!({}), memory(1 << 30)),
            candidate("large", 0, json!({"memory": "1Mi"}), memory(100 << 20)),
            candidate("larger", 0, json!({"memory": "150Mi"}), memory(300 << 20)),
            candidate("unknown", 9, json!({}), None),
        ];
        let expected = ["unknown", "larger", "large", "important", "modest"];
        assert_eq!(order(pods, Resource::Memory), expected);
    }

    #[test]
    fn disks_and_processes_have_their_own_order() {
        let uses = |bytes, inodes, processes| {
            let disk = DiskUsage { bytes, inodes };
            Some(PodUsage { disk, processes, ..PodUsage::default() })
        };
        let pods = || {
            vec![
                candidate("asked", 0, json!({"ephemeral-storage": "1Gi"}), uses(1 << 20, 3, 1)),
                candidate("files", 0, json!({}), uses(1 << 10, 9, 2)),
                candidate("bytes", 0, json!({}), uses(1 << 20, 1, 3)),
                candidate("important", 1, json!({}), uses(1 << 29, 99, 99)),
            ]
        };
        assert_eq!(order(pods(), Resource::Storage), ["bytes", "files", "important", "asked"]);
        assert_eq!(order(pods(), Resource::Inodes), ["files", "asked", "bytes", "important"]);
        assert_eq!(order(pods(), Resource::Pids), ["bytes", "files", "asked", "important"]);
    }

    #[test]
    fn the_systems_own_pods_stay() {
        assert!(!is_critical(&candidate("a", 1_999_999_999, json!({}), None).pod));
        assert!(is_critical(&candidate("a", 2_000_000_000, json!({}), None).pod));
    }
}
