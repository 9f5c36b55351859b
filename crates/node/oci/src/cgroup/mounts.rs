//! Which cgroup hierarchies this host has.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) version: Version,
    pub(crate) mount: PathBuf,
    /// v1 only: the controllers, or `name=systemd`.
    pub(crate) controllers: Vec<String>,
}

/// Reads `/proc/self/mountinfo`; of several mounts of one hierarchy the first counts.
pub(super) fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let mut before = before.split(' ');
        let (Some(root), Some(mount)) = (before.nth(3), before.next()) else { continue };
        let mut after = after.split(' ');
        let (Some(kind), Some(options)) = (after.next(), after.nth(1)) else { continue };
        if root != "/" {
            continue; // a part of a hierarchy shown elsewhere, such as in a container's own view
        }
        let hierarchy = match kind {
            "cgroup2" => Hierarchy { version: Version::V2, mount: mount.into(), controllers: Vec::new() },
            "cgroup" => {
                let controllers = options.split(',').filter(|o| is_controller(o)).map(str::to_owned).collect();
                Hierarchy { version: Version::V1, mount: mount.into(), controllers }
            }
            _ => continue,
        };
        if !found.iter().any(|h| h.version == hierarchy.version && h.controllers == hierarchy.controllers) {
            found.push(hierarchy);
        }
    }
    found
}

fn is_controller(option: &str) -> bool {
    const FLAGS: [&str; 7] = ["rw", "ro", "xattr", "clone_children", "noprefix", "cpuset_v2_mode", "none"];
    !FLAGS.contains(&option) && !option.starts_with("release_agent=")
}

impl Hierarchy {
    /// Of v2: whether it has the controller.
    pub(super) fn offers(&self, controller: &str) -> bool {
        let all = fs::read_to_string(self.mount.join("cgroup.controllers")).unwrap_or_default();
        all.split_whitespace().any(|one| one == controller)
    }

    /// Makes a new cgroup usable: v1 cpusets start empty and accept nobody; v2 children get only the controllers
    /// their parent passes on.
    pub(super) fn prepare(&self, parent: &Path, child: &Path) -> io::Result<()> {
        match self.version {
            Version::V1 if self.controllers.iter().any(|c| c == "cpuset") => {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    if fs::read_to_string(child.join(file))?.trim().is_empty() {
                        fs::write(child.join(file), fs::read_to_string(parent.join(file))?.trim())?;
                    }
                }
                Ok(())
            }
            Version::V1 => Ok(()),
            Version::V2 => {
                let available = fs::read_to_string(parent.join("cgroup.controllers"))?;
                let wanted: Vec<String> = available
                    .split_whitespace()
                    .filter(|c| matches!(*c, "cpu" | "cpuset" | "memory" | "pids" | "io" | "hugetlb"))
                    .map(|c| format!("+{c}"))
                    .collect();
                match fs::write(parent.join("cgroup.subtree_control"), wanted.join(" ")) {
                    // A host whose root group cannot delegate; a limit asked for will say so.
                    Err(e) if e.kind() == ErrorKind::ResourceBusy => Ok(()),
                    other => other,
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_host_is_read() {
        let text = "\
25 20 0:22 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
26 20 0:23 / /sys/fs/cgroup/systemd rw,relatime shared:9 - cgroup cgroup rw,xattr,name=systemd
27 20 0:24 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
28 20 0:22 /x /somewhere/else rw,relatime - cgroup cgroup rw,cpu,cpuacct
29 20 0:22 / /again rw,relatime - cgroup cgroup rw,cpu,cpuacct
30 20 8:1 / / rw - ext4 /dev/sda1 rw
";
        let found = parse(text);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(found[1].controllers, ["name=systemd"]);
        assert_eq!(found[2].version, Version::V2);
        assert_eq!(found[2].mount, Path::new("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn broken_lines_are_passed_over() {
        assert_eq!(parse("\nnonsense\n1 2 - cgroup\n - cgroup a b"), []);
    }
}
