//! One server with its node, started and stopped like a user would.

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::containerd::{self, Containerd};
use crate::host::{NODE_IP, NODE_IP6, Namespace, binary, image, run};
use crate::kubectl::{self, Answer, kubectls};

/// The longest any wait of a test takes before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// More arguments of `sampan server`.
    pub arguments: Vec<String>,
    /// Images to import before the start, as `cargo xtask images` names them.
    pub images: Vec<&'static str>,
    /// Which kubectl; the first by default.
    pub kubectl: Option<PathBuf>,
    /// The binary; the one built beside the test by default.
    pub binary: Option<PathBuf>,
    /// Logs at the default level, not at a test's.
    pub quiet: bool,
    /// Puts the data directory on a disk of its own, of this many MiB.
    pub disk: Option<u32>,
    /// As many nodes, by `sampan up`; 0: one server alone.
    pub nodes: usize,
    /// Of [`Options::nodes`]: `--ip-family`.
    pub ip_family: Option<&'static str>,
    /// Of [`Options::nodes`]: more of `sampan up`'s own.
    pub up: Vec<String>,
    /// What is done to the node's host before Sampan comes; the test takes it back.
    pub prepare: Option<fn(&Namespace) -> Result<()>>,
    /// Runs the containers by a containerd of its own.
    pub containerd: bool,
}

impl Options {
    /// With the images of the tutorial.
    pub fn tutorial() -> Self {
        Self { images: vec!["nginx", "busybox"], ..Self::default() }
    }
}

/// The networks of [`Options::nodes`].
const NODES: &str = "172.31.7.0/24";
const NODES6: &str = "fd31:7::/64";

/// A node of [`Options::nodes`].
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Node {
    pub name: String,
    /// Its network namespace.
    pub namespace: String,
    /// Its link's other end.
    pub link: String,
    /// One per family.
    pub addresses: Vec<IpAddr>,
}

impl Node {
    /// The preferred family's.
    pub fn address(&self) -> IpAddr {
        self.addresses[0]
    }
}

pub struct Cluster {
    pub namespace: Namespace,
    directory: TempDir,
    pub kubectl: PathBuf,
    server: Option<Child>,
    /// Of [`Options::containerd`].
    pub containerd: Option<Containerd>,
    options: Options,
    /// The point at which the server that is started next ends itself (`base_sys::crash`).
    pub crash_at: Option<&'static str>,
    before: String,
    /// How long `sampan up` took.
    up_took: Option<Duration>,
}

impl Cluster {
    /// A started cluster whose node, if it has one, is ready.
    pub fn start(options: Options) -> Result<Self> {
        let namespace = Namespace::new()?;
        let before = namespace.kernel_state()?;
        let directory = tempfile::Builder::new().prefix("sampan-test-").tempdir().context("a data directory")?;
        // What is waited for at the start, kubectl 1.20 cannot wait for.
        let kubectl = kubectls().remove(0);
        let mut cluster = Self {
            namespace,
            directory,
            kubectl,
            server: None,
            containerd: None,
            options,
            crash_at: None,
            before,
            up_took: None,
        };
        if let Some(size) = cluster.options.disk {
            let disk = cluster.disk();
            std::fs::create_dir(&disk).with_context(|| format!("creating {}", disk.display()))?;
            let size = format!("size={size}m");
            mount(Some("disk"), &disk, Some("tmpfs"), MsFlags::empty(), Some(size.as_str()))
                .context("mounting a disk")?;
        }
        if let Some(prepare) = cluster.options.prepare {
            prepare(&cluster.namespace)?;
        }
        if cluster.options.containerd || (containerd::wanted() && cluster.options.nodes == 0) {
            let containerd = Containerd::start(&cluster.namespace, cluster.directory.path())?;
            let socket = containerd.socket().to_string_lossy().into_owned();
            cluster.options.arguments.extend(["--container-runtime-endpoint".to_owned(), socket]);
            cluster.containerd = Some(containerd);
        }
        for name in cluster.options.images.clone() {
            match &cluster.containerd {
                Some(containerd) => containerd.import(name)?,
                None => drop(cluster.sampan(&["image", "import", &image(name).to_string_lossy()])?.ok()),
            }
        }
        if cluster.options.nodes > 0 {
            cluster.up()?;
        } else {
            cluster.start_server()?;
        }
        if cluster.options.nodes == 0 && !cluster.options.arguments.iter().any(|argument| argument == "--disable-agent")
        {
            cluster.node_ready()?;
        }
        if let Some(kubectl) = &cluster.options.kubectl {
            cluster.kubectl = kubectl.clone();
        }
        Ok(cluster)
    }

