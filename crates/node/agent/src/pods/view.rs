//! What the node's API may know of a pod without disturbing its worker.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::api::core::v1::Pod;
use machinery_client::ObjectKey;
use tokio::sync::{mpsc, watch};

use crate::pods::Message;

#[derive(Clone, Debug, Default)]
pub struct View {
    pub pod: Arc<Pod>,
    pub containers: BTreeMap<String, ContainerView>,
    /// It has succeeded or failed, and nothing of it runs.
    pub ended: bool,
    /// And the API knows.
    pub told: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerView {
    /// The runtime's id while it runs.
    pub running: Option<String>,
    /// Number of the latest instance, if there ever was one.
    pub attempt: Option<u32>,
    /// Why no instance runs, as its status says.
    pub waiting: Option<String>,
    pub log_dir: PathBuf,
}

/// The pods of this node by name.
#[derive(Default)]
pub struct Pods(RwLock<HashMap<ObjectKey, Entry>>);

struct Entry {
    view: watch::Receiver<View>,
    worker: mpsc::UnboundedSender<Message>,
}

impl Pods {
    pub fn insert(&self, key: ObjectKey, view: watch::Receiver<View>, worker: mpsc::UnboundedSender<Message>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(key, Entry { view, worker });
    }

    /// Whether that very pod's worker hears of it.
    pub fn tell(&self, pod: &Pod, message: Message) -> bool {
        let pods = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let entry = pods.get(&ObjectKey::of(pod));
        let same = entry.filter(|entry| entry.view.borrow().pod.metadata.uid == pod.metadata.uid);
        same.is_some_and(|entry| entry.worker.send(message).is_ok())
    }

    /// Forgets the pod, unless another of that name has taken its place.
    pub fn remove(&self, key: &ObjectKey, uid: Option<&str>) {
        let mut pods = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if pods.get(key).is_some_and(|entry| entry.view.borrow().pod.metadata.uid.as_deref() == uid) {
            pods.remove(key);
        }
    }

    pub fn get(&self, key: &ObjectKey) -> Option<watch::Receiver<View>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).map(|entry| entry.view.clone())
    }

    /// Those that are not over, whatever the API knows by now.
    pub fn active(&self) -> Vec<Arc<Pod>> {
        let pods = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let active = pods.values().filter(|entry| !entry.view.borrow().ended);
        active.map(|entry| Arc::clone(&entry.view.borrow().pod)).collect()
    }

    pub fn list(&self) -> Vec<Arc<Pod>> {
        let pods = self.0.read().unwrap_or_else(PoisonError::into_inner);
        pods.values().map(|entry| Arc::clone(&entry.view.borrow().pod)).collect()
    }
}
