//! CustomResourceDefinitions, to be read: there are none yet, and none can be made. Clients that meet a kind they do
//! not know (`kubectl create` of a misspelt one) list them before they say that it does not exist.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use machinery_registry::{Column, ResourceDef, Scope, Strategy, Verb};
use serde_json::{Value, json};

use crate::columns::{self, NAME};
use crate::define;

const COLUMNS: &[Column] =
    &[NAME, Column { name: "Created At", kind: "date", format: "", description: "When it was created.", priority: 0 }];

pub struct CustomResourceDefinitionStrategy;

impl Strategy for CustomResourceDefinitionStrategy {
    type Object = CustomResourceDefinition;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            short_names: &["crd", "crds"],
            categories: &["api-extensions"],
            scope: Scope::Cluster,
            verbs: &[Verb::Get, Verb::List, Verb::Watch],
            ..define::resource::<CustomResourceDefinition>(
                "customresourcedefinitions",
                "customresourcedefinition",
                COLUMNS,
            )
        }
    }

    fn row(&self, object: &CustomResourceDefinition) -> Vec<Value> {
        let created = object.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string());
        vec![columns::name(&object.metadata), json!(created)]
    }
}
