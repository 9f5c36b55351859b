//! The parameters that a binding gives its policy.

use std::sync::Arc;

use base_meta::{Reason, Status};
use machinery_registry::{ListOptions, Resource};
use machinery_storage::Object;
use serde_json::Value;

use super::super::late::server_context;
use super::policy::{ParamKind, ParamRef};
use super::served::Served;

impl Served {
    /// Why a policy cannot be used at all.
    pub(super) fn known(&self, kind: Option<&ParamKind>) -> Result<(), String> {
        match kind {
            Some(kind) if kind.gvk().and_then(|gvk| self.find(&gvk)).is_none() => {
                Err(format!("failed to find resource referenced by paramKind: '{}'", kind.shown()))
            }
            _ => Ok(()),
        }
    }

    /// One evaluation for each; `None` is one without. `namespace`: the request's.
    pub(super) async fn params(
        &self,
        kind: Option<&ParamKind>,
        reference: Option<&ParamRef>,
        namespace: &str,
    ) -> Result<Vec<Option<Value>>, String> {
        let (Some(kind), Some(reference)) = (kind, reference) else { return Ok(vec![None]) };
        let resource = kind.gvk().and_then(|gvk| self.find(&gvk));
        let resource =
            resource.ok_or_else(|| format!("failed to find resource referenced by paramKind: '{}'", kind.shown()))?;
        let within = match (resource.def().namespaced(), reference.namespace.as_str()) {
            (true, "") if namespace.is_empty() => {
                let problem = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
                return Err(problem.to_owned());
            }
            (true, "") => Some(namespace),
            (true, said) => Some(said),
            (false, "") => None,
            (false, _) => {
                return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned());
            }
        };
        let found = match &reference.selector {
            Some(Err(problem)) => return Err(problem.clone()),
            Some(Ok(selector)) if reference.name.is_empty() => {
                let options = ListOptions { labels: selector.clone(), ..ListOptions::default() };
                let ctx = server_context(resource.def().gvr(), within);
                resource.list(&ctx, &options).await.map(|list| list.items)
            }
            _ => named(&*resource, within, &reference.name).await,
        };
        let found = found.map_err(|status| status.message)?;
        if found.is_empty() && reference.deny {
            return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
        }
        found.iter().map(|object| object.to_value().map(Some).map_err(|error| error.to_string())).collect()
    }
}

/// From the cache; only one that it lacks is asked of the store.
async fn named(resource: &dyn Resource, namespace: Option<&str>, name: &str) -> Result<Vec<Arc<Object>>, Status> {
    let ctx = server_context(resource.def().gvr(), namespace);
    for version in ["0", ""] {
        match resource.get(&ctx, name, version).await {
            Ok(object) => return Ok(vec![object]),
            Err(status) if status.reason == Reason::NotFound => {}
            Err(status) => return Err(status),
        }
    }
    Ok(Vec::new())
}
