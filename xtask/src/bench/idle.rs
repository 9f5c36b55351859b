//! What a cluster costs that nobody uses: memory, processor time, wake-ups.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Options};

use super::Setting;
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
    let netns = fs::metadata(Path::new("/run/netns").join(&cluster.namespace.name))?.ino();
    let processes = Process::of(&cluster.data_dir(), netns)?;
    ensure!(!processes.is_empty(), "found no process of the cluster");
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

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// A process of the cluster itself: the server, the keeper of the DNS sockets, a pod's shim; no container's.
struct Process {
    folder: PathBuf,
}

impl Process {
    /// Those that name the data directory or live in the node's network namespace.
    fn of(data: &Path, netns: u64) -> Result<Vec<Self>> {
        let data = data.to_string_lossy().into_owned();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").context("listing processes")?.flatten() {
            let folder = entry.path();
            if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
                continue;
            }
            let names_it =
                String::from_utf8_lossy(&fs::read(folder.join("cmdline")).unwrap_or_default()).contains(&data);
            let lives_there = fs::metadata(folder.join("ns/net")).is_ok_and(|namespace| namespace.ino() == netns);
            if names_it || lives_there {
                found.push(Self { folder });
            }
        }
        Ok(found)
    }

    /// The words after the program's name that say what it is.
    fn name(&self) -> String {
        let line = fs::read(self.folder.join("cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        let role = words.iter().skip(1).find(|word| !word.starts_with('-') && !word.contains('/'));
        role.or(words.first()).map(|word| word.clone().into_owned()).unwrap_or_default()
    }

    fn proportional_bytes(&self) -> Result<u64> {
        proportional_bytes(&self.read("smaps_rollup")?)
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = self.folder.join(file);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }
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

fn proportional_bytes(rollup: &str) -> Result<u64> {
    Ok(number(rollup, "Pss:").context("no Pss in smaps_rollup")? * 1024)
}

fn number(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
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
        assert_eq!(proportional_bytes("x\nRss: 9 kB\nPss:        20 kB\nPss_Dirty: 1 kB\n").unwrap(), 20 * 1024);
        assert!(proportional_bytes("").is_err());
        assert_eq!(
            number("nonvoluntary_ctxt_switches:\t9\nvoluntary_ctxt_switches:\t4\n", "voluntary_ctxt_switches:"),
            Some(4)
        );
        assert_eq!(ticks("1 (a) b) S 1 1 1 0 -1 0 0 0 0 0 7 5 0 0").unwrap(), 12);
        assert!(
            ticks("1 (a) S 1").is_err() && ticks("").is_err() && ticks("1 (a) S 1 1 1 0 -1 0 0 0 0 0 x 5").is_err()
        );
    }
}
