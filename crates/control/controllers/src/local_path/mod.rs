//! The provisioner that every cluster has: a volume is a directory on the node of its claim's first pod.
//!
//! The directory is made by the node when a pod first uses it. For its removal the node is asked by an annotation on
//! its own Node, and answers there: a node reads no volumes but those of its pods.

mod plan;

use api::volume::{Claim, LOCAL_DIRECTORY, REMOVAL, REMOVAL_DONE, REMOVAL_WANTED, Volume};
use base_tasks::Tasks;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use machinery_client::kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use machinery_client::kube::{Api, Client};
use machinery_client::{EventKind, ObjectKey, Recorder};
use serde_json::{Value, json};

use self::plan::{Directory, FINALIZER, Site, Step};
use crate::nodes::NodeFacts;
use crate::reconcile::{self, Again, During, Error, is_code};
use crate::volume_binder::regarding;
use crate::world::World;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Claim(ObjectKey),
    Volume(String),
}

#[derive(Clone)]
struct LocalPath {
    client: Client,
    world: World,
    recorder: Recorder,
}

pub fn start(tasks: &Tasks, client: &Client, world: &World) {
    let queue = reconcile::queue::<Key>();
    reconcile::wake(tasks, &world.claims, {
        let queue = queue.clone();
        move |change| queue.add(Key::Claim(change.key().clone()))
    });
    reconcile::wake(tasks, &world.volumes, {
        let queue = queue.clone();
        move |change| queue.add(Key::Volume(change.key().name.clone()))
    });
    // What it has said, or where it has its volumes.
    reconcile::wake(tasks, &world.nodes, {
        let (queue, claims) = (queue.clone(), world.claims.clone());
        let volumes = world.volumes.clone();
        move |change| {
            let waiting = claims.select(|_, claim| plan::ours(claim));
            waiting.into_iter().for_each(|(key, _)| queue.add(Key::Claim(key)));
            let over = volumes.select(|_, volume| volume.provisioned_by.is_some() && volume.phase == "Released");
            over.into_iter().for_each(|(key, _)| queue.add(Key::Volume(key.name)));
            if let machinery_client::Change::Applied { new, .. } = change {
                new.removals.iter().for_each(|(name, _)| queue.add(Key::Volume(name.clone())));
            }
        }
    });
    let recorder = Recorder::new(tasks, client.clone(), api::volume::LOCAL_PATH, None);
    let local = LocalPath { client: client.clone(), world: world.clone(), recorder };
    let ready = {
        let world = world.clone();
        async move {
            world.claims.synced().await;
            world.volumes.synced().await;
            world.classes.synced().await;
            world.nodes.synced().await;
        }
    };
    reconcile::run(tasks, &queue, 1, ready, move |key| {
        let local = local.clone();
        async move {
            match key {
                Key::Claim(key) => local.provision(&key).await,
                Key::Volume(name) => local.reclaim(&name).await,
            }
        }
    });
}

fn site(node: &NodeFacts) -> Option<Site> {
    Some(Site {
        node: node.name.clone(),
        hostname: node.labels.get("kubernetes.io/hostname").unwrap_or(&node.name).clone(),
        directory: node.local_directory.clone()?,
    })
}

