//! The processes of a local cluster's nodes: each goes on when `up` has ended, and its id is written down.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Member, State, network};

/// What a node may take to end.
const PATIENCE: Duration = Duration::from_secs(20);
const GLANCE: Duration = Duration::from_millis(5);

fn pid_file(directory: &Path, node: &Member) -> PathBuf {
    directory.join(format!("{}.pid", node.name))
}

pub fn log_file(directory: &Path, node: &Member) -> PathBuf {
    directory.join(format!("{}.log", node.name))
}

/// Starts this very binary in the node's namespace, in a session of its own.
pub fn start(node: &Member, data: &Path, arguments: &[&str], verbosity: u8) -> Result<()> {
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
    std::fs::write(pid_file(directory, node), child.id().to_string()).context("writing the process's id")
}

fn pid(directory: &Path, node: &Member) -> Option<i32> {
    std::fs::read_to_string(pid_file(directory, node)).ok()?.trim().parse().ok()
}

/// Its process, if it still is that one: another may have its number by now.
fn running(directory: &Path, node: &Member) -> Option<Pid> {
    let pid = pid(directory, node)?;
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let data = node.directory(directory);
    let ours = line.split(|byte| *byte == 0).any(|word| word == data.as_os_str().as_encoded_bytes());
    (ours && !ended(pid)).then(|| Pid::from_raw(pid))
}

/// One that has ended stays as a zombie while its parent runs; its first thread can be one while others still hold its
/// files.
fn ended(pid: i32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().bytes().next());
        matches!(state, None | Some(b'Z' | b'X'))
    })
}

/// Fails with the last words of a node that has ended. They were started just now, and their numbers are their own; one
/// that is still executing its program shows no arguments yet.
pub fn all_run(directory: &Path, state: &State) -> Result<()> {
    for node in &state.nodes {
        if pid(directory, node).is_none_or(ended) {
            let log = std::fs::read_to_string(log_file(directory, node)).unwrap_or_default();
            let last = log.lines().last().unwrap_or("it said nothing");
            bail!("{} has ended: {last}", node.name);
        }
    }
    Ok(())
}

/// Tells all of them to end, and waits.
pub fn stop_all(directory: &Path, state: &State) -> Result<()> {
    let told: Vec<(&Member, Pid)> =
        state.nodes.iter().filter_map(|node| Some((node, running(directory, node)?))).collect();
    for (node, pid) in &told {
        match kill(*pid, Signal::SIGTERM) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(error) => return Err(error).with_context(|| format!("stopping {}", node.name)),
        }
    }
    let deadline = Instant::now() + PATIENCE;
    for (node, pid) in told {
        while running(directory, node).is_some() {
            // Not our child: there is nothing to wait on.
            ensure!(Instant::now() < deadline, "{} (process {pid}) does not end", node.name);
            std::thread::sleep(GLANCE);
        }
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
