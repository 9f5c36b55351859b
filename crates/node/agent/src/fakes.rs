//! A machine and a cluster in memory, for the tests of the pod logic. Everything is recorded; nothing waits but on
//! tokio's clock.

mod config;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestStatus};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, PodStatus, Secret};
use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use machinery_client::ObjectKey;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::clock::Clock;
use crate::cluster::{Cluster, ClusterError, Identity, Report};
use crate::config::AgentConfig;
use crate::container::resources::Bounds;
use crate::csi::Csi;
use crate::env::ServiceLinks;
use crate::files::HostResolver;
use crate::followed::{FakeObject, Following, Source};
use crate::pods::capacity::{Capacity, Units};
use crate::pods::{Machine, Message, Pods, Routes};
use crate::seams::{
    Connection, Container, ContainerSpec, ContainerState, Credentials, ExecSpec, Exit, Image, Images, Network,
    Policies, PullError, Resources, Runtime, Sandbox, SandboxSpec, SandboxUsage, SeamError, Streams, Usage, Walk,
    Wiring, Withdrawals, label,
};
pub use config::config;

pub const START: &str = "2026-01-01T00:00:00Z";

/// All that the fakes know and were asked; one lock, so that the order of calls is one list.
pub struct World {
    pub state: Mutex<State>,
    pub clock: Clock,
    pub machine: Mutex<Option<std::sync::Weak<Machine>>>,
    /// Bumped with each change, for tests to wait on.
    pub changed: watch::Sender<u64>,
    pub withdrawal: Mutex<Duration>,
    /// Policies are in force once this is notified; at once without it.
    pub policies: Mutex<Option<Arc<tokio::sync::Notify>>>,
    /// Nothing is connected while there is some.
    pub network_trouble: watch::Sender<Option<String>>,
    /// Nothing is disconnected while this is so.
    pub network_holds: Mutex<bool>,
}

#[derive(Default)]
pub struct State {
    pub calls: Vec<String>,
    pub events: Vec<String>,
    pub sandboxes: BTreeMap<String, Sandbox>,
    pub specs: BTreeMap<String, ContainerSpec>,
    pub images: BTreeMap<String, Image>,
    /// What the next pulls answer; an empty list pulls the image of that name.
    pub pulls: Vec<Result<Image, PullError>>,
    pub config_maps: BTreeMap<String, ConfigMap>,
    pub claims: BTreeMap<String, PersistentVolumeClaim>,
    pub volumes: BTreeMap<String, PersistentVolume>,
    pub csi_drivers: BTreeMap<String, CSIDriver>,
    /// Objects that volumes follow.
    pub followed: BTreeMap<Source, FakeObject>,
    pub status: Value,
    pub writes: u32,
    pub deleted: bool,
    pub fail_status: u32,
    pub fail_start: bool,
    pub fail_resize: bool,
    /// Signals that end a container; all do when empty.
    pub ignored_signals: Vec<i32>,
    pub exec_code: i32,
    pub usage: Vec<SandboxUsage>,
    /// What programs in a sandbox listen on: each connection gets the other end of a pipe.
    pub listeners: BTreeMap<u16, mpsc::UnboundedSender<tokio::io::DuplexStream>>,
}

impl World {
    pub fn new() -> Arc<Self> {
        let images = BTreeMap::from([("nginx".to_owned(), nginx())]);
        let state = State { images, status: Value::Object(Default::default()), ..State::default() };
        Arc::new(Self {
            state: Mutex::new(state),
            clock: Clock::tokio(START.parse().unwrap()),
            machine: Mutex::default(),
            changed: watch::channel(0).0,
            withdrawal: Mutex::default(),
            policies: Mutex::default(),
            network_trouble: watch::Sender::new(None),
            network_holds: Mutex::default(),
        })
    }

    pub fn machine(self: &Arc<Self>, data_dir: &Path) -> Arc<Machine> {
        self.machine_of(config(data_dir))
    }

