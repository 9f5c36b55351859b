//! Pods with users of their own: root in the pod is nobody to the node.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::{Cluster, eventually, first_process};

use super::{create, has_event, log, on_a_cluster, reaches, script, with};

#[test]
fn pods_have_users_of_their_own() {
    on_a_cluster(|cluster| {
        let can = cluster.object(&["node", "one"])?["status"]["runtimeHandlers"][0]["features"].clone();
        assert_eq!(can, json!({"recursiveReadOnlyMounts": true, "userNamespaces": true}));
        let first = files_and_rights(cluster)?;
        ranges_are_apart_and_given_back(cluster, first)?;
        one_namespace_for_all_processes(cluster)?;
        what_does_not_go_together(cluster)
    });
}

fn exec(cluster: &Cluster, pod: &str, script: &str) -> Result<String> {
    Ok(cluster.kubectl(&["exec", pod, "--", "sh", "-c", script])?.ok().trim_end().to_owned())
}

/// Who root of the pod is to the node, as the node's kernel says of the pod's first process.
fn first_user(cluster: &Cluster, pod: &str) -> Result<u32> {
    let status = format!("/proc/{}/status", first_process(cluster, pod)?);
    let status = std::fs::read_to_string(&status).context(status)?;
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:")).context("its user")?;
    Ok(ids.split_whitespace().next().context("a number")?.parse()?)
}

fn sleeper(cluster: &Cluster, name: &str) -> Result<u32> {
    // With no grace period the object would go before the pod.
    let spec = json!({"hostUsers": false, "terminationGracePeriodSeconds": 1});
    create(cluster, name, &script("trap exit TERM; sleep infinity & wait"), &spec)?;
    reaches(cluster, name, "status.phase", "Running")?;
    first_user(cluster, name)
}

fn files_and_rights(cluster: &Cluster) -> Result<u32> {
    cluster.kubectl(&["create", "configmap", "shown", "--from-literal=key=value"])?.ok();
    let host = cluster.data_dir().with_file_name("of-the-node");
    std::fs::create_dir(&host)?;
    std::fs::write(host.join("private"), "of root\n")?;
    let mounts = json!([
        {"name": "empty", "mountPath": "/empty"}, {"name": "memory", "mountPath": "/memory"},
        {"name": "shown", "mountPath": "/shown"}, {"name": "host", "mountPath": "/host"},
        {"name": "image", "mountPath": "/image"},
    ]);
    let fields = json!({
        "volumeMounts": mounts,
        "readinessProbe": {"exec": {"command": ["test", "-e", "/empty/ready"]}, "periodSeconds": 1},
        "securityContext": {"capabilities": {"add": ["NET_ADMIN", "SYS_TIME"]}},
    });
    let volumes = json!([
        {"name": "empty", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "shown", "configMap": {"name": "shown", "defaultMode": 0o400}},
        {"name": "host", "hostPath": {"path": host}},
        {"name": "image", "image": {"reference": "busybox:1.37", "pullPolicy": "Never"}},
    ]);
    let command =
        "id -u; touch /empty/ready; while [ ! -e /empty/end ]; do sleep 0.1; done; echo bye > /dev/termination-log";
    let spec = json!({"hostUsers": false, "volumes": volumes, "terminationGracePeriodSeconds": 1});
    create(cluster, "own", &with(script(command), &fields), &spec)?;
    reaches(cluster, "own", "status.containerStatuses[0].ready", "true")?;
    assert_eq!(log(cluster, "own")?, "0\n");

    let first = first_user(cluster, "own")?;
    assert!(first >= 65_536 && first.is_multiple_of(65_536), "{first}");
    let map = exec(cluster, "own", "cat /proc/self/uid_map /proc/self/gid_map")?;
    for line in map.lines() {
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["0", &first.to_string(), "65536"]);
    }
    let owners = "stat -c %u:%g / /empty /memory /shown/..data/key /host /host/private /image/bin/busybox /etc/hosts \
                  /etc/resolv.conf /dev/termination-log /dev/shm /var/run/secrets/kubernetes.io/serviceaccount | sort -u";
    assert_eq!(exec(cluster, "own", owners)?, "0:0");
    let written = "cat /shown/key; echo; cat /host/private; touch /empty/mine /memory/mine /host/mine /root-file; \
                   echo '192.0.2.1 other' >> /etc/hosts; touch /shown/no 2>/dev/null || echo read-only";
    assert_eq!(exec(cluster, "own", written)?, "value\nof root\nread-only");
    // On volumes they are what they seem; what the container keeps for itself is nobody's.
    assert_eq!(std::fs::metadata(host.join("mine"))?.uid(), 0);
    let uid = cluster.object(&["pod", "own"])?["metadata"]["uid"].as_str().context("a uid")?.to_owned();
    let empty = cluster.data_dir().join("agent/pods").join(uid).join("volumes");
    assert_eq!(owner_of(&empty, "mine")?, 0);
    assert_eq!(owner_of(&cluster.data_dir().join("containers"), "root-file")?, first);

    let network = "ip link set lo mtu 1400 && cat /sys/class/net/lo/mtu; date -s 2000-01-01 2>&1 >/dev/null";
    assert_eq!(exec(cluster, "own", network)?, "1400\ndate: can't set date: Operation not permitted");
    let local = cluster.write("to-copy", "copied\n")?;
    cluster.kubectl(&["cp", &local, "own:/empty/copy"])?.ok();
    assert_eq!(exec(cluster, "own", "cat /empty/copy; stat -c %u /empty/copy")?, "copied\n0");
    exec(cluster, "own", "touch /empty/end")?;
    reaches(cluster, "own", "status.phase", "Succeeded")?;
    reaches(cluster, "own", "status.containerStatuses[0].state.terminated.message", "bye")?;
    cluster.kubectl(&["delete", "pod", "own"])?.ok();
    Ok(first)
}

