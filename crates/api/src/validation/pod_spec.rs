//! The spec that pods and templates share.

use base_meta::field::{Error, Path};
use base_meta::names;
use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec, Toleration};

use super::container::{Pod, account_id, containers, init_containers, one_of};
use super::{Errors, formats, labels, said, volume};

pub(super) fn pod_template(template: &PodTemplateSpec, path: &Path, errors: &mut Errors) {
    let metadata = template.metadata.as_ref();
    labels::labels(metadata.and_then(|metadata| metadata.labels.as_ref()), &path.child("labels"), errors);
    for key in metadata.and_then(|metadata| metadata.annotations.as_ref()).into_iter().flatten().map(|(key, _)| key) {
        let problems = names::qualified_name(&key.to_lowercase());
        formats::invalid(&path.child("annotations"), key, problems, errors);
    }
    let empty = PodSpec::default();
    let spec = template.spec.as_ref().unwrap_or(&empty);
    pod_spec(spec, &path.child("spec"), errors);
    if spec.ephemeral_containers.as_ref().is_some_and(|list| !list.is_empty()) {
        errors.push(Error::forbidden(
            &path.child("spec").child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        ));
    }
}

pub(super) fn pod_spec(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let volumes = volume::volumes(spec.volumes.as_deref().unwrap_or_default(), &path.child("volumes"), errors);
    let pod = Pod {
        volumes: &volumes,
        grace_seconds: spec.termination_grace_period_seconds,
        host_network: spec.host_network == Some(true),
    };
    let names = containers(&spec.containers, &pod, &path.child("containers"), errors);
    let init = spec.init_containers.as_deref().unwrap_or_default();
    init_containers(init, &names, &pod, &path.child("initContainers"), errors);

    // Both lists print as upstream orders them, unsorted.
    one_of(said(&spec.restart_policy), &["Always", "OnFailure", "Never"], errors, || path.child("restartPolicy"));
    let policies = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(said(&spec.dns_policy), policies, errors, || path.child("dnsPolicy"));
    labels::labels(spec.node_selector.as_ref(), &path.child("nodeSelector"), errors);
    dns_config(spec, path, errors);
    security_context(spec, path, errors);
    for (index, reference) in spec.image_pull_secrets.iter().flatten().enumerate() {
        if reference.name.is_empty() {
            errors.push(Error::required(&path.child("imagePullSecrets").index(index).child("name"), ""));
        }
    }
    if let Some(seconds) = spec.active_deadline_seconds.filter(|seconds| !(1..=i64::from(i32::MAX)).contains(seconds)) {
        errors.push(Error::invalid(
            &path.child("activeDeadlineSeconds"),
            seconds,
            "must be between 1 and 2147483647, inclusive",
        ));
    }
    if let Some(seconds) = spec.termination_grace_period_seconds.filter(|seconds| *seconds < 0) {
        errors.push(Error::invalid(&path.child("terminationGracePeriodSeconds"), seconds, formats::NOT_NEGATIVE));
    }
    named(said(&spec.service_account_name), names::dns1123_subdomain, || path.child("serviceAccountName"), errors);
    named(said(&spec.node_name), names::dns1123_subdomain, || path.child("nodeName"), errors);
    named(said(&spec.hostname), names::dns1123_label, || path.child("hostname"), errors);
    named(said(&spec.subdomain), names::dns1123_label, || path.child("subdomain"), errors);
    named(said(&spec.priority_class_name), names::dns1123_subdomain, || path.child("priorityClassName"), errors);
    tolerations(spec.tolerations.as_deref().unwrap_or_default(), &path.child("tolerations"), errors);
    host_aliases(spec, path, errors);
    for (index, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let path = path.child("readinessGates").index(index).child("conditionType");
        formats::invalid(&path, &gate.condition_type, names::qualified_name(&gate.condition_type), errors);
    }
}

fn named(name: &str, check: fn(&str) -> Vec<String>, path: impl FnOnce() -> Path, errors: &mut Errors) {
    if !name.is_empty() {
        formats::invalid(&path(), name, check(name), errors);
    }
}

