//! The status of a job: a finished job stays finished, and what it counts agrees.

use std::collections::BTreeSet;

use base_meta::field::{Error, Path};
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::job::indexed;
use super::job_policies::parse_indexes;
use super::workload::not_negative;
use super::{Errors, json};

fn is(status: &JobStatus, kind: &str) -> bool {
    status.conditions.iter().flatten().any(|condition| condition.type_ == kind && condition.status == "True")
}

fn finished(status: &JobStatus) -> bool {
    is(status, "Complete") || is(status, "Failed")
}

/// About the conditions as a whole: upstream shows no value.
fn conditions(message: impl Into<String>) -> Error {
    let path = Path::new("status").child("conditions");
    Error { value: None, ..Error::invalid(&path, "", message) }
}

fn shown(time: Option<&Time>) -> serde_json::Value {
    json(&time)
}

pub fn job_status_update(new: &Job, old: &Job) -> Errors {
    let mut errors = Errors::new();
    let empty = JobStatus::default();
    let (now, before) = (new.status.as_ref().unwrap_or(&empty), old.status.as_ref().unwrap_or(&empty));
    counts(now, &mut errors);
    times(new, now, before, &mut errors);
    exclusive(now, before, &mut errors);
    indexes(new, now, before, &mut errors);
    ended(now, before, &mut errors);
    transitions(new, now, before, &mut errors);
    errors
}

fn counts(status: &JobStatus, errors: &mut Errors) {
    let path = Path::new("status");
    let numbers = [
        ("active", status.active),
        ("succeeded", status.succeeded),
        ("failed", status.failed),
        ("ready", status.ready),
        ("terminating", status.terminating),
    ];
    for (name, number) in numbers {
        not_negative(number, &path.child(name), errors);
    }
    let Some(uncounted) = &status.uncounted_terminated_pods else { return };
    let mut seen = BTreeSet::new();
    for (name, list) in [("succeeded", &uncounted.succeeded), ("failed", &uncounted.failed)] {
        for (index, uid) in list.iter().flatten().enumerate() {
            let path = path.child("uncountedTerminatedPods").child(name).index(index);
            if uid.is_empty() {
                errors.push(Error::invalid(&path, uid, "must not be empty"));
            } else if !seen.insert(uid) {
                errors.push(Error::duplicate(&path, uid));
            }
        }
    }
}

fn times(job: &Job, now: &JobStatus, before: &JobStatus, errors: &mut Errors) {
    let path = Path::new("status");
    let completion = path.child("completionTime");
    let (start, end) = (now.start_time.as_ref(), now.completion_time.as_ref());
    if let Some(end) = end
        && !is(now, "Complete")
    {
        let message = "cannot set completionTime when there is no Complete=True condition";
        errors.push(Error::invalid(&completion, &shown(Some(end)), message));
    }
    if end.is_none() && is(now, "Complete") {
        errors.push(Error::required(&completion, "completionTime is required for Complete jobs"));
    }
    if start.zip(end).is_some_and(|(start, end)| end.0 < start.0) {
        errors.push(Error::invalid(&completion, &shown(end), "completionTime cannot be set before startTime"));
    }
    if let (Some(end), Some(old)) = (end, &before.completion_time)
        && end != old
    {
        errors.push(Error::invalid(&completion, &shown(Some(end)), "completionTime cannot be mutated"));
    }
    let suspended = job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
    if before.start_time.is_some() && before.start_time != now.start_time && !suspended {
        errors.push(Error::required(&path.child("startTime"), "startTime cannot be removed for unsuspended job"));
    }
    let nothing_to_do = suspended && job.spec.as_ref().and_then(|spec| spec.completions) == Some(0);
    if start.is_none() && finished(now) && !nothing_to_do && (!finished(before) || before.start_time.is_some()) {
        errors.push(Error::required(&path.child("startTime"), "startTime is required for finished job"));
    }
}

fn exclusive(now: &JobStatus, before: &JobStatus, errors: &mut Errors) {
    let newly = |kinds: &[&str]| kinds.iter().any(|kind| is(now, kind) != is(before, kind));
    let met = is(now, "SuccessCriteriaMet");
    let table = [
        (
            ["Complete", "Failed"],
            is(now, "Complete") && is(now, "Failed"),
            "cannot set Complete=True and Failed=true conditions",
        ),
        (
            ["Complete", "FailureTarget"],
            is(now, "Complete") && is(now, "FailureTarget"),
            "cannot set Complete=True and FailureTarget=true conditions",
        ),
        (
            ["Failed", "FailureTarget"],
            is(now, "Failed") && !is(now, "FailureTarget"),
            "cannot set Failed=True condition without the FailureTarget=true condition",
        ),
        (
            ["Complete", "SuccessCriteriaMet"],
            is(now, "Complete") && !met,
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        ),
    ];
    for (kinds, wrong, message) in table {
        if wrong && newly(&kinds) {
            errors.push(conditions(message));
        }
    }
    if met && is(now, "Failed") {
        errors.push(conditions("cannot set SuccessCriteriaMet=True and Failed=true conditions"));
    }
    if met && is(now, "FailureTarget") {
        errors.push(conditions("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"));
    }
}

