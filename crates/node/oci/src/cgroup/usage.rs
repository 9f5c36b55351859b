//! What a cgroup has used, read when somebody asks. The parsing is pure.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Cgroups, Version};

/// Of one cgroup and everything below it; what the host does not account for is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Nanoseconds of CPU time since the cgroup was made.
    pub cpu: u64,
    /// Bytes, with the page cache.
    pub memory: u64,
    /// Bytes of the page cache that would be given up first.
    pub inactive_file: u64,
    /// Bytes of anonymous memory.
    pub anonymous: u64,
    /// Bytes.
    pub swap: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
    pub processes: u64,
}

impl Usage {
    /// Bytes that cannot be had back at once: what upstream calls the working set, and what limits are compared with.
    pub fn working_set(&self) -> u64 {
        self.memory.saturating_sub(self.inactive_file)
    }
}

impl Cgroups {
    /// `None` when the cgroup is not there (any more).
    pub(crate) fn usage(&self, cgroup: &Path) -> Option<Usage> {
        let mut usage = Usage::default();
        let mut found = false;
        let v2 = self.is_v2();
        for hierarchy in self.hierarchies.iter().filter(|h| h.version == Version::V1 || v2) {
            let directory = hierarchy.mount.join(cgroup);
            let read = |file: &str| fs::read_to_string(directory.join(file)).ok();
            let has = |controller: &str| v2 || hierarchy.controllers.iter().any(|one| one == controller);
            if has(if v2 { "cpu" } else { "cpuacct" }) {
                let cpu = match v2 {
                    true => read("cpu.stat").map(|text| value(&text, "usage_usec").saturating_mul(1000)),
                    false => read("cpuacct.usage").map(|text| number(&text)),
                };
                found |= cpu.is_some();
                usage.cpu = cpu.unwrap_or_default();
            }
            if has("memory") {
                let memory = read(if v2 { "memory.current" } else { "memory.usage_in_bytes" });
                found |= memory.is_some();
                usage.memory = memory.map(|text| number(&text)).unwrap_or_default();
                memory_stat(&mut usage, &read("memory.stat").unwrap_or_default(), v2);
                if v2 {
                    usage.swap = read("memory.swap.current").map(|text| number(&text)).unwrap_or_default();
                }
            }
            if has("pids") {
                usage.processes = read("pids.current").map(|text| number(&text)).unwrap_or_default();
            }
        }
        found.then_some(usage)
    }
}

/// On v1 the plain names are of the cgroup's own processes only.
fn memory_stat(usage: &mut Usage, text: &str, v2: bool) {
    let of = |v1: &str, v2_name: &str| value(text, if v2 { v2_name } else { v1 });
    usage.inactive_file = of("total_inactive_file", "inactive_file");
    usage.anonymous = of("total_rss", "anon");
    usage.page_faults = of("total_pgfault", "pgfault");
    usage.major_page_faults = of("total_pgmajfault", "pgmajfault");
    if !v2 {
        usage.swap = value(text, "total_swap");
    }
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_default()
}

/// Of a line `name number`.
fn value(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(number).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn host(v2: bool, files: &[(&str, &str)]) -> (tempfile::TempDir, Cgroups) {
        let dir = tempfile::tempdir().unwrap();
        let mount = dir.path().display();
        let info = match v2 {
            true => format!("1 0 0:1 / {mount} rw - cgroup2 cgroup2 rw\n"),
            false => format!(
                "1 0 0:1 / {mount}/cpu rw - cgroup cgroup rw,cpu,cpuacct\n2 0 0:2 / {mount}/memory rw - cgroup cgroup \
                 rw,memory\n3 0 0:3 / {mount}/pids rw - cgroup cgroup rw,pids\n4 0 0:4 / {mount}/unified rw - cgroup2 cgroup2 rw\n"
            ),
        };
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let cgroups = Cgroups::parse(&info);
        (dir, cgroups)
    }

    #[test]
    fn either_version_tells_the_same() {
        let expected = Usage {
            cpu: 7_000,
            memory: 300,
            inactive_file: 100,
            anonymous: 50,
            swap: 9,
            page_faults: 4,
            major_page_faults: 2,
            processes: 3,
        };
        let (_dir, v2) = host(
            true,
            &[
                ("root/pod/cpu.stat", "usage_usec 7\nuser_usec 4\n"),
                ("root/pod/memory.current", "300\n"),
                ("root/pod/memory.swap.current", "9\n"),
                ("root/pod/memory.stat", "anon 50\ninactive_file 100\npgfault 4\npgmajfault 2\n"),
                ("root/pod/pids.current", "3\n"),
            ],
        );
        assert_eq!(v2.usage(Path::new("root/pod")), Some(expected));
        let stat = "rss 1\ninactive_file 1\ntotal_rss 50\ntotal_inactive_file 100\ntotal_pgfault 4\ntotal_pgmajfault 2\n\
                    total_swap 9\n";
        let (_dir, v1) = host(
            false,
            &[
                ("cpu/root/pod/cpuacct.usage", "7000\n"),
                ("memory/root/pod/memory.usage_in_bytes", "300\n"),
                ("memory/root/pod/memory.stat", stat),
                ("pids/root/pod/pids.current", "3\n"),
            ],
        );
        assert_eq!(v1.usage(Path::new("root/pod")), Some(expected));
        assert_eq!(expected.working_set(), 200);
    }

    #[test]
    fn what_is_gone_has_used_nothing_and_rubbish_is_0() {
        let (_dir, cgroups) =
            host(true, &[("root/odd/cpu.stat", "usage_usec many"), ("root/odd/memory.current", "max")]);
        assert_eq!(cgroups.usage(Path::new("root/gone")), None);
        assert_eq!(cgroups.usage(Path::new("root/odd")), Some(Usage::default()));
        assert_eq!(Usage { memory: 1, inactive_file: 2, ..Usage::default() }.working_set(), 0);
    }
}
