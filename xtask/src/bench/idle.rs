//! What a cluster costs that nobody uses: memory, processor time, wake-ups.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
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

    let before = Usage::of(&processes)?;
    let begin = Instant::now();
    std::thread::sleep(WINDOW);
    let after = Usage::of(&processes)?;
    let seconds = begin.elapsed().as_secs_f64();
    let percent = (after.cpu_seconds - before.cpu_seconds) / seconds * 100.0;
    report.measured("idle-cpu", percent, format!("over {seconds:.0} s, in steps of {:.2} %", 1.0 / seconds));
    let wakeups = (after.wakeups.saturating_sub(before.wakeups)) as f64 / seconds;
    report.measured("idle-wakeups", wakeups, format!("over {seconds:.0} s, {} processes", processes.len()));
    Ok(())
}

struct Usage {
    cpu_seconds: f64,
    wakeups: u64,
}

impl Usage {
    fn of(processes: &[Process]) -> Result<Self> {
        let mut usage = Self { cpu_seconds: 0.0, wakeups: 0 };
        let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("no clock ticks")?;
        for process in processes {
            usage.cpu_seconds += ticks(&process.read("stat")?)? as f64 / per_second as f64;
            for thread in fs::read_dir(process.folder.join("task"))?.flatten() {
                // A thread may end between the two.
                let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
                usage.wakeups += number(&status, "voluntary_ctxt_switches:").unwrap_or(0);
            }
        }
        Ok(usage)
    }
}

/// User and system time. The name before them may hold blanks and parentheses.
fn ticks(stat: &str) -> Result<u64> {
    let (_, fields) = stat.rsplit_once(')').context("a stat line without a name")?;
    let mut fields = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let mut next = || fields.next().context("a short stat line")?.context("a stat line's time");
    Ok(next()? + next()?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_kernel_s_text() {
        assert_eq!(ticks("1 (a) b) S 1 1 1 0 -1 0 0 0 0 0 7 5 0 0").unwrap(), 12);
        assert!(
            ticks("1 (a) S 1").is_err() && ticks("").is_err() && ticks("1 (a) S 1 1 1 0 -1 0 0 0 0 0 x 5").is_err()
        );
    }
}
