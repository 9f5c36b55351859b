//! What every request passes, in this order; bounded in time, surviving a panic.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use base_meta::schema::SchemaRef;
use base_meta::{Reason, Status};
use bytes::Bytes;
use futures::FutureExt;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use machinery_registry::request::Warnings;
use machinery_registry::{Body, UserInfo};
use serde_json::Value;

use crate::audit::{self, Level, Record, Tee};
use crate::authentication::{self, ANONYMOUS, Caller};
use crate::authorization::{self, Action, Attributes};
use crate::health;
use crate::metrics::Labels;
use crate::path::{self, Target};
use crate::query::Query;
use crate::served::Served;
use crate::server::Inner;
use crate::verbs::{self, Call};
use crate::{definitions, identifier, impersonation, limits, negotiate, nonresource, protobuf, respond};

/// What is learnt of a request on its way, for metrics and the audit log: it outlives a panic.
#[derive(Default)]
struct Learnt {
    labels: Option<Labels>,
    long: bool,
    record: Option<Record>,
    /// The body as far as it was read.
    body: Option<Arc<Mutex<Vec<u8>>>>,
    /// What the body and the answer are of.
    schema: Option<(SchemaRef, SchemaRef)>,
}

impl Inner {
    /// Serves one request; never fails and never panics.
    pub(crate) async fn serve<B>(self: Arc<Self>, caller: Caller, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        if request.method().is_safe() {
            return self.guarded(caller, request).await;
        }
        // A write runs in a task of its own: a client that goes away must not cut it between two of its steps.
        let writes = self.writes.clone();
        match writes.spawn(self.guarded(caller, request)).await {
            Ok(response) => response,
            Err(_) => respond::failure(&Status::service_unavailable("the server is shutting down")),
        }
    }

    async fn guarded(self: Arc<Self>, caller: Caller, request: Request<Body>) -> Response<Body> {
        let began = Instant::now();
        let audit_id = request.headers().get("Audit-Id").cloned().or_else(|| identifier::uuid().try_into().ok());
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let served = self.served();
        let failures = served.status.filter(|_| negotiate::prefers_protobuf(request.headers()));
        let warnings = Warnings::default();
        let mut learnt = Learnt::default();
        let id = audit_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
        let handled = self.handle(caller, &served, &warnings, &mut learnt, id, request);
        let answered = AssertUnwindSafe(handled).catch_unwind().await;
        let mut panicked = false;
        let answered = answered.unwrap_or_else(|panic| {
            let cause = panic.downcast_ref::<&str>().copied().map(str::to_owned);
            let cause = cause.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            tracing::error!(%method, %uri, %cause, "a request panicked");
            panicked = true;
            Err(Status::internal("the server failed to serve this request; see its log"))
        });
        let failure = answered.as_ref().err().cloned();
        let mut response = answered.unwrap_or_else(|status| respond::failure_as(&status, failures));
        // A refused write's warnings are told too.
        let told = warnings.take();
        if !told.is_empty() {
            respond::warnings(response.headers_mut(), told);
        }
        if let Some(id) = &audit_id {
            response.headers_mut().insert("Audit-Id", id.clone());
        }
        let code = response.status().as_u16();
        tracing::debug!(%method, %uri, code, "request");
        let labels = learnt.labels.take().unwrap_or_else(|| Labels::other(method.as_str(), uri.path(), code));
        self.metrics.served(&labels, code, began.elapsed());
        match learnt.record.take() {
            Some(mut record) => {
                record.annotate(warnings.take_annotations(record.level() >= Level::Request));
                recorded(record, learnt, response, failure.as_ref(), panicked).await
            }
            None => response,
        }
    }

