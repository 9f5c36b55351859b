//! Every pod runs as a ServiceAccount that exists.

use std::sync::Arc;

use base_meta::{Gvr, Status};
use machinery_registry::{Admission, Attributes, Operation};
use serde_json::Value;

use super::Lookup;

/// Static pods' mirrors are reports of a node, not requests.
const MIRROR: &str = "/metadata/annotations/kubernetes.io~1config.mirror";

pub struct ServiceAccount {
    lookup: Arc<Lookup>,
}

impl ServiceAccount {
    pub fn new(lookup: Arc<Lookup>) -> Self {
        Self { lookup }
    }
}

#[async_trait::async_trait]
impl Admission for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        operation == Operation::Create && subresource.is_none() && gvr.group.is_empty() && gvr.resource == "pods"
    }

    async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        if object.pointer(MIRROR).is_some() {
            return Ok(());
        }
        let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
        let given = spec.get("serviceAccountName").and_then(Value::as_str).unwrap_or_default();
        let name = if given.is_empty() { "default".to_owned() } else { given.to_owned() };
        let namespace = attributes.ctx.namespace.as_deref().unwrap_or_default();
        if self.lookup.get("serviceaccounts", Some(namespace), &name).await?.is_none() {
            let message =
                format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
            return Err(Status::forbidden(attributes.gvr, attributes.name, &message));
        }
        // The older field is an alias that upstream keeps equal.
        spec.insert("serviceAccount".into(), name.clone().into());
        spec.insert("serviceAccountName".into(), name.into());
        Ok(())
    }
}
