//! `/metrics`: upstream's names where they fit, in the OpenMetrics text format.

mod process;

use std::borrow::Cow;
use std::time::Duration;

use base_meta::Status;
use http::{Response, StatusCode};
use machinery_registry::request::Warnings;
use machinery_registry::{Body, ListOptions, RequestContext, ResourceDef, Verb};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::authentication::ANONYMOUS;
use crate::flow::Flows;
use crate::respond;
use crate::served::Served;

/// Adds metrics of another part of the process.
pub type Register = Box<dyn FnOnce(&mut Registry) + Send>;

type Text = Cow<'static, str>;

/// What every metric of a request tells it by; the fields are in the order of their names, as upstream prints them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Labels {
    component: &'static str,
    dry_run: &'static str,
    group: Text,
    resource: Text,
    scope: &'static str,
    subresource: Text,
    verb: &'static str,
    version: Text,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: u16,
    #[prometheus(flatten)]
    labels: Labels,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResourceLabels {
    group: Text,
    resource: Text,
    version: Text,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoredLabels {
    resource: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    request_kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LevelLabels {
    priority_level: &'static str,
}

/// Upstream's.
const BUCKETS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<CodeLabels, Counter>,
    durations: Family<Labels, Histogram, fn() -> Histogram>,
    in_flight: Family<KindLabels, Gauge>,
    watches: Family<ResourceLabels, Gauge>,
    watch_events: Family<ResourceLabels, Counter>,
    stored: Family<StoredLabels, Gauge>,
    waiting: Family<LevelLabels, Gauge>,
    executing: Family<LevelLabels, Gauge>,
}

/// A gauge that is one higher while this lives.
pub(crate) struct Counted(Gauge);

impl Counted {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// One watch: how many there are, and what they are sent.
pub(crate) struct Watched {
    _open: Counted,
    pub(crate) events: Counter,
}

impl Metrics {
    pub(crate) fn new(others: Vec<Register>) -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        let durations = Family::new_with_constructor(histogram as fn() -> Histogram);
        let (in_flight, watches, watch_events) = (Family::default(), Family::default(), Family::default());
        let (stored, waiting, executing) = (Family::default(), Family::default(), Family::default());
        registry.register("apiserver_request", "Requests by verb, resource and code", Family::clone(&requests));
        let help = "Time from the first byte of a request to the head of its answer, in seconds";
        registry.register("apiserver_request_duration_seconds", help, Family::clone(&durations));
        let help = "Requests being served, long-running ones aside";
        registry.register("apiserver_current_inflight_requests", help, Family::clone(&in_flight));
        registry.register("apiserver_registered_watchers", "Watches that are open", Family::clone(&watches));
        registry.register("apiserver_watch_events", "Events sent to watchers", Family::clone(&watch_events));
        registry.register("apiserver_storage_objects", "Objects in the store", Family::clone(&stored));
        let help = "Requests waiting for a seat";
        registry.register("apiserver_flowcontrol_current_inqueue_requests", help, Family::clone(&waiting));
        let help = "Requests that have a seat";
        registry.register("apiserver_flowcontrol_current_executing_requests", help, Family::clone(&executing));
        registry.register_collector(Box::new(process::Process));
        others.into_iter().for_each(|register| register(&mut registry));
        Self { registry, requests, durations, in_flight, watches, watch_events, stored, waiting, executing }
    }

    pub(crate) fn served(&self, labels: &Labels, code: u16, took: Duration) {
        self.durations.get_or_create(labels).observe(took.as_secs_f64());
        self.requests.get_or_create(&CodeLabels { code, labels: labels.clone() }).inc();
    }

    pub(crate) fn in_flight(&self, verb: &str) -> Counted {
        let request_kind = if matches!(verb, "get" | "list" | "head") { "readOnly" } else { "mutating" };
        Counted::new(self.in_flight.get_or_create(&KindLabels { request_kind }).clone())
    }

    pub(crate) fn watch(&self, def: &ResourceDef) -> Watched {
        let gvk = &def.gvk;
        let labels =
            ResourceLabels { group: gvk.group.clone(), resource: def.plural.clone(), version: gvk.version.clone() };
        let events = self.watch_events.get_or_create(&labels).clone();
        Watched { _open: Counted::new(self.watches.get_or_create(&labels).clone()), events }
    }

    /// Everything, as of now.
    pub(crate) async fn answer(&self, served: &Served, flows: &Flows) -> Result<Response<Body>, Status> {
        self.stored.clear();
        for route in served.routes.all() {
            let def = route.resource.def();
            if !def.verbs.contains(&Verb::Watch) {
                continue;
            }
            let ctx = RequestContext {
                user: ANONYMOUS.clone(),
                gvr: def.gvr(),
                subresource: None,
                namespace: None,
                warnings: Warnings::default(),
            };
            let options = ListOptions { resource_version: "0".into(), ..ListOptions::default() };
            if let Ok(list) = route.resource.list(&ctx, &options).await {
                let labels = StoredLabels { resource: def.gvr().group_resource() };
                self.stored.get_or_create(&labels).set(i64::try_from(list.items.len()).unwrap_or(i64::MAX));
            }
        }
        for (priority_level, waiting, executing) in flows.count() {
            let labels = LevelLabels { priority_level };
            self.waiting.get_or_create(&labels).set(i64::try_from(waiting).unwrap_or(i64::MAX));
            self.executing.get_or_create(&labels).set(i64::try_from(executing).unwrap_or(i64::MAX));
        }
        let mut out = String::new();
        text::encode(&mut out, &self.registry).map_err(Status::internal)?;
        let media = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        Ok(respond::full(StatusCode::OK, media, out.into()))
    }
}

impl Labels {
    /// Of a request for a resource.
    pub(crate) fn of(def: &ResourceDef, path: &crate::path::ResourcePath<'_>, apply: bool, dry_run: bool) -> Self {
        let sub = def.subresource(path.subresource);
        let connects = sub.is_some_and(|sub| sub.gvk.kind.ends_with("Options"));
        Self {
            component: "apiserver",
            dry_run: if dry_run { "All" } else { "" },
            group: def.gvk.group.clone(),
            resource: def.plural.clone(),
            scope: match (path.name.is_empty(), path.namespace.is_empty()) {
                (false, _) => "resource",
                (true, false) => "namespace",
                (true, true) => "cluster",
            },
            subresource: sub.map(|sub| Text::Borrowed(sub.name)).unwrap_or_default(),
            verb: match path.verb {
                _ if connects => "CONNECT",
                "get" => "GET",
                "list" => "LIST",
                "watch" => "WATCH",
                "create" => "POST",
                "update" => "PUT",
                "patch" if apply => "APPLY",
                "patch" => "PATCH",
                "delete" => "DELETE",
                "deletecollection" => "DELETECOLLECTION",
                _ => "other",
            },
            version: def.gvk.version.clone(),
        }
    }

    /// Of anything else; only paths that were answered are told apart, or anyone could add to them.
    pub(crate) fn other(method: &str, path: &str, code: u16) -> Self {
        let verb = match method {
            "GET" => "GET",
            "POST" => "POST",
            "PUT" => "PUT",
            "DELETE" => "DELETE",
            _ => "other",
        };
        Self {
            component: "apiserver",
            dry_run: "",
            group: Text::default(),
            resource: Text::default(),
            scope: "",
            subresource: if code >= 400 { Text::default() } else { path.to_owned().into() },
            verb,
            version: Text::default(),
        }
    }
}

#[cfg(test)]
mod tests;
