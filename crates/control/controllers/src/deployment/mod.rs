//! Rolls a Deployment from one pod template to the next through ReplicaSets.

mod plan;
mod scale;
mod sets;
mod status;

use std::sync::Arc;
use std::time::Duration;

use base_meta::selector::LabelSelector;
use base_tasks::Tasks;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use machinery_client::kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, EventKind, ObjectKey, Recorder};
use serde_json::json;

use self::status::NewSet;
use crate::reconcile::{self, Again, During, Error, is_code};
use crate::replicaset::regarding;
use crate::world::{World, controller_of, owned_by};

struct Controller {
    client: Client,
    world: World,
    recorder: Recorder,
}

pub fn start(tasks: &Tasks, client: &Client, world: &World) {
    let queue = reconcile::queue::<ObjectKey>();
    reconcile::wake(tasks, &world.deployments, {
        let queue = queue.clone();
        move |change| queue.add(change.key().clone())
    });
    reconcile::wake(tasks, &world.replica_sets, {
        let (queue, deployments) = (queue.clone(), world.deployments.clone());
        move |change| {
            let (Change::Applied { new: set, .. } | Change::Deleted { old: set, .. }) = change;
            let namespace = &change.key().namespace;
            match controller_of(&set.metadata) {
                Some(owner) if owner.kind == "Deployment" => queue.add(ObjectKey::new(namespace.clone(), owner.name)),
                Some(_) => {}
                None => {
                    for (key, deployment) in deployments.list() {
                        if key.namespace == *namespace && selector(&deployment).is_some_and(|s| matches(&s, set)) {
                            queue.add(key);
                        }
                    }
                }
            }
        }
    });
    // Recreate waits for the last old pod.
    reconcile::wake(tasks, &world.pods, {
        let (queue, sets) = (queue.clone(), world.replica_sets.clone());
        move |change| {
            if let Change::Deleted { key, old } = change
                && let Some(owner) = old.controller.as_ref().filter(|owner| owner.kind == "ReplicaSet")
                && let Some(set) = sets.get(&ObjectKey::new(key.namespace.clone(), owner.name.clone()))
                && let Some(owner) = controller_of(&set.metadata)
            {
                queue.add(ObjectKey::new(key.namespace.clone(), owner.name));
            }
        }
    });
    let controller = Arc::new(Controller {
        client: client.clone(),
        world: world.clone(),
        recorder: Recorder::new(tasks, client.clone(), "deployment-controller", None),
    });
    let ready = {
        let world = world.clone();
        async move {
            world.deployments.synced().await;
            world.replica_sets.synced().await;
            world.pods.synced().await;
        }
    };
    reconcile::run(tasks, &queue, 4, ready, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.reconcile(key).await }
    });
}

fn selector(deployment: &Deployment) -> Option<LabelSelector> {
    let selector = LabelSelector::from_typed(Some(&deployment.spec.as_ref()?.selector)).ok()?;
    (!selector.requirements.is_empty()).then_some(selector)
}

