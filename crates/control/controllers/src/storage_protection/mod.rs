//! Takes the finalizers off again that admission gave claims, volumes and classes of volume attributes: once each is
//! being deleted and nothing uses it any more. Upstream's pvc-, pv- and vac-protection controllers.

mod plan;

use std::sync::Arc;

use base_tasks::{Tasks, WorkQueue};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use machinery_client::kube::api::{ListParams, ObjectMeta, Patch, PatchParams};
use machinery_client::kube::runtime::watcher::Config;
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, Informer, ObjectKey, informer};
use serde_json::json;

use self::plan::{ClaimFacts, ClassFacts, VolumeFacts};
use crate::reconcile::{self, Again, During, Error, is_code};
use crate::world::{PodFacts, World};

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";
const CLASS: &str = "kubernetes.io/vac-protection";

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Claim(ObjectKey),
    Volume(String),
    Class(String),
}

#[derive(Clone)]
struct Storage {
    client: Client,
    pods: Informer<PodFacts>,
    claims: Informer<ClaimFacts>,
    volumes: Informer<VolumeFacts>,
    classes: Informer<ClassFacts>,
}

pub fn start(tasks: &Tasks, client: &Client, world: &World) {
    let all = Config::default;
    let storage = Storage {
        client: client.clone(),
        pods: world.pods.clone(),
        claims: informer(tasks, Api::all(client.clone()), all(), |claim: PersistentVolumeClaim| {
            Some(claim_facts(claim))
        }),
        volumes: informer(tasks, Api::all(client.clone()), all(), |volume: PersistentVolume| {
            Some(volume_facts(volume))
        }),
        classes: informer(tasks, Api::all(client.clone()), all(), |class: VolumeAttributesClass| {
            let (deleting, held) = marks(&class.metadata, CLASS);
            Some(ClassFacts { deleting, held })
        }),
    };
    let queue = reconcile::queue::<Key>();
    wake(tasks, &storage, &queue);
    let ready = {
        let storage = storage.clone();
        async move {
            storage.pods.synced().await;
            storage.claims.synced().await;
            storage.volumes.synced().await;
            storage.classes.synced().await;
        }
    };
    reconcile::run(tasks, &queue, 1, ready, move |key| {
        let storage = storage.clone();
        async move { storage.free(&key).await }
    });
}

fn wake(tasks: &Tasks, storage: &Storage, queue: &WorkQueue<Key>) {
    reconcile::wake(tasks, &storage.pods, {
        let queue = queue.clone();
        move |change| {
            let (Change::Applied { key, new: pod, .. } | Change::Deleted { key, old: pod }) = change;
            for claim in &pod.claims {
                queue.add(Key::Claim(ObjectKey::new(key.namespace.clone(), claim.clone())));
            }
        }
    });
    reconcile::wake(tasks, &storage.claims, {
        let queue = queue.clone();
        move |change| {
            let before = match change {
                Change::Applied { key, old, .. } => {
                    queue.add(Key::Claim(key.clone()));
                    old.clone()
                }
                Change::Deleted { old, .. } => Some(old.clone()),
            };
            before.iter().flat_map(|claim| &claim.classes).for_each(|class| queue.add(Key::Class(class.clone())));
        }
    });
    reconcile::wake(tasks, &storage.volumes, {
        let queue = queue.clone();
        move |change| {
            let before = match change {
                Change::Applied { key, old, .. } => {
                    queue.add(Key::Volume(key.name.clone()));
                    old.clone()
                }
                Change::Deleted { old, .. } => Some(old.clone()),
            };
            before.iter().filter_map(|volume| volume.class.clone()).for_each(|class| queue.add(Key::Class(class)));
        }
    });
    let queue = queue.clone();
    reconcile::wake(tasks, &storage.classes, move |change| queue.add(Key::Class(change.key().name.clone())));
}

