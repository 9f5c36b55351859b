//! Volumes that show the cluster: they follow it in running containers, whole and at once.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, eventually};

use super::{create, has_event, on_a_cluster, reaches, script, with};

const POD: &str = "reader";

#[test]
fn volumes_follow_what_they_show() {
    on_a_cluster(|cluster| {
        cluster
            .kubectl(&["create", "configmap", "settings", "--from-literal=color=blue", "--from-literal=size=1"])?
            .ok();
        cluster.kubectl(&["create", "secret", "generic", "hidden", "--from-literal=word=xyzzy"])?.ok();
        reader(cluster)?;
        config_maps_and_secrets(cluster)?;
        labels(cluster)?;
        optional_objects(cluster)?;
        objects_that_go(cluster)?;
        a_restart_sees_the_newest(cluster)?;
        expressions(cluster)
    });
}

fn reader(cluster: &Cluster) -> Result<()> {
    let mount = |name: &str| json!({"name": name, "mountPath": format!("/{name}")});
    let mounts = json!([
        mount("map"), mount("secret"), mount("all"), mount("late"), mount("self"),
        {"name": "map", "mountPath": "/pinned", "subPath": "color"},
    ]);
    let labels = json!({"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}});
    let memory = json!({"containerName": "main", "resource": "limits.memory"});
    let projected = json!({"sources": [
        {"configMap": {"name": "settings", "items": [{"key": "color", "path": "deep/color"}]}},
        {"secret": {"name": "hidden"}},
        {"downwardAPI": {"items": [labels.clone()]}},
    ]});
    let volumes = json!([
        {"name": "map", "configMap": {"name": "settings"}},
        {"name": "secret", "secret": {"secretName": "hidden", "defaultMode": 0o400}},
        {"name": "all", "projected": projected},
        {"name": "late", "configMap": {"name": "later", "optional": true}},
        {"name": "self", "downwardAPI": {"items": [labels, {"path": "memory", "resourceFieldRef": memory}]}},
    ]);
    let limits = json!({"resources": {"limits": {"memory": "64Mi"}}, "volumeMounts": mounts});
    let spec = json!({"volumes": volumes, "restartPolicy": "Always", "terminationGracePeriodSeconds": 0});
    create(cluster, POD, &with(script("sleep infinity"), &limits), &spec)?;
    reaches(cluster, POD, "status.phase", "Running")?;
    assert_eq!(
        show(cluster, "cat /map/color /secret/word /all/deep/color /all/word /pinned")?,
        "bluexyzzybluexyzzyblue"
    );
    assert_eq!(show(cluster, "cat /self/memory; ls /late")?, "67108864");
    assert_eq!(show(cluster, "stat -L -c %a /secret/word")?, "400");
    Ok(())
}

fn show(cluster: &Cluster, script: &str) -> Result<String> {
    Ok(cluster.kubectl(&["exec", POD, "--", "sh", "-c", script])?.ok().trim_end().to_owned())
}

fn shows(cluster: &Cluster, script: &str, wanted: &str) {
    eventually(script, || {
        let shown = show(cluster, script)?;
        ensure!(shown == wanted, "{shown:?}");
        Ok(())
    });
}

fn patch(cluster: &Cluster, kind: &str, name: &str, patch: &Value) -> Result<()> {
    cluster.kubectl(&["patch", kind, name, "-p", &patch.to_string()])?.ok();
    Ok(())
}

fn config_maps_and_secrets(cluster: &Cluster) -> Result<()> {
    let before = show(cluster, "readlink /map/..data")?;
    patch(cluster, "configmap", "settings", &json!({"data": {"color": "red", "size": null, "new": "here"}}))?;
    shows(cluster, "cat /map/color /map/new; ls /map", "redherecolor\nnew");
    shows(cluster, "cat /all/deep/color", "red");
    assert_ne!(show(cluster, "readlink /map/..data")?, before, "one link is swapped");
    assert_eq!(show(cluster, &format!("ls -d /map/{before} 2>/dev/null || echo gone"))?, "gone");
    assert_eq!(show(cluster, "cat /pinned")?, "blue", "a subPath stays what it was");
    patch(cluster, "secret", "hidden", &json!({"stringData": {"word": "plugh"}}))?;
    shows(cluster, "cat /secret/word /all/word", "plughplugh");
    Ok(())
}

fn labels(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["label", "pod", POD, "tier=back"])?.ok();
    shows(cluster, "cat /self/labels", "run=\"reader\"\ntier=\"back\"");
    shows(cluster, "cat /all/labels", "run=\"reader\"\ntier=\"back\"");
    Ok(())
}

fn optional_objects(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["create", "configmap", "later", "--from-literal=a=1"])?.ok();
    shows(cluster, "cat /late/a", "1");
    cluster.kubectl(&["delete", "configmap", "later"])?.ok();
    shows(cluster, "ls /late", "");
    Ok(())
}

fn objects_that_go(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["delete", "secret", "hidden"])?.ok();
    has_event(
        cluster,
        POD,
        "Warning FailedMount MountVolume.SetUp failed for volume \"secret\" : secret \"hidden\" not found",
    );
    assert_eq!(show(cluster, "cat /secret/word")?, "plugh", "what runs with it keeps it");
    cluster.kubectl(&["create", "secret", "generic", "hidden", "--from-literal=word=again"])?.ok();
    shows(cluster, "cat /secret/word", "again");
    Ok(())
}

fn a_restart_sees_the_newest(cluster: &Cluster) -> Result<()> {
    patch(
        cluster,
        "pod",
        POD,
        &json!({"spec": {"containers": [{"name": "main", "image": "docker.io/library/busybox:1.37"}]}}),
    )?;
    reaches(cluster, POD, "status.containerStatuses[0].restartCount", "1")?;
    eventually("another instance", || {
        ensure!(cluster.kubectl(&["exec", POD, "--", "cat", "/pinned"])?.stdout == "red", "not yet");
        Ok(())
    });
    Ok(())
}

fn expressions(cluster: &Cluster) -> Result<()> {
    let env = json!([{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]);
    let fields = |expression: &str| {
        let own = json!({"name": "shared", "mountPath": "/own", "subPathExpr": expression});
        let mounts = json!([own, {"name": "shared", "mountPath": "/shared"}]);
        with(script("echo mine > /own/log; cat /shared/of/$POD/log"), &json!({"env": env, "volumeMounts": mounts}))
    };
    let volumes = json!({"volumes": [{"name": "shared", "emptyDir": {}}]});
    create(cluster, "writer", &fields("of/$(POD)"), &volumes)?;
    reaches(cluster, "writer", "status.phase", "Succeeded")?;
    assert_eq!(super::log(cluster, "writer")?, "mine\n");
    create(cluster, "blank", &fields("of/$(NONE)"), &volumes)?;
    reaches(cluster, "blank", "status.containerStatuses[0].state.waiting.reason", "CreateContainerConfigError")?;
    has_event(cluster, "blank", "Warning Failed Error: missing value for NONE");
    Ok(())
}
