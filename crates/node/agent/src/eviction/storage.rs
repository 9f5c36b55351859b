//! Pods that take more of the disk than they may. Pure.

use std::collections::BTreeMap;

use api::pod::requests::limits;
use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::rank::PodUsage;
use crate::volumes::limit_on_disk;

const STORAGE: &str = "ephemeral-storage";

/// Whether anything of the pod's use of the disk is limited.
pub fn is_limited(spec: &PodSpec) -> bool {
    spec.volumes.iter().flatten().any(|volume| limit_on_disk(volume).is_some()) || limits(spec).contains_key(STORAGE)
}

/// Why the pod has to go, if it has: for a volume, for all it takes, for a container, in this order. `volumes` is what
/// each of its volumes takes in bytes.
pub fn over(spec: &PodSpec, usage: &PodUsage, volumes: &BTreeMap<String, u64>) -> Option<String> {
    for volume in spec.volumes.iter().flatten() {
        let Some(limit) = limit_on_disk(volume) else { continue };
        if exceeds(volumes.get(&volume.name).copied().unwrap_or_default(), limit) {
            let said = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
            return Some(format!("Usage of EmptyDir volume {:?} exceeds the limit {:?}. ", volume.name, said.0));
        }
    }
    if let Some(limit) = limits(spec).get(STORAGE)
        && exceeds(usage.disk.bytes, limit.value())
    {
        return Some(format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "));
    }
    let over = |container: &Container| {
        let limit = container.resources.as_ref()?.limits.as_ref()?.get(STORAGE)?;
        let bytes = crate::container::resources::parse(limit)?.value();
        let used = usage.containers.iter().find(|used| used.name == container.name)?.disk?;
        (bytes != 0 && exceeds(used, bytes))
            .then(|| format!("Container {} exceeded its local ephemeral storage limit {:?}. ", container.name, limit.0))
    };
    spec.containers.iter().find_map(over)
}

fn exceeds(used: u64, limit: i64) -> bool {
    i128::from(used) > i128::from(limit)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::eviction::rank::ContainerUsage;
    use crate::seams::DiskUsage;

    fn spec(value: Value) -> PodSpec {
        serde_json::from_value(value).unwrap()
    }

    fn usage(containers: &[(&str, u64)], all: u64) -> PodUsage {
        let containers =
            containers.iter().map(|(name, disk)| ContainerUsage { name: (*name).into(), memory: 0, disk: Some(*disk) });
        PodUsage { containers: containers.collect(), disk: DiskUsage { bytes: all, inodes: 1 }, ..PodUsage::default() }
    }

    #[test]
    fn volumes_pods_and_containers_are_held_to_their_limits() {
        let limited = |name: &str, limit: &str| json!({"name": name, "resources": {"limits": {STORAGE: limit}}});
        let spec = spec(json!({
            "containers": [limited("a", "1Mi"), limited("b", "3Mi")],
            "volumes": [{"name": "small", "emptyDir": {"sizeLimit": "1Mi"}}, {"name": "open", "emptyDir": {}}],
        }));
        let of = |a, all, small: u64| {
            over(&spec, &usage(&[("a", a), ("b", 1)], all), &BTreeMap::from([("small".into(), small)]))
        };
        assert_eq!(of(1 << 20, 4 << 20, 1 << 20), None, "up to the limit all is well");
        assert_eq!(of(0, 0, (1 << 20) + 1).unwrap(), "Usage of EmptyDir volume \"small\" exceeds the limit \"1Mi\". ");
        assert_eq!(
            of(0, (4 << 20) + 1, 0).unwrap(),
            "Pod ephemeral local storage usage exceeds the total limit of containers 4Mi. "
        );
        assert_eq!(
            of((1 << 20) + 1, 2, 0).unwrap(),
            "Container a exceeded its local ephemeral storage limit \"1Mi\". "
        );
    }

    #[test]
    fn who_has_no_limit_is_not_looked_at() {
        let free = json!({"containers": [{"name": "a"}], "volumes": [
            {"name": "open", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]});
        assert!(!is_limited(&spec(free)));
        assert!(is_limited(&spec(
            json!({"containers": [], "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]})
        )));
        assert!(is_limited(&spec(json!({"containers": [{"name": "a", "resources": {"limits": {STORAGE: "1"}}}]}))));
    }
}
