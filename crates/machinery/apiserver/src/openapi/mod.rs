//! OpenAPI v3 per group and version, and v2 for all: what `kubectl explain`, `apply`, `edit` and validation read.
//!
//! Made from the resource definitions and their schema table on the first request, and kept compressed: a few
//! tens of kilobytes that hardly any process ever needs.

mod operations;
mod parameters;
mod protobuf;
mod schemas;

use std::io::{Read as _, Write as _};

use base_meta::Status;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, LOCATION, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use machinery_registry::{Body, ResourceDef};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use crate::nonresource::tagged;
use crate::query::Query;
use crate::{negotiate, respond};
use operations::Group;
use schemas::Dialect;

pub(crate) struct OpenApi {
    defs: Vec<ResourceDef>,
    v2: OnceCell<Document>,
    v2_protobuf: OnceCell<Document>,
    v3: OnceCell<V3>,
}

struct V3 {
    index: Document,
    /// By path below `/openapi/v3/`: `api/v1`, `apis/apps/v1`.
    documents: Vec<(String, Document)>,
}

struct Document {
    tag: String,
    media_type: &'static str,
    compressed: Bytes,
}

impl Document {
    fn new(value: &Value) -> Result<Self, Status> {
        Self::of("application/json", value.to_string().as_bytes())
    }

    fn of(media_type: &'static str, bytes: &[u8]) -> Result<Self, Status> {
        let tag = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02X}")).collect();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).map_err(Status::internal)?;
        Ok(Self { tag, media_type, compressed: encoder.finish().map_err(Status::internal)?.into() })
    }

    fn answer(&self, headers: &HeaderMap) -> Result<Response<Body>, Status> {
        let gzip = negotiate::gzip(headers);
        let bytes = if gzip {
            self.compressed.clone()
        } else {
            let mut plain = Vec::new();
            GzDecoder::new(&self.compressed[..]).read_to_end(&mut plain).map_err(Status::internal)?;
            plain.into()
        };
        let mut response = tagged(headers, &self.tag, self.media_type, bytes);
        response.headers_mut().insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        if gzip && response.status() == StatusCode::OK {
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(response)
    }
}

impl OpenApi {
    pub(crate) fn new<'a>(defs: impl Iterator<Item = &'a ResourceDef>) -> Self {
        let mut defs: Vec<ResourceDef> = defs.cloned().collect();
        // The documents' hashes must not depend on the order of a hash map.
        defs.sort_by_key(ResourceDef::gvr);
        Self { defs, v2: OnceCell::new(), v2_protobuf: OnceCell::new(), v3: OnceCell::new() }
    }

    /// `rest` is what follows `/openapi/`.
    pub(crate) async fn serve(
        &self,
        rest: &str,
        query: &Query<'_>,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Status> {
        let rest = rest.trim_end_matches('/');
        if rest == "v2" && negotiate::one_of(headers, &protobuf::ASKED)?.is_some() {
            let make = || built(self.defs.clone(), |defs| v2_protobuf(&defs));
            return self.v2_protobuf.get_or_try_init(make).await?.answer(headers);
        }
        negotiate::plain(headers)?;
        match rest {
            "v2" => {
                let make = || built(self.defs.clone(), |defs| Document::new(&v2(&defs)));
                self.v2.get_or_try_init(make).await?.answer(headers)
            }
            "v3" => self.v3().await?.index.answer(headers),
            path => {
                let wanted = path.strip_prefix("v3/").ok_or_else(Status::no_such_path)?;
                let documents = &self.v3().await?.documents;
                let (_, document) =
                    documents.iter().find(|(path, _)| path == wanted).ok_or_else(Status::no_such_path)?;
                hashed(document, wanted, query, headers)
            }
        }
    }

    async fn v3(&self) -> Result<&V3, Status> {
        self.v3.get_or_try_init(|| built(self.defs.clone(), |defs| v3_all(&defs))).await
    }
}

/// Off the request threads: it takes some tens of milliseconds.
async fn built<T: Send + 'static>(
    defs: Vec<ResourceDef>,
    build: impl FnOnce(Vec<ResourceDef>) -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    let task = tokio::task::spawn_blocking(move || build(defs));
    task.await.unwrap_or_else(|_| Err(Status::internal("building the OpenAPI document failed")))
}

/// A document asked for by the hash it has never changes; one asked for by another hash has moved.
fn hashed(document: &Document, path: &str, query: &Query<'_>, headers: &HeaderMap) -> Result<Response<Body>, Status> {
    match query.get("hash") {
        None => document.answer(headers),
        Some(hash) if hash == document.tag => {
            let mut response = document.answer(headers)?;
            let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
            response.headers_mut().insert(CACHE_CONTROL, forever);
            Ok(response)
        }
        Some(_) => {
            let mut response = respond::text(StatusCode::MOVED_PERMANENTLY, Bytes::new());
            let location = HeaderValue::from_str(&url(path, document)).map_err(Status::internal)?;
            response.headers_mut().insert(LOCATION, location);
            Ok(response)
        }
    }
}

fn url(path: &str, document: &Document) -> String {
    format!("/openapi/v3/{path}?hash={}", document.tag)
}

fn v3_all(defs: &[ResourceDef]) -> Result<V3, Status> {
    let mut documents = Vec::new();
    let mut index = Map::new();
    for (path, group) in Group::all(defs) {
        let document = Document::new(&v3(&group))?;
        index.insert(path.clone(), json!({ "serverRelativeURL": url(&path, &document) }));
        documents.push((path, document));
    }
    Ok(V3 { index: Document::new(&json!({ "paths": index }))?, documents })
}

fn info() -> Value {
    json!({ "title": "Kubernetes", "version": "unversioned" })
}

fn v3(group: &Group<'_>) -> Value {
    let mut paths = Map::new();
    let mut schemas = schemas::Collector::new(Dialect::V3);
    operations::write(group, Dialect::V3, &mut paths, &mut schemas);
    json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths,
        "components": {
            "schemas": schemas.finish(),
            "securitySchemes": {
                "BearerToken": { "type": "apiKey", "in": "header", "name": "authorization" },
            },
        },
    })
}

fn v2(defs: &[ResourceDef]) -> Value {
    let mut paths = Map::new();
    let mut schemas = schemas::Collector::new(Dialect::V2);
    for (_, group) in Group::all(defs) {
        operations::write(&group, Dialect::V2, &mut paths, &mut schemas);
    }
    json!({
        "swagger": "2.0",
        "info": info(),
        "paths": paths,
        "definitions": schemas.finish(),
        "security": [{ "BearerToken": [] }],
        "securityDefinitions": {
            "BearerToken": { "type": "apiKey", "in": "header", "name": "authorization" },
        },
    })
}

fn v2_protobuf(defs: &[ResourceDef]) -> Result<Document, Status> {
    let bytes = protobuf::encode(&v2(defs)).map_err(Status::internal)?;
    Document::of(protobuf::ANSWERED, &bytes)
}
