//! The server: its configuration, and the chain every request passes.
//!
//! authenticate → impersonate → read what is asked → authorize → wait for a seat → dispatch, bounded in time, surviving a panic.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, RwLock};

use base_meta::{Reason, Status};
use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response};
use http_body_util::BodyExt;
use machinery_registry::request::Warnings;
use machinery_registry::{Body, Resource, UserInfo};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authentication::{self, ANONYMOUS, Authenticator, Caller};
use crate::authorization::{self, Action, Attributes, Authorizer};
use crate::flow::Flows;
use crate::health::{self, HealthCheck};
use crate::in_process::InProcess;
use crate::limits::{self, Limits};
use crate::path::{self, Target};
use crate::query::Query;
use crate::served::{Dynamic, Fixed, Served};
use crate::verbs::{self, Call};
use crate::version::VersionInfo;
use crate::{identifier, impersonation, negotiate, nonresource, respond};

pub struct Config {
    /// Everything served, in any order; discovery sorts.
    pub resources: Vec<Arc<dyn Resource>>,
    /// Asked in order.
    pub authenticators: Vec<Arc<dyn Authenticator>>,
    /// Asked in order.
    pub authorizers: Vec<Arc<dyn Authorizer>>,
    pub version: VersionInfo,
    /// `ping` and `shutdown` are the server's own.
    pub health_checks: Vec<HealthCheck>,
    pub limits: Limits,
    /// `host:port` that `/api` tells clients.
    pub advertise_address: String,
}

/// Cheap to clone; clones are one server.
#[derive(Clone)]
pub struct ApiServer {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) fixed: Fixed,
    pub(crate) dynamic: Mutex<Dynamic>,
    /// Read once per request, replaced by [`Inner::change`] alone.
    pub(crate) served: RwLock<Arc<Served>>,
    pub(crate) authenticators: Vec<Arc<dyn Authenticator>>,
    authorizers: Vec<Arc<dyn Authorizer>>,
    pub(crate) flows: Arc<Flows>,
    limits: Limits,
    pub(crate) health_checks: Vec<HealthCheck>,
    pub(crate) version: VersionInfo,
    /// Cancelled at the start of a drain: watches end.
    pub(crate) drain: CancellationToken,
    /// Writes under way, which a client's disconnect does not cut short.
    pub(crate) writes: TaskTracker,
    /// Rests of bodies being read after their answer.
    pub(crate) unread: TaskTracker,
}

impl ApiServer {
    pub fn new(config: Config) -> Self {
        let Config { resources, authenticators, authorizers, version, health_checks, limits, advertise_address } =
            config;
        let mut checks = vec![HealthCheck::live("ping", || Ok(()))];
        checks.extend(health_checks);
        let drain = CancellationToken::new();
        let watched = drain.clone();
        checks.push(HealthCheck::ready("shutdown", move || {
            if watched.is_cancelled() { Err("the process is shutting down".into()) } else { Ok(()) }
        }));
        let fixed = Fixed { resources, advertise_address, drain: drain.clone() };
        let inner = Inner {
            served: RwLock::new(Arc::new(Served::first(&fixed))),
            fixed,
            dynamic: Mutex::default(),
            authenticators,
            authorizers,
            flows: Flows::new(&limits),
            limits,
            health_checks: checks,
            version,
            drain,
            writes: TaskTracker::new(),
            unread: TaskTracker::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// A service for a caller inside this process, who is believed to be `user` and authorized as such: the whole
    /// path of a request but TCP, TLS and authentication.
    pub fn in_process(&self, user: UserInfo) -> InProcess {
        InProcess::new(self.inner.clone(), authentication::authenticated(Arc::new(user)))
    }
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
        let audit_id = request.headers().get("Audit-Id").cloned().or_else(|| identifier::uuid().try_into().ok());
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let served = self.served();
        let failures = served.status.filter(|_| negotiate::prefers_protobuf(request.headers()));
        let warnings = Warnings::default();
        let answered = AssertUnwindSafe(self.handle(caller, &served, &warnings, request)).catch_unwind().await;
        let mut response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(status)) => respond::failure_as(&status, failures),
            Err(panic) => {
                let cause = panic.downcast_ref::<&str>().copied().map(str::to_owned);
                let cause = cause.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
                tracing::error!(%method, %uri, %cause, "a request panicked");
                let status = Status::internal("the server failed to serve this request; see its log");
                respond::failure_as(&status, failures)
            }
        };
        // A refused write's warnings are told too.
        let told = warnings.take();
        if !told.is_empty() {
            respond::warnings(response.headers_mut(), told);
        }
        if let Some(id) = audit_id {
            response.headers_mut().insert("Audit-Id", id);
        }
        tracing::debug!(%method, %uri, code = response.status().as_u16(), "request");
        response
    }

    async fn handle(
        &self,
        caller: Caller,
        served: &Served,
        warnings: &Warnings,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let (parts, body) = request.into_parts();
        let path = path::decode(parts.uri.path())?;
        let known = authentication::authenticate(&self.authenticators, &caller, &parts).await?;
        let public = known.is_none() && health::is_public(&path);
        let user = match known {
            Some(user) => user,
            None if public => ANONYMOUS.clone(),
            None => return Err(Status::unauthorized()),
        };
        let user = impersonation::apply(&self.authorizers, user, &parts.headers).await?;
        let query = Query::parse(parts.uri.query().unwrap_or_default())?;
        let target = path::parse(&parts.method, &path, &query)?;
        let attributes = attributes(&target, &path, &user);
        if !public {
            authorization::authorize(&self.authorizers, &attributes).await?;
        }

        let long = limits::long_running(&target);
        let in_process = matches!(caller, Caller::InProcess(_));
        let _seat = if long || public || in_process { None } else { self.flows.enter(&attributes).await? };
        let answer = async {
            if let Some(delegated) = served.routes.delegate(&path) {
                let request = Request::from_parts(parts.clone(), body);
                return delegated.delegate.serve(user.clone(), request).await;
            }
            match &target {
                Target::Other { .. } => nonresource::serve(self, served, &path, &query, &parts).await,
                Target::Resource(path) => {
                    let route = served.routes.find(path.group, path.version, path.resource);
                    let route = route.ok_or_else(Status::no_such_path)?;
                    if let Some(text) = &route.resource.def().deprecation {
                        warnings.add(text.as_ref());
                    }
                    let ctx = verbs::context(&*route.resource, path, user.clone(), warnings.clone())?;
                    let (resource, ended) = (&route.resource, &route.ended);
                    let call = Call { resource, path, query: &query, parts: &parts, ctx, ended };
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
