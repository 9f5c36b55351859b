//! The OCI configuration of a container; pure but for the list of a privileged container's devices.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::user::Identity;
use crate::cgroup::{Cgroups, Version};
use crate::layout::SandboxDir;
use crate::seccomp;
use crate::spec::{ContainerSpec, Mount, Propagation, SandboxSpec, Seccomp};

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Docker's lists.
pub const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
pub const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Where a container's processes live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PidNamespace {
    New,
    /// Among those of this process.
    Of(i32),
    Host,
}

/// All that the configuration depends on.
pub(super) struct Plan<'a> {
    pub(super) sandbox: &'a SandboxSpec,
    pub(super) container: &'a ContainerSpec,
    /// Its root file system.
    pub(super) root: &'a Path,
    /// The user namespace of a pod with its own users.
    pub(super) users: Option<PathBuf>,
    /// The pod's and the container's own, with their sources where they are to be taken from.
    pub(super) mounts: &'a [Mount],
    pub(super) identity: &'a Identity,
    pub(super) capabilities: &'a [&'static str],
    /// Below every hierarchy's root.
    pub(super) cgroup: &'a Path,
    pub(super) cgroups: &'a Cgroups,
    pub(super) host_devices: Vec<Value>,
    pub(super) processes: PidNamespace,
}

impl Plan<'_> {
    pub(super) fn config(&self) -> Value {
        let container = self.container;
        // The pod's other namespaces are inherited: the shim lives in them.
        let mut namespaces = vec![json!({"type": "mount"})];
        match self.processes {
            PidNamespace::New => namespaces.push(json!({"type": "pid"})),
            PidNamespace::Of(pid) => namespaces.push(json!({"type": "pid", "path": format!("/proc/{pid}/ns/pid")})),
            PidNamespace::Host => {}
        }
        if let Some(path) = &self.users {
            namespaces.push(json!({"type": "user", "path": path}));
        }
        if self.cgroups.is_v2() {
            namespaces.push(json!({"type": "cgroup"}));
        }
        let (masked, read_only) = self.protected_paths();
        let mut config = json!({
            "ociVersion": "1.2.0",
            "process": {
                "terminal": container.tty,
                "user": {
                    "uid": self.identity.uid,
                    "gid": self.identity.gid,
                    "additionalGids": self.identity.additional_gids,
                },
                "args": container.args,
                "env": self.environment(),
                "cwd": if container.cwd.is_empty() { "/" } else { &container.cwd },
                "capabilities": {
                    "bounding": self.capabilities,
                    "effective": self.capabilities,
                    "permitted": self.capabilities,
                    "inheritable": [],
                    "ambient": [],
                },
            },
            "root": {"path": self.root, "readonly": container.readonly_rootfs},
            "mounts": self.mounts(),
            "linux": {
                "namespaces": namespaces,
                "cgroupsPath": Path::new("/").join(self.cgroup),
                "resources": {"devices": [{"allow": container.privileged, "access": "rwm"}]},
                "devices": self.host_devices,
                "maskedPaths": masked,
                "readonlyPaths": read_only,
            },
        });
        if container.mounts.iter().any(|mount| mount.propagation == Propagation::Bidirectional) {
            // Else every mount would be made a receiver only.
            config["linux"]["rootfsPropagation"] = json!("shared");
        }
        // Only then is the filter loaded late; without, it must be while we still have the privilege. A plain `false`
        // would be taken for the former.
        if container.no_new_privileges {
            config["process"]["noNewPrivileges"] = json!(true);
        }
        if let Some(seccomp) = container.seccomp.as_ref().filter(|_| !container.privileged) {
            config["linux"]["seccomp"] = match seccomp {
                Seccomp::RuntimeDefault => seccomp::default(self.capabilities),
                Seccomp::Profile(profile) => profile.clone(),
            };
        }
        config
    }

    fn environment(&self) -> Vec<String> {
        let given = &self.container.env;
        let has = |name: &str| given.iter().any(|e| e.split('=').next() == Some(name));
        let mut environment = Vec::with_capacity(given.len() + 4);
        if !has("PATH") {
            environment.push(DEFAULT_PATH.to_owned());
        }
        if !self.sandbox.hostname.is_empty() {
            environment.push(format!("HOSTNAME={}", self.sandbox.hostname));
        }
        if self.container.tty && !has("TERM") {
            environment.push("TERM=xterm".to_owned());
        }
        if !has("HOME") {
            environment.push(format!("HOME={}", self.identity.home));
        }
        environment.extend(given.iter().cloned());
        environment
    }

    fn protected_paths(&self) -> (Vec<&'static str>, Vec<&'static str>) {
        if self.container.privileged {
            return (Vec::new(), Vec::new());
        }
        let (masked, mut read_only) =
            if self.container.unmasked { (Vec::new(), Vec::new()) } else { (MASKED.to_vec(), READ_ONLY.to_vec()) };
        if !self.cgroups.is_v2() {
            read_only.push("/sys/fs/cgroup"); // the tmpfs that holds the hierarchies
        }
        (masked, read_only)
    }

    fn mounts(&self) -> Vec<Value> {
        let access = if self.container.privileged { "rw" } else { "ro" };
        let nothing = ["nosuid", "noexec", "nodev"];
        let mut mounts = vec![
            special("/proc", "proc", &nothing),
            special("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            special("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            special("/dev/mqueue", "mqueue", &nothing),
            special("/sys", "sysfs", &["nosuid", "noexec", "nodev", access]),
        ];
        self.cgroup_mounts(access, &mut mounts);
        let mut own: Vec<_> = self.mounts.iter().collect();
        own.sort_by_key(|m| m.target.components().count()); // a mount must not hide one below it
        mounts.extend(own.into_iter().map(own_mount));
        mounts
    }

    /// On v1 libcontainer would mount the hierarchies writable whatever is asked, and a container could raise
    /// its own limits; so each controller is bound from the container's own cgroup, which was made beforehand.
    fn cgroup_mounts(&self, access: &str, mounts: &mut Vec<Value>) {
        const TARGET: &str = "/sys/fs/cgroup";
        let options = ["nosuid", "noexec", "nodev", "relatime", access];
        if self.cgroups.is_v2() {
            mounts.push(json!({"destination": TARGET, "type": "cgroup", "source": "cgroup", "options": options}));
            return;
        }
        mounts.push(special(TARGET, "tmpfs", &["nosuid", "noexec", "nodev", "mode=755", "size=64k"]));
        for hierarchy in self.cgroups.hierarchies().iter().filter(|h| h.version == Version::V1) {
            for name in names(&hierarchy.mount, &hierarchy.controllers) {
                mounts.push(json!({
                    "destination": Path::new(TARGET).join(name),
                    "type": "bind",
                    "source": hierarchy.mount.join(self.cgroup),
                    "options": ["bind", "nosuid", "noexec", "nodev", "relatime", access],
                }));
            }
        }
    }
}

