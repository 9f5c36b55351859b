//! A containerd of a test's own, in place of the embedded runtime.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::{PATIENCE, processes_with};
use crate::host::{Namespace, image, run};

/// With this set to `containerd`, clusters of one node run on one.
const VARIABLE: &str = "SAMPAN_TEST_RUNTIME";

/// Whether the tests are to run on containerd where they do not say.
pub fn wanted() -> bool {
    std::env::var(VARIABLE).is_ok_and(|runtime| runtime == "containerd")
}

pub struct Containerd {
    directory: PathBuf,
    process: Child,
}

impl Containerd {
    /// Everything of it is in the directory; its containers' network is the namespace's.
    pub fn start(namespace: &Namespace, directory: &Path) -> Result<Self> {
        let directory = directory.join("containerd");
        std::fs::create_dir_all(directory.join("cni/bin")).context("a directory for containerd")?;
        // As packages install it.
        std::os::unix::fs::symlink("/usr/lib/cni/loopback", directory.join("cni/bin/loopback"))?;
        std::fs::write(directory.join("config.toml"), config(&directory)).context("containerd's configuration")?;
        let mut containerd = Self { process: Self::spawn(namespace, &directory)?, directory };
        containerd.ready()?;
        containerd.import("pause")?;
        Ok(containerd)
    }

    fn spawn(namespace: &Namespace, directory: &Path) -> Result<Child> {
        let log = File::options().create(true).append(true).open(directory.join("log"))?;
        let mut command = namespace.command("containerd");
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.arg("--config").arg(directory.join("config.toml"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn().context("starting containerd (scripts/setup.sh tests installs it)")
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.join("containerd.sock")
    }

    fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait()? {
                bail!("containerd ended: {status}\n{}", self.log());
            }
            // It gives no other sign.
            if self.ctr(&["version"]).is_ok() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "containerd was not ready in time\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// An image that `cargo xtask images` made.
    pub fn import(&self, name: &str) -> Result<()> {
        self.ctr(&["images", "import", &image(name).to_string_lossy()]).map(drop)
    }

    /// Its own client.
    pub fn ctr(&self, arguments: &[&str]) -> Result<String> {
        let socket = self.socket();
        let all: Vec<_> = ["--address", &*socket.to_string_lossy(), "--namespace", "k8s.io"]
            .into_iter()
            .chain(arguments.iter().copied())
            .map(str::to_owned)
            .collect();
        run("ctr", &all)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Ends it, whose containers go on, and starts it again.
    pub fn restart(&mut self, namespace: &Namespace) -> Result<()> {
        self.stop()?;
        self.process = Self::spawn(namespace, &self.directory)?;
        self.ready()
    }

    pub fn stop(&mut self) -> Result<()> {
        let pid = i32::try_from(self.process.id()).context("a process id")?;
        kill(Pid::from_raw(pid), Signal::SIGTERM).context("stopping containerd")?;
        self.process.wait().context("waiting for containerd")?;
        Ok(())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // What a failed test has left running.
        for (shim, _) in processes_with(&self.socket().to_string_lossy()).unwrap_or_default() {
            let _ = kill(shim, Signal::SIGKILL);
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- the log of containerd, newest first ---\n{}", tail.join("\n"));
        }
    }
}

/// Debian's, at other paths; and without what the machines of tests often lack.
fn config(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        r#"version = 2
root = "{directory}/root"
state = "{directory}/state"
[grpc]
  address = "{directory}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{directory}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{directory}/cni/bin"
    conf_dir = "{directory}/cni/net.d"
"#
    )
}
