//! Every pod runs as a ServiceAccount of its namespace that exists, and has its token at hand.

use std::sync::Arc;

use base_meta::{Gvr, Status};
use machinery_registry::{Admission, Attributes, Operation};
use serde_json::{Map, Value, json};

use super::node_restriction::MIRROR_ANNOTATION;
use super::{Late, forbidden, is, text};

const DEFAULT: &str = "default";
const AUTOMOUNT: &str = "automountServiceAccountToken";
/// What the volume's name begins with.
const VOLUME: &str = "kube-api-access-";
const PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

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
        if object.pointer("/metadata/annotations").and_then(|all| all.get(MIRROR_ANNOTATION)).is_some() {
            // It shows a pod that runs by itself.
            return match asked {
                "" => Ok(()),
                _ => Err(forbidden(attributes, Some(object), "a mirror pod may not reference service accounts")),
            };
        }
        let name = if asked.is_empty() { DEFAULT.to_owned() } else { asked.to_owned() };
        let namespace = attributes.ctx.namespace.as_deref().unwrap_or("");
        let Some(account) = self.accounts.find(attributes.ctx, Some(namespace), &name).await? else {
            // The account of a new namespace is made a moment after it: clients try again.
            let message =
                format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
            return Err(forbidden(attributes, Some(object), &message));
        };
        let account: Value = account.to_value().map_err(Status::internal)?;
        let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
        spec.insert("serviceAccountName".into(), json!(name));
        spec.insert("serviceAccount".into(), json!(name));
        let wants = |holder: Option<&Value>| holder.and_then(Value::as_bool);
        let mounts = wants(spec.get(AUTOMOUNT)).or_else(|| wants(account.get(AUTOMOUNT))).unwrap_or(true);
        if mounts {
            mount_token(spec)?;
        }
        let none = spec.get("imagePullSecrets").and_then(Value::as_array).is_none_or(Vec::is_empty);
        if none && let Some(secrets) = account.get("imagePullSecrets").filter(|secrets| secrets.is_array()) {
            spec.insert("imagePullSecrets".into(), secrets.clone());
        }
        Ok(())
    }
}

/// Gives every container the pod's token, the cluster's authority and its namespace, where clients look for them,
/// unless it has something mounted there.
fn mount_token(spec: &mut Map<String, Value>) -> Result<(), Status> {
    let volumes = spec.get("volumes").and_then(Value::as_array).into_iter().flatten();
    let known = volumes.map(|volume| text(volume, "/name")).find(|name| name.starts_with(VOLUME)).map(str::to_owned);
    let made = known.is_none();
    let name = match known {
        Some(name) => name,
        None => format!("{VOLUME}{}", suffix()?),
    };
    let mut needed = false;
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(container) = container.as_object_mut() else { continue };
            let mounts = container.entry("volumeMounts").or_insert(Value::Null);
            if mounts.is_null() {
                *mounts = json!([]);
            }
            let Some(mounts) = mounts.as_array_mut() else { continue };
            if mounts.iter().all(|mount| text(mount, "/mountPath") != PATH) {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": PATH}));
                needed = true;
            }
        }
    }
    if made && needed {
        let volumes = spec.entry("volumes").or_insert(Value::Null);
        if volumes.is_null() {
            *volumes = json!([]);
        }
        if let Some(volumes) = volumes.as_array_mut() {
            volumes.push(json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace",
                    "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
            ]}}));
        }
    }
    Ok(())
}

/// As of a generated name.
fn suffix() -> Result<String, Status> {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut bytes = [0u8; 5];
    getrandom::fill(&mut bytes).map_err(|error| Status::internal(format!("no random numbers: {error}")))?;
    Ok(bytes.map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).into_iter().collect())
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
        let pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "volumeMounts":
            [{"name": "own", "mountPath": PATH}]}]}});
        let mounted = ask("a", pod.clone()).await.expect("admitted");
        let volume = &mounted["spec"]["volumes"][0];
        assert!(text(volume, "/name").starts_with(VOLUME), "{volume}");
        assert_eq!(volume["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"], 3607);
        let containers = &mounted["spec"]["containers"];
        assert_eq!(containers[0]["volumeMounts"][0]["name"], volume["name"]);
        assert_eq!(containers[1]["volumeMounts"].as_array().map(Vec::len), Some(1), "it has its own there");
        let mut without = pod;
        without["spec"][AUTOMOUNT] = json!(false);
        let without = ask("a", without).await.expect("admitted");
        assert!(without["spec"].get("volumes").is_none());
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
