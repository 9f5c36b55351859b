//! What sandboxes and containers use, read when somebody asks.

use node_grpc::messages::cri;
use node_grpc::{Code, Status};

use super::sandboxes::has_all;
use super::{Server, failed, shown};
use crate::seams::{Container, ContainerUsage, Interface, Sandbox, SandboxUsage, Usage, Walk};

/// The interface of a pod that is shown before others.
const DEFAULT: &str = "eth0";

/// A sandbox with what it uses.
type Measured = (Sandbox, SandboxUsage);

impl Server {
    pub(super) async fn container_stats(&self, id: &str) -> Result<cri::ContainerStatsResponse, Status> {
        let (sandbox, container) = self.running(id).await?;
        let measured = self.measured(&[sandbox.id]).await?;
        let mut all = self.all_container_stats(&measured);
        all.retain(|stats| stats.attributes.as_ref().is_some_and(|attributes| attributes.id == container.id));
        let gone = || Status::new(Code::NotFound, format!("container {id:?} not found"));
        Ok(cri::ContainerStatsResponse { stats: Some(all.pop().ok_or_else(gone)?) })
    }

    pub(super) async fn list_container_stats(
        &self,
        request: cri::ListContainerStatsRequest,
    ) -> Result<cri::ListContainerStatsResponse, Status> {
        let filter = request.filter.unwrap_or_default();
        let mut sandboxes = self.sandboxes().await?;
        sandboxes.retain(|sandbox| sandbox.id.starts_with(&filter.pod_sandbox_id));
        let ids: Vec<_> = sandboxes.into_iter().map(|sandbox| sandbox.id).collect();
        let mut stats = self.all_container_stats(&self.measured(&ids).await?);
        stats.retain(|stats| {
            let attributes = stats.attributes.as_ref();
            attributes.is_some_and(|one| one.id.starts_with(&filter.id) && has_all(&one.labels, &filter.label_selector))
        });
        Ok(cri::ListContainerStatsResponse { stats })
    }

    pub(super) async fn sandbox_stats(&self, id: &str) -> Result<cri::PodSandboxStatsResponse, Status> {
        let sandbox = self.sandbox(id).await?;
        let measured = self.measured(&[sandbox.id]).await?;
        let gone = || Status::new(Code::NotFound, format!("sandbox {id:?} has nothing that could be measured"));
        let one = measured.first().ok_or_else(gone)?;
        Ok(cri::PodSandboxStatsResponse { stats: Some(self.shown_sandbox(one)) })
    }

    pub(super) async fn list_sandbox_stats(
        &self,
        request: cri::ListPodSandboxStatsRequest,
    ) -> Result<cri::ListPodSandboxStatsResponse, Status> {
        let filter = request.filter.unwrap_or_default();
        let mut sandboxes = self.sandboxes().await?;
        sandboxes.retain(|sandbox| {
            sandbox.id.starts_with(&filter.id) && has_all(&shown::told(&sandbox.labels).0, &filter.label_selector)
        });
        let ids: Vec<_> = sandboxes.into_iter().map(|sandbox| sandbox.id).collect();
        let measured = self.measured(&ids).await?;
        Ok(cri::ListPodSandboxStatsResponse { stats: measured.iter().map(|one| self.shown_sandbox(one)).collect() })
    }

    /// Of these sandboxes, with what their containers have written.
    async fn measured(&self, ids: &[String]) -> Result<Vec<Measured>, Status> {
        let walk = Walk::Only(ids.iter().cloned().collect());
        let used = self.machine.runtime.usage(walk).await.map_err(failed)?;
        let mut sandboxes = self.sandboxes().await?;
        sandboxes.retain(|sandbox| sandbox.ready && ids.contains(&sandbox.id));
        let of = |sandbox: Sandbox| Some((used.iter().find(|one| one.id == sandbox.id)?.clone(), sandbox));
        Ok(sandboxes.into_iter().filter_map(of).map(|(used, sandbox)| (sandbox, used)).collect())
    }

