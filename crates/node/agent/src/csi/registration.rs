//! Drivers that come and go: each makes itself known by a socket in the registry's directory.
//!
//! ```text
//! socket appears ─▶ GetInfo ▸ NodeGetCapabilities ▸ NodeGetInfo ▸ CSINode ▸ NotifyRegistrationStatus ─▶ registered
//!       │                 └ any fails: the driver is told, and it is tried again
//!       ▼ goes, or is another one
//! not registered any more ▸ CSINode
//! ```

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base_tasks::Tasks;
use nix::sys::inotify::AddWatchFlags;
use node_grpc::messages::csi::{
    Empty, NODE_GET_CAPABILITIES, NODE_GET_INFO, NodeGetCapabilitiesResponse, NodeGetInfoResponse,
};
use node_grpc::messages::registration::{
    GET_INFO, InfoRequest, NOTIFY, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
};
use node_grpc::{Status, call};
use tokio::sync::oneshot;

use super::node_object::{NodeObject, TellError};
use super::{Csi, Driver};
use crate::inotify::Changes;
use crate::seams::chain;

const KIND: &str = "CSIPlugin";
/// Upstream's limit for a registrar's answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Upstream's, up to two minutes.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(122));

#[derive(Debug, thiserror::Error)]
enum RegistrationError {
    #[error("no handler registered for plugin type: {kind} at socket {socket}", socket = socket.display())]
    Kind { kind: String, socket: PathBuf },
    #[error("the plug-in has no name")]
    NoName,
    #[error("none of the versions {0:?} of the driver's interface is known here")]
    Version(Vec<String>),
    #[error(transparent)]
    Call(#[from] Status),
    #[error("cannot tell the cluster of the driver")]
    Tell(#[from] TellError),
}

/// A socket that is there, until it is dropped.
struct Known {
    /// Another one of the same name has another.
    identity: (u64, i64, i64),
    /// Dropped when the socket is gone.
    gone: oneshot::Sender<()>,
    /// Answers when nothing of it is registered any more.
    over: oneshot::Receiver<()>,
}

struct Registry {
    csi: Arc<Csi>,
    node: Arc<NodeObject>,
    tasks: Tasks,
}

pub(super) fn start(tasks: &Tasks, client: &kube::Client, csi: &Arc<Csi>) -> io::Result<()> {
    let directory = csi.layout.registry();
    let flags = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_ONLYDIR;
    let mut changes = Changes::of(&directory, flags)?;
    let node = Arc::new(NodeObject::new(client.clone(), csi.attachments.node()));
    let announced = Arc::clone(&node);
    tasks.spawn("csi-node", async move {
        let mut wait = RETRY.0;
        while let Err(error) = announced.announce().await {
            tracing::warn!(error = %chain(&error), "this node's CSINode is not there; will retry");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        }
    });
    let registry = Registry { csi: Arc::clone(csi), node, tasks: tasks.clone() };
    tasks.spawn("csi-drivers", async move {
        let mut known = HashMap::new();
        loop {
            registry.look(&directory, &mut known);
            if let Err(error) = changes.next().await {
                tracing::error!(directory = %directory.display(), %error, "CSI drivers are not followed any more");
                return;
            }
        }
    });
    Ok(())
}

impl Registry {
    fn look(&self, directory: &Path, known: &mut HashMap<PathBuf, Known>) {
        let mut there = sockets(directory);
        let paths: Vec<_> = known.keys().cloned().collect();
        for path in paths {
            if there.get(&path).is_some_and(|identity| *identity == known[&path].identity) {
                there.remove(&path);
            } else if let Some(before) = known.remove(&path) {
                drop(before.gone);
                if let Some(identity) = there.remove(&path) {
                    known.insert(path.clone(), self.follow(path, identity, Some(before.over)));
                }
            }
        }
        for (path, identity) in there {
            known.insert(path.clone(), self.follow(path, identity, None));
        }
    }

    fn follow(&self, path: PathBuf, identity: (u64, i64, i64), before: Option<oneshot::Receiver<()>>) -> Known {
        let ((gone, is_gone), (is_over, over)) = (oneshot::channel(), oneshot::channel());
        let (csi, node) = (Arc::clone(&self.csi), Arc::clone(&self.node));
        self.tasks.spawn("csi-driver", async move {
            if let Some(before) = before {
                let _ = before.await; // either way it is over
            }
            Plugin { csi: &csi, node: &node, socket: &path }.live(is_gone).await;
            let _ = is_over.send(());
        });
        Known { identity, gone, over }
    }
}

fn sockets(directory: &Path) -> HashMap<PathBuf, (u64, i64, i64)> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let shown = entries.filter(|path| !crate::static_pods::hidden(path));
    let socket = |path: PathBuf| {
        let meta = std::fs::symlink_metadata(&path).ok().filter(|meta| meta.file_type().is_socket())?;
        Some((path, (meta.ino(), meta.ctime(), meta.ctime_nsec())))
    };
    shown.filter_map(socket).collect()
}

struct Plugin<'a> {
    csi: &'a Csi,
    node: &'a NodeObject,
    socket: &'a Path,
}