    pub fn data_dir(&self) -> PathBuf {
        let parent = if self.options.disk.is_some() { self.disk() } else { self.directory.path().to_owned() };
        parent.join("data")
    }

    /// What [`Options::disk`] is mounted on.
    fn disk(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    pub fn log(&self) -> String {
        self.logs().into_iter().map(|(_, log)| log).collect()
    }

    /// Of the server, or of each node of a cluster of several.
    fn logs(&self) -> Vec<(String, String)> {
        let of = |whose: String, path: PathBuf| (whose, std::fs::read_to_string(path).unwrap_or_default());
        if self.options.nodes == 0 {
            return vec![of("the server".to_owned(), self.directory.path().join("server.log"))];
        }
        let nodes = (1..=self.options.nodes).map(|number| format!("n{number}"));
        nodes.map(|name| of(name.clone(), self.data_dir().join(format!("{name}.log")))).collect()
    }

    /// `sampan up`, and the default service account.
    fn up(&mut self) -> Result<()> {
        let mut command = self.namespace.command(self.binary());
        if !self.options.quiet {
            command.arg("-v");
        }
        let family = self.options.ip_family.unwrap_or("ipv4");
        let networks = match family {
            "ipv4" => NODES.to_owned(),
            "ipv6" => NODES6.to_owned(),
            _ => format!("{NODES},{NODES6}"),
        };
        command.args(["up", "--nodes", &self.options.nodes.to_string()]);
        command.args(["--ip-family", family, "--network", &networks, "--data-dir"]).arg(self.data_dir());
        command.args(&self.options.up).arg("--").args(&self.options.arguments);
        let started = Instant::now();
        let answer = kubectl::answer(command, "")?;
        ensure!(answer.success, "sampan up: {}\n{}", answer.stderr, self.log());
        self.up_took = Some(started.elapsed());
        let answer = self.kubectl(&["wait", "--for=create", "serviceaccount/default", "--timeout=30s"])?;
        ensure!(answer.success, "no default service account: {}\n{}", answer.stderr, self.log());
        // So that the host outside reaches the nodes, as it would any host behind a router.
        for (network, via) in [(NODES, NODE_IP), (NODES6, NODE_IP6)] {
            if networks.contains(network) {
                run("ip", &["-n", &self.namespace.outside, "route", "add", network, "via", via])?;
            }
        }
        Ok(())
    }

    fn members(&self) -> Result<Members> {
        let text = std::fs::read(self.data_dir().join("up.json")).context("reading up.json")?;
        serde_json::from_slice(&text).context("parsing up.json")
    }

    /// How long `sampan up` took, where it was that.
    pub fn up_took(&self) -> Option<Duration> {
        self.up_took
    }

    /// The nodes of [`Options::nodes`], n1 the first.
    pub fn nodes(&self) -> Result<Vec<Node>> {
        Ok(self.members()?.nodes)
    }

    /// The process of a node of [`Options::nodes`].
    pub fn node_process(&self, name: &str) -> Result<Pid> {
        let text = std::fs::read_to_string(self.data_dir().join(format!("{name}.pid")))?;
        Ok(Pid::from_raw(text.trim().parse().context("a process id")?))
    }

    /// Kills the process of a node of [`Options::nodes`], does something, and starts it again as it was.
    pub fn restart_node(&self, node: &Node, meanwhile: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let pid = self.node_process(&node.name)?;
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).context("reading a node's command line")?;
        let line = String::from_utf8(line).context("a node's command line")?;
        let arguments = line.trim_end_matches('\0').split('\0').skip(1);
        kill(pid, Signal::SIGKILL).context("killing a node's process")?;
        // Its files, sockets and locks are let go of by the last of its threads, of which the first may be a zombie before.
        let gone = || {
            let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Ok(()) };
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let zombie = stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'));
            ensure!(zombie && tasks.count() <= 1, "process {pid} is still there: {stat}");
            Ok(())
        };
        crate::eventually("the end of a node's process", gone);
        meanwhile(&self.data_dir().join(&node.name))?;
        let log = File::options().append(true).open(self.data_dir().join(format!("{}.log", node.name)))?;
        let mut command = Namespace::command_in(&node.namespace, self.binary());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn().context("starting a node's process")?;
        std::fs::write(self.data_dir().join(format!("{}.pid", node.name)), child.id().to_string())?;
        // It outlives this call; who waits for it lets it go when it ends.
        std::thread::spawn(move || child.wait());
        Ok(())
    }

    fn binary(&self) -> PathBuf {
        self.options.binary.clone().unwrap_or_else(binary)
    }

    /// A file of the test's own directory.
    pub fn write(&self, name: &str, contents: &str) -> Result<String> {
        let path = self.directory.path().join(name);
        std::fs::write(&path, contents).with_context(|| format!("writing {}", path.display()))?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// Starts `sampan server` and waits until its API is ready.
    pub fn start_server(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.directory.path().join("server.log"))?;
        let data = self.data_dir();
        let mut command = self.namespace.command(self.binary());
        if !self.options.quiet {
            command.arg("-v");
        }
        command.args(["server", "--node-ip", NODE_IP, "--node-name", "one", "--data-dir"]).arg(&data);
        command.args(&self.options.arguments).env("RUST_BACKTRACE", "1");
        if let Some(point) = self.crash_at {
            command.env("SAMPAN_CRASH_AT", point);
        }
        // Its own process group: a signal for the tests is not one for the server.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child =
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("sampan server")?;
        self.server = Some(child);
        self.api_ready()
    }

    /// The server's process, which `nsenter` has become.
    pub fn pid(&self) -> Pid {
        let child = self.server.as_ref().expect("the server runs");
        Pid::from_raw(i32::try_from(child.id()).expect("process ids fit"))
    }

    fn api_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.server.as_mut().context("no server")?.try_wait()? {
                bail!("sampan server ended: {status}\n{}", self.log());
            }
            // The server gives no other sign; each attempt is a whole request.
            if self.data_dir().join("kubeconfig.yaml").exists() && self.kubectl(&["get", "--raw", "/readyz"])?.success {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the API was not ready in time\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn node_ready(&self) -> Result<()> {
        let answer = self.kubectl(&["wait", "--for=create", "node/one", "--timeout=30s"])?;
        ensure!(answer.success, "no node: {}\n{}", answer.stderr, self.log());
        let answer = self.kubectl(&["wait", "--for=condition=Ready", "node/one", "--timeout=30s"])?;
        ensure!(answer.success, "the node is not ready: {}\n{}", answer.stderr, self.log());
        let answer = self.kubectl(&["wait", "--for=create", "serviceaccount/default", "--timeout=30s"])?;
        ensure!(answer.success, "no default service account: {}\n{}", answer.stderr, self.log());
        Ok(())
    }

    /// Sends the server a signal and waits for its end.
    pub fn stop_server(&mut self, signal: Signal) -> Result<()> {
        let pid = self.pid();
        kill(pid, signal).context("signalling the server")?;
        self.server.take().context("no server")?.wait().context("waiting for the server")?;
        Ok(())
    }

    /// Waits until the server has ended at [`Self::crash_at`], and starts another that will not.
    pub fn crashes(&mut self) -> Result<()> {
        let pid = self.pid();
        let mut server = self.server.take().context("no server")?;
        let point = self.crash_at.take().context("no point")?;
        let (sender, ended) = mpsc::channel();
        std::thread::spawn(move || sender.send(server.wait()));
        let Ok(status) = ended.recv_timeout(PATIENCE) else {
            kill(pid, Signal::SIGKILL).context("killing the server")?;
            bail!("{point:?} was not reached\n{}", self.log());
        };
        let status = status.context("waiting for the server")?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        ensure!(signal == Some(Signal::SIGABRT as i32), "{point:?}: {status}\n{}", self.log());
        self.start_server()
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Result<Answer> {
        self.kubectl_input(arguments, "")
    }

    pub fn kubectl_input(&self, arguments: &[&str], input: &str) -> Result<Answer> {
        kubectl::answer(self.kubectl_command(arguments), input)
    }

    /// For a test that reads the output as it comes.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let home = self.directory.path().to_owned();
        let kubeconfig = self.data_dir().join("kubeconfig.yaml");
        let mut command = kubectl::command(&self.namespace, &self.kubectl, &kubeconfig, &home);
        command.args(arguments);
        command
    }

    /// What the command line of the process says that holds a pod's namespaces.
    pub fn pause(&self) -> &'static str {
        if self.containerd.is_some() { "sleep infinity" } else { "sampan-pause" }
    }

    /// Another subcommand of the binary, with this cluster's data directory.
    pub fn sampan(&self, arguments: &[&str]) -> Result<Answer> {
        let mut command = self.namespace.command(self.binary());
        command.args(arguments).arg("--data-dir").arg(self.data_dir());
        kubectl::answer(command, "")
    }

    /// The binary on one of several nodes.
    pub fn sampan_on(&self, node: &Node, arguments: &[&str]) -> Result<Answer> {
        let mut command = Namespace::command_in(&node.namespace, self.binary());
        command.args(arguments);
        kubectl::answer(command, "")
    }

    /// A command on the node.
    pub fn node(&self, program: &str, arguments: &[&str]) -> Result<Answer> {
        let mut command = self.namespace.command(program);
        command.args(arguments);
        kubectl::answer(command, "")
    }

    /// A command on a host outside the cluster.
    pub fn outside(&self, program: &str, arguments: &[&str]) -> Result<Answer> {
        let mut command = Namespace::command_in(&self.namespace.outside, program);
        command.args(arguments);
        kubectl::answer(command, "")
    }

    fn removal(&self) -> &'static str {
        if self.options.nodes > 0 { "down" } else { "uninstall" }
    }

    /// Uninstalls, and asserts that links, rules, routes, mounts, cgroups and processes are as they were.
    pub fn finish(mut self) -> Result<()> {
        if self.server.is_some() {
            self.stop_server(Signal::SIGTERM)?;
        }
        let answer = self.sampan(&[self.removal()])?;
        ensure!(answer.success, "{} failed: {}", self.removal(), answer.stderr);
        if let Some(containerd) = &mut self.containerd {
            ensure!(containerd.ctr(&["containers", "ls", "-q"])?.is_empty(), "containers are left at containerd");
            containerd.stop()?;
        }
        let after = self.namespace.kernel_state()?;
        ensure!(after == self.before, "changed in the kernel:\n{}", difference(&self.before, &after));
        let data = self.data_dir();
        ensure!(!data.exists(), "{} is still there", data.display());
        let mounts = std::fs::read_to_string("/proc/mounts")?;
        let data = data.to_string_lossy().into_owned();
        ensure!(!mounts.contains(&data), "left mounted:\n{mounts}");
        ensure!(processes_with(&data)?.is_empty(), "left running: {:?}", processes_with(&data)?);
        Ok(())
    }
}

