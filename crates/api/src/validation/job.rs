//! Jobs: their spec, and what of it may change.

use base_meta::field::{Error, Path};
use base_meta::names;
use base_meta::selector::LabelSelector as Selector;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;

use super::workload::not_negative;
use super::{Errors, formats, immutable, job_policies, json, labels, normal, pod_spec, said};

pub const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
pub const JOB_NAME: &str = "batch.kubernetes.io/job-name";
pub const LEGACY_CONTROLLER_UID: &str = "controller-uid";
pub const LEGACY_JOB_NAME: &str = "job-name";

const MAX_INDEXES: i32 = 100_000;
const MAX_OF_MANY: i32 = 10_000;
const MAX_MANAGED_BY: usize = 63;

pub fn job(job: &Job) -> Errors {
    let mut errors = Errors::new();
    let empty = JobSpec::default();
    let spec = job.spec.as_ref().unwrap_or(&empty);
    generated_selector(job, spec, &mut errors);
    whole_spec(spec, &Path::new("spec"), &mut errors);
    let name = said(&job.metadata.name);
    if let (true, Some(completions @ 1..)) = (indexed(spec), spec.completions) {
        let hostname = format!("{name}-{}", completions - 1);
        if !names::dns1123_label(&hostname).is_empty() {
            let message = format!("will not able to create pod with invalid DNS label: {hostname}");
            errors.push(Error::invalid(&Path::new("metadata").child("name"), name, message));
        }
    }
    errors
}

pub fn job_update(new: &Job, old: &Job) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    let empty = JobSpec::default();
    let (spec, before) = (new.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
    whole_spec(spec, &path, &mut errors);
    let completions = path.child("completions");
    if !indexed(spec) {
        immutable(&spec.completions, &before.completions, &completions, &mut errors);
    } else if let (Some(now), true) = (spec.completions, spec.completions != before.completions)
        && spec.parallelism != Some(now)
    {
        errors.push(Error::invalid(&completions, now, "can only be modified in tandem with spec.parallelism"));
    }
    immutable(&spec.selector, &before.selector, &path.child("selector"), &mut errors);
    template_kept(new, old, &path.child("template"), &mut errors);
    immutable(&spec.completion_mode, &before.completion_mode, &path.child("completionMode"), &mut errors);
    immutable(&spec.pod_failure_policy, &before.pod_failure_policy, &path.child("podFailurePolicy"), &mut errors);
    let limit = path.child("backoffLimitPerIndex");
    immutable(&spec.backoff_limit_per_index, &before.backoff_limit_per_index, &limit, &mut errors);
    immutable(&spec.managed_by, &before.managed_by, &path.child("managedBy"), &mut errors);
    immutable(&spec.success_policy, &before.success_policy, &path.child("successPolicy"), &mut errors);
    errors
}

/// While a job is suspended and none of its pods runs, where they may run and what they ask for may change.
fn template_kept(new: &Job, old: &Job, path: &Path, errors: &mut Errors) {
    let template = |job: &Job| job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let (new_template, mut old_template) = (template(new), template(old));
    let status = old.status.as_ref();
    let suspended = old.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
    let never_ran = status.is_none_or(|status| status.start_time.is_none());
    let none_left = status.is_some_and(|status| {
        let stopped =
            |kind: &str| status.conditions.iter().flatten().any(|found| found.type_ == kind && found.status == "True");
        stopped("Suspended") && status.active.unwrap_or(0) == 0
    });
    if suspended && (never_ran || none_left) {
        take_directives(&mut old_template, &new_template);
    }
    if normal(json(&new_template)) != normal(json(&old_template)) {
        immutable(&new_template, &old_template, path, errors);
    }
}

