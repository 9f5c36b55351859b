//! Volumes of a driver that is a process of its own behind a socket, as far as a caller can tell.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use node_grpc::messages::csi::{NodePublishVolumeRequest, NodeStageVolumeRequest};
use node_grpc::{Code, Message, Status, server};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::UnixListener;

use super::mount::Published;
use super::*;
use crate::fakes::World;
use crate::volumes::ownership::Group;

/// Methods and messages.
type Calls = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A driver that mounts nothing, and tells what it was asked.
struct Fake {
    dir: TempDir,
    csi: Csi,
    world: Arc<World>,
    calls: Calls,
    /// What the next calls of a method answer instead.
    failures: Arc<Mutex<Vec<(&'static str, Status)>>>,
    _server: tokio::task::JoinHandle<()>,
}

impl Fake {
    fn new(spec: Value, capabilities: &[Capability]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let endpoint = dir.path().join("csi.sock");
        let (calls, failures) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (log, faults) = (calls.clone(), failures.clone());
        let handler: server::Handler = Arc::new(move |method, message| {
            let name = method.rsplit('/').next().unwrap().to_owned();
            log.lock().unwrap().push((name.clone(), message.to_vec()));
            let mut faults: std::sync::MutexGuard<'_, Vec<(&str, Status)>> = faults.lock().unwrap();
            let fault = faults.iter().position(|(method, _)| *method == name).map(|index| faults.remove(index).1);
            if name == "NodePublishVolume" && fault.is_none() {
                let request = NodePublishVolumeRequest::decode(message).unwrap();
                std::fs::create_dir_all(request.target_path).unwrap();
            }
            Box::pin(async move { fault.map_or(Ok(Vec::new()), Err) })
        });
        let server = tokio::spawn(server::serve(UnixListener::bind(&endpoint).unwrap(), handler));
        let world = World::new();
        let object = serde_json::from_value(json!({"metadata": {"name": "d"}, "spec": spec})).unwrap();
        world.state.lock().unwrap().csi_drivers.insert("d".into(), object);
        let csi = Csi::new(&dir.path().join("kubelet"), dir.path(), "one");
        let capabilities = capabilities.iter().map(|capability| *capability as i32).collect();
        csi.drivers.send_modify(|drivers| drop(drivers.insert("d".into(), Driver { endpoint, capabilities })));
        Self { dir, csi, world, calls, failures, _server: server }
    }

    fn fail(&self, method: &'static str, code: Code) {
        self.failures.lock().unwrap().push((method, Status::new(code, "no")));
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap()).into_iter().map(|(method, _)| method).collect()
    }

    fn last<M: Message + Default>(&self, method: &str) -> M {
        let calls = self.calls.lock().unwrap();
        let found = calls.iter().rev().find(|(name, _)| name == method);
        M::decode(&*found.unwrap().1).unwrap()
    }

    async fn mount(&self, wanted: &Wanted, uid: &str, group: Option<Group>) -> Result<Published, String> {
        let mounted = self.csi.mount(wanted, &pod(uid), group, &*self.world).await;
        mounted.map_err(|failure| format!("{:?}: {failure}", failure.step))
    }

    fn records(&self) -> usize {
        self.csi.layout.pods_with_volumes().len() + self.csi.layout.all_staged().len()
    }
}

fn pod(uid: &str) -> Pod {
    let meta = json!({"name": uid, "namespace": "shop", "uid": uid});
    serde_json::from_value(json!({"metadata": meta, "spec": {"serviceAccountName": "sa", "containers": []}})).unwrap()
}

fn volume(more: Value) -> Wanted {
    let mut source = json!({"driver": "d", "volumeHandle": "h", "volumeAttributes": {"a": "1"}});
    source.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let spec = json!({"csi": source, "accessModes": ["ReadWriteOnce"], "mountOptions": ["noatime"]});
    let volume: PersistentVolume = serde_json::from_value(json!({"metadata": {"name": "pv"}, "spec": spec})).unwrap();
    Wanted::of_volume(&volume, volume.spec.as_ref().unwrap().csi.as_ref().unwrap(), false)
}

