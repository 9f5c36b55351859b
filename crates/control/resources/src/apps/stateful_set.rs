//! StatefulSets.

use base_meta::{field, names};
use k8s_openapi::api::apps::v1::StatefulSet;
use machinery_registry::{Column, RequestContext, ResourceDef, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, CONTAINERS, IMAGES, NAME};
use crate::define;

const COLUMNS: &[Column] = &[NAME, columns::text("Ready", "Ready pods of those wanted."), AGE, CONTAINERS, IMAGES];

pub struct StatefulSetStrategy;

impl Strategy for StatefulSetStrategy {
    type Object = StatefulSet;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            short_names: &["sts"],
            categories: &["all"],
            subresources: vec![define::scale(), define::status::<StatefulSet>()],
            ..define::resource::<StatefulSet>("statefulsets", "statefulset", COLUMNS)
        }
    }

    fn default(&self, object: &mut StatefulSet) {
        api::defaults::stateful_set(object);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, _: &RequestContext, object: &StatefulSet) -> Vec<field::Error> {
        api::validation::stateful_set::stateful_set(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &StatefulSet, old: &StatefulSet) -> Vec<field::Error> {
        api::validation::stateful_set::stateful_set_update(new, old)
    }

    fn validate_status_update(&self, _: &RequestContext, new: &StatefulSet, old: &StatefulSet) -> Vec<field::Error> {
        api::validation::stateful_set::stateful_set_status_update(new, old)
    }

    /// Its pods are named after it, and a pod's name is its hostname.
    fn validate_name(&self, name: &str) -> Vec<String> {
        names::dns1123_label(name)
    }

    fn row(&self, object: &StatefulSet) -> Vec<Value> {
        let spec = object.spec.as_ref();
        let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(0);
        let ready = object.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
        let containers = columns::containers(spec.map(|spec| &spec.template));
        vec![
            columns::name(&object.metadata),
            json!(format!("{ready}/{wanted}")),
            columns::age(&object.metadata),
            columns::container_names(containers),
            columns::container_images(containers),
        ]
    }
}
