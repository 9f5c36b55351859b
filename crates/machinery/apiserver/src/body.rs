//! Reading request bodies: bounded, of a known type, in UTF-8.

use base_meta::Status;
use base_meta::schema::{SchemaRef, Table};
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt;
use machinery_registry::{Body, MediaType, Payload};

use crate::definitions::{self, DELETE_OPTIONS};
use crate::{negotiate, protobuf};

/// Largest request body, as upstream's.
pub(crate) const LIMIT: usize = 3 * 1024 * 1024;

/// How much of an oversized body is read away, so that the client reads the answer before the connection closes.
const DISCARD: usize = 4 * LIMIT;

/// `application/json; charset=utf-8` → `application/json`.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Plain(MediaType),
    Protobuf,
}

fn format(headers: &HeaderMap) -> Result<Format, Status> {
    match media_type(headers) {
        "" | "application/json" => Ok(Format::Plain(MediaType::Json)),
        "application/yaml" => Ok(Format::Plain(MediaType::Yaml)),
        protobuf::MEDIA_TYPE => Ok(Format::Protobuf),
        _ => Err(Status::unsupported_media_type(SUPPORTED)),
    }
}

/// Media types of objects in requests, as messages list them.
const SUPPORTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// A custom resource in protobuf, in the words of upstream's decoder.
const UNENCODABLE: &str = "object *unstructured.Unstructured does not implement the protobuf marshalling interface and \
                           cannot be encoded to a protobuf message";

/// An encoded object of type `schema`, which is absent where it has no message; how it is encoded is checked before a byte is read.
pub(crate) async fn object(headers: &HeaderMap, body: Body, schema: Option<SchemaRef>) -> Result<Payload, Status> {
    match (format(headers)?, schema) {
        (Format::Plain(media), _) => Ok(Payload { media, bytes: text(read(headers, body).await?)? }),
        (Format::Protobuf, Some(schema)) => {
            let value = protobuf::to_json(&read(headers, body).await?, schema).map_err(not_protobuf)?;
            Ok(Payload { media: MediaType::Json, bytes: value.to_string().into() })
        }
        (Format::Protobuf, None) => Err(Status::bad_request(UNENCODABLE)),
    }
}

/// DeleteOptions, which may be absent, as JSON whatever they came as.
pub(crate) async fn delete_options(
    headers: &HeaderMap,
    body: Body,
    table: &'static Table,
) -> Result<Option<Bytes>, Status> {
    if http_body::Body::is_end_stream(&body) {
        return Ok(None);
    }
    let bytes = read(headers, body).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let value: serde_json::Value = match format(headers)? {
        Format::Plain(MediaType::Json) => return text(bytes).map(Some),
        Format::Plain(MediaType::Yaml) => machinery_registry::yaml::from_slice(&bytes)
            .map_err(|error| Status::bad_request(format!("error converting YAML to JSON: {error}")))?,
        Format::Protobuf => {
            let schema = definitions::by_name(table, DELETE_OPTIONS)
                .ok_or_else(|| Status::unsupported_media_type(negotiate::SUPPORTED))?;
            protobuf::to_json(&bytes, schema).map_err(not_protobuf)?
        }
    };
    Ok(Some(value.to_string().into()))
}

/// A patch: JSON or YAML as its own media type says.
pub(crate) async fn patch(headers: &HeaderMap, body: Body) -> Result<Bytes, Status> {
    text(read(headers, body).await?)
}

fn text(bytes: Bytes) -> Result<Bytes, Status> {
    match std::str::from_utf8(&bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Status::bad_request(format!("the body of the request is not valid UTF-8: {error}"))),
    }
}

async fn read(headers: &HeaderMap, mut body: Body) -> Result<Bytes, Status> {
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
    Ok(if all.is_empty() { first } else { all.into() })
}

fn not_protobuf(error: protobuf::wire::Malformed) -> Status {
    Status::bad_request(format!("unable to decode the body of the request as protobuf: {error}"))
}
