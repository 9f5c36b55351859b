//! Bindings: made only, and never kept. `POST …/bindings` does what `POST …/pods/NAME/binding` does.

use std::sync::Arc;

use base_meta::{Gvr, Status, decode_value};
use k8s_openapi::api::core::v1::Binding;
use machinery_registry::resource::Written;
use machinery_registry::{
    Chain, Column, CreateOptions, MediaType, Payload, RequestContext, Resource, ResourceDef, Verb,
};
use machinery_storage::{Meta, Object, Revision};
use serde_json::{Value, json};

use super::pod::binding::Bind;
use crate::columns::{AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[NAME, AGE];

pub(crate) struct Bindings {
    def: ResourceDef,
    bind: Bind,
    admission: Chain,
}

impl Bindings {
    pub(crate) fn new(bind: Bind, admission: Chain) -> Self {
        let def = ResourceDef { verbs: &[Verb::Create], ..define::resource::<Binding>("bindings", "binding", COLUMNS) };
        Self { def, bind, admission }
    }
}

#[async_trait::async_trait]
impl Resource for Bindings {
    fn def(&self) -> &ResourceDef {
        &self.def
    }

    async fn create(&self, ctx: &RequestContext, body: Payload, options: CreateOptions) -> Result<Written, Status> {
        let undecodable =
            |error: &dyn std::fmt::Display| Status::bad_request(format!("the body does not decode: {error}"));
        let binding: Value = match body.media {
            MediaType::Json => serde_json::from_slice(&body.bytes).map_err(|error| undecodable(&error))?,
            MediaType::Yaml => {
                machinery_registry::yaml::from_slice(&body.bytes).map_err(|error| undecodable(&error))?
            }
        };
        let name = binding["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let binding = self.admission.pass(&self.def, ctx, &name, options.writing(), binding).await?;
        let binding: Binding = decode_value(&binding).map_err(|error| undecodable(&error))?;
        let ctx = RequestContext { gvr: Gvr::of("", "v1", "pods"), ..ctx.clone() };
        self.bind.bind(&ctx, &name, binding, options.dry_run).await?;
        let success = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        let meta = Meta { name: name.as_str().into(), ..Meta::default() };
        let json = serde_json::to_vec(&success).map_err(Status::internal)?;
        let object =
            Object::new(name.as_str().into(), Revision::default(), meta, json.into()).map_err(Status::internal)?;
        Ok(Written { object: Arc::new(object), created: true })
    }
}
