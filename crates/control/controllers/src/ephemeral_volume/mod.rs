//! Makes the claims of pods' ephemeral volumes; they go with their pods, which own them. Upstream's ephemeral-volume
//! controller.

use base_tasks::Tasks;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use machinery_client::kube::api::{ObjectMeta, PostParams};
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, EventKind, ObjectKey, Recorder};

use crate::reconcile::{self, Again, During, Error, is_code};
use crate::world::{PodFacts, World, owned_by};

#[derive(Clone)]
struct Ephemeral {
    client: Client,
    world: World,
    recorder: Recorder,
}

pub fn start(tasks: &Tasks, client: &Client, world: &World) {
    let queue = reconcile::queue::<ObjectKey>();
    reconcile::wake(tasks, &world.pods, {
        let queue = queue.clone();
        move |change| {
            if let Change::Applied { key, new, .. } = change
                && new.own_claims
                && new.active()
            {
                queue.add(key.clone());
            }
        }
    });
    // Deleted by hand under a pod that wants it.
    reconcile::wake(tasks, &world.claims, {
        let (queue, pods) = (queue.clone(), world.pods.clone());
        move |change| {
            let Change::Deleted { key, .. } = change else { return };
            let theirs = |pod: &PodFacts| pod.own_claims && pod.claims.contains(&key.name);
            let waiting = pods.select(|pod, facts| pod.namespace == key.namespace && theirs(facts));
            waiting.into_iter().for_each(|(key, _)| queue.add(key));
        }
    });
    let recorder = Recorder::new(tasks, client.clone(), "ephemeral_volume", None);
    let ephemeral = Ephemeral { client: client.clone(), world: world.clone(), recorder };
    let ready = {
        let world = world.clone();
        async move {
            world.pods.synced().await;
            world.claims.synced().await;
        }
    };
    reconcile::run(tasks, &queue, 1, ready, move |key| {
        let ephemeral = ephemeral.clone();
        async move { ephemeral.make(&key).await }
    });
}

impl Ephemeral {
    async fn make(&self, key: &ObjectKey) -> Result<Again, Error> {
        let Some(facts) = self.world.pods.get(key).filter(|pod| pod.active()) else { return Ok(None) };
        let claims = || facts.claims.iter().map(|name| ObjectKey::new(key.namespace.clone(), name.clone()));
        if claims().all(|claim| self.world.claims.get(&claim).is_some()) {
            return Ok(None);
        }
        // The template is long: the informers keep none.
        let pods = Api::<Pod>::namespaced(self.client.clone(), &key.namespace);
        let Some(pod) = pods.get_opt(&key.name).await.during("reading a pod with ephemeral volumes")? else {
            return Ok(None);
        };
        if pod.metadata.uid.as_ref() != Some(&facts.uid) {
            return Ok(None);
        }
        let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &key.namespace);
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let template = volume.ephemeral.as_ref().and_then(|source| source.volume_claim_template.clone());
            let Some(template) = template else { continue };
            let given = template.metadata.unwrap_or_default();
            let name = api::volume::own_claim(&key.name, &volume.name);
            let metadata = ObjectMeta {
                name: Some(name.clone()),
                labels: given.labels,
                annotations: given.annotations,
                owner_references: Some(vec![owned_by(&pod)]),
                ..ObjectMeta::default()
            };
            let claim = PersistentVolumeClaim { metadata, spec: Some(template.spec), status: None };
            match api.create(&PostParams::default(), &claim).await {
                Ok(made) => {
                    let version = made.metadata.resource_version.unwrap_or_default();
                    self.world.claims.caught_up(&version).await?;
                }
                // Made before, or somebody else's: then the scheduler says so.
                Err(error) if is_code(&error, 409) => {}
                Err(error) => {
                    let message = format!("ephemeral volume {}: create PVC {name}: {error}", volume.name);
                    self.recorder.event(&facts.regarding(), EventKind::Warning, "FailedBinding", &message);
                    return Err(error).during("making the claim of an ephemeral volume");
                }
            }
        }
        Ok(None)
    }
}
