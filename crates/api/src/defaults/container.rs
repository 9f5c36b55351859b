//! Containers, their probes and hooks.

use k8s_openapi::api::core::v1::{Container, EnvVar, EphemeralContainer, HTTPGetAction, LifecycleHandler, Probe};

use super::{number, pointer, text};

pub(super) fn container(container: &mut Container) {
    if let Some(image) = &container.image {
        text(&mut container.image_pull_policy, pull_policy(image));
    } else {
        text(&mut container.image_pull_policy, "IfNotPresent");
    }
    text(&mut container.termination_message_path, "/dev/termination-log");
    text(&mut container.termination_message_policy, "File");
    for port in container.ports.iter_mut().flatten() {
        text(&mut port.protocol, "TCP");
    }
    for variable in container.env.iter_mut().flatten() {
        env(variable);
    }
    let probes = [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe];
    for probe in probes.into_iter().flatten() {
        defaults_of_probe(probe);
    }
    if let Some(lifecycle) = &mut container.lifecycle {
        for handler in [&mut lifecycle.post_start, &mut lifecycle.pre_stop].into_iter().flatten() {
            hook(handler);
        }
    }
}

/// One that is put into a running pod: nothing probes it and it serves no ports.
pub(super) fn ephemeral(container: &mut EphemeralContainer) {
    let policy = container.image.as_deref().map_or("IfNotPresent", pull_policy);
    text(&mut container.image_pull_policy, policy);
    text(&mut container.termination_message_path, "/dev/termination-log");
    text(&mut container.termination_message_policy, "File");
    container.env.iter_mut().flatten().for_each(env);
}

/// Requests default to limits, resource by resource; on pods only, never in templates, as upstream's.
pub(super) fn requests_from_limits(container: &mut Container) {
    let Some(resources) = &mut container.resources else { return };
    let Some(limits) = &resources.limits else { return };
    for (name, limit) in limits {
        resources.requests.get_or_insert_default().entry(name.clone()).or_insert_with(|| limit.clone());
    }
}

/// `Always` for the tag `latest`, written or implied, unless a digest pins the image.
pub fn pull_policy(image: &str) -> &'static str {
    if image.contains('@') {
        return "IfNotPresent";
    }
    let last = image.rsplit_once('/').map_or(image, |(_, last)| last);
    match last.split_once(':') {
        None | Some((_, "latest")) if !image.is_empty() => "Always",
        _ => "IfNotPresent",
    }
}

fn env(variable: &mut EnvVar) {
    if let Some(reference) = variable.value_from.as_mut().and_then(|source| source.field_ref.as_mut()) {
        text(&mut reference.api_version, "v1");
    }
}

fn defaults_of_probe(probe: &mut Probe) {
    number(&mut probe.timeout_seconds, 1);
    number(&mut probe.period_seconds, 10);
    number(&mut probe.success_threshold, 1);
    number(&mut probe.failure_threshold, 3);
    if let Some(get) = &mut probe.http_get {
        http_get(get);
    }
    if let Some(grpc) = &mut probe.grpc {
        pointer(&mut grpc.service, String::new());
    }
}

fn hook(handler: &mut LifecycleHandler) {
    if let Some(get) = &mut handler.http_get {
        http_get(get);
    }
}

fn http_get(get: &mut HTTPGetAction) {
    text(&mut get.path, "/");
    text(&mut get.scheme, "HTTP");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_decides_the_pull_policy() {
        let table = [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:0000", "IfNotPresent"),
            ("nginx:latest@sha256:0000", "IfNotPresent"),
            ("", "IfNotPresent"),
        ];
        for (image, policy) in table {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }
}
