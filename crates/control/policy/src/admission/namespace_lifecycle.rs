//! Nothing is written into a namespace that does not exist, nothing new into one that ends, and some never end.

use std::sync::Arc;

use base_meta::status::Cause;
use base_meta::{Gvr, Status};
use machinery_registry::{Admission, Attributes, Operation};
use serde_json::Value;

use super::{Late, forbidden, is};

const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

pub(super) struct NamespaceLifecycle {
    namespaces: Arc<Late>,
}

impl NamespaceLifecycle {
    pub(super) fn new(namespaces: Arc<Late>) -> Self {
        Self { namespaces }
    }
}

#[async_trait::async_trait]
impl Admission for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, gvr: &Gvr, _: Option<&str>, operation: Operation) -> bool {
        match operation {
            // Whether a namespace is there is not told to who only asks what somebody may do in it.
            Operation::Create | Operation::Update => {
                !is(gvr, "", "namespaces") && !is(gvr, "authorization.k8s.io", "localsubjectaccessreviews")
            }
            Operation::Delete => is(gvr, "", "namespaces"),
            Operation::Connect => false,
        }
    }

    /// Before the others look at an object that has no place to be.
    async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        let Some(namespace) = attributes.ctx.namespace.as_deref() else { return Ok(()) };
        let Some(found) = self.namespaces.find(attributes.ctx, None, namespace).await? else {
            return Err(Status::not_found(&Gvr::of("", "v1", "namespaces"), namespace));
        };
        let ending =
            found.meta.fields.iter().any(|(field, value)| *field == "status.phase" && &**value == "Terminating");
        if attributes.operation != Operation::Create || !ending {
            return Ok(());
        }
        let message = format!("unable to create new content in namespace {namespace} because it is being terminated");
        Err(forbidden(attributes, Some(object), &message).with_causes(vec![Cause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".to_owned(),
        }]))
    }

    async fn validate(&self, attributes: &Attributes<'_>, _: Option<&Value>) -> Result<(), Status> {
        if attributes.operation == Operation::Delete && IMMORTAL.contains(&attributes.name) {
            return Err(forbidden(attributes, None, "this namespace may not be deleted"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{Asked, namespaces};
    use super::*;

    #[tokio::test]
    async fn a_place_to_be() {
        let plugin = NamespaceLifecycle::new(namespaces(&[("here", "Active"), ("ending", "Terminating")]));
        let pods = Gvr::of("", "v1", "pods");
        let ask = |namespace: &'static str, operation| {
            let (plugin, pods) = (&plugin, pods.clone());
            async move {
                let asked = Asked::new(pods, namespace, "p", operation);
                plugin.mutate(&asked.attributes(None), &mut json!({})).await
            }
        };
        assert_eq!(ask("here", Operation::Create).await, Ok(()));
        let missing = ask("nowhere", Operation::Create).await.expect_err("missing");
        assert_eq!((missing.code, missing.message.as_str()), (404, "namespaces \"nowhere\" not found"));
        let ending = ask("ending", Operation::Create).await.expect_err("ending");
        assert_eq!(
            (ending.code, ending.message.as_str()),
            (
                403,
                "pods \"p\" is forbidden: unable to create new content in namespace ending because it is being terminated"
            )
        );
        assert_eq!(ask("ending", Operation::Update).await, Ok(()));
    }

    #[tokio::test]
    async fn some_namespaces_stay() {
        let plugin = NamespaceLifecycle::new(namespaces(&[]));
        let ask = |name: &'static str| {
            let plugin = &plugin;
            async move {
                let asked = Asked::new(Gvr::of("", "v1", "namespaces"), "", name, Operation::Delete);
                plugin.validate(&asked.attributes(None), None).await
            }
        };
        assert_eq!(
            ask("default").await.expect_err("refused").message,
            "namespaces \"default\" is forbidden: this namespace may not be deleted"
        );
        assert_eq!(ask("mine").await, Ok(()));
    }
}
