//! `certificatesigningrequests/approval`: approves or denies, and changes nothing else.

use std::sync::Weak;

use base_meta::Status;
use http::{Method, Request, Response, StatusCode};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use machinery_registry::{Body, Registry, RequestContext, Strategy as _, SubresourceHandler};

use super::signing_request::{SigningRequestStrategy, keep, stamp};
use crate::define;

pub(crate) struct Approval(pub(crate) Weak<Registry<SigningRequestStrategy>>);

#[async_trait::async_trait]
impl SubresourceHandler for Approval {
    async fn handle(&self, ctx: &RequestContext, name: &str, request: Request<Body>) -> Result<Response<Body>, Status> {
        let registry = self.0.upgrade().ok_or_else(|| Status::service_unavailable("the server is shutting down"))?;
        if request.method() == Method::GET {
            return define::answer(StatusCode::OK, &registry.get_typed(ctx, name).await?);
        }
        let dry_run = request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "dryRun=All"));
        let merge = request.method() == Method::PATCH;
        let asked: serde_json::Value = define::body(request).await?;
        let def = registry.strategy().def();
        let decide = |stored: &mut CertificateSigningRequest| -> Result<(), Status> {
            let old = stored.clone();
            let asked = if merge { merged(&old, &asked)? } else { asked.clone() };
            let asked: CertificateSigningRequest =
                serde_json::from_value(asked).map_err(|error| Status::bad_request(error.to_string()))?;
            let version = asked.metadata.resource_version.as_deref().filter(|version| !version.is_empty());
            if version.is_some() && version != old.metadata.resource_version.as_deref() {
                return Err(Status::modified(&def.gvr(), name));
            }
            let conditions = asked.status.and_then(|status| status.conditions);
            stored.status.get_or_insert_default().conditions = conditions;
            // What the signer says is not the approver's to change.
            keep(stored, &old, |kind| !matches!(kind, "Approved" | "Denied"));
            stamp(stored, &old);
            let errors = api::validation::signing_request::approval_update(stored, &old);
            if errors.is_empty() { Ok(()) } else { Err(Status::invalid(&def.gvk, name, &errors)) }
        };
        let written = if dry_run {
            let mut stored = registry.get_typed(ctx, name).await?;
            decide(&mut stored)?;
            stored
        } else {
            registry.update_with(ctx, name, decide).await?
        };
        define::answer(StatusCode::OK, &written)
    }
}

/// RFC 7386. Lists are replaced whole, as conditions here are few and sent together.
fn merged(old: &CertificateSigningRequest, patch: &serde_json::Value) -> Result<serde_json::Value, Status> {
    if !patch.is_object() {
        let message = "approval takes a merge patch: a JSON Patch is not supported here";
        return Err(Status::new(base_meta::Reason::UnsupportedMediaType, message));
    }
    let mut value = serde_json::to_value(old).map_err(Status::internal)?;
    merge(&mut value, patch);
    Ok(value)
}

fn merge(target: &mut serde_json::Value, patch: &serde_json::Value) {
    let serde_json::Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = serde_json::Value::Object(serde_json::Map::new());
    }
    let Some(fields) = target.as_object_mut() else { return };
    for (name, change) in changes {
        if change.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(serde_json::Value::Null), change);
        }
    }
}
