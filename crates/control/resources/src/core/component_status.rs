//! ComponentStatuses: nothing of the kind is stored. They say what they always said of a cluster that answers at all.

use std::sync::Arc;

use base_meta::Status;
use k8s_openapi::api::core::v1::ComponentStatus;
use machinery_registry::{Column, ListOptions, RequestContext, ResourceDef, Scope, Verb};
use machinery_storage::{Meta, Object};
use serde_json::{Value, json};

use crate::columns::{self, NAME};
use crate::computed::{self, Compute};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::text("Status", "Whether it is well."),
    columns::text("Message", "What it says."),
    columns::text("Error", "What is wrong."),
];

const COMPONENTS: [&str; 3] = ["controller-manager", "etcd-0", "scheduler"];

pub(crate) struct ComponentStatuses(ResourceDef);

impl ComponentStatuses {
    pub(crate) fn new() -> Self {
        Self(ResourceDef {
            short_names: &["cs"],
            scope: Scope::Cluster,
            verbs: &[Verb::Get, Verb::List],
            deprecation: Some("v1 ComponentStatus is deprecated in v1.19+".into()),
            ..define::resource::<ComponentStatus>("componentstatuses", "componentstatus", COLUMNS)
        })
    }
}

fn component(name: &str) -> Result<Arc<Object>, Status> {
    let value = json!({
        "apiVersion": "v1", "kind": "ComponentStatus", "metadata": {"name": name},
        "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}],
    });
    computed::object(Meta { name: name.into(), ..Meta::default() }, &value)
}

#[async_trait::async_trait]
impl Compute for ComponentStatuses {
    fn def(&self) -> &ResourceDef {
        &self.0
    }

    async fn get(&self, _: &RequestContext, name: &str) -> Result<Arc<Object>, Status> {
        if !COMPONENTS.contains(&name) {
            return Err(Status::not_found(&self.0.gvr(), name));
        }
        component(name)
    }

    async fn list(&self, _: &RequestContext, options: &ListOptions) -> Result<Vec<Arc<Object>>, Status> {
        // They carry no labels.
        let wanted = |name: &&&str| {
            let field = |field: &str| (field == "metadata.name").then_some(**name);
            options.fields.matches(field) && options.labels.matches(|_| None)
        };
        COMPONENTS.iter().filter(wanted).map(|name| component(name)).collect()
    }

    fn row(&self, object: &Object) -> Result<Vec<Value>, Status> {
        Ok(vec![json!(&*object.meta.name), json!("Healthy"), json!("ok"), json!("")])
    }
}
