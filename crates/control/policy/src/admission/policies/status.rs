//! `status` of ValidatingAdmissionPolicies: that their expressions were checked, and what was found.

use base_meta::{Gvk, Reason};
use machinery_cel::{Ty, declare, declare_built_in};
use machinery_registry::{Patch, RequestContext, Resource, UpdateOptions};
use machinery_structural::Schema;
use serde_json::{Value, json};
use std::sync::Arc;

use super::super::late::server_context;
use super::policy::ParamKind;
use super::served::Served;
use super::type_check::{self, Typed};

const MANAGER: &str = "validatingadmissionpolicy-status-controller";

impl Served {
    fn typed(&self, resource: &dyn Resource) -> Option<Ty> {
        let def = resource.def();
        match &def.published {
            None => Some(declare_built_in(def.schema)),
            Some(published) => Schema::parse(&published.v3).ok().map(|schema| declare(&schema, false)),
        }
    }

    fn types(&self, policy: &Value) -> Vec<Typed> {
        let mut found: Vec<(Gvk, Ty)> = Vec::new();
        for [group, version, plural] in type_check::named(policy) {
            let Some(resource) = self.find_plural(&group, &version, &plural) else { continue };
            let gvk = resource.def().gvk.clone();
            if !found.iter().any(|(known, _)| *known == gvk) {
                found.extend(self.typed(&*resource).map(|ty| (gvk, ty)));
            }
        }
        found.sort_by(|(a, _), (b, _)| (&a.group, &a.version, &a.kind).cmp(&(&b.group, &b.version, &b.kind)));
        found.into_iter().map(|(gvk, ty)| (gvk.to_string(), ty)).collect()
    }
}

/// Checks a policy that has changed since it was checked.
pub(super) async fn settle(policies: &dyn Resource, served: &Served, policy: &Value) {
    let number = |pointer: &str| policy.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
    let generation = number("/metadata/generation");
    if generation <= number("/status/observedGeneration") {
        return;
    }
    let kind = &policy["spec"]["paramKind"];
    let text = |field: &str| kind[field].as_str().unwrap_or_default().to_owned();
    let kind = ParamKind { api_version: text("apiVersion"), kind: text("kind") };
    let params: Option<Arc<dyn Resource>> = kind.gvk().and_then(|gvk| served.find(&gvk));
    let params = params.and_then(|resource| served.typed(&*resource));
    let warnings = type_check::warnings(policy, &served.types(policy), params.as_ref());
    let checked = if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) };
    let name = policy["metadata"]["name"].as_str().unwrap_or_default();
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "status": {"observedGeneration": generation, "typeChecking": checked},
    });
    let ctx = RequestContext { subresource: Some("status".into()), ..server_context(policies.def().gvr(), None) };
    let options = UpdateOptions { field_manager: Some(MANAGER.to_owned()), force: true, ..UpdateOptions::default() };
    let written = policies.patch(&ctx, name, Patch::Apply(configuration.to_string().into()), options).await;
    if let Err(status) = written
        && status.reason != Reason::NotFound
    {
        tracing::warn!(name, %status, "the status of an admission policy could not be written");
    }
}
