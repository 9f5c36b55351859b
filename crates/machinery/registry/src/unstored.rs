//! Admission of objects that are acted upon and never stored: bindings, reviews.

use base_meta::{GroupVersion, Status, schema};
use serde_json::Value;

use crate::admission::{Options, Owners, Rounds, Version, Versions, Writing};
use crate::managed::{Place, overlay};
use crate::{Attributes, Chain, Operation, RequestContext, ResourceDef};

impl Chain {
    /// The whole chain over `body`, an object of `def` that is to be made; answers it as plug-ins leave it.
    pub async fn pass(
        &self,
        def: &ResourceDef,
        ctx: &RequestContext,
        name: &str,
        writing: Writing<'_>,
        mut body: Value,
    ) -> Result<Value, Status> {
        let (gvr, operation) = (def.gvr(), Operation::Create);
        let chain = self.of(&gvr, None, operation);
        if chain.is_empty() {
            return Ok(body);
        }
        let rounds = Rounds::default();
        let attributes = Attributes {
            ctx,
            operation,
            gvk: &def.gvk,
            gvr: &gvr,
            name,
            dry_run: writing.dry_run,
            old: None,
            options: Options::Create(writing),
            versions: &Alone(def),
            rounds: &rounds,
            owners: Owners::default(),
        };
        chain.mutate(&attributes, &mut body).await?;
        chain.validate(&attributes, Some(&body)).await?;
        Ok(body)
    }
}

/// A kind of one version, without a core.
struct Alone<'d>(&'d ResourceDef);

#[async_trait::async_trait]
impl Versions for Alone<'_> {
    fn all(&self) -> Vec<Version> {
        vec![Version { gvr: self.0.gvr(), gvk: self.0.gvk.clone() }]
    }

    async fn convert(&self, object: Value, _: &GroupVersion) -> Result<Value, Status> {
        Ok(object)
    }

    fn settle(&self, object: Value) -> Result<Value, Status> {
        let decoded = schema::conform(self.0.schema, object);
        let mut value = decoded.map_err(|error| Status::bad_request(error.client_message()))?.value;
        schema::normalise(self.0.schema, &mut value);
        Ok(value)
    }

    fn overlay(&self, object: &Value, configuration: &Value) -> Result<Value, String> {
        overlay(Place::from(self.0.schema), object, configuration)
    }
}
