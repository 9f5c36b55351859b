//! Claims, and the volumes that they get: made by hand, made for them, and what becomes of both.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, eventually};

use super::{create, has_event, log, on_a_cluster, reaches, script, with};

#[test]
fn claims_get_volumes_and_data_outlives_pods() {
    on_a_cluster(|cluster| {
        the_default_class(cluster)?;
        what_is_deleted_goes(cluster)?;
        volumes_made_by_hand(cluster)?;
        what_cannot_be_bound(cluster)?;
        one_pod_at_a_time(cluster)?;
        ephemeral_volumes(cluster)?;
        a_deployment_keeps_its_data(cluster)
    });
}

fn apply(cluster: &Cluster, object: &Value) -> Result<()> {
    cluster.apply(&object.to_string())
}

fn claim(cluster: &Cluster, name: &str, more: &Value) -> Result<()> {
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let metadata = json!({"name": name});
    apply(
        cluster,
        &json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": with(spec, more)}),
    )
}

/// A pod that does this with the claim's volume at `/data`.
fn user(cluster: &Cluster, name: &str, claim: &str, command: &str) -> Result<()> {
    let mounts = json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]});
    let volumes = json!([{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]);
    let spec = json!({"volumes": volumes, "terminationGracePeriodSeconds": 0});
    create(cluster, name, &with(script(command), &mounts), &spec)
}

fn field(cluster: &Cluster, kind: &str, name: &str, path: &str) -> Result<String> {
    Ok(cluster.kubectl(&["get", kind, name, &format!("-o=jsonpath={{{path}}}")])?.ok())
}

fn becomes(cluster: &Cluster, kind: &str, name: &str, path: &str, wanted: &str) {
    eventually(&format!("{kind} {name}: {path} is {wanted}"), || {
        let found = field(cluster, kind, name, path)?;
        ensure!(found == wanted, "{found:?}");
        Ok(())
    });
}

/// Nothing is made before a pod wants it; then it is a directory of that pod's node, which outlives the pod.
fn the_default_class(cluster: &Cluster) -> Result<()> {
    let classes = cluster.kubectl(&["get", "storageclass"])?.ok();
    let line = classes.lines().nth(1).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        line.starts_with("local-path (default) sampan.io/local-path Delete WaitForFirstConsumer false"),
        "{classes}"
    );
    claim(cluster, "data", &json!({}))?;
    becomes(cluster, "pvc", "data", ".status.phase", "Pending");
    has_event(cluster, "data", "Normal WaitForFirstConsumer waiting for first consumer to be created before binding");
    user(cluster, "writer", "data", "id -u; echo kept > /data/file")?;
    reaches(cluster, "writer", "status.phase", "Succeeded")?;
    let volume = field(cluster, "pvc", "data", ".spec.volumeName")?;
    let uid = field(cluster, "pvc", "data", ".metadata.uid")?;
    assert_eq!(volume, format!("pvc-{uid}"));
    has_event(cluster, "data", &format!("Normal ProvisioningSucceeded Successfully provisioned volume {volume}"));
    let shown = cluster.kubectl(&["get", "pvc", "data", "--no-headers"])?.ok();
    let shown = shown.split_whitespace().take(6).collect::<Vec<_>>().join(" ");
    assert_eq!(shown, format!("data Bound {volume} 1Gi RWO local-path"));
    assert_eq!(field(cluster, "pv", &volume, ".status.phase")?, "Bound");
    cluster.kubectl(&["delete", "pod", "writer"])?.ok();
    user(cluster, "reader", "data", "cat /data/file")?;
    reaches(cluster, "reader", "status.phase", "Succeeded")?;
    assert_eq!(log(cluster, "reader")?, "kept\n");
    Ok(())
}

