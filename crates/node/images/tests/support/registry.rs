//! A registry in this process: enough of the distribution protocol to pull, and to misbehave.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use futures::stream::BoxStream;
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, RANGE, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{Blob, TestImage};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Open,
    /// The `Authorization` header must be this.
    Basic(&'static str),
    /// As Docker Hub: a token for everyone who asks for one.
    Token,
}

pub struct Registry {
    pub host: String,
    state: Arc<State>,
}

struct State {
    host: String,
    access: Access,
    /// Type and content by path.
    files: Mutex<HashMap<String, (String, Vec<u8>)>>,
    requests: Mutex<Vec<String>>,
    breaks: Mutex<Option<Breaks>>,
}

/// How the connections of answers about a path break.
#[derive(Clone)]
pub struct Breaks {
    pub path: String,
    /// Bytes that come before.
    pub after: usize,
    /// How many do; the ones after that last.
    pub times: usize,
    /// Whether ranges are served.
    pub ranges: bool,
}

type Body = StreamBody<BoxStream<'static, Result<Frame<Bytes>, std::io::Error>>>;

impl Registry {
    pub async fn start(access: Access) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State {
            host: host.clone(),
            access,
            files: Mutex::default(),
            requests: Mutex::default(),
            breaks: Mutex::default(),
        });
        let serving = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = serving.clone();
                let service = service_fn(move |request| {
                    let state = state.clone();
                    async move { Ok::<_, Infallible>(state.answer(&request)) }
                });
                tokio::spawn(async move {
                    // A client that goes away is not the registry's concern.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { host, state }
    }

    pub fn push(&self, repository: &str, tag: &str, image: &TestImage) {
        for blob in image.layers.iter().chain([&image.config]) {
            self.put(format!("/v2/{repository}/blobs/{}", blob.digest()), blob);
        }
        self.put(format!("/v2/{repository}/manifests/{}", image.manifest.digest()), &image.manifest);
        self.put(format!("/v2/{repository}/manifests/{tag}"), &image.manifest);
    }

    pub fn put(&self, path: String, blob: &Blob) {
        let file = (blob.media_type.to_owned(), blob.content.clone());
        self.state.files.lock().unwrap().insert(path, file);
    }

    /// Replaces what a path holds, whatever its name promises.
    pub fn tamper(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.state.files.lock().unwrap().get_mut(path).unwrap().1);
    }

    pub fn breaks(&self, breaks: Breaks) {
        *self.state.breaks.lock().unwrap() = Some(breaks);
    }

    /// Requests of paths that contain `part`.
    pub fn count(&self, part: &str) -> usize {
        self.state.requests.lock().unwrap().iter().filter(|path| path.contains(part)).count()
    }
}

impl State {
    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        self.requests.lock().unwrap().push(request.uri().to_string());
        if path == "/token" {
            return response(StatusCode::OK, "application/json", br#"{"token":"for-everyone"}"#.to_vec());
        }
        let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (wanted, challenge) = match self.access {
            Access::Open => (given, String::new()),
            Access::Basic(wanted) => (Some(wanted), "Basic realm=\"test\"".to_owned()),
            Access::Token => {
                (Some("Bearer for-everyone"), format!("Bearer realm=\"http://{}/token\",service=\"test\"", self.host))
            }
        };
        if given != wanted {
            let body = br#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
            let mut response = response(StatusCode::UNAUTHORIZED, "application/json", body.to_vec());
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
            return response;
        }
        if path == "/v2/" {
            return response(StatusCode::OK, "application/json", b"{}".to_vec());
        }
        match self.files.lock().unwrap().get(path) {
            Some((kind, content)) => self.serve(request, kind, content),
            None => {
                let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
                response(StatusCode::NOT_FOUND, "application/json", body.to_vec())
            }
        }
    }

    /// Ranges and broken connections where the test asked for them.
    fn serve(&self, request: &Request<Incoming>, kind: &str, content: &[u8]) -> Response<Body> {
        let mut breaks = self.breaks.lock().unwrap();
        let Some(breaks) = breaks.as_mut().filter(|breaks| breaks.path == request.uri().path()) else {
            return response(StatusCode::OK, kind, content.to_vec());
        };
        let range = request.headers().get(RANGE).filter(|_| breaks.ranges);
        let from = range.map(|range| range.to_str().unwrap()[6..].trim_end_matches('-').parse::<usize>().unwrap());
        let status = if from.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        let rest = content[from.unwrap_or(0)..].to_vec();
        if breaks.times == 0 {
            return response(status, kind, rest);
        }
        breaks.times -= 1;
        let length = rest.len();
        let sent = Bytes::from(rest).slice(..breaks.after.min(length));
        let end = async {
            // Once what was sent has left.
            tokio::task::yield_now().await;
            Err(std::io::Error::other("broken"))
        };
        let frames = futures::stream::iter([Ok(Frame::data(sent))]).chain(futures::stream::once(end));
        let mut response = response(status, kind, Vec::new()).map(|_| StreamBody::new(frames.boxed()));
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
        response
    }
}

fn response(status: StatusCode, kind: &str, body: Vec<u8>) -> Response<Body> {
    let frames = futures::stream::iter([Ok(Frame::data(Bytes::from(body)))]);
    let body = StreamBody::new(frames.boxed());
    Response::builder().status(status).header(CONTENT_TYPE, kind).body(body).unwrap()
}
