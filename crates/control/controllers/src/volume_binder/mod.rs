//! Brings claims and volumes together, and says of both how they are. Upstream's persistentvolume-binder controller.
//!
//! ```text
//! claim ─▶ volume set aside for it, or the smallest that fits ─▶ claimRef ▸ Bound ▸ volumeName ▸ Bound
//!   └───▶ none: a provisioner is named on the claim (at once, or when the scheduler has selected a node)
//! ```
//! Each of the four writes leaves something from which the next look goes on.

mod plan;

use std::sync::Arc;

use api::volume::{BIND_COMPLETED, BOUND_BY_CONTROLLER, Claim, PROVISIONER, Volume};
use base_tasks::{Tasks, WorkQueue};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use machinery_client::kube::api::{Patch, PatchParams};
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, ObjectKey, Recorder, Regarding};
use serde_json::{Value, json};

use self::plan::{ClaimStep, Told, VolumeStep};
use crate::reconcile::{self, Again, During, Error, is_code};
use crate::world::World;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Claim(ObjectKey),
    Volume(String),
}

#[derive(Clone)]
struct Binder {
    client: Client,
    world: World,
    recorder: Recorder,
}

pub fn start(tasks: &Tasks, client: &Client, world: &World) {
    let queue = reconcile::queue::<Key>();
    wake(tasks, world, &queue);
    let recorder = Recorder::new(tasks, client.clone(), "persistentvolume-controller", None);
    let binder = Binder { client: client.clone(), world: world.clone(), recorder };
    let ready = {
        let world = world.clone();
        async move {
            world.claims.synced().await;
            world.volumes.synced().await;
            world.classes.synced().await;
        }
    };
    // One: two claims must not choose the same volume.
    reconcile::run(tasks, &queue, 1, ready, move |key| {
        let binder = binder.clone();
        async move {
            match key {
                Key::Claim(key) => binder.claim(&key).await,
                Key::Volume(name) => binder.volume(&name).await,
            }
        }
    });
}

fn wake(tasks: &Tasks, world: &World, queue: &WorkQueue<Key>) {
    reconcile::wake(tasks, &world.claims, {
        let (queue, volumes) = (queue.clone(), world.volumes.clone());
        move |change| {
            let (Change::Applied { key, new: claim, .. } | Change::Deleted { key, old: claim }) = change;
            queue.add(Key::Claim(key.clone()));
            claim.volume.iter().for_each(|volume| queue.add(Key::Volume(volume.clone())));
            let theirs = volumes.select(|_, volume| volume.is_for(claim));
            theirs.into_iter().for_each(|(key, _)| queue.add(Key::Volume(key.name)));
        }
    });
    reconcile::wake(tasks, &world.volumes, {
        let (queue, claims) = (queue.clone(), world.claims.clone());
        move |change| {
            let (Change::Applied { key, new: volume, .. } | Change::Deleted { key, old: volume }) = change;
            queue.add(Key::Volume(key.name.clone()));
            match &volume.claim {
                Some(claim) => queue.add(Key::Claim(ObjectKey::new(claim.namespace.clone(), claim.name.clone()))),
                // It may be what somebody waits for.
                None => {
                    let waiting = claims.select(|_, claim| !claim.bind_completed && claim.class == volume.class);
                    waiting.into_iter().for_each(|(key, _)| queue.add(Key::Claim(key)));
                }
            }
        }
    });
    let (queue, claims) = (queue.clone(), world.claims.clone());
    reconcile::wake(tasks, &world.classes, move |change| {
        let waiting = claims.select(|_, claim| !claim.bind_completed && claim.class == change.key().name);
        waiting.into_iter().for_each(|(key, _)| queue.add(Key::Claim(key)));
    });
}

/// What an Event about a claim regards.
pub(crate) fn regarding(claim: &Claim) -> Regarding {
    Regarding {
        api_version: "v1".into(),
        kind: "PersistentVolumeClaim".into(),
        namespace: claim.namespace.clone(),
        name: claim.name.clone(),
        uid: claim.uid.clone(),
        field_path: None,
    }
}

