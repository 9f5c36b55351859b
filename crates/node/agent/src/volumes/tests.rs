//! Volumes on a real file system.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use serde_json::{Value, json};

use super::*;
use crate::fakes::World;
use crate::seams::{Access, chain};

fn pod(volume: Value, mount: Value) -> Pod {
    let mut volume = volume;
    volume["name"] = "v".into();
    let container = json!({"name": "app", "volumeMounts": [mount]});
    let spec = json!({"containers": [container], "volumes": [volume]});
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec})).unwrap()
}

fn mount() -> Value {
    json!({"name": "v", "mountPath": "/data"})
}

async fn set(volume: Value, dir: &Path) -> Result<Option<Duration>, String> {
    let world = World::new();
    let map = json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "/w=="}});
    world.state.lock().unwrap().config_maps.insert("settings".into(), serde_json::from_value(map).unwrap());
    let pod = pod(volume, mount());
    let volume = &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0];
    let csi = Csi::new(&dir.join("kubelet"), dir, "one");
    let context = Context { pod: &pod, cluster: &*world, csi: &csi, allocatable: (2000, 1 << 30) };
    set_up(volume, &dir.join(&volume.name), context).await.map(|made| made.due).map_err(|error| chain(&error))
}

#[tokio::test]
async fn empty_dirs_keep_what_is_in_them() {
    let dir = tempfile::tempdir().unwrap();
    set(json!({"emptyDir": {}}), dir.path()).await.unwrap();
    let path = dir.path().join("v");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o777);
    std::fs::write(path.join("kept"), "x").unwrap();
    set(json!({"emptyDir": {}}), dir.path()).await.unwrap();
    assert!(path.join("kept").exists());
}

#[tokio::test]
async fn config_maps_become_files() {
    let dir = tempfile::tempdir().unwrap();
    set(json!({"configMap": {"name": "settings", "defaultMode": 0o400}}), dir.path()).await.unwrap();
    let path = dir.path().join("v");
    assert_eq!(std::fs::read(path.join("a")).unwrap(), b"1");
    assert_eq!(std::fs::read(path.join("c")).unwrap(), b"\xff");
    assert_eq!(std::fs::metadata(path.join("a")).unwrap().permissions().mode() & 0o777, 0o400);
    let items = json!({"configMap": {"name": "settings", "items": [{"key": "b", "path": "sub/x", "mode": 0o600}]}});
    set(items, dir.path()).await.unwrap();
    assert_eq!(std::fs::read(path.join("sub/x")).unwrap(), b"2");
    assert!(!path.join("a").exists(), "files that are no longer wanted go");
}

#[tokio::test]
async fn what_cannot_be_set_up_says_why() {
    let dir = tempfile::tempdir().unwrap();
    for (volume, why) in [
        (json!({"configMap": {"name": "none"}}), "configmap \"none\" not found"),
        (json!({"secret": {"secretName": "none"}}), "secret \"none\" not found"),
        (
            json!({"configMap": {"name": "settings", "items": [{"key": "z", "path": "z"}]}}),
            "references non-existent ConfigMap key: z",
        ),
        (
            json!({"configMap": {"name": "settings", "items": [{"key": "a", "path": "../z"}]}}),
            "path \"../z\" leaves the volume",
        ),
        (
            json!({"iscsi": {"targetPortal": "t", "iqn": "i", "lun": 0}}),
            "volume type iscsi is not supported by this node",
        ),
        (
            json!({"hostPath": {"path": "/nonexistent", "type": "Directory"}}),
            "hostPath type check failed: /nonexistent is not a directory",
        ),
    ] {
        assert_eq!(set(volume, dir.path()).await, Err(why.to_owned()));
    }
    set(json!({"configMap": {"name": "none", "optional": true}}), dir.path()).await.unwrap();
}

#[tokio::test]
async fn resources_of_a_container_become_files() {
    let dir = tempfile::tempdir().unwrap();
    let item = |container: &str| {
        let of = json!({"containerName": container, "resource": "limits.memory", "divisor": "1Mi"});
        json!({"downwardAPI": {"items": [{"path": "memory", "resourceFieldRef": of}]}})
    };
    set(item("app"), dir.path()).await.unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("v/memory")).unwrap(), "1024", "what the node has");
    assert_eq!(set(item("none"), dir.path()).await, Err("container none not found".into()));
}

