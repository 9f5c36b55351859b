//! The shim and its helpers in a binary of their own, and a client that a test can kill:
//! `client ROOT CGROUP-ROOT LAYER LOG` starts one container and waits to be ended.

use std::io::Write;
use std::process::ExitCode;

use node_oci::{ContainerSpec, Runtime, RuntimeConfig, SandboxSpec};

fn main() -> ExitCode {
    if let Some(code) = node_oci::reexec() {
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [command, root, cgroup_root, layer, log] = arguments.as_slice() else { return ExitCode::from(64) };
    if command != "client" {
        return ExitCode::from(64);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio starts");
    runtime.block_on(client(root, cgroup_root, layer, log));
    ExitCode::SUCCESS
}

async fn client(root: &str, cgroup_root: &str, layer: &str, log: &str) {
    let (runtime, _events) = Runtime::open(RuntimeConfig::new(root, cgroup_root)).await.expect("the runtime opens");
    let spec = SandboxSpec { id: "s".to_owned(), uid: "u".to_owned(), ..SandboxSpec::default() };
    runtime.create_sandbox(spec).await.expect("the sandbox is created");
    let spec = ContainerSpec {
        id: "c".to_owned(),
        layers: vec![layer.into()],
        args: ["sh", "-c", "while read line; do echo got $line; done; exit 3"].map(str::to_owned).to_vec(),
        stdin: true,
        log_path: Some(log.into()),
        ..ContainerSpec::default()
    };
    runtime.create_container("s", spec).await.expect("the container is created");
    runtime.start_container("c").await.expect("the container starts");
    // One exec in flight when the end comes.
    let spec = node_oci::ExecSpec { args: vec!["sleep".to_owned(), "1000".to_owned()], ..Default::default() };
    let _exec = runtime.exec("c", spec).await.expect("the exec starts");
    let mut out = std::io::stdout();
    writeln!(out, "up").and_then(|()| out.flush()).expect("the test listens");
    std::future::pending::<()>().await;
}
