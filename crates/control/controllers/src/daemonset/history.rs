//! The templates that a DaemonSet has had, each in a ControllerRevision: what `kubectl rollout history` and `undo` read.

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};

use super::pod::HASH;
use crate::world::owned_by;

/// The patch that brings this template back.
pub fn data(set: &DaemonSet) -> Value {
    let template = set.spec.as_ref().map(|spec| serde_json::to_value(&spec.template).unwrap_or_default());
    let mut template = template.unwrap_or_default();
    if let Some(fields) = template.as_object_mut() {
        fields.insert("$patch".into(), "replace".into());
    }
    json!({ "spec": { "template": template } })
}

/// Whether the revision is of the set's template as it is now.
pub fn matches(set: &DaemonSet, revision: &ControllerRevision) -> bool {
    revision.data.as_ref().is_some_and(|known| known.0 == data(set))
}

pub fn new(set: &DaemonSet, number: i64) -> ControllerRevision {
    let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let collisions = set.status.as_ref().and_then(|status| status.collision_count);
    let hash = api::template_hash::compute(&template, collisions);
    let mut labels = template.metadata.and_then(|metadata| metadata.labels).unwrap_or_default();
    labels.insert(HASH.into(), hash.clone());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", set.metadata.name.as_deref().unwrap_or_default())),
            labels: Some(labels),
            // Among them kubectl's cause of the change.
            annotations: set.metadata.annotations.clone(),
            owner_references: Some(vec![owned_by(set)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data(set))),
        revision: number,
    }
}
