//! What there is of everything, and what the pods use of it: read when somebody needs to know.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::rank::{Candidate, ContainerUsage, PodUsage};
use super::signal::{Observation, Observations, Signal};
use crate::pods::Machine;
use crate::seams::{DiskUsage, SeamError, Walk, label};
use crate::stats::{NodeSample, PodSample, Sample};
use crate::volumes;

/// The cgroup of all pods.
const PODS: &str = "kubepods";

/// A pod with what it uses, and what each of its volumes on the disk takes in bytes.
pub struct Weighed {
    pub candidate: Candidate,
    pub volumes: BTreeMap<String, u64>,
}

/// A few files of `/proc` and one look at the file system.
pub async fn observe(machine: &Machine) -> Result<Observations, SeamError> {
    let node = NodeSample::take(machine).await?;
    let (running, most) = node.processes;
    let disk = Observation { available: node.disk.available, capacity: node.disk.capacity };
    let inodes = Observation { available: node.disk.inodes_free, capacity: node.disk.inodes };
    let capacity = u64::try_from(machine.bounds.memory).unwrap_or_default();
    let mut all = Observations::from([
        (Signal::MemoryAvailable, Observation { available: node.available, capacity }),
        (Signal::PidAvailable, Observation { available: most.saturating_sub(running), capacity: most }),
    ]);
    // Images lie on the same file system as all else.
    all.extend([Signal::NodeFsAvailable, Signal::ImageFsAvailable].map(|signal| (signal, disk)));
    // A file system may have no number of inodes.
    let inodes = Some(inodes).filter(|inodes| inodes.capacity > 0);
    all.extend(
        inodes
            .into_iter()
            .flat_map(|one| [Signal::NodeFsInodesFree, Signal::ImageFsInodesFree].map(|signal| (signal, one))),
    );
    // Without a bound of their own pods have what the node has.
    if let Some(limit) = machine.pods_memory
        && let Some(used) = machine.runtime.group_usage(PODS).await?
    {
        let pods = Observation { available: limit.saturating_sub(used.working_set), capacity: limit };
        all.insert(Signal::AllocatableMemoryAvailable, pods);
    }
    Ok(all)
}

/// What these pods use; `disk`: with what they take of it, which takes a walk through their files.
pub async fn weigh(machine: &Machine, pods: Vec<Arc<Pod>>, disk: bool) -> Result<Vec<Weighed>, SeamError> {
    let uids: BTreeSet<&str> = pods.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
    let walk = match disk {
        true => {
            let mut sandboxes = machine.runtime.list().await?;
            sandboxes.retain(|one| one.labels.get(label::POD_UID).is_some_and(|uid| uids.contains(&**uid)));
            Walk::Only(sandboxes.into_iter().map(|sandbox| sandbox.id).collect())
        }
        false => Walk::Nothing,
    };
    let sample = Sample::take(machine, walk).await?;
    let mut all = Vec::with_capacity(pods.len());
    for pod in pods {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let used = sample.pods.iter().find(|one| one.uid == uid);
        let volumes = match (disk, &pod.spec) {
            (true, Some(spec)) => walked(machine.pod_volumes(uid), spec).await?,
            _ => BTreeMap::new(),
        };
        let bytes = volumes.iter().map(|(name, used)| (name.clone(), used.bytes)).collect();
        let usage = used.map(|used| usage(used, volumes.into_values()));
        all.push(Weighed { candidate: Candidate { pod, usage }, volumes: bytes });
    }
    Ok(all)
}

fn usage(used: &PodSample, volumes: impl Iterator<Item = DiskUsage>) -> PodUsage {
    let sum =
        |sum: DiskUsage, one: DiskUsage| DiskUsage { bytes: sum.bytes + one.bytes, inodes: sum.inodes + one.inodes };
    let written = used.containers.iter().filter_map(|container| container.disk).map(|(layer, logs)| sum(layer, logs));
    let containers = used.containers.iter().map(|container| ContainerUsage {
        name: container.name.clone(),
        memory: container.usage.working_set,
        disk: container.disk.map(|(layer, logs)| layer.bytes + logs.bytes),
    });
    PodUsage {
        memory: used.usage.working_set,
        processes: used.usage.processes,
        disk: written.chain(volumes).fold(DiskUsage::default(), sum),
        containers: containers.collect(),
    }
}

/// What each emptyDir on the disk takes.
async fn walked(directory: PathBuf, spec: &PodSpec) -> Result<BTreeMap<String, DiskUsage>, SeamError> {
    let names = spec.volumes.iter().flatten().filter(|volume| volumes::is_on_disk(volume));
    let names: Vec<String> = names.map(|volume| volume.name.clone()).collect();
    // A deep tree takes its time.
    let walk = move || names.into_iter().map(|name| (name.clone(), volumes::used(&directory.join(name)))).collect();
    let walked = tokio::task::spawn_blocking(walk).await;
    walked.map_err(|error| SeamError::new("read", "what volumes take", error))
}
