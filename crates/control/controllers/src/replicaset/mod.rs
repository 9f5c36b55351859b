//! Keeps a ReplicaSet's number of pods.

mod plan;

pub use plan::Unknown;

use std::sync::Arc;

use base_tasks::Tasks;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use machinery_client::kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use machinery_client::kube::{Api, Client};
use machinery_client::{EventKind, ObjectKey, Recorder, Regarding};
use serde_json::json;

use crate::programmed::Programmed;
use crate::reconcile::{self, Again, During, Error, is_code};
use crate::world::{PodFacts, World, owned_by};

/// Pods made at once; the API takes them one commit each, and groups commits that wait together.
const PARALLEL: usize = 16;

struct Controller {
    client: Client,
    world: World,
    recorder: Recorder,
    programmed: Programmed,
}

pub fn start(tasks: &Tasks, client: &Client, world: &World, programmed: Programmed) {
    let queue = reconcile::queue::<ObjectKey>();
    reconcile::wake(tasks, &world.replica_sets, {
        let queue = queue.clone();
        move |change| queue.add(change.key().clone())
    });
    let sets = world.replica_sets.clone();
    reconcile::wake_owners(tasks, &world.pods, &queue, "ReplicaSet", move |pod| {
        let adopters = sets.select(|key, set| key.namespace == pod.key.namespace && selects(set, pod));
        adopters.into_iter().map(|(key, _)| key).collect()
    });
    programmed.wake(tasks, &queue);
    let controller = Arc::new(Controller {
        client: client.clone(),
        world: world.clone(),
        programmed,
        recorder: Recorder::new(tasks, client.clone(), "replicaset-controller", None),
    });
    let ready = {
        let world = world.clone();
        async move {
            world.replica_sets.synced().await;
            world.pods.synced().await;
        }
    };
    reconcile::run(tasks, &queue, 4, ready, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.reconcile(key).await }
    });
}

