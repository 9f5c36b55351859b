//! The tasks that follow APIServices: requests for those of a Service go on to it, its status says whether they can.
//!
//! ```text
//!  APIServices ──────────┐ events        ┌─▶ settle: Service? slices? an answer? ─▶ status.conditions
//!  Services, slices ─────┼──▶ keeper ────┤                                     └──▶ discovery, hash of OpenAPI
//!  a request that failed ┘   (one each)  └─▶ Remote (a Delegate) ─▶ ApiServer::set_delegated
//! ```
//! A server that is there is asked again every half minute, one that does not answer sooner: no object tells of its health.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base_meta::{Reason, Status, decode};
use base_tasks::Tasks;
use futures::StreamExt as _;
use k8s_openapi::Resource as _;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceSpec};
use machinery_apiserver::{ApiServer, Delegated};
use machinery_dial::Dialer;
use machinery_registry::resource::WatchEvent;
use machinery_registry::{ListOptions, Registry, Resource, Strategy as _};
use machinery_storage::Object;
use serde_json::{Value, json};

use super::api_service::ApiServiceStrategy;
use super::availability::{self, Verdict};
use super::metrics::Metrics;
use super::remote::{Found, Remote};
use crate::core::service::ServiceStrategy;
use crate::define::server_context;
use crate::discovery::endpoint_slice::EndpointSliceStrategy;

/// Before a watch that ended is opened again.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two looks at a server that is there.
const HEALTHY: Duration = Duration::from_secs(30);
/// After the first failure; doubled with each.
const FAILING: Duration = Duration::from_millis(200);
/// At most, while it does not answer: that it is back, nothing tells.
const DEAD: Duration = Duration::from_secs(5);
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Where everything about aggregated servers is read and written.
pub struct Aggregation {
    pub(crate) api_services: Arc<Registry<ApiServiceStrategy>>,
    pub(crate) services: Arc<Registry<ServiceStrategy>>,
    pub(crate) slices: Arc<Registry<EndpointSliceStrategy>>,
    pub(crate) dialer: Dialer,
    pub(crate) metrics: Metrics,
}

struct Kept {
    spec: APIServiceSpec,
    remote: Arc<Remote>,
    resources: Value,
    stale: bool,
    openapi_hash: Option<String>,
    openapi_v2: Option<Arc<Value>>,
    tasks: Tasks,
}

struct Aggregator {
    world: Aggregation,
    api: ApiServer,
    tasks: Tasks,
    /// By name of the APIService; local ones are not here.
    kept: Mutex<BTreeMap<String, Kept>>,
}

impl Aggregation {
    /// To be registered.
    pub fn metrics(&self) -> impl FnOnce(&mut prometheus_client::registry::Registry) + Send + use<> {
        let metrics = self.metrics.clone();
        move |registry| metrics.register(registry)
    }

    /// Serves what is stored, then follows changes under `tasks`.
    pub async fn start(self, api: ApiServer, tasks: &Tasks) -> Result<(), Status> {
        let (services, slices) = (self.services.clone(), self.slices.clone());
        let aggregator = Arc::new(Aggregator { world: self, api, tasks: tasks.clone(), kept: Mutex::default() });
        let from = aggregator.relist().await?;
        let follower = aggregator.clone();
        tasks.spawn("apiservices", async move { follower.follow(from).await });
        let follower = aggregator.clone();
        tasks.spawn("services", async move {
            follow_others(&*services, |object| follower.touched(object, &object.meta.name)).await;
        });
        tasks.spawn("endpointslices", async move {
            let touched = |object: &Object| {
                if let Some(service) = object.meta.labels.get(SERVICE_NAME) {
                    aggregator.touched(object, service);
                }
            };
            follow_others(&*slices, touched).await;
        });
        Ok(())
    }
}

