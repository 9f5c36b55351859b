//! Which pods not every data plane knows yet.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base_tasks::{Tasks, WorkQueue};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use machinery_client::{Change, Informer, ObjectKey};
use tokio::sync::{mpsc, watch};

use super::plan::Planes;
use crate::reconcile;
use crate::world::{PodFacts, World};

/// A pod counts as known after this long, whatever the data planes say. The time of the Ready condition is cut to
/// seconds, so that it is two to three.
const BOUND: SignedDuration = SignedDuration::from_secs(3);
const SERVICE: &str = "kubernetes.io/service-name";

/// Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct Programmed {
    planes: watch::Receiver<Planes>,
    services: Informer<Service>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    shown: Shown,
    /// Who was told to wait.
    waiting: HashSet<ObjectKey>,
    told: Vec<mpsc::UnboundedSender<ObjectKey>>,
}

/// By a pod's uid, the slices that show it ready.
#[derive(Default)]
struct Shown(HashMap<String, Vec<Showing>>);

#[derive(Debug, PartialEq)]
struct Showing {
    slice: ObjectKey,
    service: String,
    /// The revision that first showed it so.
    revision: u64,
}

impl Programmed {
    pub(super) fn new(tasks: &Tasks, planes: watch::Receiver<Planes>, world: &World) -> Self {
        let programmed = Self { planes, services: world.services.clone(), shared: Arc::default() };
        reconcile::wake(tasks, &world.slices, {
            let programmed = programmed.clone();
            move |change| {
                programmed.shared().shown.change(change);
                programmed.tell();
            }
        });
        let mut changes = programmed.clone();
        tasks.spawn("planes", async move {
            while changes.planes.changed().await.is_ok() {
                changes.tell();
            }
        });
        programmed
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever was told to wait asks again.
    fn tell(&self) {
        let mut shared = self.shared();
        let waiting = std::mem::take(&mut shared.waiting);
        for key in waiting {
            // Who has ended waits for nothing.
            shared.told.retain(|told| told.send(key.clone()).is_ok());
        }
    }

    /// Those whom [`Self::unknown_for`] has told to wait, once the answer may be another: of all kinds, told to
    /// every listener.
    fn changes(&self) -> mpsc::UnboundedReceiver<ObjectKey> {
        let (told, changes) = mpsc::unbounded_channel();
        self.shared().told.push(told);
        changes
    }

    /// Queues them.
    pub fn wake(&self, tasks: &Tasks, queue: &WorkQueue<ObjectKey>) {
        let (queue, mut changes) = (queue.clone(), self.changes());
        tasks.spawn("programmed", async move {
            while let Some(key) = changes.recv().await {
                queue.add(key);
            }
        });
    }

    /// How long at most a pod that is ready is not to be counted on, since some node does not send to it yet; `None` when
    /// all do, and for one that no Service leads to. `asker` is told when that may have changed.
    pub fn unknown_for(&self, pod: &PodFacts, asker: &ObjectKey, now: Timestamp) -> Option<SignedDuration> {
        let left = BOUND - now.duration_since(pod.ready_since?);
        if *self.planes.borrow() == Planes::Alone || !left.is_positive() {
            return None;
        }
        let leads = |key: &ObjectKey, service: &Service| key.namespace == pod.key.namespace && leads_to(service, pod);
        let services = self.services.select(leads);
        let mut shared = self.shared();
        let planes = *self.planes.borrow();
        let known = services.iter().all(|(service, _)| {
            shared.shown.revision(&pod.uid, &service.name).is_some_and(|revision| planes.reached(revision))
        });
        if known {
            return None;
        }
        shared.waiting.insert(asker.clone());
        Some(left)
    }
}

/// By an address of its own: a headless Service is nothing to a data plane.
fn leads_to(service: &Service, pod: &PodFacts) -> bool {
    let Some(spec) = &service.spec else { return false };
    let selector = spec.selector.as_ref().filter(|selector| !selector.is_empty());
    spec.cluster_ip.as_deref().is_some_and(|ip| !["", "None"].contains(&ip))
        && selector.is_some_and(|selector| selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value)))
}

