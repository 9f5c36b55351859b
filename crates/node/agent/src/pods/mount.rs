//! Making the pod's volumes, and keeping those that show the cluster up to date in running containers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base_sys::crash;
use futures::future::select_all;
use k8s_openapi::api::core::v1::{Pod, Volume};
use machinery_client::EventKind::Warning;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::cluster::Report;
use crate::followed::Following;
use crate::pods::image;
use crate::pods::worker::Worker;
use crate::pods::{Machine, Message, View};
use crate::seams::chain;
use crate::state::{BACKOFF_INITIAL, BACKOFF_MAX, Failure, Held, RETRY_INITIAL, RETRY_MAX, Volumes};
use crate::volumes::{self, Made, VolumeError};

/// After a renewal that failed.
const RENEW_AGAIN: Duration = Duration::from_secs(30);

const FAILED: &str = "FailedMount";
const NOT_RELEASED: &str = "FailedUnMount";

/// A pod's volumes that are made, and who keep them as they should be.
#[derive(Default)]
pub struct Mounts {
    made: Vec<(String, Made)>,
    keepers: Vec<Keeper>,
}

impl std::fmt::Debug for Mounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.made).finish()
    }
}

/// Why a pod's volumes are not made.
#[derive(Debug)]
pub enum Unmade {
    Volume(String),
    /// The image of one, with a container's reason to wait; the Events of it are out.
    Image {
        image: String,
        reason: &'static str,
        message: String,
    },
}

impl Worker {
    /// Beside the worker: a driver that does not answer must not keep it from anything else.
    pub(super) fn mount_volumes(&mut self) {
        let volumes = self.spec().and_then(|spec| spec.volumes.clone()).unwrap_or_default();
        if volumes.iter().any(volumes::held_by_driver) {
            self.state.held = Held::Some;
        }
        let after = match std::mem::take(&mut self.state.volumes) {
            Volumes::Failed(failure) | Volumes::NoImage { failure, .. } => Some(Box::new(failure)),
            _ => None,
        };
        self.state.volumes = Volumes::Mounting { after };
        let maker = Maker { machine: self.machine.clone(), pod: self.pod.clone(), view: self.view.subscribe() };
        let outbox = self.outbox.clone();
        self.mounting = Some(self.tasks.spawn(async move {
            let outcome = maker.all(volumes).await;
            let _ = outbox.send(Message::Mounted(outcome));
        }));
    }

    pub(super) fn mounted(&mut self, outcome: Result<Mounts, Unmade>) {
        let Volumes::Mounting { after } = &self.state.volumes else { return };
        let after = after.clone();
        self.mounting = None;
        let mounts = match outcome {
            Ok(mounts) => mounts,
            Err(Unmade::Volume(message)) => {
                self.event(None, Warning, FAILED, &message);
                let bounds = (RETRY_INITIAL, RETRY_MAX);
                let failure = Failure::after(after.as_deref(), bounds, FAILED, message, self.now());
                self.state.volumes = Volumes::Failed(failure);
                return;
            }
            Err(Unmade::Image { image, reason, message }) => {
                let bounds = (BACKOFF_INITIAL, BACKOFF_MAX);
                let failure = Failure::after(after.as_deref(), bounds, reason, message, self.now());
                self.state.volumes = Volumes::NoImage { image, failure };
                return;
            }
        };
        self.volumes = mounts.made.into_iter().collect();
        for keeper in mounts.keepers {
            self.keepers.push(self.tasks.spawn(keeper.run()));
        }
        self.state.volumes = Volumes::Mounted;
        crash::point("volumes mounted");
    }

    /// Also beside the worker, and only once nothing of the pod runs.
    pub(super) fn release_volumes(&mut self) {
        self.mounting.take().inspect(AbortHandle::abort);
        self.keepers.drain(..).for_each(|keeper| keeper.abort());
        if matches!(self.state.volumes, Volumes::Mounting { .. }) {
            self.state.volumes = Volumes::Unmounted;
        }
        if !self.machine.csi.holds(self.uid()) {
            self.state.held = Held::Nothing;
            return;
        }
        let after = match std::mem::take(&mut self.state.held) {
            Held::Stuck(failure) => Some(Box::new(failure)),
            _ => None,
        };
        self.state.held = Held::Releasing { after };
        let (csi, uid, outbox) = (self.machine.csi.clone(), self.uid().to_owned(), self.outbox.clone());
        self.tasks.spawn(async move {
            let outcome = csi.release(&uid).await.map_err(|error| chain(&error));
            let _ = outbox.send(Message::Released(outcome));
        });
    }

    pub(super) fn released(&mut self, outcome: Result<(), String>) {
        let Err(error) = outcome else {
            self.state.held = Held::Nothing;
            return;
        };
        let message = format!("UnmountVolume.TearDown failed: {error}");
        self.event(None, Warning, NOT_RELEASED, &message);
        let after = match std::mem::take(&mut self.state.held) {
            Held::Releasing { after } => after,
            _ => None,
        };
        let bounds = (RETRY_INITIAL, RETRY_MAX);
        let failure = Failure::after(after.as_deref(), bounds, NOT_RELEASED, message, self.now());
        self.state.held = Held::Stuck(failure);
    }
}

