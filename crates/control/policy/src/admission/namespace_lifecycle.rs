//! Nothing is made in a namespace that does not exist or is being deleted; the system's namespaces stay.

use std::sync::Arc;

use base_meta::status::Cause;
use base_meta::{Gvr, Status};
use machinery_registry::{Admission, Attributes, Operation};
use serde_json::Value;

use super::Lookup;

const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

pub struct NamespaceLifecycle {
    lookup: Arc<Lookup>,
}

impl NamespaceLifecycle {
    pub fn new(lookup: Arc<Lookup>) -> Self {
        Self { lookup }
    }
}

fn is_namespaces(gvr: &Gvr) -> bool {
    gvr.group.is_empty() && gvr.resource == "namespaces"
}

#[async_trait::async_trait]
impl Admission for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        match operation {
            Operation::Create => subresource.is_none() && !is_namespaces(gvr),
            Operation::Delete => is_namespaces(gvr),
            Operation::Update | Operation::Connect => false,
        }
    }

    async fn validate(&self, attributes: &Attributes<'_>, _object: Option<&Value>) -> Result<(), Status> {
        let Attributes { gvr, name, .. } = attributes;
        if is_namespaces(gvr) {
            return if IMMORTAL.contains(name) {
                Err(Status::forbidden(gvr, name, "this namespace may not be deleted"))
            } else {
                Ok(())
            };
        }
        let Some(namespace) = attributes.ctx.namespace.as_deref() else { return Ok(()) };
        let Some(found) = self.lookup.get("namespaces", None, namespace).await? else {
            return Err(Status::not_found(&Gvr::of("", "v1", "namespaces"), namespace));
        };
        if found.pointer("/metadata/deletionTimestamp").is_none() {
            return Ok(());
        }
        let message = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let cause = Cause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".into(),
        };
        Err(Status::forbidden(gvr, name, &message).with_causes(vec![cause]))
    }
}
