//! Subresources that serve themselves: the whole request goes to the resource's handler, upgrade and all.

use base_meta::Status;
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use machinery_registry::{Body, SubresourceHandler};

use super::Call;
use crate::body;

pub(super) async fn handle(
    call: &Call<'_>,
    handler: &dyn SubresourceHandler,
    body: Body,
) -> Result<Response<Body>, Status> {
    // Streams may be long; the plain bodies (Binding, Eviction) may not.
    let streams = crate::limits::streams(call.path.subresource);
    let body = if streams { body } else { Limited::new(body, body::LIMIT).boxed_unsync() };
    // The extensions hold the connection's upgrade.
    let request = Request::from_parts(call.parts.clone(), body);
    handler.handle(&call.ctx, call.path.name, request).await
}
