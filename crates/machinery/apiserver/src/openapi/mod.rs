//! OpenAPI v3 per group and version, and v2 for all: what `kubectl explain`, `apply`, `edit` and validation read.
//!
//! Made from the resource definitions and their schema table on the first request, and kept compressed: a few
//! tens of kilobytes that hardly any process ever needs.

mod merge;
mod operations;
mod parameters;
mod prose;
mod protobuf;
mod schemas;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

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
use crate::routes::Routes;
use crate::{negotiate, respond};
use operations::Group;
use schemas::Dialect;

/// Of one set of resources. Groups that are as they were in the set before keep their documents.
#[derive(Default)]
pub(crate) struct OpenApi {
    /// By path below `/openapi/v3/`: `api/v1`, `apis/apps/v1`.
    groups: BTreeMap<String, Arc<GroupDocument>>,
    /// Versions that others answer for: the hashes of their documents.
    delegated: BTreeMap<String, String>,
    /// What they tell in v2, by the path of their version.
    others: Vec<Other>,
    v2: OnceCell<Document>,
    v2_protobuf: OnceCell<Document>,
    v3: OnceCell<Document>,
}

type Other = (String, Arc<Value>);

struct GroupDocument {
    defs: Vec<ResourceDef>,
    document: OnceCell<Document>,
}

impl GroupDocument {
    async fn document(self: &Arc<Self>) -> Result<&Document, Status> {
        let this = self.clone();
        let make = || built(move || Document::new(&v3(&Group::new(&this.defs))));
        self.document.get_or_try_init(make).await
    }
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
    /// `changed`: the only group that differs from the set that `old` was made for.
    pub(crate) fn new(routes: &Routes, old: &Self, changed: Option<&str>) -> Self {
        let mut defs: BTreeMap<String, Vec<ResourceDef>> = BTreeMap::new();
        for def in routes.defs() {
            defs.entry(operations::path(&def.gvk.group_version())).or_default().push(def.clone());
        }
        let groups = defs.into_iter().map(|(path, mut defs)| {
            let group = defs.first().map(|def| def.gvk.group.to_string()).unwrap_or_default();
            let kept = old.groups.get(&path).filter(|_| changed.is_some_and(|changed| changed != group));
            let document = kept.cloned().unwrap_or_else(|| {
                // The documents' hashes must not depend on the order of a hash map.
                defs.sort_by_key(ResourceDef::gvr);
                Arc::new(GroupDocument { defs, document: OnceCell::new() })
            });
            (path, document)
        });
        let delegated = routes.delegated().filter_map(|(group, delegated)| {
            Some((format!("apis/{group}/{}", delegated.version), delegated.openapi_hash.clone()?))
        });
        let others = routes.delegated().filter_map(|(group, delegated)| {
            Some((format!("/apis/{group}/{}", delegated.version), delegated.openapi_v2.clone()?))
        });
        Self { groups: groups.collect(), delegated: delegated.collect(), others: others.collect(), ..Self::default() }
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
            let make = || self.build_v2(v2_protobuf);
            return self.v2_protobuf.get_or_try_init(make).await?.answer(headers);
        }
        negotiate::plain(headers, negotiate::Protobuf::NEVER)?;
        match rest {
            "v2" => {
                let make = || self.build_v2(|groups, others| Document::new(&v2(groups, others)));
                self.v2.get_or_try_init(make).await?.answer(headers)
            }
            "v3" => self.v3.get_or_try_init(|| self.index()).await?.answer(headers),
            path => {
                let wanted = path.strip_prefix("v3/").ok_or_else(Status::no_such_path)?;
                let group = self.groups.get(wanted).ok_or_else(Status::no_such_path)?;
                hashed(group.document().await?, wanted, query, headers)
            }
        }
    }

    async fn index(&self) -> Result<Document, Status> {
        let mut paths = Map::new();
        for (path, group) in &self.groups {
            paths.insert(path.clone(), json!({ "serverRelativeURL": url(path, &group.document().await?.tag) }));
        }
        for (path, hash) in &self.delegated {
            paths.insert(path.clone(), json!({ "serverRelativeURL": url(path, hash) }));
        }
        Document::new(&json!({ "paths": paths }))
    }

    async fn build_v2(
        &self,
        build: impl FnOnce(&[Arc<GroupDocument>], &[Other]) -> Result<Document, Status> + Send + 'static,
    ) -> Result<Document, Status> {
        let groups: Vec<_> = self.groups.values().cloned().collect();
        let others = self.others.clone();
        built(move || build(&groups, &others)).await
    }
}

/// Off the request threads: it takes some tens of milliseconds.
async fn built<T: Send + 'static>(build: impl FnOnce() -> Result<T, Status> + Send + 'static) -> Result<T, Status> {
    let task = tokio::task::spawn_blocking(build);
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
            let location = HeaderValue::from_str(&url(path, &document.tag)).map_err(Status::internal)?;
            response.headers_mut().insert(LOCATION, location);
            Ok(response)
        }
    }
}

fn url(path: &str, hash: &str) -> String {
    format!("/openapi/v3/{path}?hash={hash}")
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

fn v2(groups: &[Arc<GroupDocument>], others: &[Other]) -> Value {
    let mut paths = Map::new();
    let mut schemas = schemas::Collector::new(Dialect::V2);
    for group in groups {
        operations::write(&Group::new(&group.defs), Dialect::V2, &mut paths, &mut schemas);
    }
    let mut document = json!({
        "swagger": "2.0",
        "info": info(),
        "paths": paths,
        "definitions": schemas.finish(),
        "security": [{ "BearerToken": [] }],
        "securityDefinitions": {
            "BearerToken": { "type": "apiKey", "in": "header", "name": "authorization" },
        },
    });
    others.iter().for_each(|(prefix, other)| merge::merge(&mut document, prefix, other));
    document
}

/// Without the others where the message has no room for what they tell.
fn v2_protobuf(groups: &[Arc<GroupDocument>], others: &[Other]) -> Result<Document, Status> {
    let bytes = protobuf::encode(&v2(groups, others)).or_else(|error| match others {
        [] => Err(error),
        _ => protobuf::encode(&v2(groups, &[])),
    });
    let bytes = bytes.map_err(Status::internal)?;
    Document::of(protobuf::ANSWERED, &bytes)
}