/// A claim waits for its pods, and takes its volume and what that holds along.
fn what_is_deleted_goes(cluster: &Cluster) -> Result<()> {
    user(cluster, "holder", "data", "sleep infinity")?;
    reaches(cluster, "holder", "status.phase", "Running")?;
    let volume = field(cluster, "pvc", "data", ".spec.volumeName")?;
    let path = PathBuf::from(field(cluster, "pv", &volume, ".spec.hostPath.path")?);
    assert!(path.join("file").exists(), "{}", path.display());
    cluster.kubectl(&["delete", "pvc", "data", "--wait=false"])?.ok();
    let shown = cluster.kubectl(&["get", "pvc", "data", "--no-headers"])?.ok();
    assert!(shown.contains("Terminating"), "{shown}");
    assert!(path.join("file").exists());
    cluster.kubectl(&["delete", "pod", "holder", "reader", "--now"])?.ok();
    eventually("the end of claim, volume and directory", || {
        let left = cluster.kubectl(&["get", "pvc,pv", "-o", "name"])?.ok();
        ensure!(left.trim().is_empty() && !path.exists(), "{left} {}", path.display());
        let node = cluster.object(&["node", "one"])?["metadata"]["annotations"].to_string();
        ensure!(!node.contains(&volume), "{node}");
        Ok(())
    });
    Ok(())
}

fn volume(cluster: &Cluster, name: &str, path: &Path, more: &Value) -> Result<()> {
    let spec = json!({"capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "hand",
        "hostPath": {"path": path, "type": "DirectoryOrCreate"}});
    let metadata = json!({"name": name, "labels": {"disk": name}});
    apply(
        cluster,
        &json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": with(spec, more)}),
    )
}

/// By size and selector, at once, and kept when the claim goes.
fn volumes_made_by_hand(cluster: &Cluster) -> Result<()> {
    let place = tempfile::tempdir()?;
    let at = |name: &str| place.path().join(name);
    volume(cluster, "small", &at("small"), &json!({"capacity": {"storage": "1Gi"}}))?;
    volume(cluster, "big", &at("big"), &json!({"capacity": {"storage": "5Gi"}}))?;
    volume(cluster, "reserved", &at("reserved"), &json!({"claimRef": {"namespace": "default", "name": "later"}}))?;
    becomes(cluster, "pv", "small", ".status.phase", "Available");
    claim(cluster, "by-size", &json!({"storageClassName": "hand"}))?;
    becomes(cluster, "pvc", "by-size", ".spec.volumeName", "small");
    becomes(cluster, "pvc", "by-size", ".status.phase", "Bound");
    claim(cluster, "by-label", &json!({"storageClassName": "hand", "selector": {"matchLabels": {"disk": "big"}}}))?;
    becomes(cluster, "pvc", "by-label", ".status.capacity.storage", "5Gi");
    claim(cluster, "too-late", &json!({"storageClassName": "hand"}))?;
    has_event(cluster, "too-late", "Warning ProvisioningFailed storageclass.storage.k8s.io \"hand\" not found");
    claim(cluster, "later", &json!({"storageClassName": "hand"}))?;
    becomes(cluster, "pvc", "later", ".spec.volumeName", "reserved");
    user(cluster, "by-hand", "by-size", "echo mine > /data/file")?;
    reaches(cluster, "by-hand", "status.phase", "Succeeded")?;
    assert_eq!(std::fs::read_to_string(at("small").join("file"))?, "mine\n");
    cluster.kubectl(&["delete", "pod", "by-hand"])?.ok();
    cluster.kubectl(&["delete", "pvc", "by-size"])?.ok();
    becomes(cluster, "pv", "small", ".status.phase", "Released");
    assert!(at("small").join("file").exists(), "Retain");
    cluster
        .kubectl(&["patch", "pv", "small", "--type=json", "-p", r#"[{"op":"remove","path":"/spec/claimRef"}]"#])?
        .ok();
    becomes(cluster, "pvc", "too-late", ".spec.volumeName", "small");
    cluster.kubectl(&["delete", "pvc", "too-late", "by-label", "later"])?.ok();
    cluster.kubectl(&["delete", "pv", "small", "big", "reserved"])?.ok();
    Ok(())
}

fn unschedulable(cluster: &Cluster, pod: &str, message: &str) {
    eventually(&format!("{pod} is told {message:?}"), || {
        let found = cluster.object(&["pod", pod])?["status"]["conditions"].clone();
        let told = found.as_array().into_iter().flatten().find(|one| one["type"] == "PodScheduled");
        ensure!(told.is_some_and(|told| told["message"] == message), "{found}");
        Ok(())
    });
}

fn what_cannot_be_bound(cluster: &Cluster) -> Result<()> {
    user(cluster, "homeless", "nowhere", "true")?;
    unschedulable(cluster, "homeless", "0/1 nodes are available: persistentvolumeclaim \"nowhere\" not found.");
    claim(cluster, "nowhere", &json!({"storageClassName": ""}))?;
    unschedulable(cluster, "homeless", "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.");
    has_event(
        cluster,
        "nowhere",
        "Normal FailedBinding no persistent volumes available for this claim and no storage class is set",
    );
    let elsewhere = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["elsewhere"]}]}]}});
    let more = json!({"storageClassName": "", "nodeAffinity": elsewhere});
    volume(cluster, "far", Path::new("/nonexistent/far"), &more)?;
    unschedulable(
        cluster,
        "homeless",
        "0/1 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity.",
    );
    claim(cluster, "shared", &json!({"accessModes": ["ReadWriteMany"]}))?;
    user(cluster, "sharer", "shared", "true")?;
    has_event(
        cluster,
        "shared",
        "Warning ProvisioningFailed failed to provision volume with StorageClass \"local-path\": access mode ReadWriteMany",
    );
    cluster.kubectl(&["delete", "pod", "homeless", "sharer", "--now"])?.ok();
    cluster.kubectl(&["delete", "pvc", "nowhere", "shared"])?.ok();
    cluster.kubectl(&["delete", "pv", "far"])?.ok();
    Ok(())
}

