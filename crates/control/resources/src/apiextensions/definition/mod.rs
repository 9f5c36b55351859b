//! CustomResourceDefinitions: their row in the table of resources, and what a write of one does.

mod schema;

use api::validation::custom_resource_definition;
use base_meta::{Gvk, field};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionStatus,
};
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy};
use serde_json::{Value, json};

use super::plan;
use crate::columns::{self, NAME};
use crate::define;

/// Holds a definition until its objects are gone.
pub(crate) const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

const COLUMNS: &[Column] =
    &[NAME, Column { name: "Created At", kind: "date", format: "", description: "When it was created.", priority: 0 }];

pub struct CustomResourceDefinitionStrategy;

/// The version that objects are stored in.
pub(crate) fn storage_version(object: &CustomResourceDefinition) -> Option<&str> {
    object.spec.versions.iter().find(|version| version.storage).map(|version| version.name.as_str())
}

/// Schemas that are not even well-formed are not compiled.
fn with_schemas(errors: Vec<field::Error>, object: &CustomResourceDefinition) -> Vec<field::Error> {
    if errors.is_empty() { schema::schemas(object) } else { errors }
}

fn status(object: &mut CustomResourceDefinition) -> &mut CustomResourceDefinitionStatus {
    object.status.get_or_insert_default()
}

impl Strategy for CustomResourceDefinitionStrategy {
    type Object = CustomResourceDefinition;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            short_names: &["crd", "crds"],
            categories: &["api-extensions"],
            scope: Scope::Cluster,
            subresources: vec![define::status::<CustomResourceDefinition>()],
            stored_as: Some(Gvk::of("apiextensions.k8s.io", "v1beta1", "CustomResourceDefinition")),
            ..define::resource::<CustomResourceDefinition>(
                "customresourcedefinitions",
                "customresourcedefinition",
                COLUMNS,
            )
        }
    }

    fn default(&self, object: &mut CustomResourceDefinition) {
        api::defaults::custom_resource_definition(object);
    }

    fn has_generation(&self) -> bool {
        true
    }

    /// What it stores at first is known from the start: a definition without it could not be read back later.
    fn prepare_for_create(&self, _: &RequestContext, object: &mut CustomResourceDefinition) {
        let stored: Vec<String> = storage_version(object).into_iter().map(str::to_owned).collect();
        *status(object) = CustomResourceDefinitionStatus {
            stored_versions: Some(stored),
            ..CustomResourceDefinitionStatus::default()
        };
        // `kubectl wait` takes a status without any condition for a mistake.
        plan::set_condition(object, "Established", false, "Installing", "the definition is not served yet");
    }

    fn prepare_for_update(&self, _: &RequestContext, new: &mut CustomResourceDefinition, _: &CustomResourceDefinition) {
        let Some(storage) = storage_version(new).map(str::to_owned) else { return };
        let stored = status(new).stored_versions.get_or_insert_default();
        if !stored.contains(&storage) {
            stored.push(storage);
        }
    }

    fn validate(&self, _: &RequestContext, object: &CustomResourceDefinition) -> Vec<field::Error> {
        with_schemas(custom_resource_definition::definition(object), object)
    }

    fn validate_update(
        &self,
        _: &RequestContext,
        new: &CustomResourceDefinition,
        old: &CustomResourceDefinition,
    ) -> Vec<field::Error> {
        let errors = custom_resource_definition::definition_update(new, old);
        if new.spec == old.spec { errors } else { with_schemas(errors, new) }
    }

    fn validate_status_update(
        &self,
        _: &RequestContext,
        new: &CustomResourceDefinition,
        _: &CustomResourceDefinition,
    ) -> Vec<field::Error> {
        custom_resource_definition::definition_status(new)
    }

    /// Until its finalizer has gone; it gets one by being deleted.
    fn blocks_removal(&self, object: &CustomResourceDefinition) -> bool {
        object.metadata.deletion_timestamp.is_none()
            || object.metadata.finalizers.as_deref().is_some_and(|finalizers| !finalizers.is_empty())
    }

    fn mark_deleting(&self, object: &mut CustomResourceDefinition) {
        if plan::condition(object, "Terminating").is_some_and(|condition| condition.status == "True") {
            return;
        }
        let finalizers = object.metadata.finalizers.get_or_insert_default();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            finalizers.push(FINALIZER.into());
        }
        plan::set_condition(
            object,
            "Terminating",
            true,
            "InstanceDeletionPending",
            "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        );
    }

    fn row(&self, object: &CustomResourceDefinition) -> Vec<Value> {
        let created = object.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string());
        vec![columns::name(&object.metadata), json!(created)]
    }
}