    async fn handle(
        &self,
        caller: Caller,
        served: &Served,
        warnings: &Warnings,
        learnt: &mut Learnt,
        id: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let (mut parts, mut body) = request.into_parts();
        let uri = parts.uri.clone();
        let path = path::decode(uri.path())?;
        let known = authentication::authenticate(&self.authenticators, &caller, &parts).await?;
        let public = known.is_none() && health::is_public(&path);
        let user = match known {
            Some(user) => user,
            None if public => ANONYMOUS.clone(),
            None => return Err(Status::unauthorized()),
        };
        let query = Query::parse(uri.query().unwrap_or_default())?;
        let target = path::parse(&parts.method, &path, &query)?;
        let acting = impersonation::apply(&self.authorizers, user.clone(), &parts.headers).await;
        learnt.long = limits::long_running(&target);
        if let Some(audit) = &self.audit {
            let impersonated = acting.as_deref().ok().filter(|acting| **acting != *user);
            let asked = audit::Asked { id, parts: &parts, impersonated };
            learnt.record = audit.open(&attributes(&target, &path, &user), asked);
            let level = learnt.record.as_ref().map(Record::level).unwrap_or_default();
            if level >= Level::Request && !learnt.long {
                let (tee, copy) = Tee::new(body);
                (body, learnt.body) = (tee.boxed_unsync(), Some(copy));
                // What is recorded must be read.
                parts.headers.remove(ACCEPT_ENCODING);
            }
        }
        let user = acting?;
        let attributes = attributes(&target, &path, &user);
        if !public {
            authorization::authorize(&self.authorizers, &attributes).await?;
        }
        let in_process = matches!(caller, Caller::InProcess(_));
        let (_seat, _counted) = if learnt.long || public || in_process {
            (None, None)
        } else {
            (self.flows.enter(&attributes).await?, Some(self.metrics.in_flight(attributes.verb)))
        };
        let long = learnt.long;
        let answer = async {
            if let Some(delegated) = served.routes.delegate(&path) {
                // Whatever its server has below that path: not a label each.
                learnt.labels = Some(Labels::other(parts.method.as_str(), "/apis", 200));
                let mut request = Request::from_parts(parts.clone(), body);
                // Both servers record it as one.
                if let Ok(id) = id.parse() {
                    request.headers_mut().insert("Audit-Id", id);
                }
                return delegated.delegate.serve(user.clone(), request).await;
            }
            match &target {
                Target::Other { .. } => nonresource::serve(self, served, &path, &query, &parts).await,
                Target::Resource(path) => {
                    let route = served.routes.find(path.group, path.version, path.resource);
                    let route = route.ok_or_else(Status::no_such_path)?;
                    let def = route.resource.def();
                    let apply = crate::body::media_type(&parts.headers) == "application/apply-patch+yaml";
                    learnt.labels = Some(Labels::of(def, path, apply, query.get("dryRun").is_some()));
                    learnt.schema = definitions::of_body(def, path.subresource).map(|body| (def.schema, body));
                    if let Some(text) = &def.deprecation {
                        warnings.add(text.as_ref());
                    }
                    if !path.subresource.is_empty()
                        && let Some(handler) = route.resource.handler(path.subresource)
                        && let Some(verb) = handler.also_needs().filter(|verb| *verb != attributes.verb)
                    {
                        authorization::authorize(&self.authorizers, &Attributes { verb, ..attributes }).await?;
                    }
                    let ctx = verbs::context(&*route.resource, path, user.clone(), warnings.clone())?;
                    let (resource, ended, metrics) = (&route.resource, &route.ended, &self.metrics);
                    let may_make = path.subresource.is_empty() && (path.verb == "update" || apply);
                    let no_create = if may_make {
                        let namespace = ctx.namespace.as_deref().unwrap_or("");
                        authorization::no_create(&self.authorizers, &user, &ctx.gvr, namespace, path.name).await
                    } else {
                        None
                    };
                    let call = Call { resource, path, query: &query, parts: &parts, ctx, no_create, ended, metrics };
                    verbs::dispatch(&call, body).await
                }
            }
        };
        if long {
            answer.await
        } else {
            tokio::time::timeout(self.limits.request_timeout, answer).await.unwrap_or_else(|_| Err(timed_out()))
        }
    }
}

/// Closes the record of a request that has been answered, or sees to it that its end does.
async fn recorded(
    mut record: Record,
    learnt: Learnt,
    response: Response<Body>,
    failure: Option<&Status>,
    panicked: bool,
) -> Response<Body> {
    record.answered(response.status().as_u16(), failure);
    let schemas = learnt.schema;
    if let Some(copy) = learnt.body {
        let bytes = std::mem::take(&mut *copy.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(object) = readable(&bytes, schemas) {
            record.request_object(object);
        }
    }
    if panicked {
        record.panicked();
        return response;
    }
    if learnt.long && failure.is_none() {
        record.started();
        return response.map(|body| audit::Ending { body, record: Some(record) }.boxed_unsync());
    }
    if record.level() < Level::RequestResponse || response.headers().contains_key(CONTENT_ENCODING) {
        record.complete();
        return response;
    }
    let (parts, body) = response.into_parts();
    let bytes = match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => {
            tracing::warn!(%error, "an answer broke off while it was recorded");
            Bytes::new()
        }
    };
    if let Some(object) = readable(&bytes, schemas) {
        record.response_object(object);
    }
    record.complete();
    Response::from_parts(parts, Full::new(bytes).map_err(|never| match never {}).boxed_unsync())
}

/// A body as JSON, whatever it is encoded as.
fn readable(bytes: &[u8], schemas: Option<(SchemaRef, SchemaRef)>) -> Option<Value> {
    if bytes.is_empty() {
        return None;
    }
    if let Some((own, body)) = schemas
        && protobuf::is(bytes)
    {
        let list = definitions::by_name(own.table, &format!("{}List", own.root_type().name));
        let others = [definitions::STATUS, definitions::DELETE_OPTIONS];
        let others = others.into_iter().map(|name| definitions::by_name(own.table, name));
        return [Some(body), Some(own), list].into_iter().chain(others).flatten().find_map(|schema| {
            protobuf::to_json(bytes, schema).ok().filter(|value| value.as_object().is_some_and(|value| value.len() > 2))
        });
    }
    serde_json::from_slice(bytes).ok().or_else(|| machinery_registry::yaml::from_slice(bytes).ok())
}

/// The request as authorizers see it.
fn attributes<'a>(target: &'a Target<'a>, path: &'a str, user: &'a UserInfo) -> Attributes<'a> {
    match target {
        Target::Other { verb } => Attributes { user, verb, action: Action::Path(path) },
        Target::Resource(resource) => {
            let action = Action::Resource {
                group: resource.group,
                version: resource.version,
                resource: resource.resource,
                subresource: resource.subresource,
                namespace: resource.namespace,
                name: resource.authorized_name(),
            };
            Attributes { user, verb: resource.verb, action }
        }
    }
}

fn timed_out() -> Status {
    let mut status = Status::new(Reason::Timeout, "Timeout: request did not complete within the allotted timeout");
    status.details = Some(Box::default());
    status
}
