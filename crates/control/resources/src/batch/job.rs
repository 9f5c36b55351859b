//! Jobs. The server itself makes a job's selector from its uid, so that no two jobs share pods.

use api::validation::job::{CONTROLLER_UID, JOB_NAME, LEGACY_CONTROLLER_UID, LEGACY_JOB_NAME};
use base_meta::field;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use machinery_registry::request::Propagation;
use machinery_registry::strategy::Graceful;
use machinery_registry::{Column, DeleteOptions, RequestContext, ResourceDef, Strategy};
use serde_json::{Value, json};

use crate::age::human;
use crate::columns::{self, AGE, CONTAINERS, IMAGES, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::text("Status", "Whether it runs, or how it ended."),
    columns::text("Completions", "Pods that succeeded of those that must."),
    columns::text("Duration", "How long it has taken."),
    AGE,
    CONTAINERS,
    IMAGES,
    columns::wide("Selector", "Which pods belong to the job."),
];

pub struct JobStrategy;

impl Strategy for JobStrategy {
    type Object = Job;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            categories: &["all"],
            subresources: vec![define::status::<Job>()],
            fields: &["status.successful"],
            ..define::resource::<Job>("jobs", "job", COLUMNS)
        }
    }

    fn default(&self, object: &mut Job) {
        api::defaults::job(object);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn prepare_for_create(&self, _: &RequestContext, object: &mut Job) {
        let (uid, name) =
            (object.metadata.uid.clone().unwrap_or_default(), object.metadata.name.clone().unwrap_or_default());
        let spec = object.spec.get_or_insert_default();
        if spec.manual_selector == Some(true) {
            return;
        }
        let labels = spec.template.metadata.get_or_insert_default().labels.get_or_insert_default();
        // What the user has set stays: validation tells of it.
        for (key, value) in
            [(LEGACY_JOB_NAME, &name), (JOB_NAME, &name), (LEGACY_CONTROLLER_UID, &uid), (CONTROLLER_UID, &uid)]
        {
            labels.entry(key.to_owned()).or_insert_with(|| value.clone());
        }
        let selector = spec.selector.get_or_insert_default().match_labels.get_or_insert_default();
        selector.entry(CONTROLLER_UID.to_owned()).or_insert(uid);
    }

    fn validate(&self, ctx: &RequestContext, object: &Job) -> Vec<field::Error> {
        define::recommend_label(ctx, &object.metadata);
        api::validation::job::job(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &Job, old: &Job) -> Vec<field::Error> {
        api::validation::job::job_update(new, old)
    }

    fn validate_status_update(&self, _: &RequestContext, new: &Job, old: &Job) -> Vec<field::Error> {
        api::validation::job_status::job_status_update(new, old)
    }

    /// A client that does not say keeps the pods, as it did before there was anything to say.
    fn graceful(&self, ctx: &RequestContext, object: &Job, options: &mut DeleteOptions) -> Graceful {
        if options.propagation.is_none() && !define::has_propagation(&object.metadata) {
            options.propagation = Some(Propagation::Orphan);
            ctx.warnings.add(
                "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove \
                 them or set propagationPolicy=Orphan to suppress this warning",
            );
        }
        Graceful::No
    }

    fn selectable(&self, object: &Job) -> Vec<(&'static str, String)> {
        let succeeded = object.status.as_ref().and_then(|status| status.succeeded).unwrap_or(0);
        vec![("status.successful", succeeded.to_string())]
    }

    fn row(&self, object: &Job) -> Vec<Value> {
        let (spec, status) = (object.spec.clone().unwrap_or_default(), object.status.clone().unwrap_or_default());
        let succeeded = status.succeeded.unwrap_or(0);
        let completions = match (spec.completions, spec.parallelism.unwrap_or(0)) {
            (Some(wanted), _) => format!("{succeeded}/{wanted}"),
            (None, several @ 2..) => format!("{succeeded}/1 of {several}"),
            (None, _) => format!("{succeeded}/1"),
        };
        let duration = match (&status.start_time, &status.completion_time) {
            (None, _) => String::new(),
            (Some(start), None) => columns::since_instant(start.0),
            (Some(start), Some(end)) => human(end.0.duration_since(start.0)),
        };
        let containers = columns::containers(Some(&spec.template));
        vec![
            columns::name(&object.metadata),
            json!(state(object, &status)),
            json!(completions),
            json!(duration),
            columns::age(&object.metadata),
            columns::container_names(containers),
            columns::container_images(containers),
            spec.selector.as_ref().map_or(json!("<none>"), columns::selector),
        ]
    }
}

fn state(job: &Job, status: &JobStatus) -> &'static str {
    let is = |kind: &str| {
        let found = status.conditions.iter().flatten().find(|condition| condition.type_ == kind);
        found.is_some_and(|condition| condition.status == "True")
    };
    match () {
        () if is("Complete") => "Complete",
        () if is("Failed") => "Failed",
        () if job.metadata.deletion_timestamp.is_some() => "Terminating",
        () if is("Suspended") => "Suspended",
        () if is("FailureTarget") => "FailureTarget",
        () => "Running",
    }
}