    pub fn machine_of(self: &Arc<Self>, config: AgentConfig) -> Arc<Machine> {
        let machine = Arc::new(Machine {
            csi: Arc::new(Csi::new(&config.kubelet_dir, &config.data_dir, &config.node_name)),
            config,
            runtime: self.clone(),
            images: self.clone(),
            network: self.clone(),
            withdrawals: self.clone(),
            policies: self.clone(),
            cluster: self.clone(),
            clock: self.clock.clone(),
            host_resolver: HostResolver::default(),
            users_turn: tokio::sync::Mutex::default(),
            capacity: Capacity::new(Units::from([
                ("cpu".into(), 2000),
                ("memory".into(), 1 << 30),
                ("pods".into(), 110),
            ])),
            allocatable: (2000, 1 << 30),
            bounds: Bounds { memory: 1 << 30, ..Bounds::default() },
            pods_memory: None,
            pressures: Default::default(),
            shutting_down: Default::default(),
            pods: Pods::default(),
            routes: Routes::default(),
            sessions: base_tasks::Tasks::root("test"),
            read_logs: Default::default(),
            access: Default::default(),
            stats: Default::default(),
            collector: Default::default(),
        });
        *self.machine.lock().unwrap() = Some(Arc::downgrade(&machine));
        machine
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock().unwrap());
        self.changed.send_modify(|count| *count += 1);
        result
    }

    fn call(&self, call: impl Into<String>) {
        let call = call.into();
        self.change(|state| state.calls.push(call));
    }

    /// Waits until the world is as asked; on the paused clock an answer that never comes fails at once.
    pub async fn until(&self, what: &str, holds: impl Fn(&State) -> bool) {
        let mut changes = self.changed.subscribe();
        let wait = async {
            loop {
                changes.borrow_and_update();
                if holds(&self.state.lock().unwrap()) {
                    return;
                }
                changes.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(Duration::from_secs(3600), wait).await.is_err() {
            let state = self.state.lock().unwrap();
            panic!("never: {what}\ncalls {:#?}\nevents {:#?}\nstatus {:#}", state.calls, state.events, state.status);
        }
    }

    pub fn status(&self) -> PodStatus {
        serde_json::from_value(self.state.lock().unwrap().status.clone()).unwrap()
    }

    /// A container's process ends by itself.
    pub fn exit(&self, name: &str, exit_code: i32) {
        let now = self.clock.now();
        let found = self.change(|state| {
            let running = state.sandboxes.values_mut().flat_map(|sandbox| {
                let id = sandbox.id.clone();
                sandbox.containers.iter_mut().map(move |container| (id.clone(), container))
            });
            let (sandbox, container) = running
                .into_iter()
                .find(|(_, container)| {
                    container.labels[label::CONTAINER_NAME] == name
                        && matches!(container.state, ContainerState::Running { .. })
                })
                .unwrap();
            let ContainerState::Running { started_at } = container.state else { unreachable!() };
            let exit = Exit {
                exit_code,
                signal: None,
                oom_killed: false,
                started_at: Some(started_at),
                finished_at: now,
                reason: None,
                message: String::new(),
            };
            container.state = ContainerState::Exited(exit.clone());
            (sandbox, container.id.clone(), exit)
        });
        let (sandbox, container, exit) = found;
        if let Some(machine) = self.machine.lock().unwrap().as_ref().and_then(std::sync::Weak::upgrade) {
            machine.routes.send(&sandbox, Message::Exited { container, exit });
        }
    }

    fn resized(&self, what: &str, resources: &Resources) -> Result<(), SeamError> {
        let Resources { cpu_shares, cpu_quota, memory_limit, .. } = resources;
        let amount = |limit: &Option<i64>| limit.map_or("-".to_owned(), |limit| limit.to_string());
        self.call(format!("resize {what} {cpu_shares} {} {}", amount(cpu_quota), amount(memory_limit)));
        if self.state.lock().unwrap().fail_resize {
            return Err(SeamError::new("resize", what, "it uses more"));
        }
        Ok(())
    }

    fn name_of(&self, id: &str) -> String {
        self.state.lock().unwrap().specs.get(id).map_or_else(|| id.to_owned(), |spec| spec.name.clone())
    }
}

pub fn nginx() -> Image {
    Image {
        id: "sha256:aaaa".into(),
        digest: "sha256:aaaa".into(),
        names: vec!["docker.io/library/nginx:latest".into()],
        size: 42,
        layers: vec!["/layers/a".into()],
        entrypoint: vec!["/entry".into()],
        cmd: vec!["nginx".into()],
        env: vec!["PATH=/bin".into()],
        stop_signal: Some("SIGQUIT".into()),
        ..Image::default()
    }
}

#[async_trait]
impl Runtime for World {
    async fn list(&self) -> Result<Vec<Sandbox>, SeamError> {
        Ok(self.state.lock().unwrap().sandboxes.values().cloned().collect())
    }

    async fn create_sandbox(&self, spec: SandboxSpec) -> Result<Sandbox, SeamError> {
        self.call("create sandbox");
        let sandbox = Sandbox {
            id: spec.id.clone(),
            labels: spec.labels,
            users: spec.users,
            netns: (!spec.host_network).then(|| "/netns".into()),
            ready: true,
            created_at: self.clock.now(),
            containers: Vec::new(),
        };
        self.change(|state| state.sandboxes.insert(spec.id, sandbox.clone()));
        Ok(sandbox)
    }

    async fn stop_sandbox(&self, _: &str) -> Result<(), SeamError> {
        Ok(())
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), SeamError> {
        self.change(|state| {
            state.calls.push("remove sandbox".into());
            state.sandboxes.remove(id);
        });
        Ok(())
    }

    async fn create_container(&self, sandbox: &str, spec: ContainerSpec) -> Result<String, SeamError> {
        Ok(self.change(|state| {
            state.calls.push(format!("create {} #{}", spec.name, spec.attempt));
            let (id, labels) = (spec.id.clone(), spec.labels.clone());
            let container = Container { id: id.clone(), labels, state: ContainerState::Created };
            state.sandboxes.get_mut(sandbox).unwrap().containers.push(container);
            state.specs.insert(id.clone(), spec);
            id
        }))
    }

    async fn start_container(&self, id: &str) -> Result<Timestamp, SeamError> {
        let now = self.clock.now();
        let name = self.name_of(id);
        self.change(|state| {
            state.calls.push(format!("start {name}"));
            if state.fail_start {
                return Err(SeamError::new(
                    "start container",
                    id,
                    "exec: \"nope\": executable file not found in $PATH",
                ));
            }
            let container = state.sandboxes.values_mut().flat_map(|sandbox| &mut sandbox.containers);
            container.into_iter().find(|container| container.id == id).unwrap().state =
                ContainerState::Running { started_at: now };
            Ok(now)
        })
    }

    async fn signal_container(&self, id: &str, signal: i32) -> Result<(), SeamError> {
        let name = self.name_of(id);
        let at = self.clock.now().as_millisecond() - START.parse::<Timestamp>().unwrap().as_millisecond();
        self.call(format!("signal {name} {signal} at {at}ms"));
        if !self.state.lock().unwrap().ignored_signals.contains(&signal) {
            self.exit(&name, if signal == 9 { 137 } else { 0 });
        }
        Ok(())
    }

    async fn resize_container(&self, id: &str, resources: &Resources) -> Result<(), SeamError> {
        let name = self.name_of(id);
        self.resized(&name, resources)
    }

    async fn resize_sandbox(&self, _: &str, resources: &Resources) -> Result<(), SeamError> {
        self.resized("pod", resources)
    }

    async fn remove_container(&self, id: &str) -> Result<(), SeamError> {
        self.change(|state| {
            for sandbox in state.sandboxes.values_mut() {
                sandbox.containers.retain(|container| container.id != id);
            }
        });
        Ok(())
    }

    async fn exec(&self, id: &str, spec: ExecSpec) -> Result<Streams, SeamError> {
        let name = self.name_of(id);
        self.call(format!("exec in {name}: {}", spec.args.join(" ")));
        let code = self.state.lock().unwrap().exec_code;
        let (resize, _) = mpsc::unbounded_channel();
        let output: &'static [u8] = if code == 0 { b"" } else { b"not well" };
        Ok(Streams {
            stdin: None,
            stdout: Some(Box::new(output)),
            stderr: None,
            resize,
            exit: Box::pin(async move { Ok(code) }),
        })
    }

    async fn attach(&self, id: &str, _: u64) -> Result<Streams, SeamError> {
        Err(SeamError::new("attach to container", id, "not in this fake"))
    }

    async fn dial(&self, sandbox: &str, port: u16) -> Result<Connection, SeamError> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let state = self.state.lock().unwrap();
        let listener = state.listeners.get(&port).filter(|listener| listener.send(far).is_ok());
        listener.ok_or_else(|| SeamError::new("dial", sandbox, "connection refused"))?;
        Ok(Box::new(near))
    }

    async fn listens(&self, _: &str, ports: &[u16]) -> Result<bool, SeamError> {
        let state = self.state.lock().unwrap();
        Ok(ports.iter().all(|port| state.listeners.contains_key(port)))
    }

    async fn limit_group(&self, group: &str, resources: &Resources) -> Result<(), SeamError> {
        self.call(format!("limit {group} {}", resources.cpu_shares));
        Ok(())
    }

    async fn group_usage(&self, _: &str) -> Result<Option<Usage>, SeamError> {
        Ok(None)
    }

    async fn usage(&self, _: Walk) -> Result<Vec<SandboxUsage>, SeamError> {
        self.call("usage");
        Ok(self.state.lock().unwrap().usage.clone())
    }
}

