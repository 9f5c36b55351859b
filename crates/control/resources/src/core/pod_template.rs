//! PodTemplates, stored for whoever makes pods from them.

use base_meta::field;
use k8s_openapi::api::core::v1::PodTemplate;
use machinery_registry::{Column, RequestContext, ResourceDef, Strategy};
use serde_json::Value;

use crate::columns::{self, CONTAINERS, IMAGES, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    Column { priority: 0, ..CONTAINERS },
    Column { priority: 0, ..IMAGES },
    columns::text("Pod Labels", "Labels of the pods made from it."),
];

pub struct PodTemplateStrategy;

impl Strategy for PodTemplateStrategy {
    type Object = PodTemplate;

    fn def(&self) -> ResourceDef {
        ResourceDef { answers_deleted: true, ..define::resource::<PodTemplate>("podtemplates", "podtemplate", COLUMNS) }
    }

    fn default(&self, object: &mut PodTemplate) {
        api::defaults::stored_pod_template(object);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, _: &RequestContext, object: &PodTemplate) -> Vec<field::Error> {
        api::validation::replication_controller::pod_template(object)
    }

    fn row(&self, object: &PodTemplate) -> Vec<Value> {
        let containers = columns::containers(object.template.as_ref());
        let labels = object.template.as_ref().and_then(|template| template.metadata.as_ref()?.labels.as_ref());
        vec![
            columns::name(&object.metadata),
            columns::container_names(containers),
            columns::container_images(containers),
            columns::pairs(labels),
        ]
    }
}
