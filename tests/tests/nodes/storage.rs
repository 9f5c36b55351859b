//! A volume that is a directory of one node: the pods of its claim go there, and its node removes it.

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, eventually, must};

use crate::three;

#[test]
fn pods_follow_their_volumes() {
    must((|| {
        let cluster = three()?;
        let node = cluster.nodes()?[1].name.clone();
        let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}});
        let claim =
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": spec});
        cluster.apply(&claim.to_string())?;
        let write = "echo kept > /data/file";
        pod(&cluster, "writer", write, &json!({"nodeSelector": {"kubernetes.io/hostname": node}}))?;
        ends(&cluster, "writer")?;
        let volume = cluster.object(&["pvc", "data"])?["spec"]["volumeName"].as_str().unwrap_or_default().to_owned();
        let path =
            cluster.object(&["pv", &volume])?["spec"]["hostPath"]["path"].as_str().unwrap_or_default().to_owned();
        ensure!(Path::new(&path).join("file").exists(), "{path}");
        for number in 0..3 {
            let name = format!("reader-{number}");
            pod(&cluster, &name, "cat /data/file", &json!({}))?;
            ends(&cluster, &name)?;
            ensure!(cluster.object(&["pod", &name])?["spec"]["nodeName"] == node.as_str(), "{name} is elsewhere");
        }
        let other = cluster.nodes()?[2].name.clone();
        pod(&cluster, "astray", "cat /data/file", &json!({"nodeName": other}))?;
        eventually("why it is not mounted elsewhere", || {
            let events = cluster.kubectl(&["get", "events", "--field-selector", "involvedObject.name=astray"])?.ok();
            ensure!(
                events.contains(&format!("no matching NodeSelectorTerms of persistentvolume \"{volume}\"")),
                "{events}"
            );
            Ok(())
        });
        cluster.kubectl(&["delete", "pod", "--all", "--now"])?.ok();
        cluster.kubectl(&["delete", "pvc", "data"])?.ok();
        eventually("the end of the directory", || {
            let left = cluster.kubectl(&["get", "pv", "-o", "name"])?.ok();
            ensure!(left.is_empty() && !Path::new(&path).exists(), "{left} {path}");
            Ok(())
        });
        cluster.finish()
    })());
}

fn pod(cluster: &Cluster, name: &str, script: &str, more: &Value) -> Result<()> {
    let container = json!({"name": "main", "image": "busybox:1.37", "command": ["sh", "-c", script],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}]});
    let mut spec = json!({"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    cluster.apply(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}).to_string())
}

fn ends(cluster: &Cluster, pod: &str) -> Result<()> {
    let pod = format!("pod/{pod}");
    let answer = cluster.kubectl(&["wait", "--for=jsonpath={.status.phase}=Succeeded", &pod, "--timeout=60s"])?;
    ensure!(answer.success, "{pod}: {}", answer.stderr);
    Ok(())
}
