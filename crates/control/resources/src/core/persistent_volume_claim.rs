//! PersistentVolumeClaims.

use std::collections::BTreeMap;

use api::volume::class;
use base_meta::field;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, TypedLocalObjectReference, TypedObjectReference};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use machinery_registry::{Column, RequestContext, ResourceDef, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::text("Status", "Whether it is bound."),
    columns::text("Volume", "To which volume."),
    columns::text("Capacity", "How much that holds."),
    columns::text("Access Modes", "By how many it can be used at once."),
    columns::text("StorageClass", "The class that is asked for."),
    columns::text("VolumeAttributesClass", "The class of its attributes."),
    AGE,
    columns::wide("VolumeMode", "A file system or a block device."),
];

pub struct PersistentVolumeClaimStrategy;

impl Strategy for PersistentVolumeClaimStrategy {
    type Object = PersistentVolumeClaim;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            answers_deleted: true,
            short_names: &["pvc"],
            subresources: vec![define::status::<PersistentVolumeClaim>()],
            fields: &["name"],
            ..define::resource::<PersistentVolumeClaim>("persistentvolumeclaims", "persistentvolumeclaim", COLUMNS)
        }
    }

    fn default(&self, object: &mut PersistentVolumeClaim) {
        api::defaults::persistent_volume_claim(object);
    }

    fn prepare_for_create(&self, _: &RequestContext, object: &mut PersistentVolumeClaim) {
        pair_sources(object);
    }

    fn prepare_for_update(&self, _: &RequestContext, new: &mut PersistentVolumeClaim, _: &PersistentVolumeClaim) {
        pair_sources(new);
    }

    fn validate(&self, _: &RequestContext, object: &PersistentVolumeClaim) -> Vec<field::Error> {
        api::validation::persistent_volume_claim::persistent_volume_claim(object)
    }

    fn validate_update(
        &self,
        _: &RequestContext,
        new: &PersistentVolumeClaim,
        old: &PersistentVolumeClaim,
    ) -> Vec<field::Error> {
        api::validation::persistent_volume_claim::persistent_volume_claim_update(new, old)
    }

    fn validate_status_update(
        &self,
        _: &RequestContext,
        new: &PersistentVolumeClaim,
        _: &PersistentVolumeClaim,
    ) -> Vec<field::Error> {
        api::validation::persistent_volume_claim::persistent_volume_claim_status_update(new)
    }

    fn selectable(&self, object: &PersistentVolumeClaim) -> Vec<(&'static str, String)> {
        vec![("name", object.metadata.name.clone().unwrap_or_default())]
    }

    fn row(&self, object: &PersistentVolumeClaim) -> Vec<Value> {
        let (spec, status) = (object.spec.clone().unwrap_or_default(), object.status.clone().unwrap_or_default());
        let volume = spec.volume_name.as_deref().unwrap_or("");
        let phase = match object.metadata.deletion_timestamp {
            Some(_) => "Terminating",
            None => status.phase.as_deref().unwrap_or(""),
        };
        let (capacity, modes) = match volume {
            "" => (String::new(), String::new()),
            _ => (storage(status.capacity.as_ref()), access_modes(status.access_modes.as_deref())),
        };
        vec![
            columns::name(&object.metadata),
            json!(phase),
            json!(volume),
            json!(capacity),
            json!(modes),
            json!(class(&object.metadata, spec.storage_class_name.as_deref())),
            json!(spec.volume_attributes_class_name.as_deref().unwrap_or("<unset>")),
            columns::age(&object.metadata),
            json!(spec.volume_mode.as_deref().unwrap_or("<unset>")),
        ]
    }
}

/// Both ways to name a source of data say the same, where both can.
fn pair_sources(claim: &mut PersistentVolumeClaim) {
    let Some(spec) = &mut claim.spec else { return };
    match (&spec.data_source, &spec.data_source_ref) {
        (Some(source), None) => {
            spec.data_source_ref = Some(TypedObjectReference {
                api_group: source.api_group.clone(),
                kind: source.kind.clone(),
                name: source.name.clone(),
                namespace: None,
            });
        }
        (None, Some(reference)) if reference.namespace.as_deref().is_none_or(str::is_empty) => {
            spec.data_source = Some(TypedLocalObjectReference {
                api_group: reference.api_group.clone(),
                kind: reference.kind.clone(),
                name: reference.name.clone(),
            });
        }
        _ => {}
    }
}

/// `RWO,ROX,RWX,RWOP`, each once.
pub(super) fn access_modes(modes: Option<&[String]>) -> String {
    const SHORT: [(&str, &str); 4] =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let given = |mode: &str| modes.unwrap_or_default().iter().any(|given| given == mode);
    SHORT.iter().filter(|(mode, _)| given(mode)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

pub(super) fn storage(amounts: Option<&BTreeMap<String, Quantity>>) -> String {
    amounts.and_then(|amounts| amounts.get("storage")).map_or("0".to_owned(), |amount| amount.0.clone())
}
