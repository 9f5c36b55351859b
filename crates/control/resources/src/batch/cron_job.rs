//! CronJobs.

use base_meta::field;
use k8s_openapi::api::batch::v1::CronJob;
use machinery_registry::{Column, RequestContext, ResourceDef, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, CONTAINERS, IMAGES, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::text("Schedule", "When it makes a job."),
    columns::text("Timezone", "Where the schedule's clock hangs."),
    Column { kind: "boolean", ..columns::text("Suspend", "Whether it makes none for now.") },
    columns::integer("Active", "Jobs of it that run."),
    columns::text("Last Schedule", "How long ago it made one."),
    AGE,
    CONTAINERS,
    IMAGES,
    columns::wide("Selector", "Which pods belong to its jobs."),
];

pub struct CronJobStrategy;

impl Strategy for CronJobStrategy {
    type Object = CronJob;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            short_names: &["cj"],
            categories: &["all"],
            subresources: vec![define::status::<CronJob>()],
            ..define::resource::<CronJob>("cronjobs", "cronjob", COLUMNS)
        }
    }

    fn default(&self, object: &mut CronJob) {
        api::defaults::cron_job(object);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, ctx: &RequestContext, object: &CronJob) -> Vec<field::Error> {
        define::recommend_label(ctx, &object.metadata);
        api::validation::cron_job::cron_job(object)
    }

    fn validate_update(&self, ctx: &RequestContext, new: &CronJob, old: &CronJob) -> Vec<field::Error> {
        if new.spec.schedule.contains("TZ") {
            ctx.warnings.add(
                "CRON_TZ or TZ used in spec.schedule is not officially supported, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details",
            );
        }
        api::validation::cron_job::cron_job_update(new, old)
    }

    fn row(&self, object: &CronJob) -> Vec<Value> {
        let spec = &object.spec;
        let status = object.status.as_ref();
        let last = status.and_then(|status| status.last_schedule_time.as_ref());
        let job = spec.job_template.spec.as_ref();
        let containers = columns::containers(job.map(|job| &job.template));
        let suspend = match spec.suspend {
            Some(true) => "True",
            Some(false) => "False",
            None => "<unset>",
        };
        vec![
            columns::name(&object.metadata),
            json!(spec.schedule),
            json!(spec.time_zone.as_deref().unwrap_or("<none>")),
            json!(suspend),
            json!(status.and_then(|status| status.active.as_ref()).map_or(0, Vec::len)),
            json!(last.map_or("<none>".to_owned(), |time| columns::since(Some(time)))),
            columns::age(&object.metadata),
            columns::container_names(containers),
            columns::container_images(containers),
            job.and_then(|job| job.selector.as_ref()).map_or(json!("<none>"), columns::selector),
        ]
    }
}