fn take_directives(old: &mut PodTemplateSpec, new: &PodTemplateSpec) {
    let metadata = new.metadata.clone().unwrap_or_default();
    let kept = old.metadata.get_or_insert_default();
    (kept.labels, kept.annotations) = (metadata.labels, metadata.annotations);
    let (Some(old), Some(new)) = (&mut old.spec, &new.spec) else { return };
    old.node_selector.clone_from(&new.node_selector);
    old.tolerations.clone_from(&new.tolerations);
    old.scheduling_gates.clone_from(&new.scheduling_gates);
    let nodes = new.affinity.as_ref().and_then(|affinity| affinity.node_affinity.clone());
    if nodes.is_some() || old.affinity.is_some() {
        old.affinity.get_or_insert_default().node_affinity = nodes;
    }
    let all = |containers: &[k8s_openapi::api::core::v1::Container]| -> Vec<_> {
        containers.iter().map(|container| container.resources.clone()).collect()
    };
    for (container, resources) in old.containers.iter_mut().zip(all(&new.containers)) {
        container.resources = resources;
    }
    let init = all(new.init_containers.as_deref().unwrap_or_default());
    for (container, resources) in old.init_containers.iter_mut().flatten().zip(init) {
        container.resources = resources;
    }
}

/// The labels that the server itself gave the template.
fn generated_selector(job: &Job, spec: &JobSpec, errors: &mut Errors) {
    let Some(selector) = &spec.selector else { return };
    if spec.manual_selector == Some(true) {
        return;
    }
    let (uid, name) = (said(&job.metadata.uid), said(&job.metadata.name));
    if uid.is_empty() {
        errors.push(Error::required(&Path::new("metadata").child("uid"), ""));
    }
    let empty = Default::default();
    let found = spec.template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref()).unwrap_or(&empty);
    let path = Path::new("spec").child("template").child("metadata").child("labels");
    let expected = [(LEGACY_CONTROLLER_UID, uid), (LEGACY_JOB_NAME, name), (CONTROLLER_UID, uid), (JOB_NAME, name)];
    for (key, value) in expected {
        let path = path.key(key);
        let message = format!("must be '{value}'");
        match found.get(key) {
            None => errors.push(Error::required(&path, message)),
            Some(have) if have != value => errors.push(Error::invalid(&path, &json(found), message)),
            Some(_) => {}
        }
    }
    let expected = expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    if let Ok(parsed) = Selector::from_typed(Some(selector))
        && !parsed.matches_labels(Some(&expected))
    {
        let path = Path::new("spec").child("selector");
        errors.push(Error::invalid(&path, &json(selector), "`selector` not auto-generated"));
    }
}

fn whole_spec(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    job_spec(spec, path, errors);
    let selector_path = path.child("selector");
    match &spec.selector {
        None => errors.push(Error::required(&selector_path, "")),
        Some(selector) => labels::selector(selector, &selector_path, errors),
    }
    let found = spec.template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref());
    let selector = match &spec.selector {
        None => Some(Selector::nothing()),
        typed => Selector::from_typed(typed.as_ref()).ok(),
    };
    if selector.is_some_and(|selector| !selector.matches_labels(found)) {
        let path = path.child("template").child("metadata").child("labels");
        let shown = json(&found.cloned().unwrap_or_default());
        errors.push(Error::invalid(&path, &shown, "`selector` does not match template `labels`"));
    }
}

