//! ReplicaSets.

use base_meta::field;
use k8s_openapi::api::apps::v1::ReplicaSet;
use machinery_registry::{Column, RequestContext, ResourceDef, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, CONTAINERS, IMAGES, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::integer("Desired", "How many pods are wanted."),
    columns::integer("Current", "How many pods there are."),
    columns::integer("Ready", "How many of them are ready."),
    AGE,
    CONTAINERS,
    IMAGES,
    columns::wide("Selector", "Which pods belong to the replica set."),
];

pub struct ReplicaSetStrategy;

impl Strategy for ReplicaSetStrategy {
    type Object = ReplicaSet;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            short_names: &["rs"],
            categories: &["all"],
            subresources: vec![define::scale(), define::status::<ReplicaSet>()],
            fields: &["status.replicas"],
            ..define::resource::<ReplicaSet>("replicasets", "replicaset", COLUMNS)
        }
    }

    fn default(&self, object: &mut ReplicaSet) {
        api::defaults::replica_set(object);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, _: &RequestContext, object: &ReplicaSet) -> Vec<field::Error> {
        api::validation::workload::replica_set(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &ReplicaSet, old: &ReplicaSet) -> Vec<field::Error> {
        api::validation::workload::replica_set_update(new, old)
    }

    fn validate_status_update(&self, _: &RequestContext, new: &ReplicaSet, old: &ReplicaSet) -> Vec<field::Error> {
        api::validation::workload::replica_set_status_update(new, old)
    }

    fn selectable(&self, object: &ReplicaSet) -> Vec<(&'static str, String)> {
        let replicas = object.status.as_ref().map_or(0, |status| status.replicas);
        vec![("status.replicas", replicas.to_string())]
    }

    fn row(&self, object: &ReplicaSet) -> Vec<Value> {
        let (spec, status) = (object.spec.as_ref(), object.status.as_ref());
        let template = spec.and_then(|spec| spec.template.as_ref()).and_then(|template| template.spec.as_ref());
        let containers = template.map_or(&[][..], |spec| &spec.containers);
        vec![
            columns::name(&object.metadata),
            json!(spec.and_then(|spec| spec.replicas).unwrap_or(0)),
            json!(status.map_or(0, |status| status.replicas)),
            json!(status.and_then(|status| status.ready_replicas).unwrap_or(0)),
            columns::age(&object.metadata),
            columns::container_names(containers),
            columns::container_images(containers),
            spec.map_or(json!("<none>"), |spec| columns::selector(&spec.selector)),
        ]
    }
}
