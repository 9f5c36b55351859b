//! This machine: where the built things are, and network namespaces to put clusters in.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};

/// The address of the node inside its namespace (a documentation range).
pub const NODE_IP: &str = "198.51.100.10";
/// The address of the other end of the node's link: a host outside the cluster.
pub const OUTSIDE_IP: &str = "198.51.100.1";
/// The same of IPv6.
pub const NODE_IP6: &str = "2001:db8:7::10";
pub const OUTSIDE_IP6: &str = "2001:db8:7::1";

/// The root of the repository.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests live in a folder of the repository").to_owned()
}

/// The binary built beside this test.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its executable");
    let profile = test.ancestors().nth(2).expect("tests are built two folders below their profile's");
    let binary = profile.join("sampan");
    assert!(binary.exists(), "{} is missing; build it with cargo build --package sampan", binary.display());
    binary
}

/// An image archive that `cargo xtask images` made.
pub fn image(name: &str) -> PathBuf {
    let path = repository().join("target/images").join(format!("{name}.tar"));
    assert!(path.exists(), "{} is missing; make it with cargo xtask images", path.display());
    path
}

/// Runs a command to its end and returns its standard output.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {program}"))?;
    let arguments: Vec<_> = arguments.iter().map(|argument| argument.as_ref().to_string_lossy()).collect();
    ensure!(
        output.status.success(),
        "{program} {}: {}: {}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Two namespaces joined by a link: the node's, and a host outside.
pub struct Namespace {
    pub name: String,
    pub outside: String,
}

impl Namespace {
    pub fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            bail!("these tests need root");
        }
        // A killed test leaves its namespaces, and a later process may have its number.
        let id = loop {
            let id = format!("sampan-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            if !Path::new("/run/netns").join(&id).exists() {
                break id;
            }
        };
        let namespace = Self { outside: format!("{id}-out"), name: id };
        let (node, outside) = (namespace.name.as_str(), namespace.outside.as_str());
        run("ip", &["netns", "add", node])?;
        run("ip", &["netns", "add", outside])?;
        run("ip", &["-n", node, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", outside])?;
        for (name, four, six) in [(node, NODE_IP, NODE_IP6), (outside, OUTSIDE_IP, OUTSIDE_IP6)] {
            run("ip", &["-n", name, "address", "add", &format!("{four}/24"), "dev", "eth0"])?;
            run("ip", &["-n", name, "address", "add", &format!("{six}/64"), "dev", "eth0", "nodad"])?;
            run("ip", &["-n", name, "link", "set", "lo", "up"])?;
            // A link-local address comes up seconds later, in the middle of a comparison of the kernel's state.
            run("ip", &["-n", name, "link", "set", "eth0", "addrgenmode", "none"])?;
            run("ip", &["-n", name, "link", "set", "eth0", "up"])?;
        }
        // The kernel notices a carrier a little later.
        for name in [node, outside] {
            crate::eventually("the link", || {
                let link = run("ip", &["-n", name, "-o", "link", "show", "eth0"])?;
                ensure!(link.contains("state UP"), "{link}");
                Ok(())
            });
        }
        Ok(namespace)
    }

    /// A command that will run in the node's network namespace, with the machine's own mounts.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        Self::command_in(&self.name, program)
    }

    pub fn command_in(namespace: &str, program: impl AsRef<OsStr>) -> Command {
        // Not `ip netns exec`: that would hide the cgroup mounts below a new sysfs.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{namespace}")).arg("--").arg(program);
        // How full the disk of whoever runs the tests is must not matter; a test that says otherwise wins.
        command.env("SAMPAN_EVICTION_HARD", "memory.available<100Mi");
        command
    }

    /// The node's links, rules, routes and forwarding, to compare before and after.
    pub fn kernel_state(&self) -> Result<String> {
        let mut state = String::new();
        for arguments in [
            &["ip", "-o", "link", "show"][..],
            &["ip", "route", "show", "table", "all"],
            &["ip", "-6", "route", "show", "table", "all"],
            &["cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"],
            &["ip", "neigh", "show", "nud", "permanent"],
            &["nft", "list", "ruleset"],
        ] {
            let output =
                self.command(arguments[0]).args(&arguments[1..]).output().context("reading the kernel's state")?;
            state.push_str(&String::from_utf8_lossy(&output.stdout));
        }
        Ok(state)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        for name in [&self.name, &self.outside] {
            let _ = run("ip", &["netns", "delete", name]);
        }
    }
}
