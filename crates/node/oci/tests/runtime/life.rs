//! Shims outlive their clients, and everything can be removed whoever is still alive.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use node_oci::{ContainerState, Event, Runtime, SandboxState};
use tokio::io::AsyncWriteExt;

use crate::support::{Host, exited, patiently, read_until, sandbox, shims_of};

#[tokio::test]
async fn containers_outlive_the_client() {
    let host = Host::new();
    let (runtime, events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    let mut survivor = host.container("survivor", "while read x; do echo $x; done");
    survivor.stdin = true;
    runtime.create_container("s", survivor).await.unwrap();
    let mut mortal = host.container("mortal", "read x; exit 6");
    mortal.stdin = true;
    runtime.create_container("s", mortal).await.unwrap();
    runtime.create_container("s", host.container("unborn", "true")).await.unwrap();
    runtime.start_container("survivor").await.unwrap();
    runtime.start_container("mortal").await.unwrap();
    let before = runtime.container("survivor").await.unwrap();
    let mut attached = runtime.attach("mortal").await.unwrap();
    drop((runtime, events));
    // Ends only now that nobody is connected.
    attached.stdin.as_mut().unwrap().write_all(b"go\n").await.unwrap();
    crate::support::read_all(attached.stdout.take()).await;

    let (runtime, mut events) = host.open().await;
    assert_eq!(exited(&mut events, "mortal").await, 6);
    assert_eq!(runtime.container("survivor").await.unwrap(), before);
    assert_eq!(runtime.container("unborn").await.unwrap().state, ContainerState::Created);
    let mut attached = patiently(runtime.attach("survivor")).await.unwrap();
    attached.stdin.as_mut().unwrap().write_all(b"again\n").await.unwrap();
    read_until(attached.stdout.as_mut().unwrap(), "again").await;
    patiently(runtime.remove_sandbox("s")).await.unwrap();
    patiently(runtime.remove_sandbox("s")).await.unwrap();
    assert!(runtime.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn removing_a_sandbox_leaves_nothing() {
    let host = Host::new();
    let (runtime, mut events) = host.open().await;
    let status = runtime.create_sandbox(sandbox("s")).await.unwrap();
    assert_ne!(fs::metadata(&status.netns).unwrap().ino(), fs::metadata("/proc/self/ns/net").unwrap().ino());
    runtime.create_container("s", host.container("c", "sleep 1000")).await.unwrap();
    runtime.start_container("c").await.unwrap();
    patiently(runtime.stop_sandbox("s")).await.unwrap();
    assert_eq!(exited(&mut events, "c").await, 137);
    assert_eq!(runtime.sandbox("s").await.unwrap().state, SandboxState::NotReady);
    assert!(runtime.create_container("s", host.container("d", "true")).await.is_err());
    assert!(fs::metadata(&status.netns).is_ok(), "the network stays until the removal");
    patiently(runtime.remove_sandbox("s")).await.unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(host.root().to_str().unwrap()));
    for cgroup in host.cgroups() {
        let left: Vec<_> = fs::read_dir(cgroup).unwrap().flatten().filter(|e| e.path().is_dir()).collect();
        assert!(left.iter().all(|e| e.file_name() == "shims"), "{left:?}");
    }
    assert_eq!(fs::read_dir(host.root()).unwrap().count(), 0);
    drop(runtime);
    Runtime::destroy_all(&host.root(), &host.cgroup_root).unwrap();
    host.assert_clean();
}

#[tokio::test]
async fn a_lost_shim_is_reported_and_its_containers_written_off() {
    let host = Host::new();
    let (runtime, mut events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    runtime.create_container("s", host.container("c", "sleep 1000")).await.unwrap();
    runtime.start_container("c").await.unwrap();
    let ContainerState::Running { pid, .. } = runtime.container("c").await.unwrap().state else { panic!() };
    let shim = shims_of(host.root().to_str().unwrap())[0];
    kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
    assert_eq!(patiently(events.recv()).await, Some(Event::ShimLost { sandbox: "s".to_owned() }));
    let status = runtime.sandbox("s").await.unwrap();
    assert_eq!(status.state, SandboxState::NotReady);
    let ContainerState::Exited(exit) = &status.containers[0].state else { panic!("{status:?}") };
    assert_eq!((exit.exit_code, exit.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "it was killed: {state}");
    assert!(runtime.exec("c", node_oci::ExecSpec::default()).await.is_err());
    patiently(runtime.remove_sandbox("s")).await.unwrap();
    drop(runtime);
    Runtime::destroy_all(&host.root(), &host.cgroup_root).unwrap();
    host.assert_clean();
}

#[tokio::test]
async fn a_shim_lost_between_two_lives_is_reported_by_the_next() {
    let host = Host::new();
    let (runtime, events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    runtime.create_container("s", host.container("c", "sleep 1000")).await.unwrap();
    runtime.start_container("c").await.unwrap();
    let shim = shims_of(host.root().to_str().unwrap())[0];
    drop((runtime, events));
    kill(Pid::from_raw(shim), Signal::SIGTERM).unwrap();
    let (runtime, events) = host.open().await;
    assert_eq!(runtime.sandbox("s").await.unwrap().state, SandboxState::Ready, "SIGTERM does not end a shim");
    drop((runtime, events));
    let held = nix::sys::signal::kill(Pid::from_raw(shim), Signal::SIGKILL);
    held.unwrap();
    while fs::read_to_string(format!("/proc/{shim}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        tokio::task::yield_now().await;
    }
    let (runtime, mut events) = host.open().await;
    assert_eq!(exited(&mut events, "c").await, 137);
    assert_eq!(patiently(events.recv()).await, Some(Event::ShimLost { sandbox: "s".to_owned() }));
    patiently(runtime.remove_sandbox("s")).await.unwrap();
}

#[tokio::test]
async fn the_binary_that_containers_can_reach_is_not_writable() {
    let host = Host::new();
    let mut config = host.config();
    let binary = host.directory.path().join("binary"); // nobody else executes it
    fs::copy(&config.binary, &binary).unwrap();
    config.binary = binary.clone();
    let (runtime, mut events) = Runtime::open(config).await.unwrap();
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    let shim = shims_of(host.root().to_str().unwrap())[0];
    let flags = nix::fcntl::OFlag::O_PATH;
    let held = nix::fcntl::open(&*format!("/proc/{shim}/exe"), flags, nix::sys::stat::Mode::empty()).unwrap();
    kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
    patiently(events.recv()).await;
    let error = fs::File::options().write(true).open(format!("/proc/self/fd/{held}")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    fs::File::options().write(true).open(binary).unwrap();
}

#[tokio::test]
async fn a_sandbox_that_was_never_finished_is_removed() {
    let host = Host::new();
    let (runtime, events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    drop((runtime, events));
    fs::remove_file(host.root().join("s/shim.json")).unwrap(); // as if its shim were not ready yet
    fs::create_dir(host.root().join("empty")).unwrap();
    let (runtime, _events) = host.open().await;
    assert!(runtime.list().await.unwrap().is_empty());
    assert_eq!(fs::read_dir(host.root()).unwrap().count(), 0);
    assert_eq!(shims_of(host.root().to_str().unwrap()), Vec::<i32>::new());
}

#[tokio::test]
async fn everything_is_removed_while_all_of_it_runs() {
    let host = Host::new();
    let (runtime, events) = host.open().await;
    for id in ["a", "b"] {
        runtime.create_sandbox(sandbox(id)).await.unwrap();
        runtime.create_container(id, host.container(&format!("c-{id}"), "sleep 1000")).await.unwrap();
        runtime.start_container(&format!("c-{id}")).await.unwrap();
    }
    drop((runtime, events));
    Runtime::destroy_all(&host.root(), &host.cgroup_root).unwrap();
    host.assert_clean();
    Runtime::destroy_all(&host.root(), &host.cgroup_root).unwrap();
}

#[tokio::test]
async fn many_sandboxes_come_and_go_at_once() {
    let host = Host::new();
    let (runtime, mut events) = host.open().await;
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let (runtime, spec) = (runtime.clone(), host.container(&format!("c{n}"), "exit 0"));
            tokio::spawn(async move {
                runtime.create_sandbox(sandbox(&format!("s{n}"))).await.unwrap();
                runtime.create_container(&format!("s{n}"), spec).await.unwrap();
                runtime.start_container(&format!("c{n}")).await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        patiently(task).await.unwrap();
    }
    for _ in 0..8 {
        assert!(matches!(patiently(events.recv()).await, Some(Event::ContainerExited { exit_code: 0, .. })));
    }
    for n in 0..8 {
        patiently(runtime.remove_sandbox(&format!("s{n}"))).await.unwrap();
    }
}

#[tokio::test]
async fn containers_outlive_a_client_that_is_killed() {
    let host = Host::new();
    let mut client = tokio::process::Command::new(host.config().binary)
        .args(["client".as_ref(), host.root().as_os_str(), host.cgroup_root.as_ref(), host.layer().as_os_str()])
        .arg(host.log("c"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    read_until(client.stdout.as_mut().unwrap(), "up").await;
    patiently(client.kill()).await.unwrap();

    let (runtime, mut events) = host.open().await;
    let ContainerState::Running { pid, .. } = runtime.container("c").await.unwrap().state else { panic!() };
    let mut attached = patiently(runtime.attach("c")).await.unwrap();
    attached.stdin.as_mut().unwrap().write_all(b"it\n").await.unwrap();
    read_until(attached.stdout.as_mut().unwrap(), "got it").await;
    assert_eq!(host.logged("c", "stdout"), ["got it"]);
    // The shim is nobody's child but the system's, and in a session and cgroup of its own.
    let shim = shims_of(host.root().to_str().unwrap())[0];
    let stat = fs::read_to_string(format!("/proc/{shim}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    assert_eq!(fields[3], shim.to_string(), "session");
    for cgroup in [format!("/proc/{shim}/cgroup"), format!("/proc/{pid}/cgroup")] {
        let text = fs::read_to_string(cgroup).unwrap();
        assert!(text.lines().all(|line| line.contains(&host.cgroup_root)), "{text}");
    }
    runtime.signal_container("c", libc::SIGKILL).await.unwrap();
    assert_eq!(exited(&mut events, "c").await, 137);
    drop(runtime);
    Runtime::destroy_all(&host.root(), &host.cgroup_root).unwrap();
    host.assert_clean();
}
