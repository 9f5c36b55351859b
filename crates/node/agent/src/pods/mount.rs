//! Making the pod's volumes, and keeping those that show the cluster up to date in running containers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base_sys::crash;
use futures::future::select_all;
use k8s_openapi::api::core::v1::{Pod, Volume};
use machinery_client::EventKind::Warning;
use tokio::sync::watch;

use crate::cluster::Report;
use crate::followed::Following;
use crate::pods::image;
use crate::pods::worker::Worker;
use crate::pods::{Machine, View};
use crate::seams::chain;
use crate::state::{Failure, RETRY_INITIAL, RETRY_MAX, Volumes};
use crate::volumes::{self, Made, VolumeError};

/// After a renewal that failed.
const RENEW_AGAIN: Duration = Duration::from_secs(30);

const FAILED: &str = "FailedMount";

impl Worker {
    pub(super) async fn mount_volumes(&mut self) {
        let volumes = self.spec().and_then(|spec| spec.volumes.clone()).unwrap_or_default();
        let mut kept = Vec::new();
        for volume in volumes {
            match Box::pin(self.mount(volume)).await {
                Ok((name, made, keeper)) => {
                    self.volumes.insert(name, made);
                    kept.extend(keeper);
                }
                Err((name, error)) => return self.not_mounted(failed(&name, &error)),
            }
        }
        for keeper in kept {
            self.keepers.push(self.tasks.spawn(keeper.run()));
        }
        self.state.volumes = Volumes::Mounted;
        crash::point("volumes mounted");
    }

    fn not_mounted(&mut self, message: String) {
        self.event(None, Warning, FAILED, &message);
        let previous = match &self.state.volumes {
            Volumes::Failed(failure) => Some(failure),
            _ => None,
        };
        let bounds = (RETRY_INITIAL, RETRY_MAX);
        self.state.volumes = Volumes::Failed(Failure::after(previous, bounds, FAILED, message, self.now()));
    }

    /// Makes one volume; answers who keeps it up to date, if anything of it can change.
    async fn mount(&self, volume: Volume) -> Result<(String, Made, Option<Keeper>), (String, VolumeError)> {
        if let Some(source) = &volume.image {
            let path = self.pod_dir().join("volumes").join(&volume.name);
            let image = image::of_volume(&self.machine, &self.pod, source).await.map_err(VolumeError::Image);
            return match image.and_then(|image| volumes::mount_image(&image, &path)) {
                Ok(made) => Ok((volume.name, made, None)),
                Err(error) => Err((volume.name, error)),
            };
        }
        let mut keeper = Keeper {
            path: self.pod_dir().join("volumes").join(&volume.name),
            follows_pod: volumes::follows_pod(&volume),
            machine: Arc::clone(&self.machine),
            pod: Arc::clone(&self.pod),
            view: self.view.subscribe(),
            sources: Vec::new(),
            due: None,
            volume,
        };
        // Before they are read: no change is missed.
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        for source in volumes::sources(&keeper.volume, namespace) {
            keeper.sources.push(self.machine.cluster.follow(&source).await);
        }
        let made = match keeper.set_up().await {
            Ok(made) => made,
            Err(error) => return Err((keeper.volume.name, error)),
        };
        let changes = keeper.follows_pod || keeper.due.is_some() || !keeper.sources.is_empty();
        Ok((keeper.volume.name.clone(), made, changes.then_some(keeper)))
    }
}

fn failed(volume: &str, error: &VolumeError) -> String {
    format!("MountVolume.SetUp failed for volume {volume:?} : {}", chain(error))
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
        let context = volumes::Context { pod: &self.pod, cluster, allocatable };
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
            self.due = self.due.map(|_| RENEW_AGAIN);
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
