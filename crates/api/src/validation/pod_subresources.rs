//! What of a running pod changes through subresources of its own: its ephemeral containers, and what its containers
//! may use.

use std::collections::BTreeSet;

use base_meta::field::{Error, Path};
use base_meta::{decode_value, names};
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec, ResourceRequirements};
use serde_json::Value;

use super::container::{image, one_of};
use super::{Errors, formats, json, normal, pod, said};
use crate::pod::containers::is_sidecar;

const MIRROR: &str = "kubernetes.io/config.mirror";

fn is_static(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR))
}

pub fn ephemeral_containers_update(new: &Pod, old: &Pod) -> Errors {
    if is_static(old) {
        return vec![Error::forbidden(&Path::new(""), "static pods do not support ephemeral containers")];
    }
    let mut errors = pod::pod(new);
    let path = Path::new("spec").child("ephemeralContainers");
    let empty = PodSpec::default();
    let spec = new.spec.as_ref().unwrap_or(&empty);
    ephemeral_containers(spec, &path, &mut errors);
    let list = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.ephemeral_containers.clone()).unwrap_or_default();
    let now = list(new);
    for before in list(old) {
        match now.iter().find(|container| container.name == before.name) {
            None => {
                let message = format!("existing ephemeral containers {:?} may not be removed\n", before.name);
                errors.push(Error::forbidden(&path, message));
            }
            Some(after) => {
                let (after, was) = (normal(json(after)), normal(json(&before)));
                if after != was {
                    let mut changed = Vec::new();
                    super::pod_update::differences("", &after, &was, &mut changed);
                    let message = format!(
                        "existing ephemeral containers {:?} may not be changed\n{}",
                        before.name,
                        changed.join("\n")
                    );
                    errors.push(Error::forbidden(&path, message));
                }
            }
        }
    }
    errors
}

fn ephemeral_containers(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let regular: BTreeSet<&str> = spec.containers.iter().chain(init).map(|container| container.name.as_str()).collect();
    let mut seen = BTreeSet::new();
    for (index, container) in spec.ephemeral_containers.iter().flatten().enumerate() {
        let path = path.index(index);
        let name = container.name.as_str();
        if name.is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
        } else {
            formats::invalid(&path.child("name"), name, names::dns1123_label(name), errors);
        }
        image(said(&container.image), &path.child("image"), errors);
        one_of(said(&container.termination_message_policy), &["FallbackToLogsOnError", "File"], errors, || {
            path.child("terminationMessagePolicy")
        });
        one_of(said(&container.image_pull_policy), &["Always", "IfNotPresent", "Never"], errors, || {
            path.child("imagePullPolicy")
        });
        if !name.is_empty() && (regular.contains(name) || !seen.insert(name)) {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
        let target = said(&container.target_container_name);
        if !target.is_empty() && !spec.containers.iter().any(|container| container.name == target) {
            errors.push(Error::not_found(&path.child("targetContainerName"), target));
        }
        not_for_ephemeral(container, &path, errors);
    }
}

fn not_for_ephemeral(container: &EphemeralContainer, path: &Path, errors: &mut Errors) {
    let fields = normal(json(container));
    for name in [
        "ports",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
        "resources",
        "resizePolicy",
        "restartPolicy",
    ] {
        if !fields[name].is_null() {
            errors.push(Error::forbidden(&path.child(name), "cannot be set for an Ephemeral Container"));
        }
    }
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        for (name, sub_path) in [("subPath", said(&mount.sub_path)), ("subPathExpr", said(&mount.sub_path_expr))] {
            if !sub_path.is_empty() {
                let path = path.child("volumeMounts").index(index).child(name);
                errors.push(Error::forbidden(&path, "cannot be set for an Ephemeral Container"));
            }
        }
    }
}

pub fn resize(new: &Pod, old: &Pod) -> Errors {
    if is_static(old) {
        return vec![Error::forbidden(&Path::new(""), "static pods cannot be resized")];
    }
    let mut errors = pod::pod(new);
    let path = Path::new("spec");
    let (new, old) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
    let class = crate::pod::qos_class(&new);
    if class != crate::pod::qos_class(&old) {
        errors.push(Error::invalid(&path, class, "Pod QOS Class may not change as a result of resizing"));
    }
    let names = |spec: &PodSpec| -> Vec<String> {
        let init = spec.init_containers.as_deref().unwrap_or_default();
        spec.containers.iter().chain(init).map(|container| container.name.clone()).collect()
    };
    if names(&new) != names(&old) {
        errors.push(Error::forbidden(&path, "containers may not be renamed or reordered on resize"));
        return errors;
    }
    let mut munged = new.clone();
    for (index, (container, before)) in munged.containers.iter_mut().zip(&old.containers).enumerate() {
        kept(container, before, &path.child("containers").index(index), &mut errors);
        put_back(container, before);
    }
    let (init, was) = (munged.init_containers.iter_mut().flatten(), old.init_containers.iter().flatten());
    for (index, (container, before)) in init.zip(was).enumerate() {
        let path = path.child("initContainers").index(index);
        if is_sidecar(container) {
            kept(container, before, &path, &mut errors);
        } else if normal(json(&container.resources)) != normal(json(&before.resources)) {
            let message = "resources for non-sidecar init containers are immutable";
            errors.push(Error::forbidden(&path.child("resources"), message));
        }
        put_back(container, before);
    }
    if normal(json(&munged)) != normal(json(&old)) {
        errors.push(Error::forbidden(&path, "only cpu and memory resources are mutable"));
    }
    errors
}