fn selects(set: &ReplicaSet, pod: &PodFacts) -> bool {
    set.spec
        .as_ref()
        .and_then(|spec| base_meta::selector::LabelSelector::from_typed(Some(&spec.selector)).ok())
        .is_some_and(|selector| selector.matches(|key| pod.labels.get(key).map(String::as_str)))
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<Again, Error> {
        let Some(set) = self.world.replica_sets.get(&key) else { return Ok(None) };
        let Some(selector) = set
            .spec
            .as_ref()
            .and_then(|spec| base_meta::selector::LabelSelector::from_typed(Some(&spec.selector)).ok())
            .filter(|selector| !selector.requirements.is_empty())
        else {
            return Ok(None); // validation lets no such set in
        };
        let pods = self.world.pods_in(&key.namespace);
        let pods: Vec<&PodFacts> = pods.iter().map(Arc::as_ref).collect();
        let now = Timestamp::now();
        let unknown = |pod: &PodFacts| self.programmed.unknown_for(pod, &key, now);
        let mut plan = plan::plan(&set, &selector, &pods, &unknown, now);

        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        for name in &plan.adopt {
            let patch = json!({ "metadata": { "ownerReferences": [owned_by(&*set)] } });
            patch_pod(&api, name, &patch).await?;
        }
        for name in &plan.release {
            let uid = set.metadata.uid.as_deref().unwrap_or_default();
            let patch = json!({ "metadata": { "ownerReferences": [{ "$patch": "delete", "uid": uid }] } });
            patch_pod(&api, name, &patch).await?;
        }
        let failure = match self.create(&api, &set, plan.create).await {
            Err(message) => Some(("FailedCreate", message)),
            Ok(()) => self.delete(&api, &set, &plan.delete).await.err().map(|message| ("FailedDelete", message)),
        };
        let failed = failure.is_some();
        plan::record_failure(&mut plan.status, failure, now);
        self.write_status(&key, &set, &plan.status).await?;
        if failed {
            return Err(Error::Api {
                operation: "making or deleting pods",
                source: Box::new(machinery_client::kube::Error::Service("see the ReplicaFailure condition".into())),
            });
        }
        Ok(plan.recheck.map(jiff::SignedDuration::unsigned_abs))
    }

    /// Makes `count` pods; stops at the first failure, and returns its message.
    async fn create(&self, api: &Api<Pod>, set: &ReplicaSet, count: usize) -> Result<(), String> {
        if count == 0 {
            return Ok(());
        }
        let template = set.spec.clone().unwrap_or_default().template.unwrap_or_default();
        let mut meta = template.metadata.unwrap_or_default();
        meta.generate_name = Some(format!("{}-", set.metadata.name.as_deref().unwrap_or_default()));
        meta.owner_references = Some(vec![owned_by(set)]);
        let pod = Pod { metadata: meta, spec: template.spec, status: None };
        let params = PostParams::default();
        let mut made = futures::stream::iter(0..count).map(|_| api.create(&params, &pod)).buffer_unordered(PARALLEL);
        let (mut newest, mut failure) = (0u64, None);
        while let Some(outcome) = made.next().await {
            match outcome {
                Ok(pod) => {
                    let name = pod.metadata.name.unwrap_or_default();
                    newest = newest.max(pod.metadata.resource_version.and_then(|v| v.parse().ok()).unwrap_or(0));
                    self.event(set, EventKind::Normal, "SuccessfulCreate", &format!("Created pod: {name}"));
                }
                Err(error) => {
                    failure.get_or_insert_with(|| error.to_string());
                }
            }
        }
        if let Err(lagging) = self.world.pods.caught_up(&newest.to_string()).await {
            return Err(lagging.to_string());
        }
        match failure {
            None => Ok(()),
            Some(message) => {
                self.event(set, EventKind::Warning, "FailedCreate", &format!("Error creating: {message}"));
                Err(message)
            }
        }
    }

    async fn delete(&self, api: &Api<Pod>, set: &ReplicaSet, names: &[String]) -> Result<(), String> {
        for name in names {
            match api.delete(name, &DeleteParams::default()).await {
                Ok(answer) => {
                    if let Some(version) = answer.left().and_then(|pod| pod.metadata.resource_version)
                        && let Err(lagging) = self.world.pods.caught_up(&version).await
                    {
                        return Err(lagging.to_string());
                    }
                    self.event(set, EventKind::Normal, "SuccessfulDelete", &format!("Deleted pod: {name}"));
                }
                Err(error) if is_code(&error, 404) => {}
                Err(error) => {
                    self.event(set, EventKind::Warning, "FailedDelete", &format!("Error deleting: {error}"));
                    return Err(error.to_string());
                }
            }
        }
        Ok(())
    }

    async fn write_status(
        &self,
        key: &ObjectKey,
        set: &ReplicaSet,
        status: &k8s_openapi::api::apps::v1::ReplicaSetStatus,
    ) -> Result<(), Error> {
        if set.status.as_ref() == Some(status) {
            return Ok(());
        }
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &key.namespace);
        let mut new = set.clone();
        new.status = Some(status.clone());
        match api.replace_status(&key.name, &PostParams::default(), &new).await {
            Err(error) if is_code(&error, 404) => Ok(()),
            other => other.map(drop).during("writing a ReplicaSet's status"),
        }
    }

    fn event(&self, set: &ReplicaSet, kind: EventKind, reason: &str, message: &str) {
        self.recorder.event(&regarding(set), kind, reason, message);
    }
}

pub async fn patch_pod(api: &Api<Pod>, name: &str, patch: &serde_json::Value) -> Result<(), Error> {
    match api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
        Err(error) if is_code(&error, 404) => Ok(()),
        other => other.map(drop).during("changing a pod's owner"),
    }
}

/// The object an event is about.
pub fn regarding<K>(object: &K) -> Regarding
where
    K: k8s_openapi::Resource + k8s_openapi::Metadata<Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>,
{
    let meta = object.metadata();
    Regarding {
        api_version: K::API_VERSION.into(),
        kind: K::KIND.into(),
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        field_path: None,
    }
}
