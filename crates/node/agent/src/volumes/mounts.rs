//! What of a pod's volumes a container has mounted, and where.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, VolumeMount};

use super::{Made, VolumeError};
use crate::env::expand;
use crate::seams::{Access, Mount, Propagation};

/// The mounts of one container, in the order of its volumeMounts.
pub fn mounts(
    container: &Container,
    env: &[(String, String)],
    made: &BTreeMap<String, Made>,
) -> Result<Vec<Mount>, VolumeError> {
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = made.get(&mount.name).ok_or_else(|| VolumeError::Undefined(mount.name.clone()))?;
        let root = volume.root.clone();
        let source = match within(mount, env)? {
            Some(path) => sub_path(&root, &path)?,
            None => root,
        };
        mounts.push(Mount {
            source,
            target: PathBuf::from(&mount.mount_path),
            access: match mount.recursive_read_only.as_deref() {
                // Every kernel that this runs on can.
                Some("Enabled" | "IfPossible") if mount.read_only == Some(true) => Access::ReadOnlyRecursive,
                _ if mount.read_only == Some(true) || volume.read_only => Access::ReadOnly,
                _ => Access::ReadWrite,
            },
            propagation: match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => Propagation::HostToContainer,
                Some("Bidirectional") => Propagation::Bidirectional,
                _ => Propagation::Private,
            },
        });
    }
    Ok(mounts)
}

/// The part of the volume that is mounted; `None`: all of it.
fn within(mount: &VolumeMount, env: &[(String, String)]) -> Result<Option<String>, VolumeError> {
    let Some(expression) = mount.sub_path_expr.as_deref().filter(|path| !path.is_empty()) else {
        return Ok(mount.sub_path.clone().filter(|path| !path.is_empty()));
    };
    let missing = std::cell::RefCell::new(BTreeSet::new());
    let path = expand(expression, |name| {
        let value = env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let value = value.filter(|value| !value.is_empty());
        if value.is_none() {
            missing.borrow_mut().insert(name.to_owned());
        }
        value
    });
    let missing = missing.into_inner();
    if missing.is_empty() { Ok(Some(path)) } else { Err(VolumeError::NoValue(missing.into_iter().collect())) }
}

/// A path inside a volume, made where it is missing; a link that leads out of the volume is refused.
fn sub_path(root: &Path, path: &str) -> Result<PathBuf, VolumeError> {
    let escapes = || VolumeError::Escapes(path.to_owned());
    let root = root.canonicalize().map_err(VolumeError::io("resolve", root))?;
    let mut full = root.clone();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => full.push(name),
            Component::CurDir => continue,
            _ => return Err(escapes()),
        }
        // Step by step: nothing is made behind a link before it is known where that leads.
        if full.symlink_metadata().is_err() {
            std::fs::create_dir(&full).map_err(VolumeError::io("create", &full))?;
        }
        full = full.canonicalize().map_err(VolumeError::io("resolve", &full))?;
        if !full.starts_with(&root) {
            return Err(escapes());
        }
    }
    Ok(full)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sub_paths_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("v"), dir.path().join("outside"));
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir(&outside).unwrap();
        assert_eq!(sub_path(&root, "a/./b").unwrap(), root.canonicalize().unwrap().join("a/b"));
        assert!(root.join("a/b").is_dir());
        std::os::unix::fs::symlink(&outside, root.join("out")).unwrap();
        for bad in ["../x", "/etc", "a/../../x", "out", "out/made"] {
            assert!(matches!(sub_path(&root, bad), Err(VolumeError::Escapes(_))), "{bad}");
        }
        assert!(!outside.join("made").exists(), "nothing was made outside");
    }

    #[test]
    fn expressions_take_the_containers_variables() {
        let env = [("NAME".to_owned(), "web-0".to_owned()), ("EMPTY".to_owned(), String::new())];
        let within = |mount| within(&serde_json::from_value(mount).unwrap(), &env);
        let mount = |expression: &str| json!({"name": "v", "mountPath": "/x", "subPathExpr": expression});
        assert_eq!(within(mount("logs/$(NAME)")).unwrap().as_deref(), Some("logs/web-0"));
        assert_eq!(within(json!({"name": "v", "mountPath": "/x", "subPath": "$(NAME)"})).unwrap().unwrap(), "$(NAME)");
        assert_eq!(within(json!({"name": "v", "mountPath": "/x"})).unwrap(), None);
        let error = within(mount("$(NONE)/$(EMPTY)/$(NAME)")).unwrap_err();
        assert_eq!(error.to_string(), "missing value for EMPTY, NONE");
    }
}