/// The pod's own files and memory, where the container has nothing else in their place.
pub(super) fn pod_mounts(sandbox: &SandboxDir, spec: &SandboxSpec, container: &ContainerSpec) -> Vec<Mount> {
    let mut mounts = Vec::new();
    let mut add = |source: PathBuf, target: &str, readonly: bool| {
        let target = PathBuf::from(target);
        if !container.mounts.iter().any(|mount| mount.target == target) {
            mounts.push(Mount { source, target, readonly, ..Mount::default() });
        }
    };
    let read_only = container.readonly_rootfs;
    add(if spec.host_ipc { PathBuf::from("/dev/shm") } else { sandbox.shm() }, "/dev/shm", false);
    add(sandbox.hostname(), "/etc/hostname", read_only);
    if !spec.hosts.is_empty() {
        add(sandbox.hosts(), "/etc/hosts", read_only);
    }
    if !spec.resolv_conf.is_empty() {
        add(sandbox.resolv_conf(), "/etc/resolv.conf", read_only);
    }
    mounts
}

fn special(target: &str, kind: &str, options: &[&str]) -> Value {
    json!({"destination": target, "type": kind, "source": kind, "options": options})
}

fn own_mount(mount: &Mount) -> Value {
    let mut made = bind(&mount.source, &mount.target, mount.readonly);
    if mount.readonly && mount.recursive {
        made["options"] = json!(["rbind", "ro", "rro"]);
    }
    made
}

fn bind(source: &Path, target: &Path, read_only: bool) -> Value {
    let access = if read_only { "ro" } else { "rw" };
    json!({"destination": target, "type": "bind", "source": source, "options": ["rbind", access]})
}