impl Binder {
    async fn claim(&self, key: &ObjectKey) -> Result<Again, Error> {
        let Some(claim) = self.world.claims.get(key) else { return Ok(None) };
        let volumes: Vec<_> = self.world.volumes.list().into_iter().map(|(_, volume)| volume).collect();
        let class = self.world.classes.get(&ObjectKey::new("", claim.class.clone()));
        let waits = |name: &String| name == &key.name;
        let pods = self.world.pods_in(&key.namespace);
        let consumers = pods.iter().filter(|pod| !pod.terminal() && pod.node.is_none() && pod.claims.iter().any(waits));
        let mut consumers: Vec<_> = consumers.map(|pod| pod.key.name.clone()).collect();
        consumers.sort();
        match plan::claim(&claim, &volumes, class.as_deref(), &consumers) {
            ClaimStep::Bind(name) => {
                let volume = volumes.iter().find(|volume| volume.name == name);
                let Some(volume) = volume else { return Ok(None) };
                self.bind(&claim, volume).await
            }
            ClaimStep::Pending(told) => {
                self.tell(&claim, told.as_ref());
                self.claim_phase(&claim, json!({"phase": "Pending"})).await
            }
            ClaimStep::Provision { provisioner, told } => {
                if claim.provisioner.as_deref() != Some(&provisioner) {
                    let annotations = json!({PROVISIONER[0]: provisioner, PROVISIONER[1]: provisioner});
                    let patch = json!({"metadata": {"uid": claim.uid, "annotations": annotations}});
                    if !self.patch_claim(&claim, &patch).await? {
                        return Ok(None);
                    }
                }
                // What is built in needs no patience.
                let told = Some(&told).filter(|_| provisioner != api::volume::LOCAL_PATH);
                self.tell(&claim, told);
                self.claim_phase(&claim, json!({"phase": "Pending"})).await
            }
            ClaimStep::Lost(told) => {
                if claim.phase != "Lost" {
                    self.tell(&claim, Some(&told));
                }
                self.claim_phase(&claim, json!({"phase": "Lost", "accessModes": null, "capacity": null})).await
            }
        }
    }

    fn tell(&self, claim: &Claim, told: Option<&Told>) {
        if let Some(Told { kind, reason, message }) = told {
            self.recorder.event(&regarding(claim), *kind, reason, message);
        }
    }

