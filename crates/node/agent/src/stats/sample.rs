//! One reading of everything.

use jiff::Timestamp;

use super::host;
use crate::pods::Machine;
use crate::seams::{ContainerState, DiskUsage, Interface, SandboxUsage, SeamError, Usage, Walk, label};

#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) at: Timestamp,
    pub(crate) node: NodeSample,
    pub(crate) pods: Vec<PodSample>,
}

#[derive(Debug, Default)]
pub(crate) struct NodeSample {
    pub(crate) booted: Timestamp,
    pub(crate) usage: Usage,
    /// Bytes that could be used at once.
    pub(crate) available: u64,
    pub(crate) swap_free: u64,
    pub(crate) network: Vec<Interface>,
    pub(crate) disk: FileSystem,
    pub(crate) processes: (u64, u64),
}

/// Bytes and inodes of the file system that holds the data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileSystem {
    pub(crate) capacity: u64,
    pub(crate) used: u64,
    pub(crate) available: u64,
    pub(crate) inodes: u64,
    pub(crate) inodes_free: u64,
}

#[derive(Debug)]
pub(crate) struct PodSample {
    /// Of the sandbox.
    pub(crate) id: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) started: Timestamp,
    pub(crate) usage: Usage,
    pub(crate) network: Vec<Interface>,
    pub(crate) containers: Vec<ContainerSample>,
}

#[derive(Debug)]
pub(crate) struct ContainerSample {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) started: Timestamp,
    pub(crate) usage: Usage,
    pub(crate) disk: Option<(DiskUsage, DiskUsage)>,
}

impl NodeSample {
    pub(crate) async fn take(machine: &Machine) -> Result<Self, SeamError> {
        let data_dir = machine.config.data_dir.clone();
        let node = tokio::task::spawn_blocking(move || host::read(&data_dir)).await;
        node.map_err(|error| SeamError::new("read", "what the node uses", error))
    }
}

impl Sample {
    pub(crate) async fn take(machine: &Machine, walk: Walk) -> Result<Self, SeamError> {
        let node = NodeSample::take(machine).await?;
        let used = machine.runtime.usage(walk).await?;
        let at = machine.clock.now();
        let sandboxes = machine.runtime.list().await?;
        let pods = sandboxes.into_iter().filter(|sandbox| !sandbox.is_foreign()).filter_map(|sandbox| {
            let used = used.iter().find(|one| one.id == sandbox.id)?;
            let text = |key: &str| sandbox.labels.get(key).cloned().unwrap_or_default();
            Some(PodSample {
                namespace: text(label::POD_NAMESPACE),
                name: text(label::POD_NAME),
                uid: text(label::POD_UID),
                started: sandbox.created_at,
                usage: used.usage,
                network: used.network.clone(),
                containers: containers(&sandbox.containers, used),
                id: sandbox.id,
            })
        });
        let mut pods: Vec<_> = pods.collect();
        pods.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
        Ok(Self { at, node, pods })
    }
}

/// Those that run and have been read.
fn containers(known: &[crate::seams::Container], used: &SandboxUsage) -> Vec<ContainerSample> {
    let sampled = known.iter().filter_map(|container| {
        let ContainerState::Running { started_at } = container.state else { return None };
        let used = used.containers.iter().find(|one| one.id == container.id)?;
        Some(ContainerSample {
            id: container.id.clone(),
            name: container.labels.get(label::CONTAINER_NAME).cloned().unwrap_or_default(),
            started: started_at,
            usage: used.usage,
            disk: used.disk,
        })
    });
    sampled.collect()
}