#[test]
fn mounts_point_into_the_volumes() {
    let one = |made: Made, mount| {
        let pod = pod(json!({"emptyDir": {}}), mount);
        let made = std::collections::BTreeMap::from([("v".to_owned(), made)]);
        mounts(&pod.spec.as_ref().unwrap().containers[0], &[], &made)
    };
    let plain = &one(Made::at("/v"), mount()).unwrap()[0];
    assert_eq!((plain.source.clone(), plain.access), (PathBuf::from("/v"), Access::ReadWrite));
    let managed = Made { read_only: true, ..Made::at("/v") };
    assert_eq!(one(managed, mount()).unwrap()[0].access, Access::ReadOnly);
    let unknown = one(Made::at("/v"), json!({"name": "w", "mountPath": "/x"})).unwrap_err();
    assert_eq!(unknown.to_string(), "volume \"w\" is not defined in the pod");
}

#[tokio::test]
async fn a_claim_is_the_directory_of_its_volume() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new();
    let path = dir.path().join("storage/pvc-1");
    let add = |phase: &str, uid: &str, node: &str| {
        let host = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [node]});
        let claim = json!({"metadata": {"uid": "u"}, "spec": {"volumeName": "pvc-1"}, "status": {"phase": phase}});
        let volume = json!({"metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": "sampan.io/local-path"}},
            "spec": {"claimRef": {"uid": uid}, "hostPath": {"path": path, "type": "DirectoryOrCreate"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [host]}]}}}});
        let mut state = world.state.lock().unwrap();
        state.claims.insert("c".into(), serde_json::from_value(claim).unwrap());
        state.volumes.insert("pvc-1".into(), serde_json::from_value(volume).unwrap());
    };
    let set = async |name: &str| {
        let pod = pod(json!({"persistentVolumeClaim": {"claimName": name, "readOnly": true}}), mount());
        let volume = pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0].clone();
        let csi = Csi::new(&dir.path().join("kubelet"), dir.path(), "one");
        let context = Context { pod: &pod, cluster: &*world, csi: &csi, allocatable: (0, 0) };
        set_up(&volume, &dir.path().join("v"), context).await.map_err(|error| chain(&error))
    };
    assert_eq!(set("c").await, Err("persistentvolumeclaim \"c\" not found".into()));
    add("Pending", "u", "one");
    assert_eq!(set("c").await, Err("PVC is not bound".into()));
    add("Bound", "other", "one");
    assert_eq!(set("c").await, Err("persistentvolume \"pvc-1\" is not bound to claim \"c\"".into()));
    add("Bound", "u", "two");
    assert_eq!(set("c").await, Err("no matching NodeSelectorTerms of persistentvolume \"pvc-1\"".into()));
    assert!(!path.exists());
    add("Bound", "u", "one");
    assert_eq!(set("c").await, Ok(Made { read_only: true, ..Made::at(&path) }));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o777);
    let block = |volume: &mut PersistentVolume| volume.spec.as_mut().unwrap().volume_mode = Some("Block".into());
    world.state.lock().unwrap().volumes.values_mut().for_each(block);
    let refused = "volume type of persistentvolumes of mode Block is not supported by this node";
    assert_eq!(set("c").await, Err(refused.into()));
}

#[tokio::test]
async fn projected_volumes_hold_a_token_and_change_all_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let sources = json!({"projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "settings", "items": [{"key": "a", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]}});
    let due = set(sources.clone(), dir.path()).await.unwrap().unwrap();
    assert!((2800..=2886).contains(&due.as_secs()), "{due:?}");
    let path = dir.path().join("v");
    let read = |name: &str| std::fs::read_to_string(path.join(name)).unwrap();
    assert_eq!((read("token"), read("ca.crt"), read("namespace")), ("token-1".into(), "1".into(), "shop".into()));
    assert_eq!(std::fs::read_link(path.join("token")).unwrap(), Path::new("..data/token"));
    let first = std::fs::read_link(path.join("..data")).unwrap();
    set(sources.clone(), dir.path()).await.unwrap();
    assert_eq!(std::fs::read_link(path.join("..data")).unwrap(), first, "what has not changed is left alone");
    let mut other = sources;
    other["projected"]["sources"][1]["configMap"]["items"][0]["key"] = "b".into();
    set(other, dir.path()).await.unwrap();
    assert_ne!(std::fs::read_link(path.join("..data")).unwrap(), first);
    assert_eq!((read("token"), read("ca.crt")), ("token-1".into(), "2".into()));
    assert!(!path.join(first).exists(), "what nobody reads any more goes");
}
