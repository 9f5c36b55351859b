//! What a pod shares with its node and its containers with each other: processes, System V objects, mounts, memory.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};
use tests::{Cluster, eventually};

use super::{create, has_event, log, on_a_cluster, reaches, script, with};

#[test]
fn pods_share_what_they_ask_for() {
    on_a_cluster(|cluster| {
        processes_of_the_pod(cluster)?;
        processes_of_the_node(cluster)?;
        objects_of_the_node(cluster)?;
        memory_as_a_volume(cluster)?;
        volumes_that_grow_too_big(cluster)?;
        containers_that_write_too_much(cluster)?;
        mounts_below_mounts(cluster)
    });
}

fn pod(cluster: &Cluster, name: &str, spec: Value) -> Result<()> {
    cluster.apply(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}).to_string())
}

fn exec(cluster: &Cluster, pod: &str, container: &str, script: &str) -> Result<String> {
    Ok(cluster.kubectl(&["exec", pod, "-c", container, "--", "sh", "-c", script])?.ok().trim_end().to_owned())
}

/// One sees, and may end, what runs in the other; what is left of a container that ends goes with it.
fn processes_of_the_pod(cluster: &Cluster) -> Result<()> {
    let container =
        |name: &str, command: &str| json!({"name": name, "image": "busybox:1.37", "command": ["sh", "-c", command]});
    let left = "sleep 7001 & sleep 7002 & trap 'exit 0' TERM; wait";
    let containers = json!([container("one", "sleep 7000"), container("two", left)]);
    let spec = json!({"shareProcessNamespace": true, "terminationGracePeriodSeconds": 0, "containers": containers});
    pod(cluster, "together", spec)?;
    reaches(cluster, "together", "status.phase", "Running")?;
    eventually("the other's processes", || {
        let seen = exec(cluster, "together", "one", "ps -o args; cat /proc/1/cmdline | tr '\\0' ' '")?;
        ensure!(seen.contains("sleep 7001") && seen.contains(cluster.pause()), "{seen}");
        Ok(())
    });
    exec(cluster, "together", "one", "ps -o pid,args | grep '[t]rap' | while read pid rest; do kill -TERM $pid; done")?;
    eventually("another instance of the one that was ended", || {
        let statuses = cluster.object(&["pod", "together"])?["status"]["containerStatuses"].clone();
        ensure!(statuses[1]["restartCount"] == 1 && statuses[0]["restartCount"] == 0, "{statuses}");
        Ok(())
    });
    eventually("one of each", || {
        let seen = exec(cluster, "together", "one", "ps -o args")?;
        ensure!(seen.lines().filter(|line| *line == "sleep 7001").count() == 1, "{seen}");
        Ok(())
    });
    cluster.kubectl(&["delete", "pod", "together"])?.ok();
    Ok(())
}

fn processes_of_the_node(cluster: &Cluster) -> Result<()> {
    let spec = json!({"hostPID": true, "terminationGracePeriodSeconds": 0, "restartPolicy": "Never"});
    let own = std::process::id();
    let command = format!("tr '\\0' '\\n' < /proc/{own}/cmdline | head -1; sleep 7003 & echo left");
    create(cluster, "outside", &script(&command), &spec)?;
    reaches(cluster, "outside", "status.phase", "Succeeded")?;
    let myself = std::env::args().next().unwrap_or_default();
    assert_eq!(log(cluster, "outside")?, format!("{myself}\nleft\n"));
    eventually("the end of what it left", || {
        ensure!(!running("sleep\x007003\0")?, "still there");
        Ok(())
    });
    Ok(())
}

fn running(command_line: &str) -> Result<bool> {
    let lines = std::fs::read_dir("/proc")?.flatten().map(|entry| std::fs::read(entry.path().join("cmdline")));
    Ok(lines.into_iter().any(|line| line.is_ok_and(|line| line == command_line.as_bytes())))
}

