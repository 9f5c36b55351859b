//! Volumes of a CSI driver: registered, staged, published and taken away, also when something goes wrong on the way.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use node_grpc::Code;
use node_grpc::messages::csi::Capability;
use serde_json::{Value, json};
use tests::{Cluster, Driver, DriverOptions, Fault, eventually};

use super::{create, has_event, log, on_a_cluster, reaches, script, with};

const NAME: &str = "csi.test";
/// Runs until it is told to end.
const HOLD: &str = "trap 'exit 0' TERM; sleep infinity & wait";

#[test]
fn drivers_of_volumes() {
    on_a_cluster(|cluster| {
        let topology = BTreeMap::from([("topology.csi.test/rack".to_owned(), "r1".to_owned())]);
        let options = DriverOptions { max_volumes: 5, topology, ..DriverOptions::new(NAME) };
        before_it_is_there(cluster)?;
        let mut driver = Driver::start(&kubelet(cluster), options)?;
        what_the_cluster_is_told(cluster, &driver)?;
        one_volume_and_two_pods(cluster, &driver)?;
        what_goes_wrong(cluster, &driver)?;
        a_restart_in_between(cluster, &mut driver)?;
        volumes_of_a_pod(cluster, &driver)?;
        a_driver_that_goes(cluster, &mut driver)?;
        attached_and_grown(cluster)
    });
}

fn kubelet(cluster: &Cluster) -> PathBuf {
    cluster.data_dir().join("kubelet")
}

fn csi_driver(cluster: &Cluster, name: &str, spec: &Value) -> Result<()> {
    let object =
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": name}, "spec": spec});
    cluster.apply(&object.to_string())
}

/// A volume of the driver and the claim that is bound to it, both of that name.
fn volume(cluster: &Cluster, name: &str, source: &Value) -> Result<()> {
    let csi = with(json!({"driver": NAME, "volumeHandle": format!("handle-{name}")}), source);
    let spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
        "csi": csi, "claimRef": {"namespace": "default", "name": name}});
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec});
    cluster.apply(&volume.to_string())?;
    let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": name,
        "resources": {"requests": {"storage": "1Gi"}}});
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec});
    cluster.apply(&claim.to_string())
}

/// A pod that does this with a volume at `/data`.
fn pod(cluster: &Cluster, name: &str, source: &Value, command: &str) -> Result<()> {
    let mounts = json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]});
    let volumes = json!([with(json!({"name": "data"}), source)]);
    let spec = json!({"volumes": volumes});
    create(cluster, name, &with(script(command), &mounts), &spec)
}

fn of_claim(name: &str) -> Value {
    json!({"persistentVolumeClaim": {"claimName": name}})
}

fn delete(cluster: &Cluster, pods: &[&str]) -> Result<()> {
    cluster.kubectl(&[&["delete", "pod", "--timeout=30s"], pods].concat())?.ok();
    Ok(())
}

/// Neither mounts nor records are left.
fn nothing_left(cluster: &Cluster) -> Result<()> {
    let root = kubelet(cluster);
    let entries = |path: &str| std::fs::read_dir(root.join(path)).into_iter().flatten().flatten().count();
    let mounts = std::fs::read_to_string("/proc/mounts")?;
    let mounted: Vec<_> = mounts.lines().filter(|line| line.contains("kubernetes.io")).collect();
    let ours: Vec<_> = mounted.iter().filter(|line| line.contains(&*root.to_string_lossy())).collect();
    let staged = entries(&format!("plugins/kubernetes.io/csi/{NAME}"));
    ensure!(ours.is_empty() && entries("pods") == 0 && staged == 0, "{ours:?} {} {staged}", entries("pods"));
    Ok(())
}

fn before_it_is_there(cluster: &Cluster) -> Result<()> {
    let object = eventually("the node's CSINode", || cluster.object(&["csinode", "one"]));
    assert_eq!(
        (&object["spec"]["drivers"], &object["metadata"]["ownerReferences"][0]["name"]),
        (&Value::Null, &json!("one"))
    );
    csi_driver(cluster, NAME, &json!({"attachRequired": false}))?;
    volume(cluster, "early", &json!({}))?;
    pod(cluster, "early", &of_claim("early"), HOLD)?;
    has_event(
        cluster,
        "early",
        "Warning FailedMount MountVolume.MountDevice failed for volume \"early\" : kubernetes.io/csi: \
         attacher.MountDevice failed to create newCsiDriverClient: driver name csi.test not found in the list of registered CSI drivers",
    );
    // A pod goes although its driver never came.
    delete(cluster, &["early"])
}

