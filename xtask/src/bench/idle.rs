//! What a cluster costs that nobody uses: memory, processor time, wake-ups.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use harness::{Cluster, Options};

use super::Setting;
use super::memory::{Process, megabytes, number};
use super::report::Report;

/// After the start, until what it set going has come to rest.
const SETTLE: Duration = Duration::from_secs(10);
const WINDOW: Duration = Duration::from_secs(20);

pub(super) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let cluster = Cluster::start(setting.options(Options::default()))?;
    for service in [["default", "kubernetes"], ["kube-system", "kube-dns"]] {
        cluster.kubectl(&["-n", service[0], "get", "service", service[1]])?.ok();
    }
    std::thread::sleep(SETTLE);
    let processes = Process::of(&cluster)?;
    let memory: Vec<(String, u64)> =
        processes.iter().map(|process| Ok((process.name(), process.proportional_bytes()?))).collect::<Result<_>>()?;
    let total: u64 = memory.iter().map(|(_, bytes)| bytes).sum();
    let each: Vec<String> = memory.iter().map(|(name, bytes)| format!("{name} {:.1} MB", megabytes(*bytes))).collect();
    report.measured("idle-memory", megabytes(total), each.join(", "));

    let used = Usage::over(&processes, WINDOW)?;
    let seconds = WINDOW.as_secs_f64();
    let detail = format!("over {seconds:.0} s, in steps of {:.2} %", 1.0 / seconds);
    report.measured("idle-cpu", used.cpu_seconds / seconds * 100.0, detail);
    let wakeups = used.wakeups as f64 / seconds;
    report.measured("idle-wakeups", wakeups, format!("over {seconds:.0} s, {} processes", processes.len()));
    Ok(())
}

/// What these processes use of a processor while nothing is asked of them.
pub(super) fn percent_of_core(processes: &[Process], window: Duration) -> Result<f64> {
    Ok(Usage::over(processes, window)?.cpu_seconds / window.as_secs_f64() * 100.0)
}

struct Usage {
    cpu_seconds: f64,
    wakeups: u64,
}

impl Usage {
    fn over(processes: &[Process], window: Duration) -> Result<Self> {
        let before = Self::of(processes)?;
        std::thread::sleep(window);
        let after = Self::of(processes)?;
        Ok(Self {
            cpu_seconds: after.cpu_seconds - before.cpu_seconds,
            wakeups: after.wakeups.saturating_sub(before.wakeups),
        })
    }

    fn of(processes: &[Process]) -> Result<Self> {
        let mut usage = Self { cpu_seconds: 0.0, wakeups: 0 };
        for process in processes {
            usage.cpu_seconds += process.cpu_seconds()?;
            for thread in fs::read_dir(process.folder.join("task"))?.flatten() {
                // A thread may end between the two.
                let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
                usage.wakeups += number(&status, "voluntary_ctxt_switches:").unwrap_or(0);
            }
        }
        Ok(usage)
    }
}
