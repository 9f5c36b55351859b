//! emptyDir: a directory of the pod's own, on the node's disk or in its memory.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use base_sys::mounts;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, PodSpec, Volume};

use super::{VolumeError, is_mounted, own};
use crate::container::resources::parse;
use crate::seams::DiskUsage;

/// `memory` is what the node's pods may use, in bytes.
pub(super) fn set_up(
    source: &EmptyDirVolumeSource,
    path: &Path,
    spec: Option<&PodSpec>,
    group: Option<u32>,
    memory: i64,
) -> Result<(), VolumeError> {
    std::fs::create_dir_all(path).map_err(VolumeError::io("create", path))?;
    match source.medium.as_deref().unwrap_or_default() {
        "" => {}
        // After a restart of the agent it is there already.
        "Memory" => {
            if !is_mounted(path)? {
                let bytes = u64::try_from(size(source, spec, memory)).unwrap_or_default();
                mounts::mount_memory(path, bytes).map_err(VolumeError::io("mount memory at", path))?;
            }
        }
        medium => return Err(VolumeError::Unsupported(format!("emptyDir with medium {medium}"))),
    }
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    own(path, group)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(VolumeError::io("set the mode of", path))
}

/// The least of what the volume may take, what the pod's containers may (where each has a limit), and what the node has.
fn size(source: &EmptyDirVolumeSource, spec: Option<&PodSpec>, memory: i64) -> i64 {
    let of_pod = spec.filter(|spec| limits_all(spec)).and_then(|spec| {
        let limits = api::pod::requests::limits(spec);
        limits.get("memory").map(|limit| limit.value())
    });
    let own = limit(source);
    of_pod.into_iter().chain(own).filter(|bytes| *bytes > 0).fold(memory, i64::min)
}

fn limits_all(spec: &PodSpec) -> bool {
    let limited = |resources: Option<&k8s_openapi::api::core::v1::ResourceRequirements>| {
        let limits = resources.and_then(|resources| resources.limits.as_ref());
        limits.is_some_and(|limits| limits.contains_key("memory"))
    };
    let all = spec.init_containers.iter().flatten().chain(&spec.containers);
    limited(spec.resources.as_ref()) || all.into_iter().all(|container| limited(container.resources.as_ref()))
}

fn limit(source: &EmptyDirVolumeSource) -> Option<i64> {
    source.size_limit.as_ref().and_then(parse).map(|limit| limit.value()).filter(|bytes| *bytes > 0)
}

/// What the volume may take of the disk, where something limits it: the kernel keeps to the limit of memory by itself.
pub fn limit_on_disk(volume: &Volume) -> Option<i64> {
    limit(volume.empty_dir.as_ref()?).filter(|_| is_on_disk(volume))
}

/// Whether it is an emptyDir, and not one of memory.
pub fn is_on_disk(volume: &Volume) -> bool {
    volume.empty_dir.as_ref().is_some_and(|source| source.medium.as_deref().unwrap_or_default().is_empty())
}

/// What a directory takes of the disk, with all below it; a file of several names counts once.
pub fn used(dir: &Path) -> DiskUsage {
    let mut seen = std::collections::HashSet::new();
    let mut left = vec![dir.to_owned()];
    let mut usage = DiskUsage::default();
    while let Some(dir) = left.pop() {
        // What goes away meanwhile takes nothing.
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries {
            let Ok(entry) = entry else { continue };
            let Ok(meta) = entry.metadata() else { continue };
            if meta.nlink() < 2 || meta.is_dir() || seen.insert(meta.ino()) {
                usage.bytes += meta.blocks() * 512;
                usage.inodes += 1;
            }
            if meta.is_dir() {
                left.push(entry.path());
            }
        }
    }
    usage
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(source: Value, containers: Value) -> i64 {
        let spec: PodSpec = serde_json::from_value(json!({"containers": containers})).unwrap();
        size(&serde_json::from_value(source).unwrap(), Some(&spec), 1 << 30)
    }

    #[test]
    fn memory_has_the_least_of_three_sizes() {
        let with = |limit: &str| json!({"name": "c", "resources": {"limits": {"memory": limit}}});
        let without = json!({"name": "d"});
        assert_eq!(of(json!({}), json!([without])), 1 << 30);
        assert_eq!(of(json!({}), json!([with("1Mi"), with("2Mi")])), 3 << 20);
        assert_eq!(of(json!({}), json!([with("1Mi"), without])), 1 << 30, "the pod has no limit");
        assert_eq!(of(json!({"sizeLimit": "2Mi"}), json!([with("8Mi")])), 2 << 20);
        assert_eq!(of(json!({"sizeLimit": "0"}), json!([with("8Mi")])), 8 << 20);
        assert_eq!(of(json!({"sizeLimit": "4Gi"}), json!([without])), 1 << 30);
    }

    #[test]
    fn a_file_of_two_names_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        let file = dir.path().join("sub/file");
        std::fs::write(&file, vec![1; 256 << 10]).unwrap();
        let once = used(dir.path());
        std::fs::hard_link(&file, dir.path().join("other")).unwrap();
        assert_eq!(used(dir.path()), once);
        assert!(once.bytes >= 256 << 10 && once.inodes == 2, "{once:?}");
        assert_eq!(used(&dir.path().join("none")), DiskUsage::default());
    }
}