fn one_pod_at_a_time(cluster: &Cluster) -> Result<()> {
    claim(cluster, "single", &json!({"accessModes": ["ReadWriteOncePod"]}))?;
    user(cluster, "first", "single", "sleep infinity")?;
    reaches(cluster, "first", "status.phase", "Running")?;
    user(cluster, "second", "single", "true")?;
    unschedulable(
        cluster,
        "second",
        "0/1 nodes are available: 1 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode.",
    );
    cluster.kubectl(&["delete", "pod", "first", "--now"])?.ok();
    reaches(cluster, "second", "status.phase", "Succeeded")?;
    cluster.kubectl(&["delete", "pod/second", "pvc/single"])?.ok();
    Ok(())
}

fn ephemeral_volumes(cluster: &Cluster) -> Result<()> {
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}});
    let template = json!({"metadata": {"labels": {"of": "brief"}}, "spec": spec});
    let volumes = json!({"volumes": [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]});
    let mounts = json!({"volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]});
    create(cluster, "brief", &with(script("touch /scratch/a && ls /scratch"), &mounts), &volumes)?;
    reaches(cluster, "brief", "status.phase", "Succeeded")?;
    assert_eq!(log(cluster, "brief")?, "a\n");
    assert_eq!(field(cluster, "pvc", "brief-scratch", ".metadata.labels.of")?, "brief");
    cluster.kubectl(&["delete", "pod", "brief"])?.ok();
    eventually("the end of its volume", || {
        let left = cluster.kubectl(&["get", "pvc,pv", "-o", "name"])?.ok();
        ensure!(left.trim().is_empty(), "{left}");
        Ok(())
    });
    claim(cluster, "taken-scratch", &json!({}))?;
    create(cluster, "taken", &with(script("true"), &mounts), &volumes)?;
    unschedulable(
        cluster,
        "taken",
        "0/1 nodes are available: PVC default/taken-scratch was not created for pod default/taken (pod is not owner).",
    );
    cluster.kubectl(&["delete", "pod/taken", "pvc/taken-scratch"])?.ok();
    Ok(())
}

fn a_deployment_keeps_its_data(cluster: &Cluster) -> Result<()> {
    claim(cluster, "site", &json!({}))?;
    let command = "date +%s%N >> /data/starts; sleep infinity";
    let container = json!({"name": "main", "image": "busybox:1.37", "command": ["sh", "-c", command],
        "volumeMounts": [{"name": "data", "mountPath": "/data", "subPath": "www"}]});
    let spec = json!({"containers": [container], "terminationGracePeriodSeconds": 0,
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "site"}}]});
    let labels = json!({"app": "site"});
    apply(
        cluster,
        &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "site"}, "spec": {
        "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}}}),
    )?;
    let starts = |count: usize| {
        eventually("as many starts", || {
            let shown = cluster.kubectl(&["exec", "deployment/site", "--", "cat", "/data/starts"])?;
            ensure!(shown.stdout.lines().count() == count, "{} {}", shown.stdout, shown.stderr);
            Ok(())
        });
    };
    starts(1);
    cluster.kubectl(&["delete", "pod", "-l", "app=site"])?.ok();
    starts(2);
    cluster.kubectl(&["delete", "deployment/site", "pvc/site"])?.ok();
    Ok(())
}

