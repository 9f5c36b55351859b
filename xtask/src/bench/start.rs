//! From the start of the binary on an empty data directory to its readiness and its node's.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{NODE_IP, Namespace};
use hyper::{Method, StatusCode};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::Setting;
use super::api::Api;
use super::inside::inside;
use super::report::Report;
use super::stats::{median, percentile};

const RUNS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks; the server says in no other way that it is ready.
const LOOK: Duration = Duration::from_micros(500);

pub(super) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let (mut ready, mut node) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let namespace = Namespace::new()?;
        let (to_ready, to_node) = inside(&namespace, || once(&setting.binary))?;
        ready.push(to_ready.as_secs_f64());
        node.push(to_node.as_secs_f64());
    }
    for (name, samples) in [("readyz", ready), ("node-ready", node)] {
        let value = median(&samples).context("no runs")?;
        let worst = percentile(&samples, 1.0).unwrap_or(value);
        report.measured(name, value, format!("median of {RUNS} fresh clusters, worst {worst:.3} s"));
    }
    Ok(())
}

async fn once(binary: &Path) -> Result<(Duration, Duration)> {
    let mut server = Server::launch(binary)?;
    let started = server.started;
    let kubeconfig = server.directory.path().join("data/kubeconfig.yaml");
    let api = loop {
        server.alive()?;
        if let Some(api) = ready(&kubeconfig).await {
            break api;
        }
        tokio::time::sleep(LOOK).await;
    };
    let to_ready = started.elapsed();
    let mut nodes = api.watch("/api/v1/nodes", "").await?;
    let node = async {
        while !nodes.next().await?.condition("Ready") {}
        anyhow::Ok(started.elapsed())
    };
    let to_node = tokio::time::timeout(PATIENCE, node).await.context("the node did not become ready")??;
    server.stop()?;
    Ok((to_ready, to_node))
}

/// The kubeconfig is written before the API answers; a refused or failing request means: not yet.
async fn ready(kubeconfig: &Path) -> Option<Api> {
    if !kubeconfig.exists() {
        return None;
    }
    let api = Api::new(kubeconfig).ok()?;
    let (status, _) = api.connect().await.ok()?.ask(Method::GET, "/readyz", "").await.ok()?;
    (status == StatusCode::OK).then_some(api)
}

/// A server started without the harness, whose own waiting is too coarse here.
struct Server<'a> {
    binary: &'a Path,
    directory: TempDir,
    child: Child,
    started: Instant,
}

impl<'a> Server<'a> {
    /// In the calling thread's network namespace.
    fn launch(binary: &'a Path) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("sampan-bench-").tempdir()?;
        let log = File::create(directory.path().join("server.log"))?;
        let mut command = Command::new(binary);
        command.args(["server", "--node-name", "one", "--node-ip", NODE_IP, "--data-dir"]);
        command.arg(directory.path().join("data")).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("starting {}", binary.display()))?;
        Ok(Self { binary, directory, child, started })
    }

    fn alive(&mut self) -> Result<()> {
        let log = || std::fs::read_to_string(self.directory.path().join("server.log")).unwrap_or_default();
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "the server ended: {}", log());
        ensure!(self.started.elapsed() < PATIENCE, "the API did not become ready: {}", log());
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGTERM).context("stopping the server")?;
        self.child.wait().context("waiting for the server's end")?;
        Ok(())
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut uninstall = Command::new(self.binary);
        uninstall.args(["uninstall", "--data-dir"]).arg(self.directory.path().join("data"));
        let _ = uninstall.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
