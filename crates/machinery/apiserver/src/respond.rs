//! Answers: encoded bytes with their headers, in the encoding and compression the client takes.

use std::io::Write as _;

use base_meta::schema::SchemaRef;
use base_meta::{Gvk, Status};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, USER_AGENT, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use machinery_registry::Body;
use serde::Serialize;

use crate::negotiate::{self, Encoding};
use crate::protobuf;
use crate::query::Query;

/// Smaller answers are sent as they are: compressing costs more than it saves.
const GZIP_THRESHOLD: usize = 128 * 1024;

/// How the client wants this answer's bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) encoding: Encoding,
    pub(crate) pretty: bool,
    pub(crate) gzip: bool,
}

impl Style {
    pub(crate) fn new(encoding: Encoding, headers: &HeaderMap, query: &Query<'_>) -> Self {
        Self { encoding, pretty: pretty(headers, query), gzip: negotiate::gzip(headers) }
    }

    /// Compact JSON is sent as it is.
    pub(crate) fn is_plain(self) -> bool {
        self.encoding == Encoding::Json && !self.pretty && !self.gzip
    }

    /// Sends what is encoded already, and may be long.
    pub(crate) fn stream(self, code: StatusCode, body: Body) -> Response<Body> {
        let mut response = Response::new(body);
        *response.status_mut() = code;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.encoding.mime()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        response
    }

    /// Sends compact JSON in this style.
    pub(crate) async fn send(self, code: StatusCode, json: Bytes) -> Response<Body> {
        let plain = self.encoding == Encoding::Json && !self.pretty;
        match if plain { Ok(json) } else { self.encode(&json) } {
            Ok(bytes) => self.deliver(code, bytes).await,
            Err(status) => failure(&status),
        }
    }

    /// Sends what is encoded already.
    pub(crate) async fn deliver(self, code: StatusCode, bytes: Bytes) -> Response<Body> {
        let mut response = if self.gzip && bytes.len() >= GZIP_THRESHOLD {
            match compress(bytes).await {
                Ok(compressed) => {
                    let mut response = full(code, self.encoding.mime(), compressed);
                    response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
                    response
                }
                Err(status) => failure(&status),
            }
        } else {
            full(code, self.encoding.mime(), bytes)
        };
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        response
    }

    pub(crate) async fn send_value(self, code: StatusCode, value: &impl Serialize) -> Response<Body> {
        match serde_json::to_vec(value) {
            Ok(json) => self.send(code, json.into()).await,
            Err(error) => failure(&Status::internal(error)),
        }
    }

    fn encode(self, json: &[u8]) -> Result<Bytes, Status> {
        let value: serde_json::Value = serde_json::from_slice(json).map_err(Status::internal)?;
        match self.encoding {
            Encoding::Json => {
                let mut text = serde_json::to_vec_pretty(&value).map_err(Status::internal)?;
                text.push(b'\n');
                Ok(text.into())
            }
            Encoding::Yaml => Ok(serde_norway::to_string(&value).map_err(Status::internal)?.into()),
            Encoding::Protobuf => Err(Status::internal("this answer has no protobuf encoding")),
        }
    }
}

/// Asked for, or read by a person: upstream's rule.
fn pretty(headers: &HeaderMap, query: &Query<'_>) -> bool {
    query.boolean("pretty").unwrap_or_else(|| {
        let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        ["curl", "Wget", "Mozilla/5.0"].iter().any(|reader| agent.starts_with(reader))
    })
}

/// Off the request threads: megabytes take milliseconds.
async fn compress(bytes: Bytes) -> Result<Bytes, Status> {
    let work = move || {
        let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 8), Compression::fast());
        encoder.write_all(&bytes)?;
        encoder.finish()
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(compressed)) => Ok(compressed.into()),
        Ok(Err(error)) => Err(Status::internal(error)),
        Err(_) => Err(Status::internal("compressing the answer failed")),
    }
}

pub(crate) fn full(code: StatusCode, content_type: &'static str, bytes: Bytes) -> Response<Body> {
    let body = Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

pub(crate) fn text(code: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = full(code, "text/plain; charset=utf-8", text.into());
    response.headers_mut().insert("X-Content-Type-Options", HeaderValue::from_static("nosniff"));
    response
}

/// A failure as JSON, which every client reads.
pub(crate) fn failure(status: &Status) -> Response<Body> {
    failure_as(status, None)
}

/// As protobuf where the client asked for that: `schema` is then a Status's.
pub(crate) fn failure_as(status: &Status, schema: Option<SchemaRef>) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let encoded = schema.and_then(|schema| {
        let value = serde_json::to_value(status).ok()?;
        protobuf::value(&Gvk::of("", "v1", "Status"), schema, &value).ok()
    });
    let mut response = match encoded {
        Some(bytes) => full(code, protobuf::MEDIA_TYPE, bytes.into()),
        // A Status holds strings and numbers only; serialising one does not fail.
        None => full(code, Encoding::Json.mime(), serde_json::to_vec(status).unwrap_or_default().into()),
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    if let Some(seconds) = status.details.as_ref().and_then(|details| details.retry_after_seconds) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// `299 - "text"`, quoted; one header per warning.
pub(crate) fn warnings(headers: &mut HeaderMap, warnings: Vec<String>) {
    for warning in warnings {
        let mut text = String::with_capacity(warning.len() + 10);
        text.push_str("299 - \"");
        for c in warning.chars().filter(|c| !c.is_control()) {
            if matches!(c, '"' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push('"');
        if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
            headers.append(http::header::WARNING, value);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn warnings_are_quoted() {
        let mut headers = HeaderMap::new();
        warnings(&mut headers, vec![r#"unknown field "spec.x""#.into(), "line\nbreak".into()]);
        let all: Vec<_> = headers.get_all(http::header::WARNING).iter().map(|v| v.to_str().unwrap()).collect();
        assert_eq!(all, [r#"299 - "unknown field \"spec.x\"""#, r#"299 - "linebreak""#]);
    }

    #[test]
    fn people_get_indented_answers() {
        let mut headers = HeaderMap::new();
        assert!(!pretty(&headers, &Query::default()));
        headers.insert(USER_AGENT, HeaderValue::from_static("curl/8.0"));
        assert!(pretty(&headers, &Query::default()));
        assert!(!pretty(&headers, &Query::parse("pretty=false").unwrap()));
    }

    #[tokio::test]
    async fn large_answers_are_compressed_where_taken() {
        let json = Bytes::from(format!("\"{}\"", "a".repeat(GZIP_THRESHOLD)));
        let style = Style { encoding: Encoding::Json, pretty: false, gzip: true };
        let response = style.send(StatusCode::OK, json.clone()).await;
        assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
        let compressed = response.into_body().collect().await.unwrap().to_bytes();
        let mut decoded = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&compressed[..]), &mut decoded).unwrap();
        assert_eq!(decoded, json);
        let response = Style { gzip: false, ..style }.send(StatusCode::OK, json).await;
        assert!(!response.headers().contains_key(CONTENT_ENCODING));
    }
}
