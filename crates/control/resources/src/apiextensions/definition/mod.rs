//! CustomResourceDefinitions: their row in the table of resources, and what a write of one does.

mod schema;

use base_meta::field;
use base_meta::field::Path;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition, CustomResourceDefinitionStatus,
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
            ..define::resource::<CustomResourceDefinition>(
                "customresourcedefinitions",
                "customresourcedefinition",
                COLUMNS,
            )
        }
    }

    fn default(&self, object: &mut CustomResourceDefinition) {
        let names = &mut object.spec.names;
        if names.singular.as_ref().is_none_or(String::is_empty) {
            names.singular = Some(names.kind.to_lowercase());
        }
        if names.list_kind.as_ref().is_none_or(String::is_empty) && !names.kind.is_empty() {
            names.list_kind = Some(format!("{}List", names.kind));
        }
        let none = || CustomResourceConversion { strategy: "None".into(), webhook: None };
        object.spec.conversion.get_or_insert_with(none);
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
    }

    fn prepare_for_update(&self, _: &RequestContext, new: &mut CustomResourceDefinition, _: &CustomResourceDefinition) {
        let Some(storage) = storage_version(new).map(str::to_owned) else { return };
        let stored = status(new).stored_versions.get_or_insert_default();
        if !stored.contains(&storage) {
            stored.push(storage);
        }
    }

    fn validate(&self, _: &RequestContext, object: &CustomResourceDefinition) -> Vec<field::Error> {
        let mut errors = schema::definition(object);
        errors.extend(schema::schemas(object));
        errors
    }

    fn validate_update(
        &self,
        ctx: &RequestContext,
        new: &CustomResourceDefinition,
        old: &CustomResourceDefinition,
    ) -> Vec<field::Error> {
        let mut errors = self.validate(ctx, new);
        let (new, old) = (&new.spec, &old.spec);
        let spec = Path::new("spec");
        let fixed = [
            ("group", &new.group, &old.group),
            ("scope", &new.scope, &old.scope),
            ("names.kind", &new.names.kind, &old.names.kind),
            ("names.plural", &new.names.plural, &old.names.plural),
        ];
        for (name, new, old) in fixed {
            if new != old {
                errors.push(field::Error::invalid(&spec.child(name), new, "field is immutable"));
            }
        }
        errors
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
