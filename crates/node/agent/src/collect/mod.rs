//! Images that no pod needs are removed when the disk fills, as upstream removes them: the longest unused first, down to a
//! low mark. What containers leave behind goes without a collector: an ended one with the start of its successor, which
//! keeps its log alone.
//!
//! A look is taken at the start, when an image has come or a pod has gone, and every five minutes: what else fills the disk
//! tells nobody.

mod plan;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base_tasks::Tasks;
use k8s_openapi::api::core::v1::Pod;
use machinery_client::EventKind;
use tokio::sync::{Mutex, Notify};

use crate::pods::Machine;
use crate::seams::{SeamError, chain, label};
use crate::stats::file_system;

pub use plan::ImagePolicy;
use plan::{Disk, Extent, History, Present};

/// Upstream's.
const PERIOD: Duration = Duration::from_secs(300);

/// Wakes who collects, and knows what was seen of images.
#[derive(Default)]
pub struct Collector {
    wake: Notify,
    history: Mutex<History>,
}

impl Collector {
    /// An image has come, or a pod has gone.
    pub fn look(&self) {
        self.wake.notify_one();
    }
}

pub fn start(tasks: &Tasks, machine: Arc<Machine>) {
    tasks.spawn("images", async move {
        loop {
            if let Err(error) = look(&machine, Extent::Policy).await {
                tracing::warn!(error = %chain(&error), "unused images not looked for");
            }
            tokio::select! {
                () = machine.collector.wake.notified() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    });
}

/// Removes what no pod needs, however much room there is: the node is short of it.
pub async fn all_unused(machine: &Machine) -> Result<(), SeamError> {
    look(machine, Extent::All).await
}

async fn look(machine: &Machine, extent: Extent) -> Result<(), SeamError> {
    // One look at a time: what another one removes is not counted on.
    let mut history = machine.collector.history.lock().await;
    let policy = machine.config.images;
    let used = used(machine).await?;
    let images: Vec<Present> = machine
        .images
        .list()
        .await
        .into_iter()
        .map(|image| Present { used: used.contains(&image.id), pinned: image.imported, size: image.size, id: image.id })
        .collect();
    let now = machine.clock.now();
    history.note(&images, now);
    let disk = file_system(&machine.config.data_dir)
        .map_err(|errno| SeamError::new("read", "how full the disk is", std::io::Error::from(errno)))?;
    let disk = Disk { capacity: disk.capacity, available: disk.available };
    let plan = history.plan(&images, (policy, extent), disk, now);
    for id in plan.remove {
        match machine.images.remove(&id).await {
            Ok(()) => tracing::info!(image = id, "unused image removed"),
            Err(error) => tracing::warn!(image = id, error = %chain(&error), "unused image not removed"),
        }
    }
    if plan.short > 0 && extent == Extent::Policy {
        // In upstream's words.
        let message = format!(
            "Failed to garbage collect required amount of images. Attempted to free {} bytes, but only found {} bytes \
             eligible to free.",
            plan.short + plan.freed,
            plan.freed
        );
        machine.cluster.report_node(EventKind::Warning, "FreeDiskSpaceFailed", &message);
        tracing::warn!(
            bytes = plan.short,
            "the disk is fuller than it should be, and no unused image is left to remove"
        );
    }
    Ok(())
}

/// By id: of every container that there is, and of every pod that is to have some.
async fn used(machine: &Machine) -> Result<BTreeSet<String>, SeamError> {
    let sandboxes = machine.runtime.list().await?;
    let containers = sandboxes.iter().flat_map(|sandbox| &sandbox.containers);
    let mut used: BTreeSet<String> =
        containers.filter_map(|container| container.labels.get(label::IMAGE_ID).cloned()).collect();
    for name in machine.pods.list().iter().flat_map(|pod| names(pod)) {
        // One that is not here, or is no name, is nobody's.
        if let Ok(Some(image)) = machine.images.get(&name).await {
            used.insert(image.id);
        }
    }
    Ok(used)
}

/// Of the images that a pod is to run, unless it has ended.
fn names(pod: &Pod) -> Vec<String> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let Some(spec) = pod.spec.as_ref().filter(|_| !matches!(phase, Some("Succeeded" | "Failed"))) else {
        return Vec::new();
    };
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| container.image.clone());
    let all = api::pod::containers::all(spec).map(|container| container.image.clone());
    let volumes = spec.volumes.iter().flatten().map(|volume| volume.image.as_ref()?.reference.clone());
    all.chain(ephemeral).chain(volumes).flatten().collect()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use machinery_client::ObjectKey;
    use serde_json::json;
    use tokio::sync::watch;

    use super::*;
    use crate::config::AgentConfig;
    use crate::fakes::{World, config, nginx};
    use crate::pods::View;
    use crate::seams::Image;

    #[tokio::test(start_paused = true)]
    async fn images_of_pods_stay_and_others_go_once_the_disk_is_full() {
        let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
        // Any disk is fuller than this.
        let images = ImagePolicy { high: 0, low: 0, min_age: SignedDuration::ZERO, max_age: SignedDuration::ZERO };
        let machine = world.machine_of(AgentConfig { images, ..config(dir.path()) });
        {
            let mut state = world.state.lock().unwrap();
            for (name, imported) in [("idle", false), ("imported", true)] {
                let image = Image { id: name.into(), size: 1, imported, ..nginx() };
                state.images.insert(name.into(), image);
            }
        }
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u"},
            "spec": {"containers": [{"name": "app", "image": "nginx"}]},
        }))
        .unwrap();
        let (_view, viewer) = watch::channel(View { pod: Arc::new(pod), ..View::default() });
        machine.pods.insert(ObjectKey::new("default", "web"), viewer, tokio::sync::mpsc::unbounded_channel().0);
        let tasks = Tasks::root("test");
        start(&tasks, Arc::clone(&machine));
        world.until("the first", |state| state.calls.iter().any(|call| call == "remove image idle")).await;
        let left = |state: &crate::fakes::State| state.images.keys().cloned().collect::<Vec<_>>();
        assert_eq!(left(&world.state.lock().unwrap()), ["imported", "nginx"]);
        let another = Image { id: "another".into(), ..nginx() };
        world.state.lock().unwrap().images.insert("another".into(), another);
        machine.collector.look();
        world.until("another", |state| !state.images.contains_key("another")).await;
        let failed =
            "node: FreeDiskSpaceFailed Failed to garbage collect required amount of images. Attempted to free ";
        world.until("told", |state| state.events.iter().any(|event| event.starts_with(failed))).await;
    }
}