#[async_trait]
impl Images for World {
    async fn list(&self) -> Vec<Image> {
        self.state.lock().unwrap().images.values().cloned().collect()
    }

    async fn remove(&self, id: &str) -> Result<(), SeamError> {
        self.change(|state| {
            state.calls.push(format!("remove image {id}"));
            state.images.retain(|_, image| image.id != id);
        });
        Ok(())
    }

    async fn get(&self, reference: &str) -> Result<Option<Image>, PullError> {
        if reference.contains("..") {
            return Err(PullError::InvalidReference(format!("couldn't parse image name {reference:?}: bad")));
        }
        Ok(self.state.lock().unwrap().images.get(reference).cloned())
    }

    async fn pull(&self, reference: &str, _: &[Credentials], _: Option<&Image>) -> Result<Image, PullError> {
        self.change(|state| {
            state.calls.push(format!("pull {reference}"));
            match state.pulls.is_empty() {
                true => Ok(state.images[reference].clone()),
                false => state.pulls.remove(0),
            }
        })
    }
}

#[async_trait]
impl Network for World {
    async fn attach(&self, Wiring { sandbox, .. }: Wiring<'_>) -> Result<Vec<IpAddr>, SeamError> {
        assert!(self.state.lock().unwrap().sandboxes.contains_key(sandbox));
        self.call("attach network");
        if let Some(trouble) = self.network_trouble.borrow().clone() {
            return Err(SeamError::new("connect sandbox", sandbox, trouble));
        }
        Ok(vec!["10.42.0.7".parse().unwrap()])
    }