fn matches(selector: &LabelSelector, set: &ReplicaSet) -> bool {
    selector.matches(|key| set.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str))
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<Again, Error> {
        let Some(deployment) = self.world.deployments.get(&key) else { return Ok(None) };
        let Some(selector) = selector(&deployment) else { return Ok(None) };
        let sets = self.sets(&key);
        let plan = plan::plan(&deployment, &selector, &sets, |old| self.has_pods(&key, old));
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &key.namespace);
        for name in &plan.adopt {
            let patch = json!({ "metadata": { "ownerReferences": [owned_by(&*deployment)] } });
            let adopted = api
                .patch(name, &PatchParams::default(), &Patch::Strategic(patch))
                .await
                .during("adopting a ReplicaSet")?;
            self.caught_up(&adopted).await?;
        }
        let mut created = false;
        if let Some(set) = &plan.create {
            match self.create(&api, &key, &deployment, set).await? {
                Created::Now => created = true,
                Created::Collided => return Ok(None), // the status write wakes us with another hash
            }
        }
        for set in &plan.update {
            let written = api
                .replace(sets::name(set), &PostParams::default(), set)
                .await
                .during("changing a ReplicaSet's annotations")?;
            self.caught_up(&written).await?;
        }
        for (name, size) in &plan.scale {
            self.scale(&api, &deployment, &sets, name, *size).await?;
        }
        for name in &plan.delete {
            match api.delete(name, &DeleteParams::background()).await {
                Err(error) if !is_code(&error, 404) => return Err(error).during("deleting an old ReplicaSet"),
                _ => {}
            }
        }
        if let Some(revision) = plan.revision {
            let patch = json!({ "metadata": { "annotations": { sets::REVISION: revision.to_string() } } });
            Api::<Deployment>::namespaced(self.client.clone(), &key.namespace)
                .patch(&key.name, &PatchParams::default(), &Patch::Merge(patch))
                .await
                .map(drop)
                .during("writing a Deployment's revision")?;
        }
        self.write_status(&key, &deployment, &selector, created).await
    }

    fn sets(&self, key: &ObjectKey) -> Vec<ReplicaSet> {
        let all = self.world.replica_sets.list();
        all.into_iter().filter(|(at, _)| at.namespace == key.namespace).map(|(_, set)| (*set).clone()).collect()
    }

    fn has_pods(&self, key: &ObjectKey, old: &[&ReplicaSet]) -> bool {
        self.world.pods_in(&key.namespace).iter().any(|pod| {
            !pod.terminal()
                && pod
                    .controller
                    .as_ref()
                    .is_some_and(|owner| old.iter().any(|set| set.metadata.uid.as_deref() == Some(owner.uid.as_str())))
        })
    }

    async fn caught_up(&self, set: &ReplicaSet) -> Result<(), Error> {
        let version = set.metadata.resource_version.as_deref().unwrap_or_default();
        Ok(self.world.replica_sets.caught_up(version).await?)
    }

    async fn create(
        &self,
        api: &Api<ReplicaSet>,
        key: &ObjectKey,
        deployment: &Deployment,
        set: &ReplicaSet,
    ) -> Result<Created, Error> {
        match api.create(&PostParams::default(), set).await {
            Ok(made) => {
                self.caught_up(&made).await?;
                let message =
                    format!("Scaled up replica set {} from 0 to {}", sets::name(&made), sets::replicas(&made));
                if sets::replicas(&made) > 0 {
                    self.recorder.event(&regarding(deployment), EventKind::Normal, "ScalingReplicaSet", &message);
                }
                Ok(Created::Now)
            }
            // Somebody else's set has our name: another hash.
            Err(error) if is_code(&error, 409) => {
                let mut status = deployment.status.clone().unwrap_or_default();
                status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
                self.put_status(key, deployment, status).await?;
                Ok(Created::Collided)
            }
            Err(error) => {
                let message = format!("Failed to create new replica set {:?}: {error}", sets::name(set));
                self.recorder.event(&regarding(deployment), EventKind::Warning, "ReplicaSetCreateError", &message);
                Err(error).during("making a ReplicaSet")
            }
        }
    }

    async fn scale(
        &self,
        api: &Api<ReplicaSet>,
        deployment: &Deployment,
        sets: &[ReplicaSet],
        name: &str,
        size: i32,
    ) -> Result<(), Error> {
        let Some(set) = sets.iter().find(|set| sets::name(set) == name) else { return Ok(()) };
        let before = sets::replicas(set);
        let (surge, _) = sets::bounds(deployment);
        let mut annotations = std::collections::BTreeMap::new();
        sets::Scale { desired: sets::wanted(deployment), surge }.write(&mut annotations);
        let patch = json!({ "metadata": { "annotations": annotations }, "spec": { "replicas": size } });
        let written =
            api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.during("scaling a ReplicaSet")?;
        self.caught_up(&written).await?;
        let direction = if size > before { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {name} from {before} to {size}");
        self.recorder.event(&regarding(deployment), EventKind::Normal, "ScalingReplicaSet", &message);
        Ok(())
    }

    async fn write_status(
        &self,
        key: &ObjectKey,
        deployment: &Deployment,
        selector: &LabelSelector,
        created: bool,
    ) -> Result<Again, Error> {
        let sets = self.sets(key);
        let mine = plan::owned(deployment, selector, &sets, &mut plan::Plan::default());
        let new = sets::find_new(deployment, &mine);
        let state = if created { NewSet::Created } else { NewSet::Found };
        let outcome = status::status(deployment, new.map(|new| (new, state)), &mine, Timestamp::now());
        if deployment.status.as_ref() != Some(&outcome.status) {
            self.put_status(key, deployment, outcome.status).await?;
        }
        Ok(outcome.recheck.map(|delay| delay.max(Duration::from_millis(10))))
    }

    async fn put_status(
        &self,
        key: &ObjectKey,
        deployment: &Deployment,
        status: k8s_openapi::api::apps::v1::DeploymentStatus,
    ) -> Result<(), Error> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &key.namespace);
        // The status whole, of this very object: a merge would keep counts that are gone by now.
        let patch = json!([
            { "op": "test", "path": "/metadata/uid", "value": deployment.metadata.uid },
            { "op": "add", "path": "/status", "value": status },
        ]);
        let Ok(patch) = serde_json::from_value(patch) else { return Ok(()) };
        match api.patch_status(&key.name, &PatchParams::default(), &Patch::<()>::Json(patch)).await {
            Err(error) if is_code(&error, 404) => Ok(()),
            other => other.map(drop).during("writing a Deployment's status"),
        }
    }
}

enum Created {
    Now,
    Collided,
}
