//! DaemonSets.

use base_meta::field;
use k8s_openapi::api::apps::v1::DaemonSet;
use machinery_registry::{Column, RequestContext, ResourceDef, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, CONTAINERS, IMAGES, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::integer("Desired", "Nodes that should run its pod."),
    columns::integer("Current", "Nodes that run it."),
    columns::integer("Ready", "Nodes whose pod is ready."),
    columns::integer("Up-to-date", "Nodes whose pod has the wanted template."),
    columns::integer("Available", "Nodes whose pod has been ready for at least minReadySeconds."),
    columns::text("Node Selector", "Which nodes are meant."),
    AGE,
    CONTAINERS,
    IMAGES,
    columns::wide("Selector", "Which pods belong to the daemon set."),
];

/// Counts changes of the template, from before generations did; clients still show it.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub struct DaemonSetStrategy;

impl Strategy for DaemonSetStrategy {
    type Object = DaemonSet;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            short_names: &["ds"],
            categories: &["all"],
            subresources: vec![define::status::<DaemonSet>()],
            ..define::resource::<DaemonSet>("daemonsets", "daemonset", COLUMNS)
        }
    }

    fn default(&self, object: &mut DaemonSet) {
        api::defaults::daemon_set(object);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn prepare_for_create(&self, _: &RequestContext, object: &mut DaemonSet) {
        set_template_generation(object, template_generation(object).max(1));
    }

    fn prepare_for_update(&self, _: &RequestContext, new: &mut DaemonSet, old: &DaemonSet) {
        let template = |set: &DaemonSet| set.spec.as_ref().map(|spec| spec.template.clone());
        let changed = i64::from(template(new) != template(old));
        set_template_generation(new, template_generation(old) + changed);
    }

    fn validate(&self, _: &RequestContext, object: &DaemonSet) -> Vec<field::Error> {
        api::validation::daemon_set::daemon_set(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &DaemonSet, old: &DaemonSet) -> Vec<field::Error> {
        api::validation::daemon_set::daemon_set_update(new, old)
    }

    fn validate_status_update(&self, _: &RequestContext, new: &DaemonSet, old: &DaemonSet) -> Vec<field::Error> {
        api::validation::daemon_set::daemon_set_status_update(new, old)
    }

    fn row(&self, object: &DaemonSet) -> Vec<Value> {
        let (spec, status) = (object.spec.as_ref(), object.status.clone().unwrap_or_default());
        let template = spec.map(|spec| &spec.template);
        let containers = columns::containers(template);
        let nodes = template.and_then(|template| template.spec.as_ref()?.node_selector.as_ref());
        vec![
            columns::name(&object.metadata),
            json!(status.desired_number_scheduled),
            json!(status.current_number_scheduled),
            json!(status.number_ready),
            json!(status.updated_number_scheduled.unwrap_or(0)),
            json!(status.number_available.unwrap_or(0)),
            columns::pairs(nodes),
            columns::age(&object.metadata),
            columns::container_names(containers),
            columns::container_images(containers),
            spec.map_or(json!("<none>"), |spec| columns::selector(&spec.selector)),
        ]
    }
}

fn template_generation(set: &DaemonSet) -> i64 {
    let annotations = set.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(TEMPLATE_GENERATION)?.parse().ok()).unwrap_or(0)
}

fn set_template_generation(set: &mut DaemonSet, generation: i64) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.insert(TEMPLATE_GENERATION.to_owned(), generation.to_string());
}