/// For reading only: nothing is written to it, nothing of it executed, and it goes with the pod.
#[test]
fn images_are_volumes() {
    on_a_cluster(|cluster| {
        let image =
            |name: &str, policy: &str| json!({"name": "site", "image": {"reference": name, "pullPolicy": policy}});
        let at = |path: &str, more: &Value| with(json!({"name": "site", "mountPath": path}), more);
        let mounts = json!([at("/site", &json!({})), at("/part", &json!({"subPath": "etc/nginx"}))]);
        let command = "ls -d /site/etc/nginx/nginx.conf /part/nginx.conf; touch /site/new 2>&1 | grep -o 'Read-only.*'; \
            /site/usr/sbin/nginx -v 2>&1 | grep -o 'Permission.*'";
        let fields = with(script(command), &json!({"volumeMounts": mounts}));
        let nginx = "docker.io/bprashanth/nginxhttps:1.0";
        create(cluster, "shows", &fields, &json!({"volumes": [image(nginx, "IfNotPresent")]}))?;
        reaches(cluster, "shows", "status.phase", "Succeeded")?;
        let shown = "/part/nginx.conf\n/site/etc/nginx/nginx.conf\nRead-only file system\nPermission denied\n";
        assert_eq!(log(cluster, "shows")?, shown);
        create(cluster, "lacks", &fields, &json!({"volumes": [image("nowhere.test/none:1", "Never")]}))?;
        has_event(cluster, "lacks", "Warning ErrImageNeverPull Container image \"nowhere.test/none:1\" is not present");
        let reason = "status.containerStatuses[0].state.waiting.reason";
        reaches(cluster, "lacks", reason, "ErrImageNeverPull")?;
        create(cluster, "waits", &fields, &json!({"volumes": [image("nowhere.test/none:1", "IfNotPresent")]}))?;
        reaches(cluster, "waits", reason, "ImagePullBackOff")?;
        has_event(cluster, "waits", "Warning Failed Error: ErrImagePull");
        has_event(cluster, "waits", "Normal BackOff Back-off pulling image \"nowhere.test/none:1\"");
        cluster.kubectl(&["delete", "pod", "waits"])?.ok();
        cluster.kubectl(&["delete", "pod", "shows", "lacks"])?.ok();
        eventually("nothing mounted for nobody", || {
            let data = cluster.data_dir().join("agent").to_string_lossy().into_owned();
            let mounts = std::fs::read_to_string("/proc/mounts")?;
            ensure!(!mounts.contains(&data), "{mounts}");
            Ok(())
        });
        Ok(())
    });
}
