//! Answers as they go on to a client, and two upgraded connections made one.

use base_tasks::Tasks;
use http::header::{CONNECTION, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::Body;

/// Whether a client wants another protocol on its connection.
pub fn wanted(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
}

/// The answer without what is of its hop alone.
pub fn answer(response: Response<Incoming>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(CONNECTION);
    parts.headers.remove(TRANSFER_ENCODING);
    parts.version = http::Version::HTTP_11;
    Response::from_parts(parts, body.map_err(Into::into).boxed_unsync())
}

/// Both sides speak the upgraded protocol from here on; nothing of it is looked at. `response` is the server's 101, the
/// answer is the client's.
pub fn join(tasks: &Tasks, client: OnUpgrade, mut response: Response<Incoming>) -> Response<Body> {
    let server = hyper::upgrade::on(&mut response);
    tasks.spawn("joined stream", async move {
        let (client, server) = match futures::future::try_join(client, server).await {
            Ok(both) => both,
            Err(error) => return tracing::debug!(error = &error as &dyn std::error::Error, "an upgrade failed"),
        };
        let joined = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(server)).await;
        if let Err(error) = joined {
            tracing::debug!(error = &error as &dyn std::error::Error, "a joined stream broke");
        }
    });
    let mut answer = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = response.headers().clone();
    answer
}
