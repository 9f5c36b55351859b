//! Pods with users of their own.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use node_oci::{Capabilities, ExecSpec, IdRange, Mount, Processes, SandboxSpec};

use crate::support::{Host, patiently, read_all, run, sandbox};

const FIRST: u32 = 983_040;

fn own_users(id: &str) -> SandboxSpec {
    SandboxSpec { users: Some(IdRange { first: FIRST, length: 65_536 }), ..sandbox(id) }
}

#[tokio::test]
async fn root_of_a_pod_is_nobody_to_the_node() {
    let host = Host::new();
    let (runtime, mut events) = host.open().await;
    runtime.create_sandbox(own_users("s")).await.unwrap();
    let volume = host.directory.path().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(volume.join("secret"), "s\n").unwrap();
    fs::set_permissions(volume.join("secret"), fs::Permissions::from_mode(0o400)).unwrap();
    let mut spec = host.container(
        "c",
        "cat /proc/self/uid_map | tr -s ' '; id -u; stat -c %u:%g / /data/file /volume /etc/hosts /dev/shm /new; \
         cat /volume/secret; echo x > /volume/written; echo y > /data/file; echo z >> /etc/hosts; echo w > /dev/shm/w; \
         hostname other && hostname; echo 5 > /proc/self/oom_score_adj; \
         mount -t tmpfs none /tmp && echo mounted; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; echo out > /dev/stdout",
    );
    spec.cwd = "/new".to_owned();
    spec.capabilities = Capabilities { add: vec!["SYS_ADMIN".to_owned()], drop: Vec::new() };
    spec.mounts = vec![Mount { source: volume.clone(), target: "/volume".into(), ..Mount::default() }];
    run(&runtime, &mut events, "s", spec).await;
    let expected = [
        &format!(" 0 {FIRST} 65536"),
        "0",
        "0:0",
        "0:0",
        "0:0",
        "0:0",
        "0:0",
        "0:0",
        "s",
        "other",
        "mounted",
        "0",
        "out",
    ];
    assert_eq!(host.logged("c", "stdout"), expected, "{:?}", host.logged("c", "stderr"));
    // On a volume what root wrote is root's; in the container's own layer it is that user's who root is to the node.
    assert_eq!(fs::metadata(volume.join("written")).unwrap().uid(), 0);
    let upper = host.root().join("s/containers/c/upper");
    assert_eq!(fs::metadata(upper.join("data/file")).unwrap().uid(), FIRST);
    assert_eq!(fs::metadata(upper.join("new")).unwrap().uid(), FIRST);
    assert_eq!(fs::metadata(host.layer().join("data/file")).unwrap().uid(), 0);
    runtime.stop_sandbox("s").await.unwrap();
    runtime.remove_sandbox("s").await.unwrap();
    let pinned = host.root().join("s");
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(pinned.to_str().unwrap()));
}

#[tokio::test]
async fn processes_enter_with_the_pods_users() {
    let host = Host::new();
    let (runtime, mut events) = host.open().await;
    let shared = SandboxSpec { processes: Processes::Shared, ..own_users("s") };
    runtime.create_sandbox(shared).await.unwrap();
    let mut spec = host.container("c", "sleep 1000");
    spec.user.name = "web".to_owned();
    spec.user.additional_gids = vec![7];
    runtime.create_container("s", spec).await.unwrap();
    patiently(runtime.start_container("c")).await.unwrap();
    for tty in [false, true] {
        let script =
            "cat /proc/self/uid_map | tr -s ' '; id -u; id -G; ps | grep -c '[s]leep 1000'; stat -c %u /dev/null";
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        let mut streams =
            patiently(runtime.exec("c", ExecSpec { args, tty, stdout: true, ..ExecSpec::default() })).await.unwrap();
        let said = read_all(streams.stdout.take()).await.replace('\r', "");
        assert_eq!(said, format!(" 0 {FIRST} 65536\n1001\n1002 7 1003\n1\n65534\n"));
        assert_eq!(patiently(streams.exit).await, Some(0));
    }
    let mut peeping = host.container("p", "cat /proc/1/uid_map | tr -s ' '");
    peeping.processes_of = Some("c".to_owned());
    run(&runtime, &mut events, "s", peeping).await;
    assert_eq!(host.logged("p", "stdout"), [format!(" 0 {FIRST} 65536")], "{:?}", host.logged("p", "stderr"));
}

/// As images are as volumes.
#[tokio::test]
async fn an_overlay_is_shown_by_its_layers() {
    let host = Host::new();
    let (runtime, mut events) = host.open().await;
    runtime.create_sandbox(own_users("s")).await.unwrap();
    let below = host.directory.path().canonicalize().unwrap();
    let layers = ["upper-layer", "lower-layer"].map(|name| below.join(name));
    for layer in &layers {
        fs::create_dir_all(layer.join("d")).unwrap();
        fs::write(layer.join("d").join(layer.file_name().unwrap()), "").unwrap();
        fs::write(layer.join("d/same"), layer.file_name().unwrap().as_encoded_bytes()).unwrap();
        fs::set_permissions(layer.join("d/same"), fs::Permissions::from_mode(0o400)).unwrap();
    }
    let overlay = below.join("overlay");
    fs::create_dir(&overlay).unwrap();
    base_sys::mounts::mount_layers(&overlay, &layers).unwrap();
    let mut spec =
        host.container("c", "stat -c %u:%n /whole/d/*; cat /part/same; echo; touch /part/x || echo read-only");
    let mount = |source, target: &str| Mount { source, target: target.into(), readonly: true, ..Mount::default() };
    spec.mounts = vec![mount(overlay.clone(), "/whole"), mount(overlay.join("d"), "/part")];
    run(&runtime, &mut events, "s", spec).await;
    base_sys::mounts::unmount(&overlay).unwrap();
    let expected = ["0:/whole/d/lower-layer", "0:/whole/d/same", "0:/whole/d/upper-layer", "upper-layer", "read-only"];
    assert_eq!(host.logged("c", "stdout"), expected, "{:?}", host.logged("c", "stderr"));
}

#[tokio::test]
async fn what_cannot_be_shown_to_the_pods_users_is_refused() {
    let host = Host::new();
    let (runtime, _events) = host.open().await;
    runtime.create_sandbox(own_users("s")).await.unwrap();
    let mut spec = host.container("c", "true");
    spec.mounts = vec![Mount { source: "/proc".into(), target: "/volume".into(), ..Mount::default() }];
    runtime.create_container("s", spec).await.unwrap();
    let error = patiently(runtime.start_container("c")).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot start container c: prepare the mount of /proc: its file system cannot be shown to a user namespace \
         (idmapped mounts are not supported there)"
    );
}