fn what_the_cluster_is_told(cluster: &Cluster, driver: &Driver) -> Result<()> {
    eventually("the registration", || {
        ensure!(driver.registered() == [(true, String::new())], "{:?}", driver.registered());
        Ok(())
    });
    let object = cluster.object(&["csinode", "one"])?;
    assert_eq!(
        object["spec"]["drivers"],
        json!([{"name": NAME, "nodeID": "the-node", "allocatable": {"count": 5}, "topologyKeys": ["topology.csi.test/rack"]}])
    );
    assert_eq!(object["metadata"]["ownerReferences"][0]["kind"], "Node");
    let node = cluster.object(&["node", "one"])?;
    assert_eq!(node["metadata"]["labels"]["topology.csi.test/rack"], "r1");
    assert_eq!(
        node["metadata"]["annotations"]["csi.volume.kubernetes.io/nodeid"],
        json!({NAME: "the-node"}).to_string()
    );
    Ok(())
}

fn one_volume_and_two_pods(cluster: &Cluster, driver: &Driver) -> Result<()> {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key", "namespace": "kube-system"},
        "stringData": {"password": "hidden"}});
    cluster.apply(&secret.to_string())?;
    let reference = json!({"name": "key", "namespace": "kube-system"});
    let source = json!({"volumeAttributes": {"share": "a"}, "nodeStageSecretRef": reference});
    volume(cluster, "shared", &source)?;
    pod(cluster, "writer", &of_claim("shared"), &format!("echo kept > /data/file; {HOLD}"))?;
    reaches(cluster, "writer", "status.phase", "Running")?;
    let asked = driver.asked();
    let methods: Vec<_> = asked.iter().map(|asked| asked.method.as_str()).collect();
    assert_eq!(methods, ["NodeStageVolume", "NodePublishVolume"]);
    assert_eq!(asked[0].volume, "handle-shared");
    assert_eq!(asked[0].context, BTreeMap::from([("share".to_owned(), "a".to_owned())]));
    assert_eq!(asked[0].secrets, BTreeMap::from([("password".to_owned(), "hidden".to_owned())]));
    assert!(asked[1].secrets.is_empty() && asked[0].number == 1, "a single node writes: {asked:?}");
    eventually("the pod's file in the driver's volume", || {
        ensure!(std::fs::read_to_string(driver.volume("handle-shared").join("file"))? == "kept\n");
        Ok(())
    });
    let reader = json!({"persistentVolumeClaim": {"claimName": "shared", "readOnly": true}});
    pod(cluster, "reader", &reader, "cat /data/file; touch /data/other 2>/dev/null || echo refused")?;
    reaches(cluster, "reader", "status.phase", "Succeeded")?;
    assert_eq!(log(cluster, "reader")?, "kept\nrefused\n");
    // A pod that has ended has no volumes any more.
    eventually("the end of the reader's volume", || {
        let methods = driver.methods();
        ensure!(methods == ["NodePublishVolume", "NodeUnpublishVolume"], "{methods:?}");
        Ok(())
    });
    driver.asked();
    delete(cluster, &["writer", "reader"])?;
    assert_eq!(driver.methods(), ["NodeUnpublishVolume", "NodeUnstageVolume"]);
    driver.asked();
    nothing_left(cluster)
}

fn what_goes_wrong(cluster: &Cluster, driver: &Driver) -> Result<()> {
    volume(cluster, "bad", &json!({}))?;
    driver.fault("NodeStageVolume", Fault::Fails(Code::Internal));
    driver.fault("NodePublishVolume", Fault::Dies);
    pod(cluster, "bad", &of_claim("bad"), HOLD)?;
    reaches(cluster, "bad", "status.phase", "Running")?;
    let said = |step: &str, code: &str| {
        let text =
            format!("Warning FailedMount MountVolume.{step} failed for volume \"bad\" : rpc error: code = {code}");
        has_event(cluster, "bad", &text);
    };
    said("MountDevice", "Internal desc = it was told to fail");
    said("SetUp", "Unavailable desc = transport is closing");
    driver.fault("NodeUnpublishVolume", Fault::Fails(Code::Internal));
    delete(cluster, &["bad"])?;
    let wanted = [
        "NodeStageVolume",
        "NodeStageVolume",
        "NodePublishVolume",
        "NodePublishVolume",
        "NodeUnpublishVolume",
        "NodeUnpublishVolume",
        "NodeUnstageVolume",
    ];
    assert_eq!(driver.methods(), wanted);
    driver.asked();
    // One that does not answer keeps its pod from starting, and not from going.
    driver.fault("NodeStageVolume", Fault::Hangs);
    pod(cluster, "hung", &of_claim("bad"), HOLD)?;
    eventually("the call that hangs", || {
        ensure!(driver.methods() == ["NodeStageVolume"]);
        Ok(())
    });
    delete(cluster, &["hung"])?;
    assert_eq!(driver.methods(), ["NodeStageVolume", "NodeUnstageVolume"]);
    driver.asked();
    nothing_left(cluster)
}

