//! ReplicationControllers: what ReplicaSets were before.

use base_meta::field;
use k8s_openapi::api::core::v1::ReplicationController;
use machinery_registry::request::Propagation;
use machinery_registry::strategy::Graceful;
use machinery_registry::{Column, DeleteOptions, RequestContext, ResourceDef, Strategy};
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
    columns::wide("Selector", "Which pods belong to the controller."),
];

pub struct ReplicationControllerStrategy;

impl Strategy for ReplicationControllerStrategy {
    type Object = ReplicationController;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            short_names: &["rc"],
            categories: &["all"],
            subresources: vec![define::scale(), define::status::<ReplicationController>()],
            fields: &["status.replicas"],
            ..define::resource::<ReplicationController>("replicationcontrollers", "replicationcontroller", COLUMNS)
        }
    }

    fn default(&self, object: &mut ReplicationController) {
        api::defaults::replication_controller(object);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, ctx: &RequestContext, object: &ReplicationController) -> Vec<field::Error> {
        define::recommend_label(ctx, &object.metadata);
        api::validation::replication_controller::replication_controller(object)
    }

    fn validate_update(
        &self,
        _: &RequestContext,
        new: &ReplicationController,
        _: &ReplicationController,
    ) -> Vec<field::Error> {
        api::validation::replication_controller::replication_controller(new)
    }

    fn validate_status_update(
        &self,
        _: &RequestContext,
        new: &ReplicationController,
        _: &ReplicationController,
    ) -> Vec<field::Error> {
        api::validation::replication_controller::replication_controller_status_update(new)
    }

    /// A client that does not say keeps the pods.
    fn graceful(&self, _: &RequestContext, object: &ReplicationController, options: &mut DeleteOptions) -> Graceful {
        if options.propagation.is_none() && !define::has_propagation(&object.metadata) {
            options.propagation = Some(Propagation::Orphan);
        }
        Graceful::No
    }

    fn selectable(&self, object: &ReplicationController) -> Vec<(&'static str, String)> {
        let replicas = object.status.as_ref().map_or(0, |status| status.replicas);
        vec![("status.replicas", replicas.to_string())]
    }

    fn row(&self, object: &ReplicationController) -> Vec<Value> {
        let (spec, status) = (object.spec.as_ref(), object.status.as_ref());
        let containers = columns::containers(spec.and_then(|spec| spec.template.as_ref()));
        vec![
            columns::name(&object.metadata),
            json!(spec.and_then(|spec| spec.replicas).unwrap_or(0)),
            json!(status.map_or(0, |status| status.replicas)),
            json!(status.and_then(|status| status.ready_replicas).unwrap_or(0)),
            columns::age(&object.metadata),
            columns::container_names(containers),
            columns::container_images(containers),
            columns::pairs(spec.and_then(|spec| spec.selector.as_ref())),
        ]
    }
}
