//! Starting, ending, logging.

use node_oci::{ContainerState, Error, Event, LogLimit, Resources, SandboxState};
use tokio::io::AsyncWriteExt;

use crate::support::{Host, exited, patiently, run, sandbox};

#[tokio::test]
async fn a_container_runs_logs_and_ends_with_its_code() {
    let host = Host::new();
    let (runtime, mut events) = host.open().await;
    let made = runtime.create_sandbox(sandbox("s")).await.unwrap();
    assert_eq!(made.state, SandboxState::Ready);
    let spec = host.container("c", "echo out; echo err >&2; printf unfinished; exit 3");
    let status = run(&runtime, &mut events, "s", spec).await;
    assert_eq!((status.exit_code, status.signal, status.oom_killed), (3, None, false));
    assert!(status.started_at.unwrap() <= status.finished_at);
    assert_eq!(host.logged("c", "stdout"), ["out", "unfinished"]);
    assert_eq!(host.logged("c", "stderr"), ["err"]);
    runtime.remove_container("c").await.unwrap();
    runtime.remove_container("c").await.unwrap();
    assert!(matches!(runtime.container("c").await, Err(Error::NoContainer(_))));
    assert!(host.log("c").exists(), "logs outlive their container");
}

#[tokio::test]
async fn much_output_is_logged_whole_and_in_order() {
    let host = Host::new();
    let (runtime, mut events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    run(&runtime, &mut events, "s", host.container("c", "seq 1 50000")).await;
    let expected: Vec<String> = (1..=50000).map(|n| n.to_string()).collect();
    assert_eq!(host.logged("c", "stdout"), expected);
}

#[tokio::test]
async fn signals_end_containers_and_are_reported() {
    let host = Host::new();
    let (runtime, mut events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    let polite = host.container("polite", "trap 'exit 7' TERM; echo ready; while :; do sleep 100 & wait; done");
    runtime.create_container("s", polite).await.unwrap();
    runtime.create_container("s", host.container("deaf", "trap '' TERM; sleep 1000")).await.unwrap();
    runtime.signal_container("deaf", libc::SIGKILL).await.unwrap(); // not started: nothing to do
    for id in ["polite", "deaf"] {
        runtime.start_container(id).await.unwrap();
    }
    let mut attached = runtime.attach("polite").await.unwrap();
    if host.logged("polite", "stdout").is_empty() {
        crate::support::read_until(attached.stdout.as_mut().unwrap(), "ready").await;
    }
    runtime.signal_container("polite", libc::SIGTERM).await.unwrap();
    assert_eq!(exited(&mut events, "polite").await, 7);
    assert_eq!(patiently(attached.exit).await, Some(7));
    runtime.signal_container("deaf", libc::SIGTERM).await.unwrap();
    runtime.signal_container("deaf", libc::SIGKILL).await.unwrap();
    let event = patiently(events.recv()).await.unwrap();
    let Event::ContainerExited { exit_code, signal, oom_killed, .. } = event else { panic!("{event:?}") };
    assert_eq!((exit_code, signal, oom_killed), (137, Some(libc::SIGKILL), false));
    runtime.signal_container("deaf", libc::SIGTERM).await.unwrap();
    assert!(runtime.signal_container("nobody", libc::SIGTERM).await.is_err());
}

#[tokio::test]
async fn a_command_that_cannot_run_is_named() {
    let host = Host::new();
    let (runtime, _events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    for (id, command, message) in [
        ("a", "nope", "exec: \"nope\": executable file not found in $PATH"),
        ("b", "/nope", "exec: \"/nope\": stat /nope: no such file or directory"),
        ("c", "/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
    ] {
        let mut spec = host.container(id, "");
        spec.args = vec![command.to_owned()];
        runtime.create_container("s", spec).await.unwrap();
        let error = patiently(runtime.start_container(id)).await.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot start container {id}: {message}"));
        let ContainerState::Exited(status) = runtime.container(id).await.unwrap().state else { panic!() };
        assert_eq!((status.exit_code, status.reason.as_deref()), (128, Some("StartError")));
        assert_eq!(status.message.as_deref(), Some(message));
        runtime.remove_container(id).await.unwrap();
    }
}

#[tokio::test]
async fn what_the_kernel_will_not_execute_is_named_too() {
    let host = Host::new();
    std::fs::write(host.layer().join("bin/text"), "neither a script nor a program").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(host.layer().join("bin/text"), mode).unwrap();
    let (runtime, _events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    let mut spec = host.container("c", "");
    spec.args = vec!["text".to_owned()];
    runtime.create_container("s", spec).await.unwrap();
    let error = patiently(runtime.start_container("c")).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot start container c: exec /bin/text: exec format error");
}

#[tokio::test]
async fn bad_requests_are_errors() {
    let host = Host::new();
    let (runtime, _events) = host.open().await;
    assert!(matches!(runtime.create_sandbox(sandbox("../s")).await, Err(Error::InvalidId { .. })));
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    assert!(matches!(runtime.create_sandbox(sandbox("s")).await, Err(Error::Exists { .. })));
    let spec = host.container("c", "sleep 1000");
    assert!(matches!(runtime.create_container("t", spec.clone()).await, Err(Error::NoSandbox(_))));
    assert!(matches!(runtime.create_container("s", host.container("a/b", "")).await, Err(Error::InvalidId { .. })));
    runtime.create_container("s", spec.clone()).await.unwrap();
    assert!(matches!(runtime.create_container("s", spec).await, Err(Error::Exists { .. })));
    assert!(matches!(runtime.exec("c", node_oci::ExecSpec::default()).await, Err(Error::WrongState { .. })));
    runtime.start_container("c").await.unwrap();
    assert!(matches!(runtime.start_container("c").await, Err(Error::WrongState { .. })));
    assert!(matches!(runtime.remove_container("c").await, Err(Error::WrongState { .. })));
    assert!(matches!(runtime.signal_container("c", 999).await, Err(Error::Container { .. })));

    let mut nobody = host.container("nobody", "true");
    nobody.user.name = "nobody".to_owned();
    runtime.create_container("s", nobody).await.unwrap();
    let error = runtime.start_container("nobody").await.unwrap_err().to_string();
    assert_eq!(error, "cannot start container nobody: unable to find user nobody: no matching entries in passwd file");

    let mut layerless = host.container("layerless", "true");
    layerless.layers = vec!["/does/not/exist".into()];
    runtime.create_container("s", layerless).await.unwrap();
    let error = runtime.start_container("layerless").await.unwrap_err().to_string();
    assert!(error.contains("mount the image's layers: No such file"), "{error}");

    let mut volume = host.container("volume", "true");
    volume.mounts =
        vec![node_oci::Mount { source: "/does/not/exist".into(), target: "/v".into(), ..node_oci::Mount::default() }];
    runtime.create_container("s", volume).await.unwrap();
    let error = runtime.start_container("volume").await.unwrap_err().to_string();
    assert!(error.contains("/does/not/exist") && error.contains("No such file"), "{error}");
}

#[tokio::test]
async fn the_kernels_oom_kill_is_told_from_others() {
    let host = Host::new();
    let (runtime, mut events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    let mut spec = host.container("c", "exec tail -c 200000000 /dev/zero");
    spec.resources = Resources { memory_limit: Some(32 << 20), ..Resources::default() };
    let status = run(&runtime, &mut events, "s", spec).await;
    assert_eq!((status.exit_code, status.oom_killed), (137, true));
}

#[tokio::test]
async fn a_long_log_is_kept_in_several_files_and_nothing_is_lost() {
    let host = Host::new();
    let (runtime, mut events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    let mut spec = host.container("c", "seq 1 20000");
    spec.log_limit = Some(LogLimit { bytes: 256 << 10, files: 9 });
    run(&runtime, &mut events, "s", spec).await;
    let log = host.log("c");
    let rotated: Vec<_> = (1..9).map(|number| log.with_extension(format!("log.{number}"))).collect();
    let mut files: Vec<_> = rotated.into_iter().filter(|file| file.exists()).collect();
    assert!(files.len() > 2, "{files:?}");
    files.push(log);
    let mut lines = Vec::new();
    for file in files {
        assert!(std::fs::metadata(&file).unwrap().len() <= 256 << 10);
        lines.extend(crate::support::lines_of(&file, "stdout"));
    }
    assert_eq!(lines, (1..=20000).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_a_container_uses_can_be_read() {
    let host = Host::new();
    let (runtime, _events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    assert_eq!(runtime.usage(|_| true).await.unwrap()[0].containers, []);
    // It begins when we listen.
    let script = "read x; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; head -c 100000 /dev/zero > /kept; echo done; \
                  sleep 1000";
    let mut spec = host.container("c", script);
    spec.stdin = true;
    runtime.create_container("s", spec).await.unwrap();
    runtime.start_container("c").await.unwrap();
    let mut attached = runtime.attach("c").await.unwrap();
    attached.stdin.as_mut().unwrap().write_all(b"go\n").await.unwrap();
    crate::support::read_until(attached.stdout.as_mut().unwrap(), "done").await;
    let used = runtime.usage(|_| true).await.unwrap();
    let [sandbox] = used.as_slice() else { panic!("{used:?}") };
    let [container] = sandbox.containers.as_slice() else { panic!("{used:?}") };
    assert!(container.usage.cpu > 1_000_000 && container.usage.memory > 4096, "{container:?}");
    assert!(container.usage.processes >= 1 && container.pid > 0, "{container:?}");
    assert!(sandbox.usage.cpu >= container.usage.cpu && sandbox.usage.memory >= container.usage.working_set());
    let (layer, log) = container.disk.unwrap();
    assert!(layer.bytes >= 100_000 && layer.inodes >= 2 && log.inodes == 1, "{container:?}");
    assert_eq!(runtime.usage(|_| false).await.unwrap()[0].containers[0].disk, None);
    runtime.remove_sandbox("s").await.unwrap();
    assert_eq!(runtime.usage(|_| true).await.unwrap(), []);
}
