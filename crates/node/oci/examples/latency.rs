//! Measures what a container costs: `cargo run --release --example latency -p node-oci -- LAYER [ROUNDS]`, as
//! root, with a directory that has `/bin/sleep` and `/bin/true`. Prints milliseconds and the shim's memory.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use node_oci::{ContainerSpec, Event, ExecSpec, Runtime, RuntimeConfig, SandboxSpec};

fn main() -> ExitCode {
    if let Some(code) = node_oci::reexec() {
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    let mut arguments = std::env::args().skip(1);
    let layer = PathBuf::from(arguments.next().unwrap_or_default());
    let rounds = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(50);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("tokio starts");
    match runtime.block_on(measure(layer, rounds)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(layer: PathBuf, rounds: usize) -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::temp_dir().join(format!("oci-latency-{}", std::process::id()));
    let cgroup_root = format!("sampan-latency-{}", std::process::id());
    let (runtime, mut events) = Runtime::open(RuntimeConfig::new(&directory, &cgroup_root)).await?;
    let container = |id: String, command: &[&str]| ContainerSpec {
        id,
        layers: vec![layer.clone()],
        args: command.iter().map(|s| (*s).to_owned()).collect(),
        ..ContainerSpec::default()
    };
    let mut made = Vec::new();
    let mut whole = Vec::new();
    let (mut started, mut executed, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..rounds {
        let begin = Instant::now();
        let spec = SandboxSpec {
            id: format!("s{n}"),
            uid: format!("u{n}"),
            hostname: "h".to_owned(),
            ..SandboxSpec::default()
        };
        runtime.create_sandbox(spec).await?;
        made.push(begin.elapsed());

        let begin = Instant::now();
        runtime.create_container(&format!("s{n}"), container(format!("t{n}"), &["/bin/true"])).await?;
        runtime.start_container(&format!("t{n}")).await?;
        let ours = format!("t{n}");
        while !matches!(events.recv().await, Some(Event::ContainerExited { container, .. }) if container == ours) {}
        runtime.remove_container(&format!("t{n}")).await?;
        whole.push(begin.elapsed());

        let id = format!("c{n}");
        runtime.create_container(&format!("s{n}"), container(id.clone(), &["/bin/sleep", "1000"])).await?;
        let begin = Instant::now();
        runtime.start_container(&id).await?;
        started.push(begin.elapsed());

        let begin = Instant::now();
        let spec = ExecSpec { args: vec!["/bin/true".to_owned()], ..ExecSpec::default() };
        runtime.exec(&id, spec).await?.exit.await;
        executed.push(begin.elapsed());
        if n + 1 < rounds {
            let begin = Instant::now();
            runtime.remove_sandbox(&format!("s{n}")).await?;
            removed.push(begin.elapsed());
        } else {
            report_memory(&directory)?;
        }
    }
    for (what, times) in [
        ("create a sandbox", made),
        ("create + start + exit + delete a container", whole),
        ("start a container", started),
        ("exec to exit", executed),
        ("remove a sandbox with a running container", removed),
    ] {
        report(what, times);
    }
    drop(runtime);
    tokio::task::spawn_blocking(move || Runtime::destroy_all(&directory, &cgroup_root)).await??;
    Ok(())
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    eprintln!("{what:45} p50 {:6.1} ms  p90 {:6.1} ms", at(50), at(90));
}

fn report_memory(directory: &std::path::Path) -> std::io::Result<()> {
    for process in std::fs::read_dir("/proc")?.flatten() {
        let command_line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let command_line = String::from_utf8_lossy(&command_line);
        if command_line.starts_with("sampan-shim") && command_line.contains(&*directory.to_string_lossy()) {
            let rollup = std::fs::read_to_string(process.path().join("smaps_rollup"))?;
            for line in rollup.lines().filter(|l| l.starts_with("Pss") || l.starts_with("Private_Dirty")) {
                eprintln!("shim {line}");
            }
        }
    }
    Ok(())
}
