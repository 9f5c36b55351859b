//! get, list, watch.

use base_meta::Status;
use base_meta::selector::FieldTerm;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;
use machinery_registry::Body;

use super::Call;
use crate::forms::table::Include;
use crate::negotiate::{self, Encoding, Transform};
use crate::options;
use crate::protobuf::Part;
use crate::watch::{self, EventForm, WatchBody};

/// The object; its `status` reads the same.
pub(super) async fn get(call: &Call<'_>) -> Result<Response<Body>, Status> {
    let accepted = call.accepted(false)?;
    let object = call.resource.get(&call.ctx, call.path.name, call.query.text("resourceVersion")).await?;
    call.send(accepted, StatusCode::OK, &object).await
}

pub(super) async fn scale(call: &Call<'_>) -> Result<Response<Body>, Status> {
    let encoding = negotiate::plain(&call.parts.headers, call.protobuf())?;
    let scale = call.resource.get_scale(&call.ctx, call.path.name).await?;
    call.send_value(encoding, StatusCode::OK, &scale).await
}

pub(super) async fn list(call: &Call<'_>) -> Result<Response<Body>, Status> {
    let accepted = call.accepted(true)?;
    let options = options::list(call.query, call.resource.def(), false)?;
    let list = call.resource.list(&call.ctx, &options).await?;
    call.send_list(accepted, list).await
}

pub(super) async fn watch(call: &Call<'_>) -> Result<Response<Body>, Status> {
    let accepted = call.accepted(false)?;
    let form = match (accepted.encoding, accepted.transform) {
        (Encoding::Yaml, _) if call.protobuf().whole => {
            let streams = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
            return Err(Status::not_acceptable(streams));
        }
        (Encoding::Yaml, _) => return Err(Status::not_acceptable("application/json;stream=watch")),
        (Encoding::Protobuf, Transform::Metadata) => EventForm::Protobuf(Part::Metadata),
        (Encoding::Protobuf, _) => EventForm::Protobuf(Part::Whole),
        (Encoding::Json, Transform::None) => EventForm::Object,
        (Encoding::Json, Transform::Metadata) => EventForm::Metadata,
        (Encoding::Json, Transform::Table) => EventForm::Table(Include::parse(call.query)?),
    };
    let mut options = options::list(call.query, call.resource.def(), true)?;
    if !call.path.name.is_empty() {
        // The deprecated `/watch/…/name`.
        let term = FieldTerm { field: "metadata.name".into(), equals: true, value: call.path.name.into() };
        options.fields.terms.push(term);
    }
    let timeout = options.timeout.unwrap_or_else(watch::default_timeout);
    let events = call.resource.watch(&call.ctx, &options).await?;
    let drained = call.ended.clone().cancelled_owned();
    let body =
        WatchBody::new(call.resource.clone(), events, form, timeout, call.metrics.watch(call.resource.def()), drained);

    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(form.mime()));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    Ok(response)
}
