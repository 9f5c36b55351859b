//! The embedded runtime as others see it: the Container Runtime Interface (`runtime.v1`) at a socket of the node, for `crictl`
//! and its like.
//!
//! ```text
//!  crictl ── gRPC over <socket> ─▶ answer: one method each ─▶ seams: runtime, images, network
//!     └───── SPDY or WebSocket over 127.0.0.1, with a token that is good once ─▶ streaming: exec, attach, port-forward
//! ```
//! It translates and keeps nothing but tokens and addresses. What it makes itself is marked as its clients' own
//! ([`label::FOREIGN`](crate::seams::label::FOREIGN)): the agent neither counts it among its pods nor takes it for what a pod
//! has left. What a client does to a container of a pod is done; the agent notices and does what the pod's spec says.
//! Nothing runs until somebody asks.

mod containers;
mod exec;
mod files;
mod find;
mod foreign;
mod images;
mod sandboxes;
mod shown;
mod spec;
mod stats;
mod streaming;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use base_tasks::Tasks;
use k8s_openapi::api::core::v1::Pod;
use node_grpc::messages::cri;
use node_grpc::{Code, Message, Status, server};

use crate::pods::Machine;
use crate::seams::{Embedded, SeamError, chain};
use streaming::Streaming;

/// Where the runtime is served, and what it keeps images in.
#[derive(Clone, Debug)]
pub struct CriConfig {
    pub socket: PathBuf,
    pub images_dir: PathBuf,
}

struct Server {
    machine: Arc<Machine>,
    runtime: Arc<dyn Embedded>,
    config: CriConfig,
    /// Of clients' own sandboxes.
    addresses: Mutex<BTreeMap<String, Vec<IpAddr>>>,
    /// Held while something is made: names are there once.
    making: tokio::sync::Mutex<()>,
    streaming: Streaming,
}

/// The socket's file, which goes with its server.
struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        // Somebody may have removed it before.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Serves until the tasks are cancelled. A socket that cannot be made is told and done without: pods do not need it.
pub fn start(tasks: &Tasks, machine: Arc<Machine>, runtime: Arc<dyn Embedded>, config: CriConfig) {
    let listener = match server::bind(&config.socket) {
        Ok(listener) => listener,
        Err(error) => {
            let socket = config.socket.display();
            return tracing::warn!(%socket, %error, "the runtime is not served to others: no socket");
        }
    };
    let file = File(config.socket.clone());
    let tasks = tasks.child("cri");
    let server = Arc::new(Server::new(&tasks, machine, runtime, config));
    let reconnected = Arc::clone(&server);
    tasks.spawn("reconnect", async move { reconnected.reconnect().await });
    tasks.spawn("serve", async move {
        let _file = file;
        server::serve(listener, handler(server)).await;
    });
}

fn handler(server: Arc<Server>) -> server::Handler {
    Arc::new(move |method, message| {
        let server = Arc::clone(&server);
        Box::pin(async move {
            tracing::debug!(method, "asked by the CRI");
            server.answer(&method, &message).await
        })
    })
}

fn decoded<M: Message + Default>(message: &[u8]) -> Result<M, Status> {
    M::decode(message).map_err(|error| Status::new(Code::Internal, format!("the request cannot be read: {error}")))
}

fn encoded(message: Result<impl Message, Status>) -> Result<Vec<u8>, Status> {
    Ok(message?.encode_to_vec())
}

fn failed(error: SeamError) -> Status {
    Status::new(Code::Unknown, chain(&error))
}

impl Server {
    fn new(tasks: &Tasks, machine: Arc<Machine>, runtime: Arc<dyn Embedded>, config: CriConfig) -> Self {
        let streaming = Streaming::new(tasks, Arc::clone(&machine));
        Self { machine, runtime, config, addresses: Mutex::default(), making: Default::default(), streaming }
    }

