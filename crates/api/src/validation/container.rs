//! Containers of every sort.

use std::collections::{BTreeMap, BTreeSet};

use base_meta::field::{Error, Path};
use base_meta::names;
use k8s_openapi::api::core::v1::{Container, SecurityContext, Volume, VolumeMount};

use super::{Errors, env, formats, probe, resources, said};

/// What the containers of one pod share.
pub(super) struct Pod<'a> {
    pub(super) volumes: &'a BTreeMap<&'a str, &'a Volume>,
    pub(super) grace_seconds: Option<i64>,
    pub(super) host_network: bool,
}

pub(super) fn containers(list: &[Container], pod: &Pod<'_>, path: &Path, errors: &mut Errors) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    if list.is_empty() {
        errors.push(Error::required(path, ""));
        return names;
    }
    for (index, container) in list.iter().enumerate() {
        let path = path.index(index);
        common(container, pod, &path, errors);
        if !container.name.is_empty() && !names.insert(container.name.clone()) {
            errors.push(Error::duplicate(&path.child("name"), &container.name));
        }
        probe::probes_and_hooks(container, &path, pod.grace_seconds, errors);
        container_restart_policy(container, &path, errors);
    }
    host_port_conflicts(list.iter(), path, errors);
    names
}

pub(super) fn init_containers(
    list: &[Container],
    regular: &BTreeSet<String>,
    pod: &Pod<'_>,
    path: &Path,
    errors: &mut Errors,
) {
    let mut names = regular.clone();
    for (index, container) in list.iter().enumerate() {
        let path = path.index(index);
        common(container, pod, &path, errors);
        if !container.name.is_empty() && !names.insert(container.name.clone()) {
            errors.push(Error::duplicate(&path.child("name"), &container.name));
        }
        container_restart_policy(container, &path, errors);
        if crate::pod::containers::is_sidecar(container) {
            probe::probes_and_hooks(container, &path, pod.grace_seconds, errors);
            continue;
        }
        let set = [
            ("lifecycle", container.lifecycle.is_some()),
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
        ];
        for (name, _) in set.into_iter().filter(|(_, set)| *set) {
            errors.push(Error::forbidden(
                &path.child(name),
                "may not be set for init containers without restartPolicy=Always",
            ));
        }
    }
}

fn common(container: &Container, pod: &Pod<'_>, path: &Path, errors: &mut Errors) {
    if container.name.is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    } else {
        formats::invalid(&path.child("name"), &container.name, names::dns1123_label(&container.name), errors);
    }
    image(said(&container.image), &path.child("image"), errors);
    one_of(said(&container.termination_message_policy), &["FallbackToLogsOnError", "File"], errors, || {
        path.child("terminationMessagePolicy")
    });
    ports(container, path, pod.host_network, errors);
    env::env(container, pod, path, errors);
    volume_mounts(container.volume_mounts.as_deref().unwrap_or_default(), pod.volumes, path, errors);
    one_of(said(&container.image_pull_policy), &["Always", "IfNotPresent", "Never"], errors, || {
        path.child("imagePullPolicy")
    });
    if let Some(requirements) = &container.resources {
        resources::requirements(requirements, &path.child("resources"), errors);
    }
    if let Some(context) = &container.security_context {
        security_context(context, &path.child("securityContext"), errors);
    }
}

pub(super) fn image(image: &str, path: &Path, errors: &mut Errors) {
    if image.is_empty() {
        errors.push(Error::required(path, ""));
    } else if image.trim() != image {
        errors.push(Error::invalid(path, image, "must not have leading or trailing whitespace"));
    }
}

/// A defaulted choice: missing is Required, foreign is Unsupported.
pub(super) fn one_of(value: &str, supported: &[&str], errors: &mut Errors, path: impl FnOnce() -> Path) {
    if supported.contains(&value) {
        return;
    }
    let path = path();
    errors.push(if value.is_empty() {
        Error::required(&path, "")
    } else {
        Error::not_supported(&path, value, supported)
    });
}

fn container_restart_policy(container: &Container, path: &Path, errors: &mut Errors) {
    if let Some(policy) = &container.restart_policy
        && !matches!(policy.as_str(), "Always" | "Never" | "OnFailure")
    {
        errors.push(Error::not_supported(&path.child("restartPolicy"), policy, &["Always", "OnFailure", "Never"]));
    }
}

