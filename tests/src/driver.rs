//! A CSI driver: its volumes are directories of this host, and it tells what it was asked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use node_grpc::messages::csi::*;
use node_grpc::messages::registration::{GET_INFO, NOTIFY, PluginInfo, RegistrationStatus};
use node_grpc::{Code, Message, Status, server};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;

/// What a driver was asked: the method's name, and of the message what tests look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub method: String,
    pub volume: String,
    pub context: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, String>,
    pub publish_context: BTreeMap<String, String>,
    /// The access mode, and the bytes that a volume is to have.
    pub number: i64,
    pub read_only: bool,
}

/// What a driver does instead of its work.
#[derive(Clone, Debug)]
pub enum Fault {
    Fails(Code),
    /// Until the caller gives up.
    Hangs,
    /// Works, and does not say so.
    Dies,
}

#[derive(Default)]
struct State {
    asked: Vec<Asked>,
    faults: Vec<(&'static str, Fault)>,
    registered: Vec<(bool, String)>,
}

pub struct Options {
    pub name: &'static str,
    pub capabilities: Vec<Capability>,
    pub max_volumes: i64,
    pub topology: BTreeMap<String, String>,
}

impl Options {
    pub fn new(name: &'static str) -> Self {
        Self { name, capabilities: vec![Capability::StageUnstageVolume], max_volumes: 0, topology: BTreeMap::new() }
    }
}

/// Serves until it is dropped; its volumes stay mounted then, as a real one's do.
pub struct Driver {
    state: Arc<Mutex<State>>,
    store: TempDir,
    sockets: [PathBuf; 2],
    runtime: Option<Runtime>,
    options: Arc<Options>,
}

impl Driver {
    /// Registers with the node that has this kubelet directory.
    pub fn start(kubelet: &Path, options: Options) -> Result<Self> {
        let plugin = kubelet.join("plugins").join(options.name);
        std::fs::create_dir_all(&plugin).context("a driver's directory")?;
        let registry = kubelet.join("plugins_registry").join(format!("{}-reg.sock", options.name));
        let mut driver = Self {
            state: Arc::default(),
            store: tempfile::tempdir()?,
            sockets: [plugin.join("csi.sock"), registry],
            runtime: None,
            options: Arc::new(options),
        };
        driver.serve()?;
        Ok(driver)
    }

    /// After [`Self::stop`]: the same driver again.
    pub fn serve(&mut self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let handler = Handler {
            state: self.state.clone(),
            store: self.store.path().to_owned(),
            options: self.options.clone(),
            endpoint: self.sockets[0].clone(),
        };
        let handler = Arc::new(handler);
        let answer: server::Handler = Arc::new(move |method, message| {
            let handler = handler.clone();
            Box::pin(async move { handler.answer(&method, &message).await })
        });
        let _entered = runtime.enter();
        for socket in &self.sockets {
            let _ = std::fs::remove_file(socket); // of the one before
            let listener = UnixListener::bind(socket).with_context(|| format!("binding {}", socket.display()))?;
            runtime.spawn(server::serve(listener, answer.clone()));
        }
        self.runtime = Some(runtime);
        Ok(())
    }

    /// Its sockets go.
    pub fn stop(&mut self) {
        for socket in &self.sockets {
            let _ = std::fs::remove_file(socket);
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    fn state<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.state.lock().expect("nobody panics with it"))
    }

    pub fn fault(&self, method: &'static str, fault: Fault) {
        self.state(|state| state.faults.push((method, fault)));
    }

    /// What it was asked since the last time, but for what it is.
    pub fn asked(&self) -> Vec<Asked> {
        self.state(|state| std::mem::take(&mut state.asked))
    }

    /// The same without forgetting it: methods alone.
    pub fn methods(&self) -> Vec<String> {
        self.state(|state| state.asked.iter().map(|asked| asked.method.clone()).collect())
    }

    /// What the node has told it of its registration.
    pub fn registered(&self) -> Vec<(bool, String)> {
        self.state(|state| state.registered.clone())
    }

    /// Where a volume's files are.
    pub fn volume(&self, id: &str) -> PathBuf {
        self.store.path().join(id)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.stop();
    }
}

type Work = Box<dyn FnOnce() -> Result<Vec<u8>, Status> + Send>;

struct Handler {
    state: Arc<Mutex<State>>,
    store: PathBuf,
    options: Arc<Options>,
    endpoint: PathBuf,
}

fn decode<M: Message + Default>(message: &[u8]) -> Result<M, Status> {
    M::decode(message).map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))
}

fn mode(capability: Option<VolumeCapability>) -> i64 {
    capability.and_then(|capability| capability.access_mode).map_or(0, |mode| i64::from(mode.mode))
}

impl Handler {
    fn note(&self, asked: Asked) -> Option<Fault> {
        let mut state = self.state.lock().expect("nobody panics with it");
        let fault = state.faults.iter().position(|(method, _)| *method == asked.method);
        let fault = fault.map(|index| state.faults.remove(index).1);
        state.asked.push(asked);
        fault
    }