fn plain() -> Value {
    json!({"attachRequired": false})
}

const STAGES: &[Capability] = &[Capability::StageUnstageVolume];

#[tokio::test]
async fn a_volume_is_staged_once_and_published_for_each_pod() {
    let fake = Fake::new(plain(), STAGES);
    let published = fake.mount(&volume(json!({})), "u1", None).await.unwrap();
    let pods = fake.dir.path().join("kubelet/pods");
    assert_eq!(published.path, pods.join("u1/volumes/kubernetes.io~csi/pv/mount"));
    let staged: NodeStageVolumeRequest = fake.last("NodeStageVolume");
    let hash = "aaa9402664f1a41f40ebbc52c9993eb66aeb366602958fdfaa283b71e64db123";
    let place = fake.dir.path().join("kubelet/plugins/kubernetes.io/csi/d").join(hash).join("globalmount");
    assert_eq!(PathBuf::from(&staged.staging_target_path), place);
    let request: NodePublishVolumeRequest = fake.last("NodePublishVolume");
    assert_eq!(PathBuf::from(&request.staging_target_path), place);
    assert_eq!((request.volume_id.as_str(), request.volume_context["a"].as_str()), ("h", "1"));
    fake.mount(&volume(json!({})), "u2", None).await.unwrap();
    fake.calls();
    fake.csi.release("u1").await.unwrap();
    assert_eq!(fake.calls(), ["NodeUnpublishVolume"], "the other pod has it still");
    fake.csi.release("u2").await.unwrap();
    assert_eq!(fake.calls(), ["NodeUnpublishVolume", "NodeUnstageVolume"]);
    assert_eq!(fake.records(), 0);
    assert!(!pods.join("u1").exists() && !place.exists());
}

#[tokio::test]
async fn what_has_failed_for_good_is_not_taken_away_and_what_may_go_on_is() {
    let fake = Fake::new(plain(), STAGES);
    fake.fail("NodeStageVolume", Code::InvalidArgument);
    let failed = fake.mount(&volume(json!({})), "u", None).await.err();
    assert_eq!(failed.as_deref(), Some("MountDevice: rpc error: code = InvalidArgument desc = no"));
    fake.calls();
    fake.csi.release("u").await.unwrap();
    assert_eq!(fake.calls(), [""; 0], "there is nothing to take away");
    fake.fail("NodePublishVolume", Code::DeadlineExceeded);
    let failed = fake.mount(&volume(json!({})), "u", None).await.err();
    assert_eq!(failed.as_deref(), Some("SetUp: rpc error: code = DeadlineExceeded desc = no"));
    fake.calls();
    fake.fail("NodeUnpublishVolume", Code::Internal);
    assert!(fake.csi.release("u").await.is_err());
    assert!(fake.csi.holds("u"));
    fake.csi.release("u").await.unwrap();
    assert_eq!(fake.calls(), ["NodeUnpublishVolume", "NodeUnpublishVolume", "NodeUnstageVolume"]);
    assert_eq!(fake.records(), 0);
}

#[tokio::test]
async fn a_later_agent_finds_what_is_there_and_leaves_other_kubelets_volumes_alone() {
    let fake = Fake::new(plain(), STAGES);
    fake.mount(&volume(json!({})), "u", None).await.unwrap();
    let other = Csi::new(&fake.dir.path().join("kubelet"), std::path::Path::new("/other"), "one");
    assert!(other.strangers(|_| false).is_empty() && !other.holds("u"));
    let later = Arc::new(Csi::new(&fake.dir.path().join("kubelet"), fake.dir.path(), "one"));
    later.drivers.send_replace(fake.csi.drivers.borrow().clone());
    assert_eq!(later.strangers(|uid| uid == "u"), [""; 0]);
    let left = later.strangers(|_| false);
    assert_eq!(left, ["u"]);
    fake.calls();
    later.release_left(left).await;
    assert_eq!(fake.calls(), ["NodeUnpublishVolume", "NodeUnstageVolume"]);
    assert_eq!(fake.records(), 0);
}

