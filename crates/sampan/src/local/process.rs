//! The processes of a local cluster's nodes: each goes on when `up` has ended, and its id is written down.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use base_sys::process::Process;

use super::{Member, State, network};

/// What a node may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

fn pid_file(directory: &Path, node: &Member) -> PathBuf {
    directory.join(format!("{}.pid", node.name))
}

pub fn log_file(directory: &Path, node: &Member) -> PathBuf {
    directory.join(format!("{}.log", node.name))
}

/// Starts this very binary in the node's namespace, in a process group of its own.
pub fn start(node: &Member, data: &Path, arguments: &[&str], verbosity: u8) -> Result<Process> {
    let directory = data.parent().context("a node's directory is inside the cluster's")?;
    let log = log_file(directory, node);
    let log = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
    let errors = log.try_clone().context("a second handle of the log")?;
    // The file itself, also when it was replaced meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command.args(arguments).arg("--data-dir").arg(data).args(vec!["-v"; verbosity.into()]);
    command.stdin(Stdio::null()).stdout(log).stderr(errors).current_dir("/");
    // A signal for `up` is not one for the node.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let child = network::namespace(node)?.run(|| command.spawn())?.context("starting the process")?;
    std::fs::write(pid_file(directory, node), child.id().to_string()).context("writing the process's id")?;
    Process::of(child.id()).context("watching the process")
}

/// Its process, if it still is that one: another may have its number by now.
fn running(directory: &Path, node: &Member) -> Option<Process> {
    let pid: u32 = std::fs::read_to_string(pid_file(directory, node)).ok()?.trim().parse().ok()?;
    // Held first: what is read next is about the process that is held.
    let process = Process::of(pid).ok()?;
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let data = node.directory(directory);
    let ours = line.split(|byte| *byte == 0).any(|word| word == data.as_os_str().as_encoded_bytes());
    ours.then_some(process)
}

/// Resolves once one of them has ended, with its last words.
pub async fn first_end(directory: &Path, started: Vec<(&Member, Process)>) -> anyhow::Error {
    let end = |(node, process): (&Member, Process)| {
        let (name, log) = (node.name.clone(), log_file(directory, node));
        Box::pin(async move {
            if let Err(error) = process.ended().await {
                return anyhow::Error::new(error).context(format!("watching the process of {name}"));
            }
            let log = std::fs::read_to_string(log).unwrap_or_default();
            let last = log.lines().last().unwrap_or("it said nothing");
            anyhow!("{name} has ended: {last}")
        })
    };
    futures::future::select_all(started.into_iter().map(end)).await.0
}

/// Tells all of them to end, and waits.
pub fn stop_all(directory: &Path, state: &State) -> Result<()> {
    let running: Vec<(&Member, Process)> =
        state.nodes.iter().filter_map(|node| Some((node, running(directory, node)?))).collect();
    for (node, process) in &running {
        process.terminate().with_context(|| format!("stopping {}", node.name))?;
    }
    let deadline = Instant::now() + PATIENCE;
    for (node, process) in &running {
        let ended = process.ends_within(deadline.saturating_duration_since(Instant::now()));
        ensure!(ended.with_context(|| format!("waiting for {}", node.name))?, "{} does not end", node.name);
    }
    Ok(())
}

/// As its user would.
pub fn uninstall(node: &Member, data: &Path) -> Result<()> {
    let mut command = Command::new("/proc/self/exe");
    command.args(["uninstall", "--data-dir"]).arg(data).stdin(Stdio::null());
    let output = network::namespace(node)?.run(|| command.output())?.context("starting the process")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
