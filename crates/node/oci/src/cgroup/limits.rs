//! From limits to the files and values of either cgroup version; pure.

use std::borrow::Cow;

use super::Version;
use crate::spec::Resources;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) controller: &'static str,
    pub(super) file: Cow<'static, str>,
    pub(super) value: String,
    /// Hosts may lack the file (swap accounting, group kill).
    pub(super) optional: bool,
}

/// `version`: of the hierarchy that has a controller, where there is one.
pub(super) fn settings(resources: &Resources, version: &dyn Fn(&str) -> Option<Version>) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut set = |controller, file: &'static str, value: String, optional| {
        settings.push(Setting { controller, file: file.into(), value, optional });
    };
    let is_v2 = |controller: &str| version(controller) == Some(Version::V2);
    if let Some(shares) = resources.cpu_shares {
        let shares = shares.clamp(2, 262_144);
        if is_v2("cpu") {
            // 2..262144 spread over 1..10000, as the OCI runtimes do.
            set("cpu", "cpu.weight", (1 + (shares - 2) * 9999 / 262_142).to_string(), false);
        } else {
            set("cpu", "cpu.shares", shares.to_string(), false);
        }
    }
    if let Some(quota) = resources.cpu_quota {
        let period = resources.cpu_period.unwrap_or(100_000);
        if is_v2("cpu") {
            let quota = if quota > 0 { quota.to_string() } else { "max".to_owned() };
            set("cpu", "cpu.max", format!("{quota} {period}"), false);
        } else {
            set("cpu", "cpu.cfs_period_us", period.to_string(), false);
            set("cpu", "cpu.cfs_quota_us", quota.to_string(), false);
        }
    }
    if let Some(limit) = resources.memory_limit {
        if is_v2("memory") {
            set("memory", "memory.max", limit.to_string(), false);
            set("memory", "memory.swap.max", "0".to_owned(), true);
            // One process lost to memory takes its whole container along, as the kubelet has it on v2.
            set("memory", "memory.oom.group", "1".to_owned(), true);
        } else {
            set("memory", "memory.limit_in_bytes", limit.to_string(), false);
            set("memory", "memory.memsw.limit_in_bytes", limit.to_string(), true);
        }
    }
    if let Some(limit) = resources.pids_limit {
        let value = if limit > 0 { limit.to_string() } else { "max".to_owned() };
        set("pids", "pids.max", value, false);
    }
    for (size, bytes) in &resources.huge_pages {
        let file = if is_v2("hugetlb") { "max" } else { "limit_in_bytes" };
        let file = Cow::from(format!("hugetlb.{}.{file}", page_size(*size)));
        settings.push(Setting { controller: "hugetlb", file, value: bytes.to_string(), optional: *bytes == 0 });
    }
    settings
}

/// As the kernel names it in its files: 64KB, 2MB, 1GB.
pub fn page_size(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{}KB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{}MB", bytes >> 20),
        _ => format!("{}GB", bytes >> 30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(resources: &Resources, v2: bool) -> Vec<String> {
        let version = if v2 { Version::V2 } else { Version::V1 };
        settings(resources, &|_| Some(version)).into_iter().map(|s| format!("{}={}", s.file, s.value)).collect()
    }

    #[test]
    fn both_versions_get_their_own_files() {
        let resources = Resources {
            cpu_shares: Some(1024),
            cpu_quota: Some(50_000),
            cpu_period: None,
            memory_limit: Some(1 << 20),
            pids_limit: Some(-1),
            huge_pages: [(64 << 10, 0), (2 << 20, 4 << 20), (1 << 30, 0)].into(),
            oom_score_adj: Some(5),
        };
        assert_eq!(
            lines(&resources, false),
            [
                "cpu.shares=1024",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
                "memory.limit_in_bytes=1048576",
                "memory.memsw.limit_in_bytes=1048576",
                "pids.max=max",
                "hugetlb.64KB.limit_in_bytes=0",
                "hugetlb.2MB.limit_in_bytes=4194304",
                "hugetlb.1GB.limit_in_bytes=0"
            ]
        );
        assert_eq!(
            lines(&resources, true),
            [
                "cpu.weight=39",
                "cpu.max=50000 100000",
                "memory.max=1048576",
                "memory.swap.max=0",
                "memory.oom.group=1",
                "pids.max=max",
                "hugetlb.64KB.max=0",
                "hugetlb.2MB.max=4194304",
                "hugetlb.1GB.max=0"
            ]
        );
        // A host without the controller is asked for none of its pages, and told so where some are wanted.
        let optional: Vec<_> = settings(&resources, &|_| None).iter().map(|setting| setting.optional).collect();
        assert_eq!(optional[optional.len() - 3..], [true, false, true]);
    }

    #[test]
    fn nothing_asked_nothing_set() {
        assert!(lines(&Resources::default(), true).is_empty());
        assert_eq!(lines(&Resources { cpu_shares: Some(0), ..Resources::default() }, false), ["cpu.shares=2"]);
    }
}