/// What `sampan up` writes down.
#[derive(serde::Deserialize)]
struct Members {
    nodes: Vec<Node>,
}

/// The lines of one text alone.
fn difference(before: &str, after: &str) -> String {
    let only = |sign: &str, one: &str, other: &str| -> String {
        let lines = one.lines().filter(|line| !other.lines().any(|same| same == *line));
        lines.map(|line| format!("{sign}{line}\n")).collect()
    };
    only("-", before, after) + &only("+", after, before)
}

/// Processes whose command lines name a directory, and those.
pub fn processes_with(text: &str) -> Result<Vec<(Pid, String)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = std::fs::read(Path::new(&entry.path()).join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(text) {
            found.push((Pid::from_raw(pid), line));
        }
    }
    Ok(found)
}

/// A cluster of its own for each kubectl, one after the other.
pub fn with_every_kubectl(options: &Options, test: impl Fn(&Cluster) -> Result<()>) -> Result<()> {
    for kubectl in kubectls() {
        let path = kubectl.display().to_string();
        let cluster = Cluster::start(Options { kubectl: Some(kubectl), ..options.clone() })?;
        test(&cluster).with_context(|| format!("with {path}"))?;
        cluster.finish()?;
    }
    Ok(())
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
        // Before they are removed.
        let logs = if std::thread::panicking() { self.logs() } else { Vec::new() };
        let _ = self.sampan(&[self.removal()]);
        if self.options.disk.is_some() {
            let _ = umount2(&self.disk(), MntFlags::MNT_DETACH);
        }
        for (whose, log) in logs {
            let tail: Vec<&str> = log.lines().rev().take(80).collect();
            eprintln!("--- the log of {whose}, newest first ---\n{}", tail.join("\n"));
        }
    }
}