impl LocalPath {
    async fn provision(&self, key: &ObjectKey) -> Result<Again, Error> {
        let Some(claim) = self.world.claims.get(key).filter(|claim| plan::ours(claim)) else { return Ok(None) };
        let Some(class) = self.world.classes.get(&ObjectKey::new("", claim.class.clone())) else { return Ok(None) };
        if self.world.volumes.get(&ObjectKey::new("", plan::name(&claim))).is_some() {
            return Ok(None);
        }
        let mut sites: Vec<_> = self.world.nodes.list().iter().filter_map(|(_, node)| site(node)).collect();
        sites.sort_by(|one, two| one.node.cmp(&two.node));
        let site = match plan::site(&claim, &class, &sites) {
            Ok(site) => site,
            Err(why) => {
                if let Some(why) = why {
                    self.failed(&claim, &why);
                }
                return Ok(None);
            }
        };
        // The facts leave out how the claim writes its size.
        let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &key.namespace);
        let live = api.get_opt(&key.name).await.during("reading a claim to provision")?;
        let size = live.and_then(|live| live.spec?.resources?.requests?.get("storage").map(|size| size.0.clone()));
        let Some(size) = size else { return Ok(None) };
        let object = match plan::volume(&claim, &size, &class, site) {
            Ok(object) => object,
            Err(why) => {
                self.failed(&claim, &why);
                return Ok(None);
            }
        };
        let message = format!("External provisioner is provisioning volume for claim \"{key}\"");
        self.recorder.event(&regarding(&claim), EventKind::Normal, "Provisioning", &message);
        let volume: PersistentVolume = typed(object)?;
        let volumes = Api::<PersistentVolume>::all(self.client.clone());
        match volumes.create(&PostParams::default(), &volume).await {
            Ok(made) => {
                let message = format!("Successfully provisioned volume {}", plan::name(&claim));
                self.recorder.event(&regarding(&claim), EventKind::Normal, "ProvisioningSucceeded", &message);
                self.world.volumes.caught_up(made.metadata.resource_version.as_deref().unwrap_or_default()).await?;
                Ok(None)
            }
            Err(error) if is_code(&error, 409) => Ok(None),
            Err(error) => Err(error).during("making a volume"),
        }
    }

    fn failed(&self, claim: &Claim, why: &str) {
        let message = format!("failed to provision volume with StorageClass {:?}: {why}", claim.class);
        self.recorder.event(&regarding(claim), EventKind::Warning, "ProvisioningFailed", &message);
    }

    async fn reclaim(&self, name: &str) -> Result<Again, Error> {
        let Some(volume) = self.world.volumes.get(&ObjectKey::new("", name)) else {
            return self.forget(name).await;
        };
        let nodes = self.world.nodes.list();
        let host = volume.only_host.as_deref();
        let sites = nodes.iter().filter_map(|(_, node)| Some((node, site(node)?)));
        let node = sites.into_iter().find(|(_, site)| Some(&*site.hostname) == host).map(|(node, _)| node);
        let directory = node.map(|node| match node.removals.get(name) {
            None => Directory::There,
            Some(done) => {
                if *done {
                    Directory::Gone
                } else {
                    Directory::Asked
                }
            }
        });
        match plan::reclaim(&volume, directory) {
            Step::Nothing => Ok(None),
            Step::Ask => match node {
                Some(node) => self.say(&node.name, name, json!(REMOVAL_WANTED)).await,
                None => Ok(None),
            },
            Step::Delete => self.delete(&volume).await,
        }
    }

    /// The object first: the binder must not see it without its finalizer and take it for somebody's.
    async fn delete(&self, volume: &Volume) -> Result<Again, Error> {
        let api = Api::<PersistentVolume>::all(self.client.clone());
        if !volume.deleting {
            match api.delete(&volume.name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(error) if is_code(&error, 404) => return Ok(None),
                Err(error) => return Err(error).during("deleting a volume"),
            }
        }
        let Some(found) = api.get_opt(&volume.name).await.during("reading a deleted volume")? else { return Ok(None) };
        let mut finalizers = found.metadata.finalizers.clone().unwrap_or_default();
        if !finalizers.iter().any(|one| one == FINALIZER) {
            return Ok(None);
        }
        finalizers.retain(|one| one != FINALIZER);
        let version = &found.metadata.resource_version;
        let patch = json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}});
        match api.patch(&volume.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(error) if is_code(&error, 404) => Ok(None),
            other => other.map(|_| None).during("letting go of a volume"),
        }
    }

    /// Of a volume that is gone nothing need be said any more.
    async fn forget(&self, volume: &str) -> Result<Again, Error> {
        let nodes = self.world.nodes.select(|_, node| node.removals.contains_key(volume));
        for (key, _) in nodes {
            self.say(&key.name, volume, Value::Null).await?;
        }
        Ok(None)
    }

    async fn say(&self, node: &str, volume: &str, what: Value) -> Result<Again, Error> {
        let annotation = format!("{REMOVAL}{volume}");
        let patch = json!({"metadata": {"annotations": {annotation: what}}});
        let api = Api::<Node>::all(self.client.clone());
        match api.patch(node, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(written) => {
                self.world.nodes.caught_up(written.metadata.resource_version.as_deref().unwrap_or_default()).await?;
                Ok(None)
            }
            Err(error) if is_code(&error, 404) => Ok(None),
            Err(error) => Err(error).during("asking a node to remove a volume's directory"),
        }
    }
}

/// What a node says of where its volumes are, and of which it was asked to remove: whether they are gone.
pub(crate) fn said(
    annotations: Option<&std::collections::BTreeMap<String, String>>,
) -> (Option<String>, std::collections::BTreeMap<String, bool>) {
    let all = || annotations.into_iter().flatten();
    let removals =
        all().filter_map(|(key, value)| Some((key.strip_prefix(REMOVAL)?.to_owned(), value == REMOVAL_DONE)));
    (annotations.and_then(|all| all.get(LOCAL_DIRECTORY).cloned()), removals.collect())
}

fn typed(object: Value) -> Result<PersistentVolume, Error> {
    serde_json::from_value(object).map_err(machinery_client::kube::Error::SerdeError).during("writing a volume down")
}
