//! A server at a socket of this host: each request is a method and a message, each answer a message or a status.
//!
//! Many calls at once over one connection, each bounded in size and by the deadline that its client names. What a client sends
//! that is no call ends with a status; the server and the other calls go on.

use std::convert::Infallible;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::frame::{HEAD, announced, framed};
use crate::status::{Code, Status};
use crate::timeout;

pub type Answer = Pin<Box<dyn Future<Output = Result<Vec<u8>, Status>> + Send>>;
/// Answers a method (`package.Service/Method`) with what was sent.
pub type Handler = Arc<dyn Fn(String, Bytes) -> Answer + Send + Sync>;

/// The largest request: as containerd takes, and as upstream's clients of runtimes do.
const LIMIT: usize = 16 << 20;
/// Calls at once of one connection; a client waits with those beyond.
const CALLS: u32 = 100;
/// Out of descriptors, most likely: connections are given time to end.
const BREATH: Duration = Duration::from_millis(100);

/// Makes the socket, for its owner alone, in the place of one that an earlier server left.
pub fn bind(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    // Until here nobody but the owner could write to it either, as long as the process's mask says what is usual.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Serves until it is dropped, and its connections with it.
pub async fn serve(listener: UnixListener, handler: Handler) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // One that ended is let go of.
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, Arc::clone(&handler)));
            }
            Err(_) => tokio::time::sleep(BREATH).await,
        }
    }
}

async fn connection(stream: UnixStream, handler: Handler) {
    let service = service_fn(move |request: http::Request<Incoming>| {
        let handler = Arc::clone(&handler);
        async move { Ok::<_, Infallible>(answer(request, &handler).await) }
    });
    let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    server.max_concurrent_streams(CALLS);
    // A client that goes away, or speaks something else, has taken leave of itself alone.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

type Body = StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

async fn answer(request: http::Request<Incoming>, handler: &Handler) -> Response<Body> {
    let grpc = |kind: &HeaderValue| kind.as_bytes().starts_with(b"application/grpc");
    if !request.headers().get(CONTENT_TYPE).is_some_and(grpc) {
        let mut response = Response::new(body(Vec::new()));
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    let method = request.uri().path().trim_start_matches('/').to_owned();
    let result = match request.headers().get(timeout::HEADER).map(timeout::parse) {
        None => called(method, request.into_body(), handler).await,
        Some(None) => Err(Status::new(Code::Internal, "the call's time is none")),
        Some(Some(within)) => {
            let late = |_| Err(Status::new(Code::DeadlineExceeded, "context deadline exceeded"));
            tokio::time::timeout(within, called(method, request.into_body(), handler)).await.unwrap_or_else(late)
        }
    };
    told(result)
}

async fn called(method: String, body: Incoming, handler: &Handler) -> Result<Vec<u8>, Status> {
    let message = message(body).await?;
    handler(method, message).await
}

/// The one message of a body. One that announces too much is not read.
async fn message(mut body: Incoming) -> Result<Bytes, Status> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::new(Code::Unavailable, error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        read.extend_from_slice(&data);
        if let Some(length) = announced(&read)? {
            if length > LIMIT {
                let message = format!("received message larger than max ({length} vs. {LIMIT})");
                return Err(Status::new(Code::ResourceExhausted, message));
            }
            if read.len() > HEAD + length {
                return Err(Status::new(Code::Internal, "more than one message of a call that has one"));
            }
        }
    }
    match announced(&read)? {
        Some(length) if read.len() == HEAD + length => Ok(read.split_off(HEAD).freeze()),
        _ => Err(Status::new(Code::Internal, "the message ends before its end")),
    }
}

fn told(result: Result<Vec<u8>, Status>) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    let (number, frame) = match result {
        Ok(message) => (0, Some(Frame::data(Bytes::from(framed(&message))))),
        Err(Status { code, message }) => {
            let message = utf8_percent_encode(&message, NON_ALPHANUMERIC).to_string();
            if let Ok(message) = HeaderValue::from_str(&message) {
                trailers.insert("grpc-message", message);
            }
            (code as u16, None)
        }
    };
    trailers.insert("grpc-status", HeaderValue::from(number));
    let mut response = Response::new(body(frame.into_iter().chain([Frame::trailers(trailers)]).collect()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn body(frames: Vec<Frame<Bytes>>) -> Body {
    let frames: Vec<_> = frames.into_iter().map(Ok).collect();
    StreamBody::new(stream::iter(frames))
}

#[cfg(test)]
mod tests;
