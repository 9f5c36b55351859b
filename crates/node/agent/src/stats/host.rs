//! What the whole machine uses, from `/proc` and its file system. What cannot be read is 0; the parsing is pure.

use std::path::Path;

use jiff::Timestamp;

use super::sample::{FileSystem, NodeSample};
use crate::seams::{Interface, Usage};

/// `USER_HZ`, in which `/proc/stat` counts on every architecture that we run on.
const TICKS: u64 = 100;

pub(super) fn read(data_dir: &Path) -> NodeSample {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let stat = text("/proc/stat");
    let memory = Memory::parse(&text("/proc/meminfo"));
    let (faults, major) = faults(&text("/proc/vmstat"));
    let pid_max = text("/proc/sys/kernel/pid_max").trim().parse().unwrap_or_default();
    let running = processes(&text("/proc/loadavg"));
    let usage = Usage {
        cpu: cpu(&stat),
        memory: memory.total.saturating_sub(memory.free),
        working_set: memory.total.saturating_sub(memory.free).saturating_sub(memory.inactive_file),
        anonymous: memory.anonymous,
        swap: memory.swap_total.saturating_sub(memory.swap_free),
        page_faults: faults,
        major_page_faults: major,
        processes: running,
    };
    NodeSample {
        booted: booted(&stat),
        available: memory.total.saturating_sub(usage.working_set),
        usage,
        swap_free: memory.swap_free,
        network: interfaces(&text("/proc/self/net/dev")),
        disk: file_system(data_dir).unwrap_or_default(),
        processes: (running, pid_max),
    }
}

pub(crate) fn file_system(path: &Path) -> nix::Result<FileSystem> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    let size = stat.fragment_size();
    Ok(FileSystem {
        capacity: stat.blocks() * size,
        used: (stat.blocks().saturating_sub(stat.blocks_free())) * size,
        available: stat.blocks_available() * size,
        inodes: stat.files(),
        inodes_free: stat.files_free(),
    })
}

/// Nanoseconds that no processor was idle.
fn cpu(stat: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().map(|field| field.parse().unwrap_or_default()).collect();
    // user, nice, system, (idle, iowait,) irq, softirq, steal; guests' time is in user's.
    let busy: u64 =
        ticks.iter().enumerate().filter(|(at, _)| matches!(at, 0..=2 | 5..=7)).map(|(_, ticks)| ticks).sum();
    busy.saturating_mul(1_000_000_000 / TICKS)
}

fn booted(stat: &str) -> Timestamp {
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
    seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or_default()
}

/// In bytes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Memory {
    total: u64,
    free: u64,
    inactive_file: u64,
    anonymous: u64,
    swap_total: u64,
    swap_free: u64,
}

impl Memory {
    fn parse(meminfo: &str) -> Self {
        let mut memory = Self::default();
        for line in meminfo.lines() {
            let Some((name, amount)) = line.split_once(':') else { continue };
            let slot = match name {
                "MemTotal" => &mut memory.total,
                "MemFree" => &mut memory.free,
                "Inactive(file)" => &mut memory.inactive_file,
                "AnonPages" => &mut memory.anonymous,
                "SwapTotal" => &mut memory.swap_total,
                "SwapFree" => &mut memory.swap_free,
                _ => continue,
            };
            let kibibytes: u64 = amount.trim().trim_end_matches("kB").trim().parse().unwrap_or_default();
            *slot = kibibytes.saturating_mul(1024);
        }
        memory
    }
}

fn faults(vmstat: &str) -> (u64, u64) {
    let value =
        |name: &str| vmstat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok());
    (value("pgfault").unwrap_or_default(), value("pgmajfault").unwrap_or_default())
}

/// Of `0.00 0.01 0.05 1/123 4567`: how many there are.
fn processes(loadavg: &str) -> u64 {
    let field = loadavg.split_whitespace().nth(3).and_then(|field| field.split_once('/'));
    field.and_then(|(_, all)| all.parse().ok()).unwrap_or_default()
}

/// Of a network namespace's `/proc/net/dev`; but for the loopback, which leads nowhere.
pub(crate) fn interfaces(dev: &str) -> Vec<Interface> {
    let parsed = dev.lines().filter_map(|line| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> = counters.split_whitespace().map_while(|field| field.parse().ok()).collect();
        let at = |index: usize| counters.get(index).copied();
        Some(Interface {
            name: name.trim().to_owned(),
            rx_bytes: at(0)?,
            rx_errors: at(2)?,
            tx_bytes: at(8)?,
            tx_errors: at(10)?,
        })
    });
    parsed.filter(|interface| interface.name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_parse() {
        let stat = "cpu  100 10 50 9999 77 1 2 3 40 0\ncpu0 1 2 3\nbtime 1700000000\n";
        assert_eq!(cpu(stat), 166 * 10_000_000);
        assert_eq!(booted(stat).as_second(), 1_700_000_000);
        let meminfo = "MemTotal: 100 kB\nMemFree:   40 kB\nInactive(file): 10 kB\nAnonPages: 5 kB\nSwapTotal: 3 kB\n";
        let memory = Memory::parse(meminfo);
        assert_eq!((memory.total, memory.free, memory.inactive_file), (102_400, 40_960, 10_240));
        assert_eq!((memory.anonymous, memory.swap_total, memory.swap_free), (5_120, 3_072, 0));
        assert_eq!(faults("pgfault 7\npgmajfault 2\n"), (7, 2));
        assert_eq!(processes("0.00 0.01 0.05 1/123 4567\n"), 123);
        let dev = "Inter-| Receive\n face |bytes packets\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 2 3 0 0 0 0 0 20 \
                   2 4 0 0 0 0 0\n";
        let eth0 = Interface { name: "eth0".into(), rx_bytes: 10, rx_errors: 3, tx_bytes: 20, tx_errors: 4 };
        assert_eq!(interfaces(dev), [eth0]);
    }

    #[test]
    fn rubbish_is_nothing() {
        assert_eq!((cpu("cpu x y"), booted("btime never"), processes("1 2 3 4")), (0, Timestamp::default(), 0));
        assert_eq!(Memory::parse("MemTotal: many\nnonsense"), Memory::default());
        assert_eq!(interfaces("eth0: 1 2 three"), []);
    }

    #[test]
    fn this_machine_can_be_read() {
        let node = read(Path::new("/"));
        assert!(node.usage.cpu > 0 && node.usage.working_set > 0 && node.available > 0, "{node:?}");
        assert!(node.disk.capacity > 0 && node.processes.0 > 0 && node.processes.1 > 0, "{node:?}");
    }
}
