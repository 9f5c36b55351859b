//! ControllerRevisions: what StatefulSets and DaemonSets were, to be again.

use base_meta::field;
use k8s_openapi::api::apps::v1::ControllerRevision;
use machinery_registry::{Column, RequestContext, ResourceDef, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::text("Controller", "Whose state it holds."),
    columns::text("Revision", "Which state in order."),
    AGE,
];

pub struct ControllerRevisionStrategy;

impl Strategy for ControllerRevisionStrategy {
    type Object = ControllerRevision;

    fn def(&self) -> ResourceDef {
        define::resource::<ControllerRevision>("controllerrevisions", "controllerrevision", COLUMNS)
    }

    fn validate(&self, _: &RequestContext, object: &ControllerRevision) -> Vec<field::Error> {
        api::validation::stateful_set::controller_revision(object)
    }

    fn validate_update(
        &self,
        _: &RequestContext,
        new: &ControllerRevision,
        old: &ControllerRevision,
    ) -> Vec<field::Error> {
        api::validation::stateful_set::controller_revision_update(new, old)
    }

    fn row(&self, object: &ControllerRevision) -> Vec<Value> {
        let controller = api::owner::controller_of(&object.metadata).map_or("<none>".to_owned(), |owner| {
            let kind = owner.kind.to_lowercase();
            match owner.api_version.split_once('/') {
                Some((group, _)) => format!("{kind}.{}/{}", group.to_lowercase(), owner.name),
                None => format!("{kind}/{}", owner.name),
            }
        });
        vec![columns::name(&object.metadata), json!(controller), json!(object.revision), columns::age(&object.metadata)]
    }
}
