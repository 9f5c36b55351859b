//! A runtime in a directory of its own, with an image made of the host's static busybox.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use node_oci::{ContainerSpec, Event, ExitStatus, Runtime, RuntimeConfig, SandboxSpec};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc::UnboundedReceiver;

/// Nothing here takes long; a test that waits longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Host {
    pub directory: tempfile::TempDir,
    pub cgroup_root: String,
}

impl Host {
    pub fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "containers need root");
        let directory = tempfile::tempdir().unwrap();
        let name = directory.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_owned();
        let host = Self { directory, cgroup_root: format!("sampan-test-{name}") };
        host.make_layer();
        host
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("containers")
    }

    pub fn layer(&self) -> PathBuf {
        self.directory.path().join("layer")
    }

    pub fn log(&self, container: &str) -> PathBuf {
        self.directory.path().join("logs").join(container).join("0.log")
    }

    fn make_layer(&self) {
        let layer = self.layer();
        for directory in ["bin", "etc", "tmp", "data"] {
            fs::create_dir_all(layer.join(directory)).unwrap();
        }
        fs::set_permissions(layer.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::copy("/bin/busybox", layer.join("bin/busybox")).expect("busybox-static is installed");
        for applet in [
            "sh", "cat", "echo", "sleep", "id", "ls", "touch", "true", "false", "kill", "mount", "hostname", "stat",
            "dd", "head", "tail", "tr", "env", "pwd", "stty", "mkdir", "wc", "nc", "ps", "grep", "test", "seq",
        ] {
            symlink("busybox", layer.join("bin").join(applet)).unwrap();
        }
        fs::write(layer.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:1001:1002::/home/web:/bin/sh\n")
            .unwrap();
        fs::write(layer.join("etc/group"), "root:x:0:\nweb:x:1002:\nlogs:x:1003:web\n").unwrap();
        fs::write(layer.join("data/file"), "from the image\n").unwrap();
    }

    pub fn config(&self) -> RuntimeConfig {
        let mut config = RuntimeConfig::new(self.root(), self.cgroup_root.clone());
        config.binary = PathBuf::from(env!("CARGO_BIN_EXE_node-oci-reexec"));
        config
    }

    pub async fn open(&self) -> (Runtime, UnboundedReceiver<Event>) {
        Runtime::open(self.config()).await.unwrap()
    }

    /// The command is a shell script.
    pub fn container(&self, id: &str, script: &str) -> ContainerSpec {
        ContainerSpec {
            id: id.to_owned(),
            name: id.to_owned(),
            layers: vec![self.layer()],
            args: ["sh", "-c", script].map(str::to_owned).to_vec(),
            log_path: Some(self.log(id)),
            ..ContainerSpec::default()
        }
    }

    /// The texts of the log's lines, checked for their form.
    pub fn logged(&self, container: &str, stream: &str) -> Vec<String> {
        lines_of(&self.log(container), stream)
    }

    /// Every cgroup of ours in any hierarchy.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        mounts
            .lines()
            .filter(|line| line.contains(" - cgroup"))
            .map(|line| Path::new(line.split(' ').nth(4).unwrap()).join(&self.cgroup_root))
            .filter(|path| path.exists())
            .collect()
    }

    /// What is left on the host outside our directory's plain files.
    pub fn assert_clean(&self) {
        let path = self.directory.path().to_str().unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(path), "mounts are left:\n{mounts}");
        assert_eq!(self.cgroups(), Vec::<PathBuf>::new());
        assert_eq!(shims_of(path), Vec::<i32>::new());
        assert!(!self.root().exists());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Also after a failed assertion.
        let _ = Runtime::destroy_all(&self.root(), &self.cgroup_root);
    }
}

pub fn shims_of(path: &str) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command_line = String::from_utf8_lossy(&command_line);
        command_line.starts_with("sampan-") && command_line.contains(path)
    })
    .collect()
}

pub fn sandbox(id: &str) -> SandboxSpec {
    SandboxSpec {
        id: id.to_owned(),
        uid: format!("uid-{id}"),
        name: id.to_owned(),
        namespace: "default".to_owned(),
        hostname: format!("host-{id}"),
        resolv_conf: "nameserver 10.43.0.10\n".to_owned(),
        hosts: "127.0.0.1 localhost\n".to_owned(),
        ..SandboxSpec::default()
    }
}

pub async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// Waits for the end of a container.
pub async fn exited(events: &mut UnboundedReceiver<Event>, id: &str) -> i32 {
    patiently(async {
        loop {
            match events.recv().await.expect("the runtime lives") {
                Event::ContainerExited { container, exit_code, .. } if container == id => return exit_code,
                _ => {}
            }
        }
    })
    .await
}

/// Runs a container of its own to its end.
pub async fn run(
    runtime: &Runtime,
    events: &mut UnboundedReceiver<Event>,
    sandbox: &str,
    spec: ContainerSpec,
) -> ExitStatus {
    let id = spec.id.clone();
    runtime.create_container(sandbox, spec).await.unwrap();
    patiently(runtime.start_container(&id)).await.unwrap();
    exited(events, &id).await;
    match runtime.container(&id).await.unwrap().state {
        node_oci::ContainerState::Exited(status) => status,
        other => panic!("{id} is {other:?}"),
    }
}

pub async fn read_all(reader: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let mut text = Vec::new();
    patiently(reader.expect("the stream was asked for").read_to_end(&mut text)).await.unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

/// Reads until the text has appeared.
pub async fn read_until(reader: &mut (impl tokio::io::AsyncRead + Unpin), wanted: &str) -> String {
    let mut text = String::new();
    patiently(async {
        let mut buffer = [0; 1024];
        while !text.contains(wanted) {
            let n = reader.read(&mut buffer).await.unwrap();
            assert_ne!(n, 0, "ended before {wanted:?}: {text:?}");
            text.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    })
    .await;
    text
}

/// What a log has of one stream; none where there is no such file.
pub fn lines_of(log: &Path, stream: &str) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(4, ' ');
        let time = fields.next().unwrap();
        assert!(time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok(), "{line}");
        let (name, tag, text) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
        assert!(tag == "F" || tag == "P", "{line}");
        if name == stream {
            lines.push(text.to_owned());
        }
    }
    lines
}