fn objects_of_the_node(cluster: &Cluster) -> Result<()> {
    let show = script("readlink /proc/self/ns/ipc; ls /dev/shm");
    let file = format!("sampan-test-{}", std::process::id());
    let shown = Path::new("/dev/shm").join(&file);
    std::fs::write(&shown, "")?;
    create(cluster, "with-ipc", &show, &json!({"hostIPC": true}))?;
    create(cluster, "without-ipc", &show, &json!({}))?;
    for name in ["with-ipc", "without-ipc"] {
        reaches(cluster, name, "status.phase", "Succeeded")?;
    }
    std::fs::remove_file(&shown)?;
    let node = std::fs::read_link("/proc/self/ns/ipc")?.to_string_lossy().into_owned();
    let (with, without) = (log(cluster, "with-ipc")?, log(cluster, "without-ipc")?);
    assert!(with.starts_with(&node) && with.contains(&file), "{with}");
    assert!(!without.starts_with(&node) && !without.contains(&file), "{without}");
    Ok(())
}

fn memory_as_a_volume(cluster: &Cluster) -> Result<()> {
    let fill = "grep ' /fast ' /proc/mounts | cut -d' ' -f3; dd if=/dev/zero of=/fast/f bs=64k count=64 2>/dev/null || \
        echo full; wc -c < /fast/f";
    let mounts = json!({"volumeMounts": [{"name": "fast", "mountPath": "/fast"}]});
    let spec =
        |limit: &str| json!({"volumes": [{"name": "fast", "emptyDir": {"medium": "Memory", "sizeLimit": limit}}]});
    create(cluster, "fast", &with(script(fill), &mounts), &spec("1Mi"))?;
    reaches(cluster, "fast", "status.phase", "Succeeded")?;
    assert_eq!(log(cluster, "fast")?, "tmpfs\nfull\n1048576\n");
    let limits = json!({"resources": {"limits": {"memory": "2Mi"}}});
    create(
        cluster,
        "of-the-pod",
        &with(with(script("df -k /fast | tail -1 | awk '{print $2}'"), &mounts), &limits),
        &spec("1Gi"),
    )?;
    reaches(cluster, "of-the-pod", "status.phase", "Succeeded")?;
    assert_eq!(log(cluster, "of-the-pod")?, "2048\n", "never more than the pod's own limit");
    cluster.kubectl(&["delete", "pod", "fast", "of-the-pod"])?.ok();
    eventually("no memory that nobody uses", || {
        let data = cluster.data_dir().to_string_lossy().into_owned();
        let mounts = std::fs::read_to_string("/proc/mounts")?;
        ensure!(
            mounts.lines().filter(|line| line.contains(&data) && line.contains("volumes/fast")).count() == 0,
            "{mounts}"
        );
        Ok(())
    });
    Ok(())
}

fn volumes_that_grow_too_big(cluster: &Cluster) -> Result<()> {
    let mounts = json!({"volumeMounts": [{"name": "small", "mountPath": "/small"}]});
    let spec = json!({"volumes": [{"name": "small", "emptyDir": {"sizeLimit": "1Mi"}}], "restartPolicy": "Always"});
    let fill = script("dd if=/dev/zero of=/small/f bs=64k count=32 2>/dev/null; sleep 3600");
    create(cluster, "greedy", &with(fill, &mounts), &spec)?;
    reaches(cluster, "greedy", "status.reason", "Evicted")?;
    let status = cluster.object(&["pod", "greedy"])?["status"].clone();
    let message = "Usage of EmptyDir volume \"small\" exceeds the limit \"1Mi\". ";
    assert_eq!((&status["phase"], &status["message"]), (&json!("Failed"), &json!(message)), "{status}");
    has_event(cluster, "greedy", "Warning Evicted Usage of EmptyDir volume \"small\" exceeds the limit \"1Mi\".");
    Ok(())
}

/// What a container writes anywhere else, and what it prints, is limited, too.
fn containers_that_write_too_much(cluster: &Cluster) -> Result<()> {
    let limit = |limit: &str| json!({"resources": {"limits": {"ephemeral-storage": limit}}});
    let layer = script("dd if=/dev/zero of=/f bs=64k count=64 2>/dev/null; sleep 3600");
    let print = script("dd if=/dev/zero bs=64k count=64 2>/dev/null | tr '\\0' '\\n'; sleep 3600");
    let second = json!({"name": "second", "image": "busybox:1.37", "command": ["sleep", "3600"],
        "resources": {"limits": {"ephemeral-storage": "1Gi"}}});
    create(cluster, "writer", &with(layer, &limit("1Mi")), &json!({}))?;
    create_beside(cluster, "printer", &with(print, &limit("1Mi")), &second)?;
    for (pod, message) in [
        ("writer", "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "),
        ("printer", "Container main exceeded its local ephemeral storage limit \"1Mi\". "),
    ] {
        reaches(cluster, pod, "status.reason", "Evicted")?;
        assert_eq!(cluster.object(&["pod", pod])?["status"]["message"], message, "{pod}");
    }
    Ok(())
}

