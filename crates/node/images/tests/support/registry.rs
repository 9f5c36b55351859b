//! A registry in this process: enough of the distribution protocol to pull, and to misbehave.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
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
}

impl Registry {
    pub async fn start(access: Access) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let state = State { host: host.clone(), access, files: Mutex::default(), requests: Mutex::default() };
        let state = Arc::new(state);
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

    /// Requests of paths that contain `part`.
    pub fn count(&self, part: &str) -> usize {
        self.state.requests.lock().unwrap().iter().filter(|path| path.contains(part)).count()
    }
}

impl State {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
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
            Some((kind, content)) => response(StatusCode::OK, kind, content.clone()),
            None => {
                let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
                response(StatusCode::NOT_FOUND, "application/json", body.to_vec())
            }
        }
    }
}

fn response(status: StatusCode, kind: &str, body: Vec<u8>) -> Response<Full<Bytes>> {
    Response::builder().status(status).header(CONTENT_TYPE, kind).body(Full::new(Bytes::from(body))).unwrap()
}
