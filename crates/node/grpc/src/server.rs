//! A server at a socket, for tests: each request is a method and a message, each answer a message or a status.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::net::UnixListener;

use crate::frame::{framed, unframed};
use crate::status::Status;

pub type Answer = Pin<Box<dyn Future<Output = Result<Vec<u8>, Status>> + Send>>;
/// Answers a method (`package.Service/Method`) with what was sent.
pub type Handler = Arc<dyn Fn(String, Bytes) -> Answer + Send + Sync>;

/// Serves until it is dropped.
pub async fn serve(listener: UnixListener, handler: Handler) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let handler = Arc::clone(&handler);
        connections.spawn(async move {
            let service = service_fn(move |request: http::Request<Incoming>| {
                let handler = Arc::clone(&handler);
                async move { Ok::<_, Infallible>(answer(request, &handler).await) }
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            // A client that goes away is none of a test's business.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type Body = StreamBody<futures::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

async fn answer(request: http::Request<Incoming>, handler: &Handler) -> Response<Body> {
    let method = request.uri().path().trim_start_matches('/').to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let result = match unframed(&body) {
        Ok(message) => handler(method, body.slice_ref(message)).await,
        Err(status) => Err(status),
    };
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
    let frames: Vec<_> = frame.into_iter().chain([Frame::trailers(trailers)]).map(Ok).collect();
    let mut response = Response::new(StreamBody::new(futures::stream::iter(frames)));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}