/// Where a v1 hierarchy is found: under its mount's own name and each of its controllers'.
fn names<'a>(mount: &'a Path, controllers: &'a [String]) -> Vec<&'a str> {
    let mut names: Vec<&str> = mount.file_name().and_then(|n| n.to_str()).into_iter().collect();
    for controller in controllers {
        let name = controller.strip_prefix("name=").unwrap_or(controller);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Every device node directly below `/dev`, for privileged containers.
pub(super) fn host_devices() -> Vec<Value> {
    let Ok(entries) = std::fs::read_dir("/dev") else { return Vec::new() };
    let device = |path: PathBuf| {
        let metadata = path.symlink_metadata().ok()?;
        let kind = match metadata.file_type() {
            t if t.is_char_device() => "c",
            t if t.is_block_device() => "b",
            _ => return None,
        };
        let (major, minor) = (libc::major(metadata.rdev()), libc::minor(metadata.rdev()));
        Some(json!({
            "path": path, "type": kind, "major": major, "minor": minor,
            "fileMode": metadata.mode() & 0o777, "uid": metadata.uid(), "gid": metadata.gid(),
        }))
    };
    let ours = ["ptmx", "console"]; // the container has its own
    entries
        .flatten()
        .filter(|entry| !ours.iter().any(|name| entry.file_name() == *name))
        .filter_map(|entry| device(entry.path()))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
1 0 0:1 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
2 0 0:2 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
3 0 0:3 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
    const UNIFIED: &str = "1 0 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";

    fn config(mountinfo: &str, container: &ContainerSpec) -> Value {
        let sandbox = SandboxSpec { hostname: "web-0".to_owned(), hosts: "x".to_owned(), ..SandboxSpec::default() };
        let identity = Identity { uid: 7, gid: 8, additional_gids: vec![8, 9], home: "/home/x".to_owned() };
        let pods = pod_mounts(&SandboxDir(PathBuf::from("/r/s")), &sandbox, container);
        let mounts: Vec<Mount> = pods.into_iter().chain(container.mounts.iter().cloned()).collect();
        Plan {
            sandbox: &sandbox,
            container,
            root: Path::new("/r/s/containers/c/rootfs"),
            users: None,
            mounts: &mounts,
            identity: &identity,
            capabilities: &["CAP_CHOWN"],
            cgroup: Path::new("root/podu/c"),
            cgroups: &Cgroups::parse(mountinfo),
            host_devices: Vec::new(),
            processes: PidNamespace::New,
        }
        .config()
    }

    fn mount<'a>(config: &'a Value, target: &str) -> Option<&'a Value> {
        config["mounts"].as_array().unwrap().iter().find(|m| m["destination"] == target)
    }

    #[test]
    fn on_v1_every_controller_is_a_read_only_bind_of_the_containers_own_cgroup() {
        let config = config(HYBRID, &ContainerSpec::default());
        for (target, source) in [
            ("/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/root/podu/c"),
            ("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/root/podu/c"),
            ("/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/cpu,cpuacct/root/podu/c"),
        ] {
            let mount = mount(&config, target).unwrap();
            assert_eq!(mount["source"], source);
            assert!(mount["options"].as_array().unwrap().contains(&json!("ro")), "{target}");
        }
        assert!(mount(&config, "/sys/fs/cgroup/unified").is_none());
        assert!(config["linux"]["readonlyPaths"].as_array().unwrap().contains(&json!("/sys/fs/cgroup")));
    }

    #[test]
    fn on_v2_there_is_one_read_only_mount_in_a_namespace() {
        let config = config(UNIFIED, &ContainerSpec::default());
        assert_eq!(mount(&config, "/sys/fs/cgroup").unwrap()["type"], "cgroup");
        assert!(config["linux"]["namespaces"].as_array().unwrap().contains(&json!({"type": "cgroup"})));
    }

    #[test]
    fn the_environment_has_what_programs_expect() {
        let spec = ContainerSpec {
            env: vec!["HOME=/root".to_owned(), "X=a=b".to_owned()],
            tty: true,
            ..ContainerSpec::default()
        };
        assert_eq!(
            config(UNIFIED, &spec)["process"]["env"],
            json!([DEFAULT_PATH, "HOSTNAME=web-0", "TERM=xterm", "HOME=/root", "X=a=b"])
        );
    }

    #[test]
    fn a_volume_replaces_the_pods_own_file_and_parents_come_first() {
        let volume =
            |target: &str| Mount { source: "/v".into(), target: target.into(), readonly: true, ..Mount::default() };
        let spec = ContainerSpec {
            mounts: vec![volume("/a/b"), volume("/etc/hosts"), volume("/a")],
            ..ContainerSpec::default()
        };
        let config = config(UNIFIED, &spec);
        let targets: Vec<&str> =
            config["mounts"].as_array().unwrap().iter().map(|m| m["destination"].as_str().unwrap()).collect();
        let at = |target: &str| targets.iter().position(|t| *t == target);
        assert!(at("/a").unwrap() < at("/a/b").unwrap(), "{targets:?}");
        assert_eq!(mount(&config, "/etc/hosts").unwrap()["source"], "/v");
        assert_eq!(targets.iter().filter(|t| **t == "/etc/hosts").count(), 1);
        assert!(!targets.contains(&"/etc/resolv.conf"), "none was given");
    }

    #[test]
    fn a_privileged_container_is_not_protected_from_the_host() {
        let spec = ContainerSpec { privileged: true, ..ContainerSpec::default() };
        let config = config(HYBRID, &spec);
        assert_eq!(config["linux"]["maskedPaths"], json!([]));
        assert_eq!(config["linux"]["resources"]["devices"][0]["allow"], true);
    }
}
