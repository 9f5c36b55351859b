//! PersistentVolumes.

use api::volume::class;
use base_meta::field;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeStatus};
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy};
use serde_json::{Value, json};

use super::persistent_volume_claim::{access_modes, storage};
use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::text("Capacity", "How much it holds."),
    columns::text("Access Modes", "By how many it can be used at once."),
    columns::text("Reclaim Policy", "What becomes of it once it is released."),
    columns::text("Status", "Whether it is free, bound, released or failed."),
    columns::text("Claim", "Whose it is."),
    columns::text("StorageClass", "Its class."),
    columns::text("VolumeAttributesClass", "The class of its attributes."),
    columns::text("Reason", "Why it is in its status."),
    AGE,
    columns::wide("VolumeMode", "A file system or a block device."),
];

pub struct PersistentVolumeStrategy;

impl Strategy for PersistentVolumeStrategy {
    type Object = PersistentVolume;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            answers_deleted: true,
            short_names: &["pv"],
            scope: Scope::Cluster,
            subresources: vec![define::status::<PersistentVolume>()],
            fields: &["name"],
            ..define::resource::<PersistentVolume>("persistentvolumes", "persistentvolume", COLUMNS)
        }
    }

    fn default(&self, object: &mut PersistentVolume) {
        api::defaults::persistent_volume(object);
    }

    fn prepare_for_create(&self, _: &RequestContext, object: &mut PersistentVolume) {
        object.status = Some(PersistentVolumeStatus {
            phase: Some("Pending".to_owned()),
            last_phase_transition_time: Some(define::now()),
            ..PersistentVolumeStatus::default()
        });
    }

    fn prepare_for_status_update(&self, _: &RequestContext, new: &mut PersistentVolume, old: &PersistentVolume) {
        let before = old.status.clone().unwrap_or_default();
        let status = new.status.get_or_insert_default();
        let same = status.last_phase_transition_time == before.last_phase_transition_time;
        if status.phase != before.phase && (same || status.last_phase_transition_time.is_none()) {
            status.last_phase_transition_time = Some(define::now());
        }
    }

    fn validate(&self, _: &RequestContext, object: &PersistentVolume) -> Vec<field::Error> {
        api::validation::persistent_volume::persistent_volume(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &PersistentVolume, old: &PersistentVolume) -> Vec<field::Error> {
        api::validation::persistent_volume::persistent_volume_update(new, old)
    }

    fn selectable(&self, object: &PersistentVolume) -> Vec<(&'static str, String)> {
        vec![("name", object.metadata.name.clone().unwrap_or_default())]
    }

    fn row(&self, object: &PersistentVolume) -> Vec<Value> {
        let (spec, status) = (object.spec.clone().unwrap_or_default(), object.status.clone().unwrap_or_default());
        let claim = spec.claim_ref.as_ref().map_or(String::new(), |claim| {
            format!("{}/{}", claim.namespace.as_deref().unwrap_or(""), claim.name.as_deref().unwrap_or(""))
        });
        let phase = match object.metadata.deletion_timestamp {
            Some(_) => "Terminating",
            None => status.phase.as_deref().unwrap_or(""),
        };
        vec![
            columns::name(&object.metadata),
            json!(storage(spec.capacity.as_ref())),
            json!(access_modes(spec.access_modes.as_deref())),
            json!(spec.persistent_volume_reclaim_policy.as_deref().unwrap_or("")),
            json!(phase),
            json!(claim),
            json!(class(&object.metadata, spec.storage_class_name.as_deref())),
            json!(spec.volume_attributes_class_name.as_deref().unwrap_or("<unset>")),
            json!(status.reason.as_deref().unwrap_or("")),
            columns::age(&object.metadata),
            json!(spec.volume_mode.as_deref().unwrap_or("<unset>")),
        ]
    }
}
