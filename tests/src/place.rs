//! Where a test's own connections come from: the node, a host outside, or inside a pod.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;

use crate::cluster::{Cluster, Node};

/// A network namespace.
#[derive(Debug)]
pub struct Place {
    namespace: File,
}

impl Place {
    pub fn node(cluster: &Cluster) -> Result<Self> {
        Self::open(Path::new("/run/netns").join(&cluster.namespace.name).as_path())
    }

    /// A node of several.
    pub fn of(node: &Node) -> Result<Self> {
        Self::open(&Path::new("/run/netns").join(&node.namespace))
    }

    pub fn outside(cluster: &Cluster) -> Result<Self> {
        Self::open(Path::new("/run/netns").join(&cluster.namespace.outside).as_path())
    }

    /// By the name of the namespace.
    pub fn named(name: &str) -> Result<Self> {
        Self::open(&Path::new("/run/netns").join(name))
    }

    /// The network namespace of a running pod of the default namespace.
    pub fn pod(cluster: &Cluster, pod: &str) -> Result<Self> {
        let processes = processes(cluster, pod)?;
        let first = processes.first().with_context(|| format!("pod {pod} has no processes"))?;
        Self::open(&Path::new("/proc").join(first.to_string()).join("ns/net"))
    }

    fn open(path: &Path) -> Result<Self> {
        let namespace = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        Ok(Self { namespace })
    }

    /// Runs `work` on a thread that is in this namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter().expect("the namespace is still there");
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread for good.
    pub fn enter(&self) -> Result<()> {
        setns(&self.namespace, CloneFlags::CLONE_NEWNET).context("entering a network namespace")
    }
}

/// The processes of a running pod of the default namespace, as this machine numbers them.
pub fn processes(cluster: &Cluster, pod: &str) -> Result<Vec<Pid>> {
    let link = cluster.kubectl(&["exec", pod, "--", "readlink", "/proc/self/ns/net"])?.ok();
    let inode = link.trim().trim_start_matches("net:[").trim_end_matches(']').parse::<u64>();
    let inode = inode.with_context(|| format!("{link:?} is no namespace"))?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").context("listing processes")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Processes end while we look.
        if std::fs::metadata(entry.path().join("ns/net")).is_ok_and(|namespace| namespace.ino() == inode) {
            found.push(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

/// The first process of a one-container pod: number 1 in its own process namespace.
pub fn first_process(cluster: &Cluster, pod: &str) -> Result<Pid> {
    let firsts: Vec<Pid> = processes(cluster, pod)?
        .into_iter()
        .filter(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
            let numbers: Vec<&str> = numbers.split_whitespace().collect();
            let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let holds_pod = command.replace('\0', " ").contains(cluster.pause());
            numbers.len() > 1 && numbers.last() == Some(&"1") && !holds_pod
        })
        .collect();
    ensure!(firsts.len() == 1, "pod {pod} has the first processes {firsts:?}");
    Ok(firsts[0])
}