    async fn answer(&self, method: &str, message: &[u8]) -> Result<Vec<u8>, Status> {
        match method {
            cri::VERSION => encoded(Ok(self.version())),
            cri::STATUS => encoded(Ok(self.status(decoded(message)?))),
            cri::RUNTIME_CONFIG => {
                let linux = cri::LinuxRuntimeConfiguration { cgroup_driver: cri::CgroupDriver::Cgroupfs.into() };
                encoded(Ok(cri::RuntimeConfigResponse { linux: Some(linux) }))
            }
            // Blocks of addresses are the network's to know.
            cri::UPDATE_RUNTIME_CONFIG => encoded(decoded::<cri::UpdateRuntimeConfigRequest>(message).map(drop)),
            cri::RUN_POD_SANDBOX => encoded(self.run_sandbox(decoded(message)?).await),
            cri::STOP_POD_SANDBOX => encoded(self.stop_sandbox(&decoded::<String>(message)?).await),
            cri::REMOVE_POD_SANDBOX => encoded(self.remove_sandbox(&decoded::<String>(message)?).await),
            cri::POD_SANDBOX_STATUS => encoded(self.sandbox_status(decoded(message)?).await),
            cri::LIST_POD_SANDBOX => encoded(self.list_sandboxes(decoded(message)?).await),
            cri::UPDATE_POD_SANDBOX_RESOURCES => encoded(self.update_sandbox(decoded(message)?).await),
            cri::CREATE_CONTAINER => encoded(self.create_container(decoded(message)?).await),
            cri::START_CONTAINER => encoded(self.start_container(&decoded::<String>(message)?).await),
            cri::STOP_CONTAINER => encoded(self.stop_container(&decoded(message)?).await),
            cri::REMOVE_CONTAINER => encoded(self.remove_container(&decoded::<String>(message)?).await),
            cri::LIST_CONTAINERS => encoded(self.list_containers(decoded(message)?).await),
            cri::CONTAINER_STATUS => encoded(self.container_status(decoded(message)?).await),
            cri::UPDATE_CONTAINER_RESOURCES => encoded(self.update_container(decoded(message)?).await),
            cri::EXEC_SYNC => encoded(self.exec_sync(decoded(message)?).await),
            cri::EXEC => encoded(self.exec(decoded(message)?).await),
            cri::ATTACH => encoded(self.attach(decoded(message)?).await),
            cri::PORT_FORWARD => encoded(self.port_forward(decoded(message)?).await),
            cri::CONTAINER_STATS => encoded(self.container_stats(&decoded::<String>(message)?).await),
            cri::LIST_CONTAINER_STATS => encoded(self.list_container_stats(decoded(message)?).await),
            cri::POD_SANDBOX_STATS => encoded(self.sandbox_stats(&decoded::<String>(message)?).await),
            cri::LIST_POD_SANDBOX_STATS => encoded(self.list_sandbox_stats(decoded(message)?).await),
            cri::LIST_IMAGES => encoded(self.list_images(decoded(message)?).await),
            cri::IMAGE_STATUS => encoded(self.image_status(decoded(message)?).await),
            cri::PULL_IMAGE => encoded(self.pull_image(decoded(message)?).await),
            cri::REMOVE_IMAGE => encoded(self.remove_image(decoded(message)?).await),
            cri::IMAGE_FS_INFO => encoded(self.image_fs_info().await),
            // Its logs are the shims' to rotate, among others.
            _ => Err(Status::new(Code::Unimplemented, format!("method {method} is not served by this runtime"))),
        }
    }

    fn version(&self) -> cri::VersionResponse {
        // `sampan://0.1.0`.
        let version = &self.machine.config.versions.container_runtime;
        let (name, version) = version.split_once("://").unwrap_or(("sampan", version));
        cri::VersionResponse {
            // Of the kubelet's side; upstream's runtimes say so, too.
            version: "0.1.0".into(),
            runtime_name: name.into(),
            runtime_version: version.into(),
            runtime_api_version: "v1".into(),
        }
    }

    fn status(&self, verbose: bool) -> cri::StatusResponse {
        let trouble = self.machine.network.trouble().borrow().clone();
        let ready = |kind: &str| cri::RuntimeCondition { kind: kind.into(), status: true, ..Default::default() };
        let network = match trouble {
            None => ready(cri::NETWORK_READY),
            Some(message) => cri::RuntimeCondition {
                kind: cri::NETWORK_READY.into(),
                status: false,
                reason: "NetworkPluginNotReady".into(),
                message,
            },
        };
        let can = self.machine.config.features;
        let features = cri::RuntimeHandlerFeatures {
            recursive_read_only_mounts: can.recursive_read_only_mounts,
            user_namespaces: can.users.is_some(),
        };
        let config = serde_json::json!({ "socket": self.config.socket, "imagesDir": self.config.images_dir });
        cri::StatusResponse {
            status: Some(cri::RuntimeStatus { conditions: vec![ready(cri::RUNTIME_READY), network] }),
            info: info(verbose, "config", &config),
            runtime_handlers: vec![cri::RuntimeHandler { name: String::new(), features: Some(features) }],
            features: Some(cri::RuntimeFeatures {
                supplemental_groups_policy: can.supplemental_groups_policy,
                ..Default::default()
            }),
        }
    }

    /// The pod of the API that has this uid.
    fn pod(&self, uid: &str) -> Option<Arc<Pod>> {
        self.machine.pods.list().into_iter().find(|pod| pod.metadata.uid.as_deref() == Some(uid))
    }

    fn addresses(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<IpAddr>>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is told to who asks for more: one JSON document under one name.
fn info(verbose: bool, name: &str, value: &serde_json::Value) -> BTreeMap<String, String> {
    verbose.then(|| (name.to_owned(), value.to_string())).into_iter().collect()
}

/// Of something that is made: 32 bytes in hexadecimal, as runtimes have them.
fn new_id() -> Result<String, Status> {
    use std::fmt::Write;
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| Status::new(Code::Internal, format!("no random numbers: {error}")))?;
    Ok(bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}
