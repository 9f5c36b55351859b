//! VolumeAttachments.

use base_meta::field;
use k8s_openapi::api::storage::v1::VolumeAttachment;
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::text("Attacher", "The driver that attaches the volume."),
    columns::text("PV", "The volume."),
    columns::text("Node", "The node it is attached to."),
    columns::boolean("Attached", "Whether it is attached now."),
    AGE,
];

pub struct VolumeAttachmentStrategy;

impl Strategy for VolumeAttachmentStrategy {
    type Object = VolumeAttachment;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            scope: Scope::Cluster,
            subresources: vec![define::status::<VolumeAttachment>()],
            answers_deleted: true,
            ..define::resource::<VolumeAttachment>("volumeattachments", "volumeattachment", COLUMNS)
        }
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _: &RequestContext, object: &VolumeAttachment) -> Vec<field::Error> {
        api::validation::volume_attachment::volume_attachment(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &VolumeAttachment, old: &VolumeAttachment) -> Vec<field::Error> {
        api::validation::volume_attachment::volume_attachment_update(new, old)
    }

    fn validate_status_update(
        &self,
        _: &RequestContext,
        new: &VolumeAttachment,
        old: &VolumeAttachment,
    ) -> Vec<field::Error> {
        api::validation::volume_attachment::volume_attachment_update(new, old)
    }

    fn row(&self, object: &VolumeAttachment) -> Vec<Value> {
        vec![
            columns::name(&object.metadata),
            json!(object.spec.attacher),
            json!(object.spec.source.persistent_volume_name.as_deref().unwrap_or("")),
            json!(object.spec.node_name),
            json!(object.status.as_ref().is_some_and(|status| status.attached)),
            columns::age(&object.metadata),
        ]
    }
}
