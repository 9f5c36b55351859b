//! What of a pod may change after it was created.

use base_meta::field::{Error, Path};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Toleration};
use serde_json::Value;

use super::{Errors, container, json, normal, pod_spec, said};

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
     `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be \
     set to 1 if it was previously negative)";

pub fn pod_update(new: &Pod, old: &Pod) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    let empty = PodSpec::default();
    let (new, old) = (new.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
    if !same_containers(new, old, &path, &mut errors) {
        return errors;
    }
    for (name, list) in [("containers", Some(&new.containers)), ("initContainers", new.init_containers.as_ref())] {
        for (index, each) in list.into_iter().flatten().enumerate() {
            container::image(said(&each.image), &path.child(name).index(index).child("image"), &mut errors);
        }
    }
    active_deadline(new, old, &path.child("activeDeadlineSeconds"), &mut errors);
    let gates = |spec: &PodSpec| spec.scheduling_gates.clone().unwrap_or_default();
    let (new_gates, old_gates) = (gates(new), gates(old));
    if let Some(added) = new_gates.iter().find(|gate| !old_gates.contains(gate)) {
        errors.push(Error::forbidden(
            &path.child("schedulingGates"),
            format!("only deletion is allowed, but found new scheduling gate '{}'", added.name),
        ));
    }

    // With every changeable field put back, nothing may differ.
    let mut munged = new.clone();
    restore_images(&mut munged.containers, &old.containers);
    if let (Some(munged), Some(old)) = (&mut munged.init_containers, &old.init_containers) {
        restore_images(munged, old);
    }
    munged.active_deadline_seconds = old.active_deadline_seconds;
    munged.scheduling_gates.clone_from(&old.scheduling_gates);
    tolerations(new, old, &path.child("tolerations"), &mut errors);
    munged.tolerations.clone_from(&old.tolerations);
    if old.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0)
        && munged.termination_grace_period_seconds == Some(1)
    {
        munged.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    if !old_gates.is_empty() {
        // A gated pod's node selector may be narrowed: entries added, none changed.
        let kept = |selector: &PodSpec| {
            old.node_selector.iter().flatten().all(|(key, value)| {
                selector.node_selector.as_ref().and_then(|all| all.get(key)).is_some_and(|have| have == value)
            })
        };
        if kept(&munged) {
            munged.node_selector.clone_from(&old.node_selector);
        }
    }
    let mut changed = Vec::new();
    differences("spec", &normal(json(&munged)), &normal(json(old)), &mut changed);
    if !changed.is_empty() {
        errors.push(Error::forbidden(
            &path,
            format!("pod updates may not change fields other than {UPDATABLE}\n{}", changed.join("\n")),
        ));
    }
    errors
}

/// Of the status subresource: `spec` and metadata are already the stored ones.
pub fn pod_status_update(new: &Pod, old: &Pod) -> Errors {
    let mut errors = Errors::new();
    let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    if node(new) != node(old) {
        errors.push(Error::forbidden(&Path::new("status").child("nodeName"), "may not be changed directly"));
    }
    // A container that ended for good stays ended.
    let policy = old.spec.as_ref().map_or("", |spec| said(&spec.restart_policy));
    if policy != "Never" {
        return errors;
    }
    let statuses =
        |pod: &Pod| pod.status.as_ref().and_then(|status| status.container_statuses.clone()).unwrap_or_default();
    let after = statuses(new);
    for before in statuses(old) {
        let ended = |status: &k8s_openapi::api::core::v1::ContainerStatus| {
            status.state.as_ref().is_some_and(|state| state.terminated.is_some())
        };
        let index = after.iter().position(|status| status.name == before.name);
        if let Some(index) = index
            && ended(&before)
            && !ended(&after[index])
        {
            errors.push(Error::forbidden(
                &Path::new("status").child("containerStatuses").index(index).child("state"),
                "may not be transitioned to non-terminated state",
            ));
        }
    }
    errors
}

fn same_containers(new: &PodSpec, old: &PodSpec, path: &Path, errors: &mut Errors) -> bool {
    let init = |spec: &PodSpec| spec.init_containers.as_ref().map_or(0, Vec::len);
    let counts = [
        ("containers", "pod updates may not add or remove containers", new.containers.len(), old.containers.len()),
        ("initContainers", "pod updates may not add or remove containers", init(new), init(old)),
    ];
    for (field, message, new, old) in counts {
        if new != old {
            errors.push(Error::forbidden(&path.child(field), message));
            return false;
        }
    }
    true
}

fn active_deadline(new: &PodSpec, old: &PodSpec, path: &Path, errors: &mut Errors) {
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            errors.push(Error::invalid(path, new, "must be between 0 and 2147483647, inclusive"));
        }
        (Some(new), Some(old)) if new > old => {
            errors.push(Error::invalid(path, new, "must be less than or equal to previous value"));
        }
        (None, Some(_)) => {
            errors.push(Error::invalid(path, &Value::Null, "must not update from a positive integer to nil value"))
        }
        _ => {}
    }
}

/// Additions, and other `tolerationSeconds`.
fn tolerations(new: &PodSpec, old: &PodSpec, path: &Path, errors: &mut Errors) {
    let list = |spec: &PodSpec| spec.tolerations.clone().unwrap_or_default();
    let (new, old) = (list(new), list(old));
    let timeless = |toleration: &Toleration| Toleration { toleration_seconds: None, ..toleration.clone() };
    let kept = old.iter().all(|before| new.iter().any(|after| timeless(after) == timeless(before)));
    if !kept {
        errors.push(Error::forbidden(path, "existing toleration can not be modified except its tolerationSeconds"));
    }
    pod_spec::tolerations(&new, path, errors);
}

fn restore_images(munged: &mut [Container], old: &[Container]) {
    for (container, old) in munged.iter_mut().zip(old) {
        container.image.clone_from(&old.image);
    }
}

/// One line for each field that differs, as `spec.nodeName: "a" -> "b"`.
pub(super) fn differences(path: &str, new: &Value, old: &Value, lines: &mut Vec<String>) {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            let mut keys: Vec<&String> = new.keys().chain(old.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let field = |side: &serde_json::Map<String, Value>| side.get(key).cloned().unwrap_or(Value::Null);
                differences(&format!("{path}.{key}"), &field(new), &field(old), lines);
            }
        }
        (Value::Array(new), Value::Array(old)) if new.len() == old.len() => {
            for (index, (new, old)) in new.iter().zip(old).enumerate() {
                differences(&format!("{path}[{index}]"), new, old, lines);
            }
        }
        _ if new == old => {}
        _ => lines.push(format!("  {path}: {old} -> {new}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{object, printed, with};
    use super::*;

    fn base() -> Value {
        json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "x"}], "tolerations": [
            {"key": "k", "operator": "Exists"}]}, "status": {"containerStatuses": [
            {"name": "a", "state": {"terminated": {"exitCode": 0}}}]}})
    }

    fn pods(changes: &[(&str, Value)]) -> (Pod, Pod) {
        let base = with(
            &base(),
            &[(
                "/status/containerStatuses/0",
                json!({"name": "a", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"terminated": {"exitCode": 0}}}),
            )],
        );
        (object(with(&base, changes)), object(base))
    }

    #[test]
    fn the_allowed_changes() {
        let table = [
            ("/spec/containers/0/image", json!("y")),
            ("/spec/activeDeadlineSeconds", json!(5)),
            ("/spec/tolerations/9", json!({"key": "other", "operator": "Exists"})),
            ("/spec/nodeSelector", json!({})),
        ];
        for (pointer, value) in table {
            let (new, old) = pods(&[(pointer, value)]);
            assert_eq!(printed(pod_update(&new, &old)), Vec::<String>::new(), "{pointer}");
        }
    }

    #[test]
    fn every_other_change_is_refused() {
        let other = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,";
        let table = [
            ("/spec/containers/0/image", json!(""), "spec.containers[0].image: Required value"),
            ("/spec/containers/0/command", json!(["x"]), other),
            ("/spec/nodeName", json!("n"), other),
            ("/spec/restartPolicy", json!("Always"), other),
            (
                "/spec/containers/1",
                json!({"name": "b"}),
                "spec.containers: Forbidden: pod updates may not add or remove containers",
            ),
            (
                "/spec/tolerations",
                json!([]),
                "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
            ),
            (
                "/spec/schedulingGates",
                json!([{"name": "g"}]),
                "spec.schedulingGates: Forbidden: only deletion is allowed, but found new scheduling gate 'g'",
            ),
        ];
        for (pointer, value, expected) in table {
            let (new, old) = pods(&[(pointer, value)]);
            let found = printed(pod_update(&new, &old));
            assert!(found.len() == 1 && found[0].starts_with(expected), "{pointer}: {found:?}");
        }
        let (new, old) = pods(&[("/spec/nodeName", json!("n"))]);
        assert!(printed(pod_update(&new, &old))[0].ends_with("\n  spec.nodeName: null -> \"n\""));
    }

    #[test]
    fn deadlines_only_shrink() {
        let (mut new, mut old) = pods(&[]);
        let set = |pod: &mut Pod, seconds| pod.spec.as_mut().expect("a spec").active_deadline_seconds = seconds;
        set(&mut old, Some(10));
        set(&mut new, Some(11));
        assert_eq!(printed(pod_update(&new, &old)).len(), 1);
        set(&mut new, None);
        assert_eq!(printed(pod_update(&new, &old)).len(), 1);
        set(&mut new, Some(9));
        assert!(pod_update(&new, &old).is_empty());
    }

    #[test]
    fn a_container_of_a_run_once_pod_stays_ended() {
        let (new, old) = pods(&[("/status/containerStatuses/0/state", json!({"running": {}}))]);
        assert_eq!(
            printed(pod_status_update(&new, &old)),
            ["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"]
        );
    }
}
