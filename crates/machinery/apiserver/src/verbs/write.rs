//! create, update, patch, delete, deletecollection.

use base_meta::Status;
use http::{Response, StatusCode};
use machinery_registry::resource::{Answer, Deleted, Written};
use machinery_registry::{Body, Patch};
use serde_json::json;

use super::Call;
use crate::options::{self, Change};
use crate::{body, negotiate};

pub(super) async fn create(call: &Call<'_>, request: Body) -> Result<Response<Body>, Status> {
    let accepted = call.accepted(false)?;
    let options = options::create(call.query, call.user_agent())?;
    let payload = body::object(&call.parts.headers, request, call.body_schema()).await?;
    let Written { object, .. } = call.resource.create(&call.ctx, payload, options).await?;
    call.send(accepted, StatusCode::CREATED, &object).await
}

pub(super) async fn update(call: &Call<'_>, request: Body) -> Result<Response<Body>, Status> {
    let accepted = call.accepted(false)?;
    let mut options = options::update(call.query, call.user_agent(), Change::Update)?;
    options.no_create.clone_from(&call.no_create);
    let payload = body::object(&call.parts.headers, request, call.body_schema()).await?;
    let answer = call.resource.update(&call.ctx, call.path.name, payload, options).await?;
    changed(call, accepted, answer).await
}

const PATCH_TYPES: &str = "application/json-patch+json, application/merge-patch+json, \
                           application/strategic-merge-patch+json, application/apply-patch+yaml";

pub(super) async fn patch(call: &Call<'_>, request: Body) -> Result<Response<Body>, Status> {
    let accepted = call.accepted(false)?;
    let wrap: fn(bytes::Bytes) -> Patch = match body::media_type(&call.parts.headers) {
        "application/json-patch+json" => Patch::Json,
        "application/merge-patch+json" => Patch::Merge,
        "application/strategic-merge-patch+json" => Patch::Strategic,
        "application/apply-patch+yaml" => Patch::Apply,
        _ => return Err(Status::unsupported_media_type(PATCH_TYPES)),
    };
    let change = if body::media_type(&call.parts.headers) == "application/apply-patch+yaml" {
        Change::Apply
    } else {
        Change::Patch
    };
    let mut options = options::update(call.query, call.user_agent(), change)?;
    options.no_create.clone_from(&call.no_create);
    let patch = wrap(body::patch(&call.parts.headers, request).await?);
    let answer = call.resource.patch(&call.ctx, call.path.name, patch, options).await?;
    changed(call, accepted, answer).await
}

async fn changed(call: &Call<'_>, accepted: negotiate::Accepted, answer: Answer) -> Result<Response<Body>, Status> {
    match answer {
        Answer::Object(Written { object, created }) => {
            let code = if created { StatusCode::CREATED } else { StatusCode::OK };
            call.send(accepted, code, &object).await
        }
        Answer::Value(value) => call.send_value(accepted.encoding, StatusCode::OK, &value).await,
    }
}

pub(super) async fn delete(call: &Call<'_>, request: Body) -> Result<Response<Body>, Status> {
    let accepted = call.accepted(false)?;
    let json = body::delete_options(&call.parts.headers, request, call.resource.def().schema.table).await?;
    let options = options::delete(call.query, json.as_deref())?;
    match call.resource.delete(&call.ctx, call.path.name, options).await? {
        Deleted::Gone(object) if call.resource.def().answers_deleted => {
            call.send(accepted, StatusCode::OK, &object).await
        }
        Deleted::Pending(object) => call.send(accepted, StatusCode::OK, &object).await,
        Deleted::Gone(object) => {
            let gvr = &call.ctx.gvr;
            let mut details = json!({ "name": &*object.meta.name, "kind": gvr.resource, "uid": &*object.meta.uid });
            if !gvr.group.is_empty() {
                details["group"] = json!(gvr.group);
            }
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
            });
            call.send_value(accepted.encoding, StatusCode::OK, &status).await
        }
    }
}

pub(super) async fn delete_collection(call: &Call<'_>, request: Body) -> Result<Response<Body>, Status> {
    let accepted = call.accepted(true)?;
    let list = options::list(call.query, call.resource.def(), false)?;
    let json = body::delete_options(&call.parts.headers, request, call.resource.def().schema.table).await?;
    let options = options::delete(call.query, json.as_deref())?;
    let deleted = call.resource.delete_collection(&call.ctx, &list, options).await?;
    call.send_list(accepted, deleted).await
}