/// A pod of two containers.
fn create_beside(cluster: &Cluster, name: &str, fields: &Value, second: &Value) -> Result<()> {
    let main = with(json!({"name": "main", "image": "busybox:1.37"}), fields);
    let spec = json!({"containers": [main, second], "terminationGracePeriodSeconds": 1});
    cluster.apply(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}).to_string())
}

/// A directory that is a mount of its own, with another mount in it.
struct Tree(PathBuf);

impl Tree {
    fn new(shared: bool) -> Result<Self> {
        let name = format!("sampan-tree-{}-{shared}", std::process::id());
        let tree = Self(std::env::temp_dir().join(name));
        std::fs::create_dir_all(&tree.0)?;
        memory(&tree.0)?;
        let flag = if shared { MsFlags::MS_SHARED } else { MsFlags::MS_PRIVATE };
        mount(None::<&str>, &tree.0, None::<&str>, flag, None::<&str>).context("setting the propagation")?;
        for inner in ["inner", "later", "theirs"] {
            std::fs::create_dir(tree.0.join(inner))?;
        }
        memory(&tree.0.join("inner"))?;
        Ok(tree)
    }
}

fn memory(path: &Path) -> Result<()> {
    mount(Some("tree"), path, Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("mounting {}", path.display()))
}

impl Drop for Tree {
    fn drop(&mut self) {
        for name in ["theirs", "later", "inner", ""] {
            let _ = umount2(&self.0.join(name), MntFlags::MNT_DETACH);
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn mounts_below_mounts(cluster: &Cluster) -> Result<()> {
    let (shared, apart) = (Tree::new(true)?, Tree::new(false)?);
    let at = |path: &str, more: &Value| with(json!({"name": "tree", "mountPath": path}), more);
    let mounts = json!([
        at("/none", &json!({})),
        at("/host", &json!({"mountPropagation": "HostToContainer"})),
        at("/both", &json!({"mountPropagation": "Bidirectional"})),
        at("/flat", &json!({"readOnly": true})),
        at("/deep", &json!({"readOnly": true, "recursiveReadOnly": "Enabled"})),
    ]);
    let fields = json!({"securityContext": {"privileged": true}, "volumeMounts": mounts});
    let volumes = |tree: &Tree| json!({"volumes": [{"name": "tree", "hostPath": {"path": tree.0}}], "terminationGracePeriodSeconds": 0});
    create(cluster, "mounter", &with(script("sleep infinity"), &fields), &volumes(&shared))?;
    reaches(cluster, "mounter", "status.phase", "Running")?;
    let shell = |text: &str| exec(cluster, "mounter", "main", text);
    assert_eq!(
        shell("touch /flat/inner/a && echo wrote; touch /deep/inner/b 2>/dev/null || echo refused")?,
        "wrote\nrefused"
    );
    let status = super::status(cluster, "mounter")?["volumeMounts"].clone();
    let told = |index: usize| &status[index]["recursiveReadOnly"];
    assert_eq!((told(0), told(3), told(4)), (&Value::Null, &json!("Disabled"), &json!("Enabled")), "{status}");
    memory(&shared.0.join("later"))?;
    std::fs::write(shared.0.join("later/seen"), "")?;
    let seen = "for m in none host both; do test -e /$m/later/seen && echo $m; done; true";
    assert_eq!(shell(seen)?, "host\nboth");
    shell("mount -t tmpfs theirs /both/theirs && touch /both/theirs/back; mount -t tmpfs x /none/theirs")?;
    assert!(shared.0.join("theirs/back").exists(), "what the container mounts is the host's, too");
    assert_eq!(shell("test -e /host/theirs/back && echo host")?, "host");
    create(cluster, "alone", &with(script("true"), &fields), &volumes(&apart))?;
    has_event(cluster, "alone", "but it is not a shared mount");
    cluster.kubectl(&["delete", "pod", "mounter", "alone", "--now"])?.ok();
    Ok(())
}
