//! Reading request bodies: bounded, of a known type, in UTF-8.

use base_meta::Status;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt;
use machinery_registry::{Body, MediaType, Payload};

use crate::negotiate;

/// Largest request body, as upstream's.
pub(crate) const LIMIT: usize = 3 * 1024 * 1024;

/// How much of an oversized body is read away, so that the client reads the answer before the connection closes.
const DISCARD: usize = 4 * LIMIT;

/// `application/json; charset=utf-8` → `application/json`.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

fn object_type(headers: &HeaderMap) -> Result<MediaType, Status> {
    match media_type(headers) {
        "" | "application/json" => Ok(MediaType::Json),
        "application/yaml" => Ok(MediaType::Yaml),
        _ => Err(Status::unsupported_media_type(negotiate::SUPPORTED)),
    }
}

/// An encoded object; its type is checked before a byte is read.
pub(crate) async fn object(headers: &HeaderMap, body: Body) -> Result<Payload, Status> {
    let media = object_type(headers)?;
    Ok(Payload { media, bytes: read(headers, body).await? })
}

/// A body that may be absent, as JSON whatever it came as.
pub(crate) async fn optional_json(headers: &HeaderMap, body: Body) -> Result<Option<Bytes>, Status> {
    if http_body::Body::is_end_stream(&body) {
        return Ok(None);
    }
    let bytes = read(headers, body).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    match object_type(headers)? {
        MediaType::Json => Ok(Some(bytes)),
        MediaType::Yaml => {
            let value: serde_json::Value = serde_norway::from_slice(&bytes)
                .map_err(|error| Status::bad_request(format!("error converting YAML to JSON: {error}")))?;
            Ok(Some(value.to_string().into()))
        }
    }
}

pub(crate) async fn read(headers: &HeaderMap, mut body: Body) -> Result<Bytes, Status> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    let mut first = Bytes::new();
    let mut all = Vec::new();
    let mut taken = 0;
    let mut over = announced.is_some_and(|length| length > LIMIT);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::bad_request(format!("the request body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        taken += data.len();
        over |= taken > LIMIT;
        if over {
            all = Vec::new();
            if taken > DISCARD {
                break;
            }
        } else if taken == data.len() {
            first = data;
        } else {
            if all.is_empty() {
                all.reserve(announced.unwrap_or(taken * 2));
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&data);
        }
    }
    if over {
        return Err(Status::request_entity_too_large(&format!("limit is {LIMIT}")));
    }
    let bytes = if all.is_empty() { first } else { Bytes::from(all) };
    match std::str::from_utf8(&bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Status::bad_request(format!("the body of the request is not valid UTF-8: {error}"))),
    }
}
