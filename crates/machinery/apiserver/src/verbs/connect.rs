//! Subresources that serve themselves: the whole request goes to the resource's handler, upgrade and all.

use base_meta::Status;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use machinery_registry::{Body, SubresourceHandler};

use super::Call;
use crate::negotiate::{self, Encoding};
use crate::{body, protobuf};

pub(super) async fn handle(
    call: &Call<'_>,
    handler: &dyn SubresourceHandler,
    body: Body,
) -> Result<Response<Body>, Status> {
    // The extensions hold the connection's upgrade.
    let mut parts = call.parts.clone();
    // Streams may be long; the plain bodies (Binding, Eviction) may not, and reach the handler as text.
    let body = if crate::limits::streams(call.path.subresource) {
        body
    } else if body::media_type(&parts.headers) == protobuf::MEDIA_TYPE {
        let payload = body::object(&parts.headers, body, call.body_schema()).await?;
        parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(payload.bytes.len()));
        Full::new(payload.bytes).map_err(|never| match never {}).boxed_unsync()
    } else {
        Limited::new(body, body::LIMIT).boxed_unsync()
    };
    let request = Request::from_parts(parts, body);
    let response = handler.handle(&call.ctx, call.path.name, request).await?;
    if crate::limits::streams(call.path.subresource) || !negotiate::prefers_protobuf(&call.parts.headers) {
        return Ok(response);
    }
    as_protobuf(call, response).await
}

/// Handlers answer in JSON; what they answer is of a kind that the table knows.
async fn as_protobuf(call: &Call<'_>, response: Response<Body>) -> Result<Response<Body>, Status> {
    let json = HeaderValue::from_static("application/json");
    if response.headers().get(CONTENT_TYPE) != Some(&json) {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.map_err(Status::internal)?.to_bytes();
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(Status::internal)?;
    let mut answer = call.send_value(Encoding::Protobuf, parts.status, &value).await?;
    for (name, value) in parts.headers {
        if let Some(name) = name.filter(|name| name != CONTENT_TYPE && name != CONTENT_LENGTH) {
            answer.headers_mut().append(name, value);
        }
    }
    Ok(answer)
}