fn owner_of(below: &Path, name: &str) -> Result<u32> {
    let mut directories = vec![below.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            let entry = entry?;
            if entry.file_name() == name {
                return Ok(entry.metadata()?.uid());
            }
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    anyhow::bail!("{name} is nowhere below {}", below.display())
}

/// The ranges outlive the binary, and whoever comes next gets what the last has given back.
fn ranges_are_apart_and_given_back(cluster: &mut Cluster, first: u32) -> Result<()> {
    let firsts = [sleeper(cluster, "one")?, sleeper(cluster, "two")?];
    assert_eq!(firsts, [first, first + 65_536], "the first free one, whose pod is gone");
    let containers = |cluster: &Cluster| -> Result<Value> {
        let pods = cluster.object(&["pods"])?;
        let ids = pods["items"].as_array().into_iter().flatten();
        Ok(ids.map(|pod| pod["status"]["containerStatuses"][0]["containerID"].clone()).collect())
    };
    let before = containers(cluster)?;
    cluster.stop_server(Signal::SIGKILL)?;
    cluster.start_server()?;
    assert_eq!(sleeper(cluster, "three")?, first + 2 * 65_536);
    assert_eq!(exec(cluster, "one", "id -u")?, "0");
    assert_eq!(super::status(cluster, "one")?["user"]["linux"]["uid"], 0, "by the pod's own numbers");
    cluster.kubectl(&["delete", "pod", "three"])?.ok();
    eventually("the pods that there were", || {
        ensure!(containers(cluster)? == before);
        Ok(())
    });
    cluster.kubectl(&["delete", "pod", "one"])?.ok();
    assert_eq!(sleeper(cluster, "four")?, first);
    cluster.kubectl(&["delete", "pod", "two", "four"])?.ok();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let ours = cluster.data_dir().join("containers");
    assert!(!mounts.lines().any(|line| line.contains(&*ours.to_string_lossy())), "{mounts}");
    Ok(())
}

fn one_namespace_for_all_processes(cluster: &Cluster) -> Result<()> {
    let container = |name: &str| {
        let show = "readlink /proc/self/ns/user; sleep infinity";
        json!({"name": name, "image": "busybox:1.37", "command": ["sh", "-c", show]})
    };
    let spec = json!({
        "hostUsers": false, "shareProcessNamespace": true, "terminationGracePeriodSeconds": 1,
        "initContainers": [with(container("side"), &json!({"restartPolicy": "Always"}))],
        "containers": [container("a"), with(container("b"), &json!({"securityContext": {"runAsUser": 1000}}))],
    });
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "together"}, "spec": spec});
    cluster.apply(&pod.to_string())?;
    reaches(cluster, "together", "status.phase", "Running")?;
    let mut namespaces = BTreeSet::new();
    for name in ["side", "a", "b"] {
        let logs = || Ok(cluster.kubectl(&["logs", "together", "-c", name])?.ok());
        namespaces.insert(eventually_said(name, logs));
    }
    assert_eq!(namespaces.len(), 1, "{namespaces:?}");
    let seen = cluster.kubectl(&["exec", "together", "-c", "a", "--", "ps", "-o", "user,args"])?.ok();
    assert!(seen.lines().filter(|line| line.contains("sleep infinity")).count() >= 3, "{seen}");
    cluster.kubectl(&["delete", "pod", "together"])?.ok();
    Ok(())
}

fn eventually_said(what: &str, logs: impl Fn() -> Result<String>) -> String {
    eventually(&format!("what {what} says"), || {
        let said = logs()?;
        ensure!(said.ends_with('\n'), "{said:?}");
        Ok(said)
    })
}

fn what_does_not_go_together(cluster: &Cluster) -> Result<()> {
    let spec = json!({"hostUsers": false, "hostPID": true, "containers": [{"name": "a", "image": "busybox:1.37"}]});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "no"}, "spec": spec});
    let error = cluster.kubectl_input(&["apply", "-f", "-"], &pod.to_string())?.error();
    assert!(error.contains("spec.hostPID: Forbidden: when `hostUsers` is false"), "{error}");
    let mount = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let volumes = json!([{"name": "v", "hostPath": {"path": "/proc"}}]);
    create(cluster, "unmapped", &with(script("true"), &mount), &json!({"hostUsers": false, "volumes": volumes}))?;
    has_event(cluster, "unmapped", "prepare the mount of /proc: its file system cannot be shown to a user namespace");
    reaches(cluster, "unmapped", "status.phase", "Failed")
}
