//! From limits to the files and values of either cgroup version; pure.

use crate::spec::Resources;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) controller: &'static str,
    pub(super) file: &'static str,
    pub(super) value: String,
    /// Hosts may lack the file (swap accounting, group kill).
    pub(super) optional: bool,
}

pub(super) fn settings(resources: &Resources, v2: bool) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut set = |controller, file, value: String, optional| {
        settings.push(Setting { controller, file, value, optional });
    };
    if let Some(shares) = resources.cpu_shares {
        let shares = shares.clamp(2, 262_144);
        if v2 {
            // 2..262144 spread over 1..10000, as the OCI runtimes do.
            set("cpu", "cpu.weight", (1 + (shares - 2) * 9999 / 262_142).to_string(), false);
        } else {
            set("cpu", "cpu.shares", shares.to_string(), false);
        }
    }
    if let Some(quota) = resources.cpu_quota {
        let period = resources.cpu_period.unwrap_or(100_000);
        if v2 {
            let quota = if quota > 0 { quota.to_string() } else { "max".to_owned() };
            set("cpu", "cpu.max", format!("{quota} {period}"), false);
        } else {
            set("cpu", "cpu.cfs_period_us", period.to_string(), false);
            set("cpu", "cpu.cfs_quota_us", quota.to_string(), false);
        }
    }
    if let Some(limit) = resources.memory_limit {
        if v2 {
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
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(resources: &Resources, v2: bool) -> Vec<String> {
        settings(resources, v2).into_iter().map(|s| format!("{}={}", s.file, s.value)).collect()
    }

    #[test]
    fn both_versions_get_their_own_files() {
        let resources = Resources {
            cpu_shares: Some(1024),
            cpu_quota: Some(50_000),
            cpu_period: None,
            memory_limit: Some(1 << 20),
            pids_limit: Some(-1),
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
                "pids.max=max"
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
                "pids.max=max"
            ]
        );
    }

    #[test]
    fn nothing_asked_nothing_set() {
        assert!(settings(&Resources::default(), true).is_empty());
        assert_eq!(lines(&Resources { cpu_shares: Some(0), ..Resources::default() }, false), ["cpu.shares=2"]);
    }
}
