//! Paths that are no resources: health, version, discovery, OpenAPI, and the list of them all.

use base_meta::Status;
use http::{Method, Response, StatusCode};
use machinery_registry::Body;

use crate::health;
use crate::negotiate::{self, Discovery, Encoding};
use crate::query::Query;
use crate::respond::{self, Style};
use crate::served::Served;
use crate::server::Inner;

pub(crate) async fn serve(
    server: &Inner,
    served: &Served,
    path: &str,
    query: &Query<'_>,
    parts: &http::request::Parts,
) -> Result<Response<Body>, Status> {
    let headers = &parts.headers;
    if parts.method != Method::GET {
        return Err(Status::method_not_allowed());
    }
    if let Some((endpoint, check)) = health::route(path) {
        return Ok(health::answer(&server.health_checks, endpoint, check, query));
    }
    if let Some(rest) = path.strip_prefix("/openapi/") {
        return served.openapi.serve(rest, query, headers).await;
    }
    let trimmed = path.trim_end_matches('/');
    if matches!(trimmed, "/api" | "/apis") && negotiate::discovery(headers)? == Discovery::Aggregated {
        return Ok(served.discovery.aggregated(trimmed, headers));
    }
    if let Some(document) = served.discovery.legacy(trimmed) {
        let style = Style::new(negotiate::plain(headers, negotiate::Protobuf::NEVER)?, headers, query);
        let mut response = style.send(StatusCode::OK, document).await;
        response.headers_mut().insert(http::header::VARY, http::HeaderValue::from_static("Accept"));
        return Ok(response);
    }
    match trimmed {
        "/metrics" => server.metrics.answer(served, &server.flows).await,
        "/version" => {
            let style = Style { encoding: Encoding::Json, pretty: true, gzip: false };
            Ok(style.send_value(StatusCode::OK, &server.version).await)
        }
        "" => {
            let style = Style { encoding: Encoding::Json, pretty: true, gzip: false };
            Ok(style.send_value(StatusCode::OK, &serde_json::json!({ "paths": paths(server, served) })).await)
        }
        path => match server.documents.iter().find(|(at, _)| *at == path) {
            Some((_, document)) => {
                let style = Style { encoding: Encoding::Json, pretty: false, gzip: false };
                Ok(style.send_value(StatusCode::OK, document).await)
            }
            None => Err(Status::no_such_path()),
        },
    }
}

fn paths(server: &Inner, served: &Served) -> Vec<String> {
    let mut paths: Vec<String> = served.discovery.paths().map(str::to_owned).collect();
    for endpoint in ["healthz", "livez", "readyz"] {
        paths.push(format!("/{endpoint}"));
        let counted = server.health_checks.iter().filter(|check| endpoint == "readyz" || !check.readiness_only);
        paths.extend(counted.map(|check| format!("/{endpoint}/{}", check.name)));
    }
    paths.extend(["/metrics", "/openapi/v2", "/openapi/v3", "/version"].map(str::to_owned));
    paths.extend(server.documents.iter().map(|(at, _)| (*at).to_owned()));
    paths.sort();
    paths
}

/// Bytes with an entity tag; nothing but headers where the client has them already.
pub(crate) fn tagged(
    headers: &http::HeaderMap,
    tag: &str,
    content_type: &'static str,
    bytes: bytes::Bytes,
) -> Response<Body> {
    let quoted = format!("\"{tag}\"");
    let known = headers
        .get_all(http::header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|candidate| candidate.trim() == quoted));
    let mut response = if known {
        let mut response = respond::full(StatusCode::NOT_MODIFIED, content_type, bytes::Bytes::new());
        response.headers_mut().remove(http::header::CONTENT_TYPE);
        response
    } else {
        respond::full(StatusCode::OK, content_type, bytes)
    };
    if let Ok(value) = http::HeaderValue::from_str(&quoted) {
        response.headers_mut().insert(http::header::ETAG, value);
    }
    response
}