    async fn detach(&self, sandbox: &str) -> Result<(), SeamError> {
        self.call("detach network");
        if *self.network_holds.lock().unwrap() {
            return Err(SeamError::new("disconnect sandbox", sandbox, "it holds on"));
        }
        Ok(())
    }

    async fn reconcile(&self, live: &[String]) -> Result<(), SeamError> {
        self.call(format!("reconcile {}", live.len()));
        Ok(())
    }

    fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.network_trouble.subscribe()
    }
}

#[async_trait]
impl Withdrawals for World {
    async fn withdrawn(&self, pod_ip: IpAddr) {
        self.call(format!("withdraw {pod_ip}"));
        let after = *self.withdrawal.lock().unwrap();
        tokio::time::sleep(after).await;
    }

    fn programmed(&self) -> watch::Receiver<u64> {
        watch::Sender::new(0).subscribe()
    }
}

#[async_trait]
impl Policies for World {
    async fn programmed(&self, _: &Pod, ips: &[IpAddr]) {
        let held = self.policies.lock().unwrap().clone();
        if let Some(release) = held {
            self.call(format!("protect {ips:?}"));
            release.notified().await;
        }
    }
}

#[async_trait]
impl Cluster for World {
    async fn patch_status(&self, _: &Pod, patch: Value) -> Result<Option<u64>, ClusterError> {
        self.change(|state| {
            state.writes += 1;
            if state.fail_status > 0 {
                state.fail_status -= 1;
                return Err(ClusterError::Request {
                    operation: "patch status of",
                    kind: "pod",
                    key: machinery_client::ObjectKey::new("default", "web"),
                    source: Box::new(kube::Error::LinesCodecMaxLineLengthExceeded),
                });
            }
            merge(&mut state.status, patch);
            Ok(None)
        })
    }