fn security_context(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        errors.push(Error::invalid(
            &path.child("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        ));
    }
    own_users(spec, path, errors);
    let Some(context) = &spec.security_context else { return };
    let path = path.child("securityContext");
    let ids = [("fsGroup", context.fs_group), ("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group)];
    for (name, id) in ids {
        if let Some(id) = id {
            account_id(id, &path.child(name), errors);
        }
    }
    for (index, id) in context.supplemental_groups.iter().flatten().enumerate() {
        account_id(*id, &path.child("supplementalGroups").index(index), errors);
    }
}

/// What does not go together with users of the pod's own.
fn own_users(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    if spec.host_users != Some(false) {
        return;
    }
    let mut forbid = |path: Path| errors.push(Error::forbidden(&path, "when `hostUsers` is false"));
    for (name, said) in [("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc)] {
        if said == Some(true) {
            forbid(path.child(name));
        }
    }
    let lists = [("initContainers", spec.init_containers.as_deref()), ("containers", Some(spec.containers.as_slice()))];
    for (name, list) in lists {
        for (index, container) in list.into_iter().flatten().enumerate() {
            if container.volume_devices.as_ref().is_some_and(|devices| !devices.is_empty()) {
                forbid(path.child(name).index(index).child("volumeDevices"));
            }
        }
    }
}

fn dns_config(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let path = path.child("dnsConfig");
    let none = said(&spec.dns_policy) == "None";
    let Some(config) = &spec.dns_config else {
        if none {
            errors.push(Error::required(&path, "must provide `dnsConfig` when `dnsPolicy` is None"));
        }
        return;
    };
    let servers = config.nameservers.as_deref().unwrap_or_default();
    if none && servers.is_empty() {
        errors.push(Error::required(
            &path.child("nameservers"),
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        ));
    }
    if servers.len() > 3 {
        errors.push(Error::invalid(
            &path.child("nameservers"),
            &super::json(&servers),
            "must not have more than 3 nameservers",
        ));
    }
    for (index, server) in servers.iter().enumerate() {
        if let Some(problem) = formats::ip(server) {
            errors.push(Error::invalid(&path.child("nameservers").index(index), server, problem));
        }
    }
    let searches = config.searches.as_deref().unwrap_or_default();
    if searches.len() > 32 {
        errors.push(Error::invalid(
            &path.child("searches"),
            &super::json(&searches),
            "must not have more than 32 search paths",
        ));
    }
    for (index, option) in config.options.iter().flatten().enumerate() {
        if said(&option.name).is_empty() {
            errors.push(Error::required(&path.child("options").index(index), "must not be empty"));
        }
    }
}

fn host_aliases(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let path = path.child("hostAliases").index(index);
        if let Some(problem) = formats::ip(&alias.ip) {
            errors.push(Error::invalid(&path.child("ip"), &alias.ip, problem));
        }
        for name in alias.hostnames.iter().flatten() {
            formats::invalid(&path.child("hostnames"), name, names::dns1123_subdomain(name), errors);
        }
    }
}

pub(super) fn tolerations(list: &[Toleration], path: &Path, errors: &mut Errors) {
    for (index, toleration) in list.iter().enumerate() {
        let path = path.index(index);
        let (key, value, effect) = (said(&toleration.key), said(&toleration.value), said(&toleration.effect));
        let operator = said(&toleration.operator);
        if !key.is_empty() {
            formats::invalid(&path.child("key"), key, names::qualified_name(key), errors);
        } else if operator != "Exists" {
            errors.push(Error::invalid(
                &path.child("operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ));
        }
        if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
            errors.push(Error::invalid(
                &path.child("effect"),
                effect,
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            ));
        }
        match operator {
            "" | "Equal" => formats::invalid(&path.child("operator"), value, names::label_value(value), errors),
            "Exists" if !value.is_empty() => errors.push(Error::invalid(
                &path.child("operator"),
                &super::json(toleration),
                "value must be empty when `operator` is 'Exists'",
            )),
            "Exists" => {}
            other => errors.push(Error::not_supported(&path.child("operator"), other, &["Equal", "Exists"])),
        }
        if !effect.is_empty() && !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
            let effects = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
            errors.push(Error::not_supported(&path.child("effect"), effect, effects));
        }
    }
}
