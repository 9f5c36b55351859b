//! Exec and attach, with pipes and with terminals.

use node_oci::{Error, ExecSpec};
use tokio::io::AsyncWriteExt;

use crate::support::{Host, exited, patiently, read_all, read_until, sandbox};

fn exec(script: &str) -> ExecSpec {
    ExecSpec {
        args: ["sh", "-c", script].map(str::to_owned).to_vec(),
        stdin: true,
        stdout: true,
        stderr: true,
        ..ExecSpec::default()
    }
}

#[tokio::test]
async fn exec_has_streams_environment_and_exit_code() {
    let host = Host::new();
    let (runtime, _events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    let mut spec = host.container("c", "sleep 1000");
    spec.env = vec!["FROM=container".to_owned()];
    spec.user.name = "web".to_owned();
    runtime.create_container("s", spec).await.unwrap();
    runtime.start_container("c").await.unwrap();

    let mut command = exec("cat; echo $FROM $EXTRA $HOME; id -u; cat /proc/self/oom_score_adj; echo oops >&2; exit 5");
    command.env = vec!["EXTRA=exec".to_owned()];
    let mut streams = patiently(runtime.exec("c", command)).await.unwrap();
    let mut stdin = streams.stdin.take().unwrap();
    stdin.write_all(b"typed\n").await.unwrap();
    drop(stdin);
    assert_eq!(read_all(streams.stdout.take()).await, "typed\ncontainer exec /home/web\n1001\n0\n");
    assert_eq!(read_all(streams.stderr.take()).await, "oops\n");
    assert_eq!(patiently(streams.exit).await, Some(5));

    let mut missing = exec("");
    missing.args = vec!["nope".to_owned()];
    let error = patiently(runtime.exec("c", missing)).await.unwrap_err();
    let message = "cannot exec in container c: exec: \"nope\": executable file not found in $PATH";
    assert_eq!(error.to_string(), message);

    let streams = patiently(runtime.exec("c", ExecSpec { args: vec!["true".to_owned()], ..ExecSpec::default() })).await;
    let streams = streams.unwrap();
    assert!(streams.stdin.is_none() && streams.stdout.is_none() && streams.stderr.is_none());
    assert_eq!(patiently(streams.exit).await, Some(0));
    let left: Vec<_> = std::fs::read_dir(host.root().join("s/containers/c")).unwrap().flatten().collect();
    assert!(!left.iter().any(|e| e.file_name().to_str().unwrap().starts_with("exec-")), "{left:?}");
}

#[tokio::test]
async fn a_process_that_nobody_waits_for_is_killed() {
    let host = Host::new();
    let (runtime, _events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    runtime.create_container("s", host.container("c", "sleep 1000")).await.unwrap();
    runtime.start_container("c").await.unwrap();
    let mut streams = patiently(runtime.exec("c", exec("echo up; exec sleep 1000"))).await.unwrap();
    let mut output = streams.stdout.take().unwrap();
    read_until(&mut output, "up\n").await;
    drop(streams);
    // Its end, and no other process's: the container itself goes on.
    assert_eq!(read_all(Some(output)).await, "");
    let again = patiently(runtime.exec("c", exec("echo on"))).await.unwrap();
    assert_eq!(read_all(again.stdout).await, "on\n");
}

#[tokio::test]
async fn exec_moves_much_data_both_ways() {
    let host = Host::new();
    let (runtime, _events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    runtime.create_container("s", host.container("c", "sleep 1000")).await.unwrap();
    runtime.start_container("c").await.unwrap();
    let mut streams = patiently(runtime.exec("c", exec("cat"))).await.unwrap();
    let mut stdin = streams.stdin.take().unwrap();
    let data = vec![b'x'; 5_000_000];
    let writer = tokio::spawn(async move {
        stdin.write_all(&data).await.unwrap();
        drop(stdin);
    });
    assert_eq!(read_all(streams.stdout.take()).await.len(), 5_000_000);
    patiently(writer).await.unwrap();
    assert_eq!(patiently(streams.exit).await, Some(0));
}

#[tokio::test]
async fn a_terminal_is_one_and_can_be_resized() {
    let host = Host::new();
    let (runtime, _events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    runtime.create_container("s", host.container("c", "sleep 1000")).await.unwrap();
    runtime.start_container("c").await.unwrap();
    let mut command = exec("test -t 0 && echo terminal; read x; stty size; echo $TERM; exit 4");
    command.tty = true;
    command.stderr = false;
    let mut streams = patiently(runtime.exec("c", command)).await.unwrap();
    let mut stdout = streams.stdout.take().unwrap();
    read_until(&mut stdout, "terminal").await;
    streams.resize.as_ref().unwrap().resize(101, 37).unwrap();
    streams.stdin.as_mut().unwrap().write_all(b"go\n").await.unwrap();
    let rest = read_all(Some(stdout)).await;
    assert!(rest.contains("37 101") && rest.contains("xterm"), "{rest:?}");
    assert!(streams.stderr.is_none());
    assert_eq!(patiently(streams.exit).await, Some(4));
}

#[tokio::test]
async fn a_container_with_a_terminal_serves_its_clients() {
    let host = Host::new();
    let (runtime, mut events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    let mut spec = host.container("c", "");
    spec.args = vec!["sh".to_owned()];
    (spec.tty, spec.stdin, spec.stdin_once) = (true, true, true);
    runtime.create_container("s", spec).await.unwrap();
    runtime.start_container("c").await.unwrap();

    let mut first = patiently(runtime.attach("c")).await.unwrap();
    let mut second = patiently(runtime.attach("c")).await.unwrap();
    first.resize.as_ref().unwrap().resize(90, 20).unwrap();
    first.stdin.as_mut().unwrap().write_all(b"stty size; tty; echo a$((40+2))z\n").await.unwrap();
    let seen = read_until(first.stdout.as_mut().unwrap(), "a42z").await;
    assert!(seen.contains("20 90"), "{seen:?}");
    read_until(second.stdout.as_mut().unwrap(), "a42z").await;
    drop(second);
    first.stdin.as_mut().unwrap().write_all(b"exit 9\n").await.unwrap();
    assert_eq!(exited(&mut events, "c").await, 9);
    assert_eq!(patiently(first.exit).await, Some(9));
    read_all(first.stdout.take()).await;
    assert!(host.logged("c", "stdout").iter().any(|line| line.contains("a42z")));
    assert!(matches!(runtime.attach("c").await, Err(Error::Container { .. })));
}

#[tokio::test]
async fn input_given_once_ends_with_its_giver() {
    let host = Host::new();
    let (runtime, mut events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    let mut spec = host.container("c", "cat; echo done");
    (spec.stdin, spec.stdin_once) = (true, true);
    runtime.create_container("s", spec).await.unwrap();
    runtime.start_container("c").await.unwrap();
    let mut attached = patiently(runtime.attach("c")).await.unwrap();
    let mut stdin = attached.stdin.take().unwrap();
    stdin.write_all(&vec![b'y'; 300_000]).await.unwrap();
    drop(stdin);
    let output = read_all(attached.stdout.take()).await;
    assert_eq!(output.len(), 300_000 + "done\n".len());
    assert_eq!(exited(&mut events, "c").await, 0);
}

#[tokio::test]
async fn the_one_client_of_an_input_misses_nothing() {
    let host = Host::new();
    let (runtime, mut events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    let mut spec = host.container("c", "echo early; echo wrong >&2; touch /printed; cat");
    (spec.stdin, spec.stdin_once) = (true, true);
    runtime.create_container("s", spec).await.unwrap();
    runtime.start_container("c").await.unwrap();
    let printed = runtime.exec("c", exec("until [ -e /printed ]; do :; done")).await.unwrap();
    assert_eq!(patiently(printed.exit).await, Some(0));
    let mut attached = patiently(runtime.attach("c")).await.unwrap();
    let mut late = patiently(runtime.attach("c")).await.unwrap();
    attached.stdin.take().unwrap().write_all(b"typed\n").await.unwrap();
    assert_eq!(read_all(attached.stdout.take()).await, "early\ntyped\n");
    assert_eq!(read_all(attached.stderr.take()).await, "wrong\n");
    // What was handed out once is not handed out again.
    assert_eq!(read_all(late.stdout.take()).await, "typed\n");
    assert_eq!(exited(&mut events, "c").await, 0);
}

#[tokio::test]
async fn a_client_that_reads_slowly_loses_nothing() {
    let host = Host::new();
    let (runtime, mut events) = host.open().await;
    runtime.create_sandbox(sandbox("s")).await.unwrap();
    let mut spec = host.container("c", "read go; seq 1 100000");
    spec.stdin = true;
    runtime.create_container("s", spec).await.unwrap();
    runtime.start_container("c").await.unwrap();
    let mut attached = patiently(runtime.attach("c")).await.unwrap();
    attached.stdin.as_mut().unwrap().write_all(b"go\n").await.unwrap();
    let gone = patiently(runtime.attach("c")).await.unwrap();
    drop(gone); // one that never reads and leaves holds nobody up
    let expected: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    assert!(read_all(attached.stdout.take()).await == expected);
    assert_eq!(exited(&mut events, "c").await, 0);
}
