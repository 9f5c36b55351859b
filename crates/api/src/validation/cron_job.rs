//! CronJobs.

use base_meta::field::{Error, Path};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec};

use super::job::job_spec;
use super::workload::not_negative;
use super::{Errors, json, said};
use crate::cron::{Schedule, is_time_zone};

/// Eleven characters of a job's 63 tell when it was made.
const MAX_NAME: usize = 52;

pub fn cron_job(cron_job: &CronJob) -> Errors {
    let mut errors = Errors::new();
    spec(cron_job, None, &mut errors);
    let name = said(&cron_job.metadata.name);
    if name.len() > MAX_NAME {
        let path = Path::new("metadata").child("name");
        errors.push(Error::invalid(&path, name, "must be no more than 52 characters"));
    }
    errors
}

pub fn cron_job_update(new: &CronJob, old: &CronJob) -> Errors {
    let mut errors = Errors::new();
    spec(new, Some(&old.spec), &mut errors);
    errors
}

fn spec(cron_job: &CronJob, old: Option<&CronJobSpec>, errors: &mut Errors) {
    let path = Path::new("spec");
    let spec = &cron_job.spec;
    let schedule_path = path.child("schedule");
    if spec.schedule.is_empty() {
        errors.push(Error::required(&schedule_path, ""));
    } else {
        let may_name_zone = old.is_some_and(|old| old.schedule.contains("TZ"));
        schedule(spec, may_name_zone, &schedule_path, errors);
    }
    not_negative(spec.starting_deadline_seconds, &path.child("startingDeadlineSeconds"), errors);
    if let Some(zone) = &spec.time_zone
        && old.is_none_or(|old| old.time_zone != spec.time_zone)
    {
        time_zone(zone, &path.child("timeZone"), errors);
    }
    let policy = path.child("concurrencyPolicy");
    match said(&spec.concurrency_policy) {
        "Allow" | "Forbid" | "Replace" => {}
        "" => errors.push(Error::required(&policy, "")),
        other => errors.push(Error::not_supported(&policy, other, &["Allow", "Forbid", "Replace"])),
    }
    let template = path.child("jobTemplate").child("spec");
    let job = spec.job_template.spec.clone().unwrap_or_default();
    job_spec(&job, &template, errors);
    if let Some(selector) = &job.selector {
        errors.push(Error::invalid(&template.child("selector"), &json(selector), "`selector` will be auto-generated"));
    }
    if job.manual_selector == Some(true) {
        errors.push(Error::not_supported(&template.child("manualSelector"), true, &["nil", "false"]));
    }
    not_negative(spec.successful_jobs_history_limit, &path.child("successfulJobsHistoryLimit"), errors);
    not_negative(spec.failed_jobs_history_limit, &path.child("failedJobsHistoryLimit"), errors);
}

fn schedule(spec: &CronJobSpec, may_name_zone: bool, path: &Path, errors: &mut Errors) {
    let text = &spec.schedule;
    if let Err(problem) = Schedule::parse(text) {
        errors.push(Error::invalid(path, text, problem.to_string()));
    }
    if !text.contains("TZ") {
        return;
    }
    if !may_name_zone {
        let message = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.push(Error::invalid(path, text, message));
    } else if spec.time_zone.is_some() {
        let message = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
        errors.push(Error::invalid(path, text, message));
    }
}

fn time_zone(zone: &str, path: &Path, errors: &mut Errors) {
    if zone.is_empty() {
        errors.push(Error::invalid(path, zone, "timeZone must be nil or non-empty string"));
        return;
    }
    let proper = |part: &str| {
        (1..=14).contains(&part.len())
            && !matches!(part, "." | "..")
            && !part.starts_with('-')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte))
    };
    if !zone.split('/').all(proper) {
        errors.push(Error::invalid(path, zone, format!("unknown time zone {zone}")));
        return;
    }
    if zone.eq_ignore_ascii_case("local") {
        let message = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(Error::invalid(path, zone, message));
    }
    if zone != "Local" && !is_time_zone(zone) {
        errors.push(Error::invalid(path, zone, format!("unknown time zone {zone}")));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    fn made(changes: &[(&str, Value)]) -> CronJob {
        let good = json!({"metadata": {"name": "c"}, "spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}}});
        let mut made = object(with(&good, changes));
        crate::defaults::cron_job(&mut made);
        made
    }

    #[test]
    fn each_rule_names_its_field() {
        let table = [
            ("/spec/schedule", json!(""), "spec.schedule: Required value"),
            (
                "/spec/schedule",
                json!("a"),
                "spec.schedule: Invalid value: \"a\": expected exactly 5 fields, found 1: [a]",
            ),
            (
                "/spec/schedule",
                json!("TZ=UTC * * * * *"),
                "spec.schedule: Invalid value: \"TZ=UTC * * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone",
            ),
            ("/spec/timeZone", json!(""), "spec.timeZone: Invalid value: \"\": timeZone must be nil or non-empty"),
            ("/spec/timeZone", json!("Mars"), "spec.timeZone: Invalid value: \"Mars\": unknown time zone Mars"),
            ("/spec/timeZone", json!("../etc"), "spec.timeZone: Invalid value: \"../etc\": unknown time zone ../etc"),
            (
                "/spec/concurrencyPolicy",
                json!("Queue"),
                "spec.concurrencyPolicy: Unsupported value: \"Queue\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
            ),
            (
                "/spec/jobTemplate/spec/template/spec/restartPolicy",
                json!("Always"),
                "spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
            ),
            (
                "/spec/jobTemplate/spec/selector",
                json!({"matchLabels": {"a": "b"}}),
                "spec.jobTemplate.spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: `selector` will be",
            ),
            (
                "/spec/failedJobsHistoryLimit",
                json!(-1),
                "spec.failedJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
            ),
            ("/metadata/name", json!("c".repeat(53)), "metadata.name: Invalid value: \"cccc"),
        ];
        assert_eq!(printed(cron_job(&made(&[("/spec/timeZone", json!("Europe/Rome"))]))), Vec::<String>::new());
        for (pointer, value, expected) in table {
            let found = printed(cron_job(&made(&[(pointer, value.clone())])));
            assert!(found.len() == 1 && found[0].starts_with(expected), "{pointer} = {value}: {found:?}");
        }
    }

    #[test]
    fn what_was_stored_may_stay() {
        let old = made(&[("/spec/schedule", json!("TZ=UTC * * * * *")), ("/spec/timeZone", json!("Mars"))]);
        let mut new = old.clone();
        assert_eq!(cron_job_update(&new, &old).len(), 1);
        new.spec.time_zone = None;
        assert!(cron_job_update(&new, &old).is_empty());
    }
}