    fn all_container_stats(&self, measured: &[Measured]) -> Vec<cri::ContainerStats> {
        measured.iter().flat_map(|(sandbox, used)| self.containers_of(sandbox, used)).collect()
    }

    fn containers_of(&self, sandbox: &Sandbox, used: &SandboxUsage) -> Vec<cri::ContainerStats> {
        let at = shown::nanoseconds(self.machine.clock.now());
        let known = |used: &ContainerUsage| sandbox.containers.iter().find(|one| one.id == used.id).cloned();
        let shown = used.containers.iter().filter_map(|used| Some(container(&known(used)?, used, at)));
        let mut shown: Vec<_> = shown.collect();
        for stats in &mut shown {
            if let Some(layer) = &mut stats.writable_layer {
                let mountpoint = self.config.images_dir.display().to_string();
                layer.fs_id = Some(cri::FilesystemIdentifier { mountpoint });
            }
        }
        shown
    }

    fn shown_sandbox(&self, (sandbox, used): &Measured) -> cri::PodSandboxStats {
        let at = shown::nanoseconds(self.machine.clock.now());
        let (labels, annotations) = shown::told(&sandbox.labels);
        let (default, others): (Vec<_>, Vec<_>) =
            used.network.iter().map(interface).partition(|interface| interface.name == DEFAULT);
        let network =
            cri::NetworkUsage { timestamp: at, default_interface: default.into_iter().next(), interfaces: others };
        cri::PodSandboxStats {
            attributes: Some(cri::PodSandboxAttributes {
                id: sandbox.id.clone(),
                metadata: Some(shown::pod_metadata(&sandbox.labels)),
                labels,
                annotations,
            }),
            linux: Some(cri::LinuxPodSandboxStats {
                cpu: Some(cpu(&used.usage, at)),
                memory: Some(memory(&used.usage, at)),
                network: Some(network),
                process: Some(cri::ProcessUsage { timestamp: at, process_count: Some(used.usage.processes) }),
                containers: self.containers_of(sandbox, used),
            }),
        }
    }
}

fn container(container: &Container, used: &ContainerUsage, at: i64) -> cri::ContainerStats {
    let (labels, annotations) = shown::told(&container.labels);
    cri::ContainerStats {
        attributes: Some(cri::ContainerAttributes {
            id: container.id.clone(),
            metadata: Some(shown::container_metadata(&container.labels)),
            labels,
            annotations,
        }),
        cpu: Some(cpu(&used.usage, at)),
        memory: Some(memory(&used.usage, at)),
        writable_layer: used.disk.map(|(layer, _)| cri::FilesystemUsage {
            timestamp: at,
            fs_id: None,
            used_bytes: Some(layer.bytes),
            inodes_used: Some(layer.inodes),
        }),
        swap: Some(cri::SwapUsage {
            timestamp: at,
            swap_available_bytes: None,
            swap_usage_bytes: Some(used.usage.swap),
        }),
    }
}

/// Rates are for who asks twice.
fn cpu(usage: &Usage, at: i64) -> cri::CpuUsage {
    cri::CpuUsage { timestamp: at, usage_core_nano_seconds: Some(usage.cpu), usage_nano_cores: None }
}

fn memory(usage: &Usage, at: i64) -> cri::MemoryUsage {
    cri::MemoryUsage {
        timestamp: at,
        working_set_bytes: Some(usage.working_set),
        available_bytes: None,
        usage_bytes: Some(usage.memory),
        rss_bytes: Some(usage.anonymous),
        page_faults: Some(usage.page_faults),
        major_page_faults: Some(usage.major_page_faults),
    }
}

fn interface(interface: &Interface) -> cri::NetworkInterfaceUsage {
    cri::NetworkInterfaceUsage {
        name: interface.name.clone(),
        rx_bytes: Some(interface.rx_bytes),
        rx_errors: Some(interface.rx_errors),
        tx_bytes: Some(interface.tx_bytes),
        tx_errors: Some(interface.tx_errors),
    }
}
