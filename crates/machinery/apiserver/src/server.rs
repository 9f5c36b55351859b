//! The server: its configuration, and what it holds.

use std::sync::{Arc, Mutex, RwLock};

use machinery_registry::{Resource, UserInfo};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::Audit;
use crate::authentication::{self, Authenticator};
use crate::authorization::Authorizer;
use crate::flow::Flows;
use crate::health::HealthCheck;
use crate::in_process::InProcess;
use crate::limits::Limits;
use crate::metrics::{Metrics, Register};
use crate::served::{Dynamic, Fixed, Served};
use crate::version::VersionInfo;

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
    /// Served as they are, each at its path.
    pub documents: Vec<(&'static str, serde_json::Value)>,
    /// What other parts of the process tell `/metrics`.
    pub metrics: Vec<Register>,
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
    pub(crate) authorizers: Vec<Arc<dyn Authorizer>>,
    pub(crate) flows: Arc<Flows>,
    pub(crate) limits: Limits,
    pub(crate) audit: Option<Audit>,
    pub(crate) metrics: Metrics,
    pub(crate) health_checks: Vec<HealthCheck>,
    pub(crate) version: VersionInfo,
    pub(crate) documents: Vec<(&'static str, serde_json::Value)>,
    /// Cancelled at the start of a drain: watches end.
    pub(crate) drain: CancellationToken,
    /// Writes under way, which a client's disconnect does not cut short.
    pub(crate) writes: TaskTracker,
    /// Rests of bodies being read after their answer.
    pub(crate) unread: TaskTracker,
}

impl ApiServer {
    pub fn new(config: Config) -> Self {
        Self::with_audit(config, None)
    }

    /// With a record of what is asked, where `audit` says how.
    pub fn with_audit(config: Config, audit: Option<Audit>) -> Self {
        let Config {
            resources,
            authenticators,
            authorizers,
            version,
            health_checks,
            limits,
            advertise_address,
            documents,
            metrics,
        } = config;
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
            audit,
            metrics: Metrics::new(metrics),
            health_checks: checks,
            version,
            documents,
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
