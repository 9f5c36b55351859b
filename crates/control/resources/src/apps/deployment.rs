//! Deployments.

use base_meta::field;
use k8s_openapi::api::apps::v1::Deployment;
use machinery_registry::{Column, RequestContext, ResourceDef, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, CONTAINERS, IMAGES, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::text("Ready", "Ready pods of those wanted."),
    columns::text("Up-to-date", "Pods that have the wanted template."),
    columns::text("Available", "Pods that have been ready for at least minReadySeconds."),
    AGE,
    CONTAINERS,
    IMAGES,
    columns::wide("Selector", "Which pods belong to the deployment."),
];

pub struct DeploymentStrategy;

impl Strategy for DeploymentStrategy {
    type Object = Deployment;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            short_names: &["deploy"],
            categories: &["all"],
            subresources: vec![define::scale(), define::status::<Deployment>()],
            ..define::resource::<Deployment>("deployments", "deployment", COLUMNS)
        }
    }

    fn default(&self, object: &mut Deployment) {
        api::defaults::deployment(object);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, _: &RequestContext, object: &Deployment) -> Vec<field::Error> {
        api::validation::workload::deployment(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &Deployment, old: &Deployment) -> Vec<field::Error> {
        api::validation::workload::deployment_update(new, old)
    }

    fn validate_status_update(&self, _: &RequestContext, new: &Deployment, old: &Deployment) -> Vec<field::Error> {
        api::validation::workload::deployment_status_update(new, old)
    }

    fn row(&self, object: &Deployment) -> Vec<Value> {
        let (spec, status) = (object.spec.as_ref(), object.status.as_ref());
        let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(0);
        let count = |slot: Option<i32>| slot.unwrap_or(0);
        let containers = spec.and_then(|spec| spec.template.spec.as_ref()).map_or(&[][..], |spec| &spec.containers);
        vec![
            columns::name(&object.metadata),
            json!(format!("{}/{wanted}", count(status.and_then(|status| status.ready_replicas)))),
            json!(count(status.and_then(|status| status.updated_replicas))),
            json!(count(status.and_then(|status| status.available_replicas))),
            columns::age(&object.metadata),
            columns::container_names(containers),
            columns::container_images(containers),
            spec.map_or(json!("<none>"), |spec| columns::selector(&spec.selector)),
        ]
    }
}
