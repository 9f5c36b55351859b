//! ComponentStatuses: nothing of the kind is stored. They say what they always said of a cluster that answers at all.

use std::sync::Arc;

use base_meta::Status;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::ComponentStatus;
use machinery_registry::resource::{Answer, Deleted, List, WatchEvent, Written};
use machinery_registry::{
    Column, CreateOptions, DeleteOptions, ListOptions, Patch, Payload, RequestContext, Resource, ResourceDef, Scope,
    SubresourceHandler, UpdateOptions, Verb,
};
use machinery_storage::{Meta, Object, Revision};
use serde_json::{Value, json};

use crate::columns::{self, NAME};
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
    let meta = Meta { name: name.into(), ..Meta::default() };
    let json = serde_json::to_vec(&value).map_err(Status::internal)?;
    let object = Object::new(name.into(), Revision::default(), meta, json.into()).map_err(Status::internal)?;
    Ok(Arc::new(object))
}

#[async_trait::async_trait]
impl Resource for ComponentStatuses {
    fn def(&self) -> &ResourceDef {
        &self.0
    }

    async fn create(&self, _: &RequestContext, _: Payload, _: CreateOptions) -> Result<Written, Status> {
        Err(Status::method_not_allowed())
    }

    async fn get(&self, _: &RequestContext, name: &str, _: &str) -> Result<Arc<Object>, Status> {
        if !COMPONENTS.contains(&name) {
            return Err(Status::not_found(&self.0.gvr(), name));
        }
        component(name)
    }

    async fn list(&self, _: &RequestContext, options: &ListOptions) -> Result<List, Status> {
        // They carry no labels.
        let wanted = |name: &&&str| {
            let field = |field: &str| (field == "metadata.name").then_some(**name);
            options.fields.matches(field) && options.labels.matches(|_| None)
        };
        let items = COMPONENTS.iter().filter(wanted).map(|name| component(name)).collect::<Result<_, _>>()?;
        Ok(List { items, revision: Revision::default(), continue_token: String::new(), remaining: None })
    }

    async fn watch(&self, _: &RequestContext, _: &ListOptions) -> Result<BoxStream<'static, WatchEvent>, Status> {
        Err(Status::method_not_allowed())
    }

    async fn update(&self, _: &RequestContext, _: &str, _: Payload, _: UpdateOptions) -> Result<Answer, Status> {
        Err(Status::method_not_allowed())
    }

    async fn patch(&self, _: &RequestContext, _: &str, _: Patch, _: UpdateOptions) -> Result<Answer, Status> {
        Err(Status::method_not_allowed())
    }

    async fn get_scale(&self, _: &RequestContext, _: &str) -> Result<Value, Status> {
        Err(Status::no_such_path())
    }

    async fn delete(&self, _: &RequestContext, _: &str, _: DeleteOptions) -> Result<Deleted, Status> {
        Err(Status::method_not_allowed())
    }

    async fn delete_collection(&self, _: &RequestContext, _: &ListOptions, _: DeleteOptions) -> Result<List, Status> {
        Err(Status::method_not_allowed())
    }

    fn row(&self, object: &Object) -> Result<Vec<Value>, Status> {
        Ok(vec![json!(&*object.meta.name), json!("Healthy"), json!("ok"), json!("")])
    }

    fn handler(&self, _: &str) -> Option<Arc<dyn SubresourceHandler>> {
        None
    }
}