pub(super) fn indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// What a job and a job template are both held to.
pub(super) fn job_spec(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    not_negative(spec.parallelism, &path.child("parallelism"), errors);
    not_negative(spec.completions, &path.child("completions"), errors);
    not_negative(spec.active_deadline_seconds, &path.child("activeDeadlineSeconds"), errors);
    not_negative(spec.backoff_limit, &path.child("backoffLimit"), errors);
    not_negative(spec.ttl_seconds_after_finished, &path.child("ttlSecondsAfterFinished"), errors);
    not_negative(spec.backoff_limit_per_index, &path.child("backoffLimitPerIndex"), errors);
    not_negative(spec.max_failed_indexes, &path.child("maxFailedIndexes"), errors);
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        errors.push(Error::required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"));
    }
    if let Some(manager) = &spec.managed_by {
        managed_by(manager, &path.child("managedBy"), errors);
    }
    match spec.completion_mode.as_deref() {
        Some("Indexed") => indexes(spec, path, errors),
        Some("NonIndexed") | None => {
            let per_index =
                [("backoffLimitPerIndex", spec.backoff_limit_per_index), ("maxFailedIndexes", spec.max_failed_indexes)];
            for (name, number) in per_index {
                if let Some(number) = number {
                    errors.push(Error::invalid(&path.child(name), number, "requires indexed completion mode"));
                }
            }
        }
        Some(other) => {
            errors.push(Error::not_supported(&path.child("completionMode"), other, &["NonIndexed", "Indexed"]));
        }
    }
    job_policies::policies(spec, path, errors);
    pod_spec::pod_template(&spec.template, &path.child("template"), errors);
    restart_policy(spec, &path.child("template").child("spec").child("restartPolicy"), errors);
}

fn restart_policy(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    let policy = spec.template.spec.as_ref().map_or("", |spec| said(&spec.restart_policy));
    match policy {
        "" | "Always" => errors.push(Error::required(path, "valid values: \"OnFailure\", \"Never\"")),
        "OnFailure" if spec.pod_failure_policy.is_some() => {
            let message = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(Error::invalid(path, policy, message));
        }
        "OnFailure" | "Never" => {}
        other => errors.push(Error::not_supported(path, other, &["OnFailure", "Never"])),
    }
}

fn indexes(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    if spec.completions.is_none() {
        errors.push(Error::required(&path.child("completions"), "when completion mode is Indexed"));
    }
    let mut at_most = |name: &str, number: Option<i32>, most: i32, message: String| {
        if let Some(number) = number.filter(|number| *number > most) {
            errors.push(Error::invalid(&path.child(name), number, message));
        }
    };
    let (parallelism, failed) = (spec.parallelism, spec.max_failed_indexes);
    let message = format!("must be less than or equal to {MAX_INDEXES} when completion mode is Indexed");
    at_most("parallelism", parallelism, MAX_INDEXES, message);
    if let Some(completions) = spec.completions {
        at_most("maxFailedIndexes", failed, completions, "must be less than or equal to completions".to_owned());
    }
    at_most("maxFailedIndexes", failed, MAX_INDEXES, format!("must be less than or equal to {MAX_INDEXES}"));
    if spec.backoff_limit_per_index.is_some() && spec.completions.is_some_and(|count| count > MAX_INDEXES) {
        let message = || {
            format!(
                "must be less than or equal to {MAX_OF_MANY} when completions are above {MAX_INDEXES} and used with \
                 backoff limit per index"
            )
        };
        at_most("parallelism", parallelism, MAX_OF_MANY, message());
        at_most("maxFailedIndexes", failed, MAX_OF_MANY, message());
        if failed.is_none() {
            let message = format!("must be specified when completions is above {MAX_INDEXES}");
            errors.push(Error::required(&path.child("maxFailedIndexes"), message));
        }
    }
}

/// `acme.io/foo`
fn managed_by(manager: &str, path: &Path, errors: &mut Errors) {
    if manager.is_empty() {
        errors.push(Error::required(path, ""));
    } else {
        match manager.split_once('/') {
            Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => {
                formats::invalid(path, domain, names::dns1123_subdomain(domain), errors);
                if !rest.bytes().all(is_path_byte) {
                    errors.push(Error::invalid(
                        path,
                        rest,
                        "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
                    ));
                }
            }
            _ => {
                let message = "must be a domain-prefixed path (such as \"acme.io/foo\")";
                errors.push(Error::invalid(path, manager, message));
            }
        }
    }
    if manager.len() > MAX_MANAGED_BY {
        errors.push(Error::too_long(path, MAX_MANAGED_BY));
    }
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte)
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