    async fn answer(&self, method: &str, message: &[u8]) -> Result<Vec<u8>, Status> {
        match method {
            GET_INFO => {
                let info = PluginInfo {
                    kind: "CSIPlugin".into(),
                    name: self.options.name.into(),
                    endpoint: self.endpoint.to_string_lossy().into_owned(),
                    supported_versions: vec!["1.0.0".into()],
                };
                return Ok(info.encode_to_vec());
            }
            NOTIFY => {
                let status: RegistrationStatus = decode(message)?;
                let mut state = self.state.lock().expect("nobody panics with it");
                state.registered.push((status.plugin_registered, status.error));
                return Ok(Vec::new());
            }
            NODE_GET_CAPABILITIES => {
                let all = self.options.capabilities.iter();
                let all = all.map(|kind| NodeServiceCapability { rpc: Some(Rpc { kind: *kind as i32 }) });
                return Ok(NodeGetCapabilitiesResponse { capabilities: all.collect() }.encode_to_vec());
            }
            NODE_GET_INFO => {
                let segments = self.options.topology.clone();
                let info = NodeGetInfoResponse {
                    node_id: "the-node".into(),
                    max_volumes_per_node: self.options.max_volumes,
                    accessible_topology: Some(Topology { segments }),
                };
                return Ok(info.encode_to_vec());
            }
            _ => {}
        }
        let (asked, work) = self.work(method, message)?;
        match self.note(asked) {
            Some(Fault::Fails(code)) => return Err(Status::new(code, "it was told to fail")),
            Some(Fault::Hangs) => std::future::pending().await,
            Some(Fault::Dies) => {
                work()?;
                return Err(Status::new(Code::Unavailable, "transport is closing"));
            }
            None => {}
        }
        work()
    }

    /// What it was asked, and the doing of it.
    fn work(&self, method: &str, message: &[u8]) -> Result<(Asked, Work), Status> {
        let name = method.rsplit('/').next().unwrap_or_default().to_owned();
        let asked = |volume: &str| Asked {
            method: name,
            volume: volume.to_owned(),
            context: BTreeMap::new(),
            secrets: BTreeMap::new(),
            publish_context: BTreeMap::new(),
            number: 0,
            read_only: false,
        };
        Ok(match method {
            NODE_STAGE_VOLUME => {
                let it: NodeStageVolumeRequest = decode(message)?;
                let asked = Asked {
                    context: it.volume_context,
                    secrets: it.secrets,
                    publish_context: it.publish_context,
                    number: mode(it.volume_capability),
                    ..asked(&it.volume_id)
                };
                let (from, to) = (self.store.join(&it.volume_id), PathBuf::from(it.staging_target_path));
                (asked, Box::new(move || bind(&from, &to, false)))
            }
            NODE_PUBLISH_VOLUME => {
                let it: NodePublishVolumeRequest = decode(message)?;
                let asked = Asked {
                    context: it.volume_context,
                    secrets: it.secrets,
                    publish_context: it.publish_context,
                    number: mode(it.volume_capability),
                    read_only: it.readonly,
                    ..asked(&it.volume_id)
                };
                let from = match it.staging_target_path.as_str() {
                    "" => self.store.join(&it.volume_id),
                    staged => staged.into(),
                };
                let to = PathBuf::from(it.target_path);
                (asked, Box::new(move || bind(&from, &to, it.readonly)))
            }
            NODE_UNPUBLISH_VOLUME => {
                let it: NodeUnpublishVolumeRequest = decode(message)?;
                (asked(&it.volume_id), Box::new(move || unbind(Path::new(&it.target_path))))
            }
            NODE_UNSTAGE_VOLUME => {
                let it: NodeUnstageVolumeRequest = decode(message)?;
                (asked(&it.volume_id), Box::new(move || unbind(Path::new(&it.staging_target_path))))
            }
            NODE_EXPAND_VOLUME => {
                let it: NodeExpandVolumeRequest = decode(message)?;
                let bytes = it.capacity_range.map_or(0, |range| range.required_bytes);
                let asked = Asked { number: bytes, secrets: it.secrets, ..asked(&it.volume_id) };
                (asked, Box::new(move || Ok(NodeExpandVolumeResponse { capacity_bytes: bytes }.encode_to_vec())))
            }
            _ => return Err(Status::new(Code::Unimplemented, format!("no method {method}"))),
        })
    }
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::new(Code::Internal, error.to_string())
}

fn is_mounted(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(4) == path.to_str())
}

fn bind(from: &Path, to: &Path, read_only: bool) -> Result<Vec<u8>, Status> {
    std::fs::create_dir_all(from).map_err(internal)?;
    std::fs::create_dir_all(to).map_err(internal)?;
    if !is_mounted(to) {
        mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(internal)?;
        if read_only {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            mount(None::<&str>, to, None::<&str>, flags, None::<&str>).map_err(internal)?;
        }
    }
    Ok(Vec::new())
}

/// Drivers remove what they have published, too.
fn unbind(path: &Path) -> Result<Vec<u8>, Status> {
    if is_mounted(path) {
        umount2(path, MntFlags::empty()).map_err(internal)?;
    }
    match std::fs::remove_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(internal(error)),
        _ => Ok(Vec::new()),
    }
}