/// Calls `touched` with every object that comes, changes or goes, for ever.
async fn follow_others(resource: &dyn Resource, touched: impl Fn(&Object)) {
    let ctx = server_context(resource.def().gvr(), None);
    loop {
        match resource.watch(&ctx, &ListOptions::default()).await {
            Ok(mut events) => {
                while let Some(event) = events.next().await {
                    match event {
                        WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => {
                            touched(&object);
                        }
                        WatchEvent::Bookmark { .. } => {}
                        WatchEvent::Error(_) => break,
                    }
                }
            }
            Err(status) => tracing::warn!(%status, "watching what aggregated servers stand on failed"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn parsed(object: &Object) -> Option<APIService> {
    let parsed = decode(object.json());
    parsed.inspect_err(|error| tracing::error!(key = &*object.key, %error, "an APIService does not decode")).ok()
}

impl Aggregator {
    fn kept(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that a Service of this name in the object's namespace stands on is not as it was.
    fn touched(&self, object: &Object, service: &str) {
        let namespace = object.meta.namespace.as_deref().unwrap_or("");
        for kept in self.kept().values() {
            let named = kept.spec.service.as_ref().map(availability::named);
            if named.is_some_and(|(at, name, _)| at == namespace && name == service) {
                kept.remote.wake.notify_one();
            }
        }
    }

    async fn follow(self: Arc<Self>, mut from: String) {
        let registry = &self.world.api_services;
        let ctx = server_context(registry.strategy().def().gvr(), None);
        loop {
            let options = ListOptions { resource_version: from, ..ListOptions::default() };
            match registry.watch(&ctx, &options).await {
                Ok(mut events) => {
                    while let Some(event) = events.next().await {
                        match event {
                            WatchEvent::Added(object) | WatchEvent::Modified(object) => self.changed(&object),
                            WatchEvent::Deleted(object) => self.removed(&object.meta.name),
                            WatchEvent::Bookmark { .. } => {}
                            WatchEvent::Error(_) => break,
                        }
                    }
                }
                Err(status) => tracing::warn!(%status, "watching the APIServices failed"),
            }
            tokio::time::sleep(AGAIN).await;
            from = self.relist().await.unwrap_or_else(|status| {
                tracing::warn!(%status, "listing the APIServices failed");
                String::new()
            });
        }
    }

    /// Brings everything to what is stored; answers from where to watch.
    async fn relist(self: &Arc<Self>) -> Result<String, Status> {
        let registry = &self.world.api_services;
        let ctx = server_context(registry.strategy().def().gvr(), None);
        let list = registry.list(&ctx, &ListOptions::default()).await?;
        let gone: Vec<String> = {
            let kept = self.kept();
            let stored = |name: &str| list.items.iter().any(|object| &*object.meta.name == name);
            kept.keys().filter(|name| !stored(name)).cloned().collect()
        };
        gone.iter().for_each(|name| self.removed(name));
        list.items.iter().for_each(|object| self.changed(object));
        Ok(list.revision.to_string())
    }

    fn changed(self: &Arc<Self>, object: &Object) {
        let (Some(object), name) = (parsed(object), &*object.meta.name) else { return };
        // What says who answers is always answered here.
        let remote = |spec: &APIServiceSpec| spec.service.is_some() && spec.group.as_deref() != Some(APIService::GROUP);
        let Some(spec) = object.spec.clone().filter(remote) else {
            return self.removed(name);
        };
        let mut all = self.kept();
        let before = match all.get(name) {
            Some(kept) if kept.spec == spec => return,
            Some(_) => all.remove(name),
            None => None,
        };
        if let Some(before) = before {
            before.tasks.cancel();
        }
        let remote = Arc::new(Remote::new(&spec, availability::is_available(&object), &self.world.dialer));
        let tasks = self.tasks.child(name);
        let kept = Kept {
            spec,
            remote: remote.clone(),
            resources: json!([]),
            stale: true,
            openapi_hash: None,
            openapi_v2: None,
            tasks: tasks.clone(),
        };
        let group = remote.group.clone();
        all.insert(name.to_owned(), kept);
        self.publish(&group, &all);
        let (keeper, name) = (self.clone(), name.to_owned());
        tasks.spawn("keeper", async move { keeper.keep(&name, &remote).await });
    }

    fn removed(&self, name: &str) {
        let mut all = self.kept();
        if let Some(kept) = all.remove(name) {
            kept.tasks.cancel();
            self.world.metrics.gone(name);
            self.publish(&kept.remote.group, &all);
        }
    }

    fn publish(&self, group: &str, all: &BTreeMap<String, Kept>) {
        let of_group = all.values().filter(|kept| kept.remote.group == group);
        let versions = of_group.map(|kept| Delegated {
            version: kept.remote.version.clone(),
            group_priority: kept.spec.group_priority_minimum,
            version_priority: kept.spec.version_priority,
            delegate: kept.remote.clone(),
            resources: kept.resources.clone(),
            stale: kept.stale,
            openapi_hash: kept.openapi_hash.clone(),
            openapi_v2: kept.openapi_v2.clone(),
        });
        self.api.set_delegated(group, versions.collect());
    }

    /// One APIService, until it goes or becomes another.
    async fn keep(&self, name: &str, remote: &Remote) {
        let mut failures = 0;
        loop {
            let again = match self.settle(name, remote).await {
                Ok(true) => {
                    failures = 0;
                    HEALTHY
                }
                Ok(false) => pause(&mut failures),
                Err(status) => {
                    tracing::warn!(name, %status, "looking after an APIService failed");
                    pause(&mut failures)
                }
            };
            tokio::select! {
                () = remote.wake.notified() => {}
                () = tokio::time::sleep(again) => {}
            }
        }
    }

    /// Whether it answered.
    async fn settle(&self, name: &str, remote: &Remote) -> Result<bool, Status> {
        let found = self.look(remote, name).await?;
        self.learn(name, &found);
        // What can be answered is answered before anybody is told, what cannot be is not told of for longer than it can.
        let was = remote.available.swap(found.verdict.available, Ordering::AcqRel);
        self.world.metrics.judged(name, was, &found.verdict);
        let ctx = server_context(self.world.api_services.strategy().def().gvr(), None);
        let mut told = false;
        let written = self.world.api_services.update_with(&ctx, name, |stored| {
            told = availability::tell(stored, &found.verdict);
            Ok(())
        });
        match written.await {
            Err(status) if status.reason != Reason::NotFound => return Err(status),
            _ => {}
        }
        if told {
            let Verdict { available, reason, message } = &found.verdict;
            tracing::info!(name, available, reason, why = message, "the availability of an APIService changed");
        }
        Ok(found.verdict.available && found.resources.is_some())
    }

    async fn look(&self, remote: &Remote, name: &str) -> Result<Found, Status> {
        let reference = self.kept().get(name).and_then(|kept| kept.spec.service.clone()).unwrap_or_default();
        let (namespace, service_name, port) = availability::named(&reference);
        let ctx = server_context(self.world.services.strategy().def().gvr(), Some(namespace));
        let service = match self.world.services.get_typed(&ctx, service_name).await {
            Ok(service) => Some(service),
            Err(status) if status.reason == Reason::NotFound => None,
            Err(status) => return Err(status),
        };
        let mut slices = self.world.slices.list_typed(Some(namespace)).await?;
        let label =
            |labels: &BTreeMap<String, String>| labels.get(SERVICE_NAME).map(String::as_str) == Some(service_name);
        slices.retain(|slice| slice.metadata.labels.as_ref().is_some_and(label));
        if let Some(verdict) = availability::refused(&reference, service.as_ref(), &slices) {
            return Ok(Found { verdict, resources: None, openapi_hash: None, openapi_v2: None });
        }
        let spec = service.and_then(|service| service.spec).unwrap_or_default();
        let host = spec.external_name.filter(|name| !name.is_empty()).or(spec.cluster_ip).unwrap_or_default();
        let known = {
            let kept = self.kept();
            // Without the document, its hash is worth nothing.
            kept.get(name).filter(|kept| kept.openapi_v2.is_some()).and_then(|kept| kept.openapi_hash.clone())
        };
        Ok(remote.ask(&format!("{host}:{port}"), known.as_deref()).await)
    }

    /// Shows what it has, and what it had where it does not tell.
    fn learn(&self, name: &str, found: &Found) {
        let mut all = self.kept();
        let Some(kept) = all.get_mut(name) else { return };
        let (stale, group) = (found.resources.is_none(), kept.remote.group.clone());
        let mut changed = std::mem::replace(&mut kept.stale, stale) != stale;
        if let Some(resources) = &found.resources {
            changed |= kept.resources != *resources || kept.openapi_hash != found.openapi_hash;
            kept.resources = resources.clone();
            kept.openapi_hash = found.openapi_hash.clone();
            if let Some(document) = &found.openapi_v2 {
                changed |= kept.openapi_v2.as_ref() != Some(document);
                kept.openapi_v2 = Some(document.clone());
            }
        }
        if changed {
            self.publish(&group, &all);
        }
    }
}

fn pause(failures: &mut u32) -> Duration {
    let pause = FAILING.saturating_mul(2_u32.saturating_pow(*failures)).min(DEAD);
    *failures = failures.saturating_add(1);
    pause
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_answer_is_asked_ever_more_rarely() {
        let mut failures = 0;
        let pauses: Vec<u128> = (0..6).map(|_| pause(&mut failures).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 5000]);
        failures = u32::MAX;
        assert_eq!(pause(&mut failures), DEAD);
    }
}
