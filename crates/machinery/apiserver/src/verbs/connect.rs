//! Subresources that serve themselves: the whole request goes to the resource's handler, upgrade and all.

use base_meta::Status;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use machinery_registry::{Body, SubresourceHandler};

use super::Call;
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
    handler.handle(&call.ctx, call.path.name, request).await
}