/// The agent is killed while a pod runs; another pod goes meanwhile.
fn a_restart_in_between(cluster: &mut Cluster, driver: &mut Driver) -> Result<()> {
    volume(cluster, "long", &json!({}))?;
    pod(cluster, "stays", &of_claim("long"), &format!("echo a > /data/a; {HOLD}"))?;
    reaches(cluster, "stays", "status.phase", "Running")?;
    driver.asked();
    cluster.stop_server(nix::sys::signal::Signal::SIGKILL)?;
    cluster.start_server()?;
    reaches(cluster, "stays", "status.phase", "Running")?;
    eventually("the registration with the new agent", || {
        ensure!(driver.registered().len() >= 2);
        Ok(())
    });
    assert_eq!(cluster.kubectl(&["exec", "stays", "--", "cat", "/data/a"])?.ok(), "a\n");
    assert_eq!(driver.methods(), [""; 0], "it is published still");
    delete(cluster, &["stays"])?;
    assert_eq!(driver.methods(), ["NodeUnpublishVolume", "NodeUnstageVolume"]);
    driver.asked();
    nothing_left(cluster)
}

fn volumes_of_a_pod(cluster: &Cluster, driver: &Driver) -> Result<()> {
    let own = json!({"csi": {"driver": NAME, "volumeAttributes": {"size": "1"}}});
    pod(cluster, "refused", &own, "true")?;
    has_event(
        cluster,
        "refused",
        "Warning FailedMount MountVolume.SetUp failed for volume \"data\" : kubernetes.io/csi: volume mode \"Ephemeral\" \
         not supported by driver csi.test (only supports [\"Persistent\"])",
    );
    delete(cluster, &["refused"])?;
    cluster.kubectl(&["delete", "csidriver", NAME])?.ok();
    let spec = json!({"attachRequired": false, "podInfoOnMount": true, "fsGroupPolicy": "File",
        "volumeLifecycleModes": ["Persistent", "Ephemeral"], "tokenRequests": [{"audience": "vault"}]});
    csi_driver(cluster, NAME, &spec)?;
    pod(cluster, "own", &own, "echo x > /data/file && stat -c %g /data /data/file")?;
    reaches(cluster, "own", "status.phase", "Succeeded")?;
    eventually("the end of the volume", || {
        ensure!(driver.methods() == ["NodePublishVolume", "NodeUnpublishVolume"]);
        Ok(())
    });
    let asked = driver.asked();
    let told = |key: &str| asked[0].context.get(key).map(String::as_str).unwrap_or_default();
    assert_eq!((told("size"), told("csi.storage.k8s.io/pod.name")), ("1", "own"));
    assert_eq!(told("csi.storage.k8s.io/ephemeral"), "true");
    let tokens: Value = serde_json::from_str(told("csi.storage.k8s.io/serviceAccount.tokens"))?;
    assert!(tokens["vault"]["token"].as_str().is_some_and(|token| token.contains('.')), "{tokens}");
    delete(cluster, &["own"])?;
    nothing_left(cluster)
}

fn a_driver_that_goes(cluster: &Cluster, driver: &mut Driver) -> Result<()> {
    driver.stop();
    eventually("a CSINode without the driver", || {
        let object = cluster.object(&["csinode", "one"])?;
        ensure!(object["spec"]["drivers"] == json!([]) || object["spec"]["drivers"].is_null(), "{object}");
        Ok(())
    });
    driver.serve()?;
    eventually("the driver again", || {
        ensure!(cluster.object(&["csinode", "one"])?["spec"]["drivers"][0]["name"] == NAME);
        Ok(())
    });
    Ok(())
}