/// Makes a pod's volumes.
struct Maker {
    machine: Arc<Machine>,
    pod: Arc<Pod>,
    view: watch::Receiver<View>,
}

impl Maker {
    async fn all(&self, volumes: Vec<Volume>) -> Result<Mounts, Unmade> {
        let mut mounts = Mounts::default();
        for volume in volumes {
            if volume.image.is_some() {
                mounts.made.push(Box::pin(self.image(volume)).await?);
                continue;
            }
            match Box::pin(self.mount(volume)).await {
                Ok((name, made, keeper)) => {
                    mounts.made.push((name, made));
                    mounts.keepers.extend(keeper);
                }
                Err((name, error)) => return Err(Unmade::Volume(failed(&name, &error))),
            }
        }
        Ok(mounts)
    }

    fn path(&self, volume: &Volume) -> PathBuf {
        let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
        self.machine.config.pod_dir(uid).join("volumes").join(&volume.name)
    }

    async fn image(&self, volume: Volume) -> Result<(String, Made), Unmade> {
        let source = volume.image.clone().unwrap_or_default();
        let image = image::of_volume(&self.machine, &self.pod, &source).await.map_err(|(reason, message)| {
            Unmade::Image { image: source.reference.unwrap_or_default(), reason, message }
        })?;
        match volumes::mount_image(&image, &self.path(&volume)) {
            Ok(made) => Ok((volume.name, made)),
            Err(error) => Err(Unmade::Volume(failed(&volume.name, &error))),
        }
    }

    /// Makes one volume; answers who keeps it up to date, if anything of it can change.
    async fn mount(&self, volume: Volume) -> Result<(String, Made, Option<Keeper>), (String, VolumeError)> {
        let mut keeper = Keeper {
            path: self.path(&volume),
            follows_pod: volumes::follows_pod(&volume),
            machine: Arc::clone(&self.machine),
            pod: Arc::clone(&self.pod),
            view: self.view.clone(),
            sources: Vec::new(),
            due: None,
            volume,
        };
        // Before they are read: no change is missed.
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        for source in volumes::sources(&keeper.volume, namespace) {
            keeper.sources.push(self.machine.cluster.follow(&source).await);
        }
        let mut made = match keeper.set_up().await {
            Ok(made) => made,
            Err(error) => return Err((keeper.volume.name, error)),
        };
        if let Some(source) = made.follows.take() {
            keeper.sources.push(self.machine.cluster.follow(&source).await);
            // It may have changed since it was read.
            if let Err(error) = keeper.set_up().await {
                return Err((keeper.volume.name, error));
            }
        }
        let changes = keeper.follows_pod || keeper.due.is_some() || !keeper.sources.is_empty();
        Ok((keeper.volume.name.clone(), made, changes.then_some(keeper)))
    }
}

fn failed(volume: &str, error: &VolumeError) -> String {
    let (step, volume) = volumes::failed_step(volume, error);
    format!("MountVolume.{step} failed for volume {volume:?} : {}", chain(error))
}

/// Keeps one volume as its sources are.
struct Keeper {
    machine: Arc<Machine>,
    pod: Arc<Pod>,
    view: watch::Receiver<View>,
    volume: Volume,
    path: PathBuf,
    follows_pod: bool,
    sources: Vec<Following>,
    /// When what it holds ages.
    due: Option<Duration>,
}

impl Keeper {
    async fn set_up(&mut self) -> Result<Made, VolumeError> {
        let (cluster, allocatable) = (&*self.machine.cluster, self.machine.allocatable);
        let context = volumes::Context { pod: &self.pod, cluster, csi: &self.machine.csi, allocatable };
        let made = volumes::set_up(&self.volume, &self.path, context).await?;
        self.due = made.due;
        Ok(made)
    }

    async fn run(mut self) {
        loop {
            self.changed().await;
            let Err(error) = self.set_up().await else { continue };
            // What is there stays: its containers run with it.
            let message = failed(&self.volume.name, &error);
            self.machine
                .cluster
                .report(&self.pod, &Report { container: None, kind: Warning, reason: FAILED, message: &message });
            // What a driver did not do nobody else tells of.
            let again = self.due.is_some() || matches!(error, VolumeError::Csi(_));
            self.due = again.then_some(RENEW_AGAIN);
        }
    }

    async fn changed(&mut self) {
        let Self { pod, view, follows_pod, sources, due, .. } = self;
        let aged = async {
            match due {
                Some(due) => tokio::time::sleep(*due).await,
                None => std::future::pending().await,
            }
        };
        let source = async {
            match sources.is_empty() {
                true => std::future::pending().await,
                false => drop(select_all(sources.iter_mut().map(|source| Box::pin(source.changed()))).await),
            }
        };
        let shown = async {
            if !*follows_pod || view.wait_for(|view| differs(&view.pod, pod)).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = aged => {}
            () = source => {}
            () = shown => {}
        }
        self.pod = Arc::clone(&self.view.borrow().pod);
    }
}

/// Whether what a volume can show of a pod is not the same.
fn differs(new: &Pod, old: &Pod) -> bool {
    let (new, old, specs) = (&new.metadata, &old.metadata, (&new.spec, &old.spec));
    new.labels != old.labels || new.annotations != old.annotations || specs.0 != specs.1
}