/// Whether it is being deleted, and has this finalizer.
fn marks(meta: &ObjectMeta, finalizer: &str) -> (bool, bool) {
    let held = meta.finalizers.iter().flatten().any(|one| one == finalizer);
    (meta.deletion_timestamp.is_some(), held)
}

fn claim_facts(claim: PersistentVolumeClaim) -> ClaimFacts {
    let (deleting, held) = marks(&claim.metadata, CLAIM);
    let (spec, status) = (claim.spec.unwrap_or_default(), claim.status.unwrap_or_default());
    let target = status.modify_volume_status.and_then(|status| status.target_volume_attributes_class_name);
    let classes = [spec.volume_attributes_class_name, status.current_volume_attributes_class_name, target];
    ClaimFacts { deleting, held, classes: classes.into_iter().flatten().collect() }
}

fn volume_facts(volume: PersistentVolume) -> VolumeFacts {
    let (deleting, held) = marks(&volume.metadata, VOLUME);
    let bound = volume.status.and_then(|status| status.phase).as_deref() == Some("Bound");
    VolumeFacts { deleting, held, bound, class: volume.spec.and_then(|spec| spec.volume_attributes_class_name) }
}

fn values<P: Send + Sync + 'static>(informer: &Informer<P>) -> impl Iterator<Item = Arc<P>> + use<P> {
    informer.list().into_iter().map(|(_, object)| object)
}

impl Storage {
    async fn free(&self, key: &Key) -> Result<Again, Error> {
        match key {
            Key::Claim(key) => {
                let pods = || self.pods.select(|pod, _| pod.namespace == key.namespace).into_iter().map(|(_, pod)| pod);
                let Some(claim) = self.claims.get(key) else { return Ok(None) };
                if !plan::frees_claim(&key.name, &claim, pods()) {
                    return Ok(None);
                }
                // The informer may be behind: a pod was made just before the claim was deleted.
                let live = Api::<Pod>::namespaced(self.client.clone(), &key.namespace);
                let live = live.list(&ListParams::default()).await.during("listing who uses a claim")?;
                let live = live.items.into_iter().map(|pod| Arc::new(PodFacts::of(pod)));
                if !plan::frees_claim(&key.name, &claim, live) {
                    return Ok(None);
                }
                let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &key.namespace);
                release(&api, &key.name, CLAIM, |claim| &claim.metadata).await
            }
            Key::Volume(name) => {
                let volume = self.volumes.get(&ObjectKey::new("", name.clone()));
                let api = Api::<PersistentVolume>::all(self.client.clone());
                let free = volume.is_some_and(|volume| plan::frees_volume(&volume));
                if free { release(&api, name, VOLUME, |volume| &volume.metadata).await } else { Ok(None) }
            }
            Key::Class(name) => {
                let class = self.classes.get(&ObjectKey::new("", name.clone()));
                let uses =
                    |class: &ClassFacts| plan::frees_class(name, class, values(&self.claims), values(&self.volumes));
                let api = Api::<VolumeAttributesClass>::all(self.client.clone());
                let free = class.is_some_and(|class| uses(&class));
                if free { release(&api, name, CLASS, |class| &class.metadata).await } else { Ok(None) }
            }
        }
    }
}

/// Over the version that is read here: who puts another finalizer on meanwhile is not undone.
async fn release<K>(api: &Api<K>, name: &str, finalizer: &str, meta: impl Fn(&K) -> &ObjectMeta) -> Result<Again, Error>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let Some(found) = api.get_opt(name).await.during("reading what is not used any more")? else { return Ok(None) };
    let meta = meta(&found);
    if meta.deletion_timestamp.is_none() {
        return Ok(None);
    }
    let mut finalizers = meta.finalizers.clone().unwrap_or_default();
    finalizers.retain(|one| one != finalizer);
    let patch = json!({"metadata": {"resourceVersion": meta.resource_version, "finalizers": finalizers}});
    match api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(error) if is_code(&error, 404) => Ok(None),
        other => other.map(|_| None).during("letting go of what is not used any more"),
    }
}