impl Plugin<'_> {
    async fn live(&self, mut gone: oneshot::Receiver<()>) {
        let mut begun = None;
        tokio::select! {
            () = self.registered(&mut begun) => {
                tracing::info!(driver = begun, "CSI driver registered");
                let _ = gone.await; // it is dropped, never sent
            }
            _ = &mut gone => {}
        }
        let Some(name) = begun else { return };
        self.csi.drivers.send_modify(|drivers| drop(drivers.remove(&name)));
        tracing::info!(driver = name, "CSI driver gone");
        let mut wait = RETRY.0;
        while let Err(error) = self.node.remove(&name).await {
            tracing::warn!(driver = name, error = %chain(&error), "cannot tell the cluster that a driver is gone; will retry");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        }
    }

    /// Tries until the driver is registered; `begun` is the name of the one that may be.
    async fn registered(&self, begun: &mut Option<String>) {
        let mut wait = RETRY.0;
        loop {
            let (result, asked) = match self.info().await {
                Ok(info) => (self.register(&info, begun).await, true),
                Err(error) => (Err(error), false),
            };
            let (plugin_registered, error) = match &result {
                Ok(_) => (true, String::new()),
                Err(error) => (false, format!("RegisterPlugin error -- {}", chain(error))),
            };
            if asked {
                let status = RegistrationStatus { plugin_registered, error: error.clone() };
                let told = call::<RegistrationStatusResponse>(self.socket, NOTIFY, &status, ANSWER).await;
                if let Err(error) = told {
                    tracing::warn!(socket = %self.socket.display(), %error, "registrar not told");
                }
            }
            match result {
                Ok(()) => return,
                Err(_) => tracing::warn!(socket = %self.socket.display(), error, "plug-in not registered; will retry"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        }
    }

    async fn info(&self) -> Result<PluginInfo, RegistrationError> {
        Ok(call(self.socket, GET_INFO, &InfoRequest {}, ANSWER).await?)
    }

    async fn register(&self, info: &PluginInfo, begun: &mut Option<String>) -> Result<(), RegistrationError> {
        if info.kind != KIND {
            return Err(RegistrationError::Kind { kind: info.kind.clone(), socket: self.socket.to_owned() });
        }
        if info.name.is_empty() {
            return Err(RegistrationError::NoName);
        }
        if !info.supported_versions.iter().any(|version| is_known(version)) {
            return Err(RegistrationError::Version(info.supported_versions.clone()));
        }
        let endpoint = if info.endpoint.is_empty() { self.socket.to_owned() } else { PathBuf::from(&info.endpoint) };
        let mut driver = Driver { endpoint, capabilities: Default::default() };
        let capabilities: NodeGetCapabilitiesResponse = driver.call(NODE_GET_CAPABILITIES, &Empty {}).await?;
        let rpcs = capabilities.capabilities.into_iter().filter_map(|capability| capability.rpc);
        driver.capabilities = rpcs.map(|rpc| rpc.kind).collect();
        let node: NodeGetInfoResponse = driver.call(NODE_GET_INFO, &Empty {}).await?;
        *begun = Some(info.name.clone());
        self.node.add(&info.name, &node).await?;
        self.csi.drivers.send_modify(|drivers| drop(drivers.insert(info.name.clone(), driver)));
        Ok(())
    }
}

/// Version 1, with or without its minor parts.
fn is_known(version: &str) -> bool {
    let version = version.strip_prefix('v').unwrap_or(version);
    let mut parts = version.split('.');
    parts.next() == Some("1") && parts.all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_of_version_one_are_known() {
        for good in ["1.0.0", "v1.11.0", "1"] {
            assert!(is_known(good), "{good}");
        }
        for bad in ["", "0.3.0", "2.0.0", "1.x", "10.0.0", "1."] {
            assert!(!is_known(bad), "{bad}");
        }
    }
}