fn indexes(job: &Job, now: &JobStatus, before: &JobStatus, errors: &mut Errors) {
    let path = Path::new("status");
    let Some(spec) = &job.spec else { return };
    let completed = now.completed_indexes.as_deref().unwrap_or("");
    let parsed = |text: &str| spec.completions.map(|completions| parse_indexes(text, completions));
    if completed != before.completed_indexes.as_deref().unwrap_or("") {
        let path = path.child("completedIndexes");
        if let Some(Err(problem)) = parsed(completed) {
            errors.push(Error::invalid(&path, completed, format!("error parsing completedIndexes: {problem}")));
        }
        if !completed.is_empty() && !indexed(spec) {
            let message = "cannot set non-empty completedIndexes when non-indexed completion mode";
            errors.push(Error::invalid(&path, completed, message));
        }
    }
    let Some(failed) = &now.failed_indexes else { return };
    let path = path.child("failedIndexes");
    if now.failed_indexes != before.failed_indexes {
        if spec.backoff_limit_per_index.is_none() {
            let message = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            errors.push(Error::invalid(&path, failed, message));
        } else if let Some(Err(problem)) = parsed(failed) {
            errors.push(Error::invalid(&path, failed, format!("error parsing failedIndexes: {problem}")));
        }
    }
    if let (Some(Ok(done)), Some(Ok(lost))) = (parsed(completed), parsed(failed)) {
        let both = lost.iter().find_map(|(first, last)| {
            let overlap = |(low, high): &&(i32, i32)| first <= high && low <= last;
            done.iter().find(overlap).map(|(low, _)| *first.max(low))
        });
        if let Some(index) = both {
            let message = format!("failedIndexes and completedIndexes overlap at index: {index}");
            errors.push(Error::invalid(&path, failed, message));
        }
    }
}

fn ended(now: &JobStatus, before: &JobStatus, errors: &mut Errors) {
    let path = Path::new("status");
    let newly = finished(now) != finished(before);
    let (active, terminating) = (now.active.unwrap_or(0), now.terminating.unwrap_or(0));
    if finished(now) {
        if active > 0 && (newly || now.active != before.active) {
            errors.push(Error::invalid(&path.child("active"), active, "active>0 is invalid for finished job"));
        }
        let uncounted = now.uncounted_terminated_pods.as_ref();
        let some = uncounted.is_some_and(|pods| pods.failed.iter().chain(&pods.succeeded).any(|list| !list.is_empty()));
        if some {
            let message = "uncountedTerminatedPods needs to be empty for finished job";
            errors.push(Error::invalid(&path.child("uncountedTerminatedPods"), &json(&uncounted), message));
        }
        if terminating > 0 && (newly || now.terminating != before.terminating) {
            let message = "terminating>0 is invalid for finished job";
            errors.push(Error::invalid(&path.child("terminating"), terminating, message));
        }
    }
    if let Some(ready) = now.ready.filter(|ready| *ready > active) {
        errors.push(Error::invalid(&path.child("ready"), ready, "cannot set more ready pods than active"));
    }
}

fn transitions(job: &Job, now: &JobStatus, before: &JobStatus, errors: &mut Errors) {
    let path = Path::new("status");
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if is(before, kind) && !is(now, kind) {
            errors.push(conditions(format!("cannot disable the terminal {kind}=True condition")));
        }
    }
    if now.failed.unwrap_or(0) < before.failed.unwrap_or(0) {
        let message = "cannot decrease the failed counter";
        errors.push(Error::invalid(&path.child("failed"), now.failed.unwrap_or(0), message));
    }
    // An indexed job may be scaled down together with what it has done.
    let elastic = job.spec.as_ref().is_some_and(|spec| indexed(spec) && spec.completions == spec.parallelism);
    if now.succeeded.unwrap_or(0) < before.succeeded.unwrap_or(0) && !elastic {
        let message = "cannot decrease the succeeded counter";
        errors.push(Error::invalid(&path.child("succeeded"), now.succeeded.unwrap_or(0), message));
    }
    let met = |status: &JobStatus| is(status, "SuccessCriteriaMet");
    if met(before) && !met(now) {
        errors.push(conditions("cannot disable the SuccessCriteriaMet=True condition"));
    }
    if is(before, "Complete") && !met(before) && met(now) {
        errors.push(conditions("cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed};
    use super::*;

    fn job(status: Value) -> Job {
        object(json!({"spec": {"template": {}, "completions": 3, "parallelism": 1}, "status": status}))
    }

    fn problems(old: Value, new: Value) -> Vec<String> {
        printed(job_status_update(&job(new), &job(old)))
    }

    #[test]
    fn each_rule_names_its_field() {
        let on = |kind: &str| json!({"type": kind, "status": "True"});
        let done = json!({"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:00Z",
            "succeeded": 3, "conditions": [on("SuccessCriteriaMet"), on("Complete")]});
        assert_eq!(problems(json!({}), done.clone()), Vec::<String>::new());
        let table = [
            (json!({}), json!({"active": -1}), "status.active: Invalid value: -1: must be greater than or equal to 0"),
            (json!({}), json!({"ready": 1}), "status.ready: Invalid value: 1: cannot set more ready pods than active"),
            (
                json!({}),
                json!({"completionTime": "2026-01-01T00:01:00Z"}),
                "status.completionTime: Invalid value: \"2026-01-01T00:01:00Z\": cannot set completionTime when there",
            ),
            (
                json!({}),
                json!({"startTime": "2026-01-01T00:00:00Z", "conditions": [on("Failed")]}),
                "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true",
            ),
            (json!({"failed": 2}), json!({"failed": 1}), "status.failed: Invalid value: 1: cannot decrease the failed"),
            (
                json!({}),
                json!({"completedIndexes": "0"}),
                "status.completedIndexes: Invalid value: \"0\": cannot set non-empty completedIndexes when non-indexed",
            ),
        ];
        for (old, new, expected) in table {
            let found = problems(old, new.clone());
            assert!(found.len() == 1 && found[0].starts_with(expected), "{new}: {found:?}");
        }
        let undone = problems(done, json!({"startTime": "2026-01-01T00:00:00Z", "succeeded": 3}));
        assert_eq!(
            undone,
            [
                "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
                "status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition",
            ]
        );
    }
}