fn ports(container: &Container, path: &Path, host_network: bool, errors: &mut Errors) {
    let mut names = BTreeSet::new();
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let path = path.child("ports").index(index);
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let problems = names::port_name(name);
            if problems.is_empty() && !names.insert(name) {
                errors.push(Error::duplicate(&path.child("name"), name));
            }
            formats::invalid(&path.child("name"), name, problems, errors);
        }
        let number = port.container_port;
        if number == 0 {
            errors.push(Error::required(&path.child("containerPort"), ""));
        } else {
            formats::port_number(number, &path.child("containerPort"), errors);
        }
        let host_port = port.host_port.unwrap_or(0);
        if host_port != 0 {
            formats::port_number(host_port, &path.child("hostPort"), errors);
        }
        if host_network && host_port != 0 && host_port != number {
            errors.push(Error::invalid(
                &path.child("hostPort"),
                host_port,
                "must match `containerPort` when `hostNetwork` is true",
            ));
        }
        one_of(said(&port.protocol), &["SCTP", "TCP", "UDP"], errors, || path.child("protocol"));
        if let Some(ip) = port.host_ip.as_deref().filter(|ip| !ip.is_empty())
            && let Some(problem) = formats::ip(ip)
        {
            errors.push(Error::invalid(&path.child("hostIP"), ip, problem));
        }
    }
}

fn host_port_conflicts<'a>(list: impl Iterator<Item = &'a Container>, path: &Path, errors: &mut Errors) {
    let mut taken = BTreeSet::new();
    for (index, container) in list.enumerate() {
        for (port_index, port) in container.ports.iter().flatten().enumerate() {
            let Some(host_port) = port.host_port.filter(|port| *port != 0) else { continue };
            let key = format!("{}/{}/{host_port}", said(&port.protocol), said(&port.host_ip));
            if taken.contains(&key) {
                let path = path.index(index).child("ports").index(port_index).child("hostPort");
                errors.push(Error::duplicate(&path, &key));
            }
            taken.insert(key);
        }
    }
}

fn volume_mounts(mounts: &[VolumeMount], volumes: &BTreeMap<&str, &Volume>, path: &Path, errors: &mut Errors) {
    let mut places = BTreeSet::new();
    for (index, mount) in mounts.iter().enumerate() {
        let path = path.child("volumeMounts").index(index);
        if mount.name.is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
        }
        if !volumes.contains_key(mount.name.as_str()) {
            errors.push(Error::not_found(&path.child("name"), &mount.name));
        }
        if mount.mount_path.is_empty() {
            errors.push(Error::required(&path.child("mountPath"), ""));
        }
        if !places.insert(&mount.mount_path) {
            errors.push(Error::invalid(&path.child("mountPath"), &mount.mount_path, "must be unique"));
        }
        let sub_paths = [("subPath", said(&mount.sub_path)), ("subPathExpr", said(&mount.sub_path_expr))];
        for (name, sub_path) in sub_paths {
            relative_path(sub_path, &path.child(name), errors);
        }
        if sub_paths.iter().all(|(_, sub_path)| !sub_path.is_empty()) {
            errors.push(Error::invalid(
                &path.child("subPathExpr"),
                sub_paths[1].1,
                "subPathExpr and subPath are mutually exclusive",
            ));
        }
    }
}

/// A path that stays below where it starts.
pub(super) fn relative_path(text: &str, path: &Path, errors: &mut Errors) {
    if text.starts_with('/') {
        errors.push(Error::invalid(path, text, "must be a relative path"));
    }
    if text.split('/').any(|part| part == "..") {
        errors.push(Error::invalid(path, text, "must not contain '..'"));
    }
}

fn security_context(context: &SecurityContext, path: &Path, errors: &mut Errors) {
    for (name, id) in [("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group)] {
        if let Some(id) = id {
            account_id(id, &path.child(name), errors);
        }
    }
    if let Some(kind) = &context.proc_mount
        && !matches!(kind.as_str(), "Default" | "Unmasked")
    {
        errors.push(Error::not_supported(&path.child("procMount"), kind, &["Default", "Unmasked"]));
    }
    if context.allow_privilege_escalation == Some(false) {
        let added = context.capabilities.as_ref().and_then(|capabilities| capabilities.add.as_ref());
        if context.privileged == Some(true) {
            errors.push(Error::invalid(
                path,
                &super::json(context),
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            ));
        }
        if added.is_some_and(|added| added.iter().any(|name| name == "CAP_SYS_ADMIN")) {
            errors.push(Error::invalid(
                path,
                &super::json(context),
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            ));
        }
    }
}

/// A user or group id.
pub(super) fn account_id(id: i64, path: &Path, errors: &mut Errors) {
    for problem in names::in_range(id, 0, i64::from(i32::MAX)) {
        errors.push(Error::invalid(path, id, problem));
    }
}
