//! Every pod runs as a ServiceAccount of its namespace that exists.

use std::sync::Arc;

use base_meta::{Gvr, Status};
use machinery_registry::{Admission, Attributes, Operation};
use serde_json::{Value, json};

use super::{Late, forbidden, is, text};

const DEFAULT: &str = "default";

pub(super) struct ServiceAccount {
    accounts: Arc<Late>,
}

impl ServiceAccount {
    pub(super) fn new(accounts: Arc<Late>) -> Self {
        Self { accounts }
    }
}

#[async_trait::async_trait]
impl Admission for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        is(gvr, "", "pods") && subresource.is_none() && operation == Operation::Create
    }

    async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        let asked = text(object, "/spec/serviceAccountName");
        let name = if asked.is_empty() { DEFAULT.to_owned() } else { asked.to_owned() };
        let namespace = attributes.ctx.namespace.as_deref().unwrap_or("");
        let Some(account) = self.accounts.find(attributes.ctx, Some(namespace), &name).await? else {
            // The account of a new namespace is made a moment after it: clients try again.
            let message =
                format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
            return Err(forbidden(attributes, Some(object), &message));
        };
        let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
        spec.insert("serviceAccountName".into(), json!(name));
        spec.insert("serviceAccount".into(), json!(name));
        let none = spec.get("imagePullSecrets").and_then(Value::as_array).is_none_or(Vec::is_empty);
        if none {
            let account: Value = account.to_value().map_err(Status::internal)?;
            if let Some(secrets) = account.get("imagePullSecrets").filter(|secrets| secrets.is_array()) {
                spec.insert("imagePullSecrets".into(), secrets.clone());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Asked, accounts};
    use super::*;

    #[tokio::test]
    async fn pods_run_as_an_account_that_exists() {
        let plugin =
            ServiceAccount::new(accounts(&[("a", "default", json!([{"name": "pull"}])), ("a", "robot", json!([]))]));
        let ask = |namespace: &'static str, mut pod: Value| {
            let plugin = &plugin;
            async move {
                let asked = Asked::new(Gvr::of("", "v1", "pods"), namespace, "p", Operation::Create);
                plugin.mutate(&asked.attributes(None), &mut pod).await.map(|()| pod)
            }
        };
        assert_eq!(
            ask("a", json!({"spec": {}})).await,
            Ok(json!({"spec": {"serviceAccountName": "default", "serviceAccount": "default",
                "imagePullSecrets": [{"name": "pull"}]}}))
        );
        let robot = ask("a", json!({"spec": {"serviceAccountName": "robot"}})).await.expect("admitted");
        assert_eq!(robot["spec"]["serviceAccount"], "robot");
        let missing = ask("b", json!({"spec": {}})).await.expect_err("no account");
        assert_eq!(
            (missing.code, missing.message.as_str()),
            (
                403,
                "pods \"p\" is forbidden: error looking up service account b/default: serviceaccount \"default\" not found"
            )
        );
    }
}