#[tokio::test]
async fn a_driver_is_told_of_the_pod_as_it_asks() {
    let spec = json!({"attachRequired": false, "podInfoOnMount": true, "requiresRepublish": true,
        "volumeLifecycleModes": ["Ephemeral"], "tokenRequests": [{"audience": "vault"}]});
    let fake = Fake::new(spec, &[]);
    let source = serde_json::from_value(json!({"driver": "d", "readOnly": true})).unwrap();
    let wanted = Wanted::of_pod(&pod("u"), "v", &source);
    let published = fake.mount(&wanted, "u", None).await.unwrap();
    assert!(published.due.is_some() && published.read_only);
    let request: NodePublishVolumeRequest = fake.last("NodePublishVolume");
    let told = |key: &str| request.volume_context[&format!("csi.storage.k8s.io/{key}")].as_str();
    assert_eq!((told("pod.uid"), told("pod.namespace"), told("ephemeral")), ("u", "shop", "true"));
    let tokens: Value = serde_json::from_str(told("serviceAccount.tokens")).unwrap();
    assert!(tokens["vault"]["token"].is_string() && tokens["vault"]["expirationTimestamp"].is_string(), "{tokens}");
    assert!(request.readonly && request.volume_id.starts_with("csi-"));
    fake.mount(&wanted, "u", None).await.unwrap();
    assert_eq!(fake.calls(), ["NodePublishVolume", "NodePublishVolume"], "again, as it wants");
}

#[tokio::test]
async fn the_pods_group_is_the_drivers_matter_or_ours() {
    let group = Group { id: 4321, only_on_mismatch: false };
    let fake = Fake::new(json!({"attachRequired": false, "fsGroupPolicy": "File"}), &[Capability::VolumeMountGroup]);
    let published = fake.mount(&volume(json!({})), "u", Some(group)).await.unwrap();
    assert_ne!(published.path.metadata().unwrap().gid(), 4321);
    let fake = Fake::new(json!({"attachRequired": false, "fsGroupPolicy": "File"}), &[]);
    let published = fake.mount(&volume(json!({})), "u", Some(group)).await.unwrap();
    assert_eq!(published.path.metadata().unwrap().gid(), 4321);
    let spec = serde_json::from_value(json!({})).unwrap();
    assert!(volume(json!({"fsType": "ext4"})).owned_here(Some(&spec)));
    assert!(!volume(json!({})).owned_here(Some(&spec)), "no file system that it is known of");
    assert!(!volume(json!({"fsType": "ext4", "readOnly": true})).owned_here(Some(&spec)));
}

#[tokio::test]
async fn what_cannot_be_mounted_says_why() {
    let fake = Fake::new(plain(), STAGES);
    let source = serde_json::from_value(json!({"driver": "d"})).unwrap();
    let own = Wanted::of_pod(&pod("u"), "v", &source);
    let said = "SetUp: kubernetes.io/csi: volume mode \"Ephemeral\" not supported by driver d (only supports [\"Persistent\"])";
    assert_eq!(fake.mount(&own, "u", None).await.err().as_deref(), Some(said));
    let secret = json!({"nodePublishSecretRef": {"namespace": "n", "name": "s"}});
    let said = "SetUp: kubernetes.io/csi: fetching the Secret n/s failed: secret \"s\" not found";
    assert_eq!(fake.mount(&volume(secret), "u", None).await.err().as_deref(), Some(said));
    fake.csi.drivers.send_modify(|drivers| drivers.clear());
    let said = "MountDevice: kubernetes.io/csi: attacher.MountDevice failed to create newCsiDriverClient: driver name d not found in the list of registered CSI drivers";
    assert_eq!(fake.mount(&volume(json!({})), "u", None).await.err().as_deref(), Some(said));
}