    async fn delete(&self, _: &Pod) -> Result<(), ClusterError> {
        self.change(|state| {
            state.calls.push("delete object".into());
            state.deleted = true;
        });
        Ok(())
    }

    async fn config_map(&self, _: &str, name: &str) -> Result<Option<ConfigMap>, ClusterError> {
        Ok(self.state.lock().unwrap().config_maps.get(name).cloned())
    }

    async fn secret(&self, _: &str, _: &str) -> Result<Option<Secret>, ClusterError> {
        Ok(None)
    }

    async fn claim(&self, _: &str, name: &str) -> Result<Option<PersistentVolumeClaim>, ClusterError> {
        Ok(self.state.lock().unwrap().claims.get(name).cloned())
    }

    async fn volume(&self, name: &str) -> Result<Option<PersistentVolume>, ClusterError> {
        Ok(self.state.lock().unwrap().volumes.get(name).cloned())
    }

    async fn patch_claim(&self, key: &ObjectKey, status: Value) -> Result<(), ClusterError> {
        self.call(format!("patch claim {key} {status}"));
        Ok(())
    }

    async fn csi_driver(&self, name: &str) -> Result<Option<CSIDriver>, ClusterError> {
        Ok(self.state.lock().unwrap().csi_drivers.get(name).cloned())
    }

    async fn volume_attachment(&self, _: &str) -> Result<Option<VolumeAttachment>, ClusterError> {
        Ok(None)
    }

    async fn node(&self) -> Result<(String, BTreeMap<String, String>), ClusterError> {
        Ok(("one".into(), BTreeMap::from([("kubernetes.io/hostname".into(), "one".into())])))
    }

    async fn follow(&self, source: &Source) -> Following {
        Following::of(self.state.lock().unwrap().followed.entry(source.clone()).or_default())
    }

    async fn token(&self, _: &str, _: &str, request: &TokenRequest) -> Result<TokenRequestStatus, ClusterError> {
        let life = request.spec.as_ref().and_then(|spec| spec.expiration_seconds).unwrap_or_default();
        let expiry = k8s_openapi::jiff::Timestamp::now() + k8s_openapi::jiff::SignedDuration::from_secs(life);
        Ok(TokenRequestStatus { expiration_timestamp: Some(Time(expiry)), token: Some("token-1".into()) })
    }

    async fn authenticate(&self, token: &str) -> Result<Option<Identity>, ClusterError> {
        self.call("review a token");
        Ok(token.strip_prefix("of ").map(|name| Identity { name: name.to_owned(), ..Identity::default() }))
    }

    async fn allows(&self, user: &Identity, verb: &str, part: &str) -> Result<bool, ClusterError> {
        self.call(format!("may {} {verb} {part}", user.name));
        Ok(user.name == "prometheus" && (verb, part) == ("get", "metrics"))
    }

    async fn services(&self, _: &str) -> Vec<ServiceLinks> {
        Vec::new()
    }

    fn report_annotated(&self, _: &Pod, report: &Report<'_>, _: BTreeMap<String, String>) {
        let container = report.container.map(|name| format!("{name}: ")).unwrap_or_default();
        self.change(|state| state.events.push(format!("{container}{} {}", report.reason, report.message)));
    }

    fn report_node(&self, _: machinery_client::EventKind, reason: &str, message: &str) {
        self.change(|state| state.events.push(format!("node: {reason} {message}")));
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Default::default());
    }
    for (key, value) in patch {
        let object = target.as_object_mut().unwrap();
        if value.is_null() {
            object.remove(&key);
        } else {
            merge(object.entry(key).or_insert(Value::Null), value);
        }
    }
}