/// What an external attacher and an external resizer do is done here by hand.
fn attached_and_grown(cluster: &Cluster) -> Result<()> {
    const NAME: &str = "attach.test";
    let capabilities = vec![Capability::StageUnstageVolume, Capability::ExpandVolume];
    let driver =
        Driver::start(&kubelet(cluster), DriverOptions { capabilities, max_volumes: 1, ..DriverOptions::new(NAME) })?;
    volume(cluster, "disk", &json!({"driver": NAME}))?;
    pod(cluster, "attached", &of_claim("disk"), HOLD)?;
    let attachment = eventually("the VolumeAttachment", || {
        let all = cluster.object(&["volumeattachment"])?;
        let first = all["items"][0].clone();
        ensure!(first.is_object(), "{all}");
        Ok(first)
    });
    let wanted = json!({"attacher": NAME, "nodeName": "one", "source": {"persistentVolumeName": "disk"}});
    assert_eq!(attachment["spec"], wanted);
    let unique_name = format!("kubernetes.io/csi/{NAME}^handle-disk");
    eventually("the volume in use", || {
        let node = cluster.object(&["node", "one"])?;
        ensure!(node["status"]["volumesInUse"] == json!([unique_name]), "{}", node["status"]);
        Ok(())
    });
    assert_eq!(driver.methods(), [""; 0], "it is not attached");
    let status = |kind: &str, name: &str, status: Value| -> Result<()> {
        let patch = json!({ "status": status }).to_string();
        cluster.kubectl(&["patch", kind, name, "--subresource=status", "--type=merge", "-p", &patch])?.ok();
        Ok(())
    };
    let name = attachment["metadata"]["name"].as_str().unwrap_or_default();
    status("volumeattachment", name, json!({"attached": false, "attachError": {"message": "no such disk"}}))?;
    has_event(
        cluster,
        "attached",
        "Warning FailedAttachVolume AttachVolume.Attach failed for volume \"disk\" : no such disk",
    );
    let done = json!({"attached": true, "attachError": null, "attachmentMetadata": {"device": "sdb"}});
    status("volumeattachment", name, done)?;
    reaches(cluster, "attached", "status.phase", "Running")?;
    has_event(cluster, "attached", "Normal SuccessfulAttachVolume AttachVolume.Attach succeeded for volume \"disk\"");
    let asked = driver.asked();
    assert_eq!(asked[0].publish_context, BTreeMap::from([("device".to_owned(), "sdb".to_owned())]), "{asked:?}");
    let node = cluster.object(&["node", "one"])?;
    assert_eq!(node["status"]["volumesAttached"], json!([{"name": unique_name, "devicePath": ""}]));

    volume(cluster, "second", &json!({"driver": NAME}))?;
    pod(cluster, "crowded", &of_claim("second"), HOLD)?;
    has_event(cluster, "crowded", "FailedScheduling 0/1 nodes are available: 1 node(s) exceed max volume count.");
    delete(cluster, &["crowded"])?;

    let grown = json!({"spec": {"capacity": {"storage": "2Gi"}}}).to_string();
    cluster.kubectl(&["patch", "pv", "disk", "--type=merge", "-p", &grown])?.ok();
    let pending = json!([{"type": "FileSystemResizePending", "status": "True"}]);
    status("pvc", "disk", json!({ "conditions": pending }))?;
    eventually("the claim's new size", || {
        let claim = cluster.object(&["pvc", "disk"])?;
        let (size, conditions) = (&claim["status"]["capacity"]["storage"], &claim["status"]["conditions"]);
        ensure!(size == "2Gi" && conditions.as_array().is_none_or(Vec::is_empty), "{}", claim["status"]);
        Ok(())
    });
    let asked = driver.asked();
    assert_eq!((asked[0].method.as_str(), asked[0].number), ("NodeExpandVolume", 2 << 30), "{asked:?}");
    assert_eq!(asked.len(), 1, "once: {asked:?}");
    let said = "Normal FileSystemResizeSuccessful MountVolume.NodeExpandVolume succeeded for volume \"disk\" one";
    has_event(cluster, "attached", said);

    delete(cluster, &["attached"])?;
    eventually("the end of the attachment", || {
        let all = cluster.object(&["volumeattachment"])?;
        let node = cluster.object(&["node", "one"])?;
        let left = |field: &str| node["status"][field].as_array().is_some_and(|all| !all.is_empty());
        let none = all["items"].as_array().is_some_and(Vec::is_empty);
        ensure!(none && !left("volumesInUse") && !left("volumesAttached"), "{all} {}", node["status"]);
        Ok(())
    });
    assert_eq!(driver.methods(), ["NodeUnpublishVolume", "NodeUnstageVolume"]);
    nothing_left(cluster)
}