impl Shown {
    fn change(&mut self, change: &Change<EndpointSlice>) {
        let (key, old, new) = match change {
            Change::Applied { key, old, new } => (key, old.as_deref(), Some(&**new)),
            Change::Deleted { key, old } => (key, Some(&**old), None),
        };
        let (before, after) = (ready(old), ready(new));
        for uid in before.difference(&after) {
            if let Some(showing) = self.0.get_mut(*uid) {
                showing.retain(|one| one.slice != *key);
                if showing.is_empty() {
                    self.0.remove(*uid);
                }
            }
        }
        let Some(new) = new else { return };
        let revision = new.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0);
        let service = new.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE)).cloned().unwrap_or_default();
        for uid in after.difference(&before) {
            let showing = Showing { slice: key.clone(), service: service.clone(), revision };
            self.0.entry((*uid).to_owned()).or_default().push(showing);
        }
    }

    /// By which all slices of the Service that have it showed the pod ready.
    fn revision(&self, uid: &str, service: &str) -> Option<u64> {
        let showing = self.0.get(uid)?.iter().filter(|one| one.service == service);
        showing.map(|one| one.revision).max()
    }
}

fn ready(slice: Option<&EndpointSlice>) -> HashSet<&str> {
    let endpoints = slice.into_iter().flat_map(|slice| slice.endpoints.iter().flatten());
    let ready = endpoints
        .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true));
    ready.filter_map(|endpoint| endpoint.target_ref.as_ref()?.uid.as_deref()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(revision: u64, ready: &[(&str, bool)]) -> Arc<EndpointSlice> {
        let endpoint = |(uid, ready): &(&str, bool)| json!({"addresses": ["10.42.0.2"], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "uid": uid}});
        let endpoints: Vec<_> = ready.iter().map(endpoint).collect();
        let metadata = json!({"name": "web-1", "namespace": "a", "resourceVersion": revision.to_string(),
                              "labels": {SERVICE: "web"}});
        let slice = json!({"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints, "ports": []});
        Arc::new(serde_json::from_value(slice).expect("a slice"))
    }

    #[test]
    fn the_revision_that_first_showed_a_pod_ready_counts() {
        let mut shown = Shown::default();
        let key = ObjectKey::new("a", "web-1");
        let versions =
            [slice(3, &[("one", false)]), slice(5, &[("one", true)]), slice(9, &[("one", true), ("two", true)])];
        let mut old = None;
        for new in &versions {
            shown.change(&Change::Applied { key: key.clone(), old: old.clone(), new: new.clone() });
            old = Some(new.clone());
        }
        assert_eq!((shown.revision("one", "web"), shown.revision("two", "web")), (Some(5), Some(9)));
        assert_eq!(shown.revision("one", "other"), None);
        let gone = slice(10, &[("two", true)]);
        shown.change(&Change::Applied { key: key.clone(), old, new: gone.clone() });
        assert_eq!(shown.revision("one", "web"), None);
        shown.change(&Change::Deleted { key, old: gone });
        assert!(shown.0.is_empty());
    }

    #[test]
    fn only_a_service_with_an_address_leads_to_pods() {
        let labels = [("app".to_owned(), "web".to_owned())].into();
        let pod = PodFacts { labels, ..PodFacts::default() };
        let leads =
            |spec: serde_json::Value| leads_to(&serde_json::from_value(json!({"spec": spec})).expect("valid"), &pod);
        assert!(leads(json!({"clusterIP": "10.43.0.9", "selector": {"app": "web"}})));
        assert!(!leads(json!({"clusterIP": "None", "selector": {"app": "web"}})));
        assert!(!leads(json!({"clusterIP": "10.43.0.9", "selector": {"app": "db"}})));
        assert!(!leads(json!({"clusterIP": "10.43.0.9"})));
    }
}
