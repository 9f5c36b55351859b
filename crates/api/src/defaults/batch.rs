//! Jobs and CronJobs.

use k8s_openapi::api::batch::v1::{CronJob, Job};

use super::{pod_template, pointer, text};

pub fn job(job: &mut Job) {
    let spec = job.spec.get_or_insert_default();
    // Neither is set: one pod. Completions alone stay unset in a work queue.
    if spec.completions.is_none() && spec.parallelism.is_none() {
        spec.completions = Some(1);
        spec.parallelism = Some(1);
    }
    pointer(&mut spec.parallelism, 1);
    let retries = if spec.backoff_limit_per_index.is_some() { i32::MAX } else { 6 };
    pointer(&mut spec.backoff_limit, retries);
    let labels = spec.template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref());
    if let Some(labels) = labels.filter(|labels| !labels.is_empty())
        && job.metadata.labels.as_ref().is_none_or(|own| own.is_empty())
    {
        job.metadata.labels = Some(labels.clone());
    }
    pointer(&mut spec.completion_mode, "NonIndexed".to_owned());
    pointer(&mut spec.suspend, false);
    pointer(&mut spec.manual_selector, false);
    let rules = spec.pod_failure_policy.iter_mut().flat_map(|policy| &mut policy.rules);
    for pattern in rules.flat_map(|rule| rule.on_pod_conditions.iter_mut().flatten()) {
        text(&mut pattern.status, "True");
    }
    let replacement = if spec.pod_failure_policy.is_some() { "Failed" } else { "TerminatingOrFailed" };
    pointer(&mut spec.pod_replacement_policy, replacement.to_owned());
    pod_template(&mut spec.template);
}

/// The job's own defaults come when the job is made.
pub fn cron_job(cron_job: &mut CronJob) {
    let spec = &mut cron_job.spec;
    text(&mut spec.concurrency_policy, "Allow");
    pointer(&mut spec.suspend, false);
    pointer(&mut spec.successful_jobs_history_limit, 3);
    pointer(&mut spec.failed_jobs_history_limit, 1);
    pod_template(&mut spec.job_template.spec.get_or_insert_default().template);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn defaulted(spec: Value) -> Value {
        let mut object: Job = serde_json::from_value(json!({"spec": spec})).expect("a job");
        job(&mut object);
        serde_json::to_value(&object).expect("JSON")
    }

    #[test]
    fn a_plain_job_runs_one_pod() {
        let value = defaulted(json!({"template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}}));
        let spec = &value["spec"];
        for (field, expected) in [
            ("completions", json!(1)),
            ("parallelism", json!(1)),
            ("backoffLimit", json!(6)),
            ("completionMode", json!("NonIndexed")),
            ("suspend", json!(false)),
            ("manualSelector", json!(false)),
            ("podReplacementPolicy", json!("TerminatingOrFailed")),
        ] {
            assert_eq!(spec[field], expected, "{field}");
        }
        assert_eq!(value["metadata"]["labels"], json!({"a": "b"}));
    }

    #[test]
    fn a_work_queue_has_no_completions_and_an_index_its_own_limit() {
        let value = defaulted(json!({"parallelism": 3, "template": {}}));
        assert_eq!((&value["spec"]["completions"], &value["spec"]["parallelism"]), (&Value::Null, &json!(3)));
        let value = defaulted(json!({"completions": 2, "backoffLimitPerIndex": 1, "template": {}}));
        assert_eq!((&value["spec"]["parallelism"], &value["spec"]["backoffLimit"]), (&json!(1), &json!(i32::MAX)));
    }

    #[test]
    fn a_cron_job_keeps_some_history() {
        let mut object: CronJob =
            serde_json::from_value(json!({"spec": {"schedule": "* * * * *", "jobTemplate": {}}})).expect("a cron job");
        cron_job(&mut object);
        let spec = serde_json::to_value(&object).expect("JSON")["spec"].clone();
        assert_eq!((&spec["successfulJobsHistoryLimit"], &spec["failedJobsHistoryLimit"]), (&json!(3), &json!(1)));
        assert_eq!(spec["jobTemplate"]["spec"]["completions"], Value::Null);
        assert_eq!(spec["jobTemplate"]["spec"]["template"]["spec"]["dnsPolicy"], "ClusterFirst");
    }
}