const MUTABLE: [&str; 2] = ["cpu", "memory"];

fn kept(new: &Container, old: &Container, path: &Path, errors: &mut Errors) {
    let of = |container: &Container| container.resources.clone().unwrap_or_default();
    let (new, old) = (of(new), of(old));
    let lists = [("requests", &new.requests, &old.requests), ("limits", &new.limits, &old.limits)];
    for (name, new, old) in lists {
        let gone = |resource: &&str| {
            let has = |list: &Option<std::collections::BTreeMap<String, _>>| {
                list.as_ref().is_some_and(|list| list.contains_key(*resource))
            };
            has(old) && !has(new)
        };
        if MUTABLE.iter().any(gone) {
            let path = path.child("resources").child(name);
            errors.push(Error::forbidden(&path, format!("resource {name} cannot be removed")));
        }
    }
}

/// What may change, as it was.
fn put_back(new: &mut Container, old: &Container) {
    let mut now = json(&new.resources.clone().unwrap_or_default());
    let was = json(&old.resources.clone().unwrap_or_default());
    for list in ["requests", "limits"] {
        for resource in MUTABLE {
            let before = &was[list][resource];
            if !before.is_null() {
                now[list][resource] = before.clone();
            } else if let Some(Value::Object(amounts)) = now.get_mut(list) {
                amounts.remove(resource);
            }
        }
    }
    let restored: ResourceRequirements = decode_value(&now).unwrap_or_default();
    new.resources = Some(restored);
    new.resize_policy.clone_from(&old.resize_policy);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{object, printed, with};
    use super::*;

    fn made(changes: &[(&str, Value)]) -> Pod {
        let good = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i", "resources":
            {"requests": {"cpu": "100m", "memory": "1Mi"}, "limits": {"cpu": "200m", "memory": "1Mi"}}}]}});
        let mut made = object(with(&good, changes));
        crate::defaults::pod(&mut made);
        made
    }

    #[test]
    fn ephemeral_containers_come_and_never_go() {
        let debug = json!([{"name": "d", "image": "x", "targetContainerName": "c"}]);
        let with_debug = made(&[("/spec/ephemeralContainers", debug)]);
        let bare = made(&[]);
        assert_eq!(printed(ephemeral_containers_update(&with_debug, &bare)), Vec::<String>::new());
        assert_eq!(
            printed(ephemeral_containers_update(&bare, &with_debug)),
            ["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be removed\n"]
        );
        let table = [
            (json!({"name": "c", "image": "x"}), "spec.ephemeralContainers[0].name: Duplicate value: \"c\""),
            (json!({"name": "d", "image": ""}), "spec.ephemeralContainers[0].image: Required value"),
            (
                json!({"name": "d", "image": "x", "targetContainerName": "z"}),
                "spec.ephemeralContainers[0].targetContainerName: Not found: \"z\"",
            ),
            (
                json!({"name": "d", "image": "x", "ports": [{"containerPort": 1}]}),
                "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
            ),
        ];
        for (container, expected) in table {
            let new = made(&[("/spec/ephemeralContainers", json!([container]))]);
            assert_eq!(printed(ephemeral_containers_update(&new, &bare)), [expected], "{container}");
        }
    }

    #[test]
    fn cpu_and_memory_are_resized_and_nothing_else() {
        let at = "/spec/containers/0/resources";
        let resources = |requests: Value, limits: Value| (at, json!({"requests": requests, "limits": limits}));
        let change = |change: (&str, Value)| printed(resize(&made(&[change]), &made(&[])));
        let good = resources(json!({"cpu": "150m", "memory": "1Mi"}), json!({"cpu": "1", "memory": "2Mi"}));
        assert_eq!(change(good), Vec::<String>::new());
        let table = [
            (
                resources(json!({"cpu": "200m", "memory": "1Mi"}), json!({"cpu": "200m", "memory": "1Mi"})),
                "spec: Invalid value: \"Guaranteed\": Pod QOS Class may not change as a result of resizing",
            ),
            (
                resources(json!({"cpu": "100m"}), json!({"cpu": "200m"})),
                "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
            ),
            (
                resources(
                    json!({"cpu": "100m", "memory": "1Mi"}),
                    json!({"cpu": "200m", "memory": "1Mi", "ephemeral-storage": "1Gi"}),
                ),
                "spec: Forbidden: only cpu and memory resources are mutable",
            ),
            (
                ("/spec/containers/0/image", json!("other")),
                "spec: Forbidden: only cpu and memory resources are mutable",
            ),
        ];
        for (new, expected) in table {
            let found = change(new.clone());
            assert_eq!(found.first().map(String::as_str), Some(expected), "{new:?}: {found:?}");
        }
    }
}
