//! What a container can see and change.

use node_oci::{Error, ExecSpec, Mount, Resources, SandboxSpec};

use crate::support::{Host, read_all, run, sandbox};

#[tokio::test]
async fn a_container_cannot_raise_its_own_limits() {
    let host = Host::new();
    let (runtime, mut events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    let script = "
        f=/sys/fs/cgroup/memory/memory.limit_in_bytes; test -e $f || f=/sys/fs/cgroup/memory.max
        cat $f
        echo 999999999 > $f; echo wrote $?
        mkdir $(dirname $f)/x 2>/dev/null; echo made $?
        echo x > /sys/fs/cgroup/y; echo created $?
        mount -o remount,rw $(dirname $f) 2>/dev/null; echo remounted $?
        cat $f";
    let mut spec = host.container("c", &script.replace("$(dirname $f)", "${f%/*}"));
    spec.resources = Resources { memory_limit: Some(64 << 20), ..Resources::default() };
    run(&runtime, &mut events, "s", spec).await;
    let limit = (64 << 20).to_string();
    assert_eq!(
        host.logged("c", "stdout"),
        [&limit, "wrote 1", "made 1", "created 1", "remounted 1", &limit],
        "{:?}",
        host.logged("c", "stderr")
    );
}

#[tokio::test]
async fn limits_reach_the_kernel() {
    let host = Host::new();
    let (runtime, mut events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    let mut spec = host.container("c", "cd /sys/fs/cgroup; cat cpu/cpu.shares cpu/cpu.cfs_quota_us pids/pids.max");
    spec.resources = Resources {
        cpu_shares: Some(512),
        cpu_quota: Some(25_000),
        pids_limit: Some(77),
        oom_score_adj: Some(-997),
        ..Resources::default()
    };
    let v1 = std::path::Path::new("/sys/fs/cgroup/cpu").exists();
    if !v1 {
        spec.args[2] = "cd /sys/fs/cgroup; cat cpu.weight cpu.max pids.max".to_owned();
    }
    // Lowering the score is refused without CAP_SYS_RESOURCE; the container runs all the same.
    run(&runtime, &mut events, "s", spec).await;
    let expected = if v1 { ["512", "25000", "77"] } else { ["20", "25000 100000", "77"] };
    assert_eq!(host.logged("c", "stdout"), expected, "{:?}", host.logged("c", "stderr"));
}

#[tokio::test]
async fn limits_of_what_runs_can_change() {
    let host = Host::new();
    let (runtime, _events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    let mut spec = host.container("c", "sleep 1000");
    let memory = |bytes| Resources { memory_limit: Some(bytes), ..Resources::default() };
    spec.resources = Resources { cpu_quota: Some(25_000), ..memory(32 << 20) };
    runtime.create_container("s", spec).await.unwrap();
    runtime.start_container("c").await.unwrap();
    let shown = async |command: &str| {
        let args = ["sh", "-c", command].map(str::to_owned).to_vec();
        let mut streams = runtime.exec("c", ExecSpec { args, stdout: true, ..ExecSpec::default() }).await.unwrap();
        let text = read_all(streams.stdout.take()).await;
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let show = "cd /sys/fs/cgroup; cat cpu/cpu.cfs_quota_us memory/memory.limit_in_bytes || cat cpu.max memory.max";
    let quota = |text: &[String]| text[0].clone();
    runtime.change_sandbox("s", Resources { cpu_quota: Some(90_000), ..memory(256 << 20) }).await.unwrap();
    runtime.change_container("c", Resources { cpu_quota: Some(75_000), ..memory(128 << 20) }).await.unwrap();
    let now = shown(show).await;
    assert_eq!((quota(&now), now.last()), ("75000".to_owned(), Some(&(128 << 20).to_string())), "{now:?}");
    runtime.change_container("c", memory(64 << 20)).await.unwrap();
    let now = shown(show).await;
    assert!(["-1", "max"].contains(&&*quota(&now)), "{now:?}");
    assert_eq!(now.last(), Some(&(64 << 20).to_string()));
    let refused = runtime.change_container("c", memory(16 << 10)).await.unwrap_err();
    assert!(refused.to_string().contains("bytes of memory and cannot be limited to 16384"), "{refused}");
    assert!(matches!(runtime.change_container("none", memory(1)).await, Err(Error::NoContainer(_))));
}

#[tokio::test]
async fn containers_of_a_pod_share_its_network_and_name_but_not_their_files() {
    let host = Host::new();
    let (runtime, mut events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    let mut server = host.container("server", "echo hello | nc -l -p 80 127.0.0.1");
    server.user.name = "web".to_owned(); // also unprivileged users may have low ports
    runtime.create_container("s", server).await.unwrap();
    runtime.start_container("server").await.unwrap();
    let script = "
        until nc 127.0.0.1 80; do :; done
        hostname; cat /etc/hostname /etc/resolv.conf /etc/hosts
        echo changed > /data/file; touch /new; echo shared > /dev/shm/x
        echo $$; pwd; echo $HOSTNAME";
    let mut spec = host.container("client", script);
    spec.cwd = "/made/for/me".to_owned();
    run(&runtime, &mut events, "s", spec).await;
    assert_eq!(
        host.logged("client", "stdout"),
        ["hello", "host-s", "host-s", "nameserver 10.43.0.10", "127.0.0.1 localhost", "1", "/made/for/me", "host-s"],
        "{:?}",
        host.logged("client", "stderr")
    );
    let spec = host.container("next", "cat /data/file /dev/shm/x; ls /");
    run(&runtime, &mut events, "s", spec).await;
    let seen = host.logged("next", "stdout");
    assert_eq!(seen[..2], ["from the image", "shared"]);
    assert!(!seen.contains(&"new".to_owned()));
    assert_eq!(std::fs::read_to_string(host.layer().join("data/file")).unwrap(), "from the image\n");
    assert!(!host.layer().join("made").exists());
}

#[tokio::test]
async fn users_capabilities_and_paths_are_restricted() {
    let host = Host::new();
    let (runtime, mut events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    let script = "
        id -u; id -g; id -G; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status | tr -d '\\t'
        echo x > /dev/stdout; echo x > /proc/sys/kernel/hostname; echo sys $?; cat /proc/kcore | wc -c
        touch /root-file; echo root $?; pwd";
    let mut spec = host.container("web", script);
    spec.user.name = "web:logs".to_owned();
    spec.user.additional_gids = vec![4000];
    spec.no_new_privileges = true;
    spec.capabilities.add = vec!["NET_ADMIN".to_owned()];
    spec.capabilities.drop = vec!["ALL".to_owned()];
    run(&runtime, &mut events, "s", spec).await;
    assert_eq!(
        host.logged("web", "stdout"),
        [
            "1001",
            "1003",
            "1003 4000",
            "CapEff:0000000000000000",
            "CapBnd:0000000000001000",
            "NoNewPrivs:1",
            "x",
            "sys 1",
            "0",
            "root 1",
            "/"
        ],
        "{:?}",
        host.logged("web", "stderr")
    );

    let script = "grep CapEff /proc/self/status | tr -d '\\t'; touch /x; echo $?; echo x > /tmp/volume/file; echo $?; cat /tmp/volume/given";
    let mut spec = host.container("root", script);
    spec.readonly_rootfs = true;
    let volume = host.directory.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("given"), "given\n").unwrap();
    spec.mounts = vec![Mount { source: volume.clone(), target: "/tmp/volume".into(), ..Mount::default() }];
    run(&runtime, &mut events, "s", spec).await;
    assert_eq!(
        host.logged("root", "stdout"),
        ["CapEff:00000000a80425fb", "1", "0", "given"],
        "{:?}",
        host.logged("root", "stderr")
    );
    assert_eq!(std::fs::read_to_string(volume.join("file")).unwrap(), "x\n");

    let mut spec = host.container("reader", "echo x > /v/file; echo $?");
    spec.mounts = vec![Mount { source: volume, target: "/v".into(), readonly: true, ..Mount::default() }];
    run(&runtime, &mut events, "s", spec).await;
    assert_eq!(host.logged("reader", "stdout"), ["1"]);
}

#[tokio::test]
async fn nothing_of_ours_is_inherited() {
    let host = Host::new();
    let (runtime, mut events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    let script = "
        ls -l /proc/self/fd | grep -c -E ' [0-9]+ ->'
        grep -E 'SigBlk|SigIgn' /proc/self/status | tr -d '\\t'; umask";
    let clean = ["3", "SigBlk:0000000000000000", "SigIgn:0000000000000000", "0022"];
    run(&runtime, &mut events, "s", host.container("c", script)).await;
    assert_eq!(host.logged("c", "stdout"), clean, "{:?}", host.logged("c", "stderr"));

    runtime.create_container("s", host.container("sleeper", "sleep 1000")).await.unwrap();
    runtime.start_container("sleeper").await.unwrap();
    let spec = node_oci::ExecSpec {
        args: ["sh", "-c", script].map(str::to_owned).to_vec(),
        stdout: true,
        ..node_oci::ExecSpec::default()
    };
    let mut streams = runtime.exec("sleeper", spec).await.unwrap();
    let text = crate::support::read_all(streams.stdout.take()).await;
    assert_eq!(text.lines().collect::<Vec<_>>(), clean);
}

#[tokio::test]
async fn a_privileged_container_has_what_we_have() {
    let host = Host::new();
    let (runtime, mut events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    let mut spec = host.container("c", "grep CapEff /proc/self/status | tr -d '\\t'; mount -t tmpfs t /tmp; echo $?");
    spec.privileged = true;
    run(&runtime, &mut events, "s", spec).await;
    let ours = std::fs::read_to_string("/proc/self/status").unwrap();
    let ours = ours.lines().find(|l| l.starts_with("CapPrm")).unwrap().replace("CapPrm:\t", "CapEff:");
    assert_eq!(host.logged("c", "stdout"), [&ours, "0"]);
}

#[tokio::test]
async fn the_host_network_can_be_shared() {
    let host = Host::new();
    let (runtime, mut events) = host.open().await;
    let mut spec = sandbox("s");
    spec.host_network = true;
    let status = runtime.create_sandbox(spec).await.unwrap();
    run(&runtime, &mut events, "s", host.container("c", "stat -Lc %i /proc/self/ns/net")).await;
    use std::os::unix::fs::MetadataExt;
    let ours = std::fs::metadata("/proc/self/ns/net").unwrap().ino();
    assert_eq!(host.logged("c", "stdout"), [ours.to_string()]);
    assert_eq!(std::fs::metadata(&status.netns).unwrap().ino(), ours);
}

#[tokio::test]
async fn sysctls_are_the_pods_own() {
    let host = Host::new();
    let (runtime, mut events) = host.open().await;
    let mut spec = sandbox("s");
    spec.sysctls.insert("net.core.somaxconn".to_owned(), "333".to_owned());
    runtime.create_sandbox(spec).await.unwrap();
    run(&runtime, &mut events, "s", host.container("c", "cat /proc/sys/net/core/somaxconn")).await;
    assert_eq!(host.logged("c", "stdout"), ["333"]);

    let mut wrong = sandbox("wrong");
    wrong.sysctls.insert("net.no.such".to_owned(), "1".to_owned());
    let error = runtime.create_sandbox(wrong).await.unwrap_err().to_string();
    assert!(error.contains("sandbox wrong: the shim did not start: cannot set a sysctl: net.no.such"), "{error}");
    assert!(!host.root().join("wrong").exists(), "nothing is left of it");
}

#[tokio::test]
async fn a_pod_lies_in_the_cgroup_of_its_class_within_its_own_bounds() {
    let host = Host::new();
    let (runtime, mut events) = host.open().await;
    let group = Resources { cpu_shares: Some(512), pids_limit: Some(99), ..Resources::default() };
    runtime.limit_group("kubepods/burstable", group).await.unwrap();
    let huge_pages = [(2 << 20, 0), (1 << 50, 0)].into();
    let bounds = Resources { memory_limit: Some(48 << 20), pids_limit: Some(33), huge_pages, ..Resources::default() };
    let spec = SandboxSpec { cgroup_parent: "kubepods/burstable".into(), resources: bounds, ..sandbox("s") };
    let uid = spec.uid.clone();
    runtime.create_sandbox(spec).await.unwrap();
    run(&runtime, &mut events, "s", host.container("c", "grep -E 'memory|^0' /proc/self/cgroup")).await;
    let wanted = format!("kubepods/burstable/pod{uid}/c");
    let groups = host.cgroups();
    let of = |below: &str, file: &str| {
        let files = groups.iter().map(|group| group.join(below).join(file));
        files.into_iter().find_map(|file| std::fs::read_to_string(file).ok()).map(|text| text.trim().to_owned())
    };
    let pod = format!("kubepods/burstable/pod{uid}");
    assert!(groups.iter().any(|group| group.join(&wanted).exists()), "{groups:?}");
    let memory = of(&pod, "memory.limit_in_bytes").or(of(&pod, "memory.max"));
    assert_eq!((memory, of(&pod, "pids.max")), (Some((48 << 20).to_string()), Some("33".into())));
    assert_eq!(of("kubepods/burstable", "pids.max"), Some("99".into()));
    let shares = of("kubepods/burstable", "cpu.shares").or(of("kubepods/burstable", "cpu.weight"));
    assert!(shares == Some("512".into()) || shares == Some("20".into()), "{shares:?}");
    runtime.remove_sandbox("s").await.unwrap();
    assert!(groups.iter().all(|group| !group.join(&pod).exists()));
    for bad in ["", "..", "a//b", "a/../b"] {
        assert!(runtime.limit_group(bad, Resources::default()).await.is_err(), "{bad:?}");
    }
    let outside = SandboxSpec { cgroup_parent: "../other".into(), ..sandbox("t") };
    assert!(runtime.create_sandbox(outside).await.is_err());
}
