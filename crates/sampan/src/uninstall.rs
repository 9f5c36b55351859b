//! `sampan uninstall`: stops the pods and gives back everything, however the server ended.

use std::path::Path;

use anyhow::{Context, Result, bail};
use machinery_storage::embedded::Embedded;
use net_cni::Cni;
use net_podnet::PodNet;
use node_oci::Runtime;

use crate::balanced;
use crate::cni;
use crate::config::DataDir;
use crate::host::Names;
use crate::owned::Owned;

pub async fn run(data: DataDir) -> Result<()> {
    let Ok(data_dir) = data.data_dir.canonicalize() else { return Ok(()) }; // nothing was ever there
    let names = Names::of(&data_dir);
    if !is_ours(&data_dir)? {
        bail!("{} is not a data directory of Sampan; nothing was removed", data_dir.display());
    }
    if data_dir.join("store").exists() {
        // Fails while a server runs.
        let store = Embedded::open(&data_dir.join("store")).await.context("stop the server first")?;
        store.close().await;
    }
    let owned = Owned::read(&data_dir)?;
    if let Some(owned) = &owned {
        // While the pods' network namespaces are there.
        let disconnected = Cni::remove_all(&cni::records(&data_dir), &owned.cni_bin_dirs).await;
        disconnected.context("letting CNI plug-ins disconnect the pods")?;
    }
    if let Some(runtime) = owned.as_ref().and_then(|owned| owned.runtime.as_ref()) {
        runtime.remove(&data_dir, &names.cgroup).await.context("stopping the pods")?;
    }
    let containers = data_dir.join("containers");
    {
        let (containers, cgroup) = (containers.clone(), names.cgroup.clone());
        tokio::task::spawn_blocking(move || Runtime::destroy_all(&containers, &cgroup))
            .await
            .context("stopping the pods")?
            .context("stopping the pods")?;
    }
    net_proxy::remove_sockets(&balanced::pins(&data_dir)).context("removing the data plane of sockets")?;
    net_proxy::remove(&names.table).context("removing the data plane")?;
    net_policy::remove(&names.policy_table).context("removing the network policies")?;
    net_dns::keeper::quit(&net_dns::keeper_paths(&data_dir, &names.cgroup)).context("ending the DNS keeper")?;
    if let Some(dir) = owned.as_ref().map(|owned| &owned.kubelet_dir).filter(|dir| !dir.as_os_str().is_empty()) {
        node_agent::remove_driver_volumes(dir, &data_dir.join("agent")).context("unmounting volumes of drivers")?;
    }
    if let Some(owned) = owned {
        let pods = owned.facts.cluster_cidrs()?;
        net_podnet::fabric::remove(&names.tunnel, &pods).context("removing the network between nodes")?;
        net_podnet::announce::remove().context("giving back load balancers' addresses")?;
        PodNet::remove_all(&owned.podnet(&data_dir, &names)?).context("removing the pod network")?;
        net_dns::remove_address(owned.facts.cluster_dns).context("giving back the DNS address")?;
    }
    net_dns::keeper::remove_cgroup(&names.cgroup);
    // Volumes in memory, say; what is mounted must not be removed along.
    base_sys::mounts::unmount_below(&data_dir).context("unmounting the pods' volumes")?;
    std::fs::remove_dir_all(&data_dir).with_context(|| format!("removing {}", data_dir.display()))
}

/// A mistyped `--data-dir` must not empty somebody's folder.
fn is_ours(data_dir: &Path) -> Result<bool> {
    const KNOWN: &[&str] = &[
        "agent",
        "bpf",
        "containers",
        "cri.sock",
        "dns",
        "images",
        "kubeconfig.yaml",
        "kubelet",
        "net",
        "node-token",
        "node.json",
        "store",
        "tls",
    ];
    let entries = std::fs::read_dir(data_dir).with_context(|| format!("reading {}", data_dir.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("reading {}", data_dir.display()))?;
        if !KNOWN.contains(&&*entry.file_name().to_string_lossy()) {
            return Ok(false);
        }
    }
    Ok(true)
}