    /// The four writes, as many as are missing.
    async fn bind(&self, claim: &Claim, volume: &Volume) -> Result<Again, Error> {
        let volumes = Api::<PersistentVolume>::all(self.client.clone());
        let params = PatchParams::default();
        if volume.claim.as_ref().and_then(|whose| whose.uid.as_ref()) != Some(&claim.uid) {
            let mut patch = json!({"metadata": {"uid": volume.uid}, "spec": {"claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": claim.namespace, "name": claim.name, "uid": claim.uid,
            }}});
            if volume.claim.is_none() {
                patch["metadata"]["annotations"] = json!({BOUND_BY_CONTROLLER: "yes"});
            }
            match volumes.patch(&volume.name, &params, &Patch::Merge(&patch)).await {
                Ok(written) => self.volume_shown(written.metadata.resource_version).await?,
                Err(error) if is_code(&error, 404) || is_code(&error, 409) => return Ok(None),
                Err(error) => return Err(error).during("giving a volume to its claim"),
            }
        }
        if volume.phase != "Bound" {
            self.volume_phase(volume, "Bound").await?;
        }
        if !claim.bind_completed || claim.volume.as_ref() != Some(&volume.name) {
            let mut annotations = json!({BIND_COMPLETED: "yes"});
            if claim.volume.is_none() {
                annotations[BOUND_BY_CONTROLLER] = json!("yes");
            }
            let patch = json!({"metadata": {"uid": claim.uid, "annotations": annotations},
                "spec": {"volumeName": volume.name}});
            if !self.patch_claim(claim, &patch).await? {
                return Ok(None);
            }
        }
        if claim.phase == "Bound" {
            return Ok(None);
        }
        // The facts leave out how the volume writes its size.
        let found = volumes.get_opt(&volume.name).await.during("reading a claim's volume")?;
        let Some(spec) = found.and_then(|volume| volume.spec) else { return Ok(None) };
        let status = json!({"phase": "Bound", "accessModes": spec.access_modes, "capacity": spec.capacity});
        self.claim_phase(claim, status).await
    }

    /// Whether it is still there.
    async fn patch_claim(&self, claim: &Claim, patch: &Value) -> Result<bool, Error> {
        let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &claim.namespace);
        match api.patch(&claim.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(written) => {
                self.world.claims.caught_up(written.metadata.resource_version.as_deref().unwrap_or_default()).await?;
                Ok(true)
            }
            Err(error) if is_code(&error, 404) || is_code(&error, 409) => Ok(false),
            Err(error) => Err(error).during("binding a claim"),
        }
    }

    async fn claim_phase(&self, claim: &Claim, status: Value) -> Result<Again, Error> {
        if status["phase"] == claim.phase {
            return Ok(None);
        }
        let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &claim.namespace);
        let patch = json!({"metadata": {"uid": claim.uid}, "status": status});
        match api.patch_status(&claim.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(written) => {
                self.world.claims.caught_up(written.metadata.resource_version.as_deref().unwrap_or_default()).await?;
                Ok(None)
            }
            Err(error) if is_code(&error, 404) || is_code(&error, 409) => Ok(None),
            Err(error) => Err(error).during("saying how a claim is"),
        }
    }

    async fn volume(&self, name: &str) -> Result<Again, Error> {
        let Some(volume) = self.world.volumes.get(&ObjectKey::new("", name)) else { return Ok(None) };
        let claim = self.claim_of(&volume).await?;
        match plan::volume(&volume, claim.as_deref()) {
            VolumeStep::Nothing => Ok(None),
            VolumeStep::Phase(phase) => self.volume_phase(&volume, phase).await,
            VolumeStep::Unbind => {
                let claim = if volume.bound_by_controller { Value::Null } else { json!({"uid": null}) };
                let patch = json!({"metadata": {"uid": volume.uid, "annotations": {BOUND_BY_CONTROLLER: null}},
                    "spec": {"claimRef": claim}});
                let api = Api::<PersistentVolume>::all(self.client.clone());
                match api.patch(&volume.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                    Ok(written) => self.volume_shown(written.metadata.resource_version).await?,
                    Err(error) if is_code(&error, 404) || is_code(&error, 409) => {}
                    Err(error) => return Err(error).during("freeing a volume"),
                }
                Ok(None)
            }
        }
    }

    /// The claim that a volume names, if that is still the same. Data hangs on it: that it is gone must be so.
    async fn claim_of(&self, volume: &Volume) -> Result<Option<Arc<Claim>>, Error> {
        let Some(whose) = volume.claim.as_ref() else { return Ok(None) };
        let same = |claim: &Claim| whose.uid.as_ref().is_none_or(|uid| *uid == claim.uid);
        let known = self.world.claims.get(&ObjectKey::new(whose.namespace.clone(), whose.name.clone()));
        if let Some(claim) = known.filter(|claim| same(claim)) {
            return Ok(Some(claim));
        }
        let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &whose.namespace);
        let live = api.get_opt(&whose.name).await.during("reading a volume's claim")?;
        Ok(live.map(Claim::of).filter(same).map(Arc::new))
    }

    async fn volume_phase(&self, volume: &Volume, phase: &str) -> Result<Again, Error> {
        let api = Api::<PersistentVolume>::all(self.client.clone());
        let patch = json!({"metadata": {"uid": volume.uid}, "status": {"phase": phase}});
        match api.patch_status(&volume.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(written) => self.volume_shown(written.metadata.resource_version).await?,
            Err(error) if is_code(&error, 404) || is_code(&error, 409) => {}
            Err(error) => return Err(error).during("saying how a volume is"),
        }
        Ok(None)
    }

    async fn volume_shown(&self, version: Option<String>) -> Result<(), Error> {
        Ok(self.world.volumes.caught_up(version.as_deref().unwrap_or_default()).await?)
    }
}
