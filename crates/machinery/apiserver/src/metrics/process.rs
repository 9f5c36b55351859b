//! The process as the kernel counts it: `process_*`, read when asked for.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// `USER_HZ`, the same on every architecture that Linux has kept.
const TICKS: f64 = 100.0;

#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let (stat, status) = (read("/proc/self/stat"), read("/proc/self/status"));
        let ticks = |place: usize| field(&stat, place).map(|ticks| ticks / TICKS);
        if let (Some(user), Some(system)) = (ticks(14), ticks(15)) {
            let seconds = ConstCounter::new(user + system);
            let help = "Processor time spent, in seconds";
            seconds.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, seconds.metric_type())?)?;
        }
        let descriptors = std::fs::read_dir("/proc/self/fd").ok().map(|all| all.count() as f64);
        let booted = line(&read("/proc/stat"), "btime");
        let gauges = [
            ("process_resident_memory_bytes", "Memory in use", line(&status, "VmRSS:").map(|kilo| kilo * 1024.0)),
            (
                "process_virtual_memory_bytes",
                "Address space in use",
                line(&status, "VmSize:").map(|kilo| kilo * 1024.0),
            ),
            ("process_open_fds", "Open file descriptors", descriptors),
            ("process_max_fds", "Most file descriptors", line(&read("/proc/self/limits"), "Max open files")),
            ("process_start_time_seconds", "Start, in seconds of Unix time", booted.zip(ticks(22)).map(|(b, t)| b + t)),
        ];
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// By its number in proc(5); the second is a name that may hold blanks.
fn field(stat: &str, place: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(place.checked_sub(3)?)?.parse().ok()
}

/// The first number of the line that starts so.
fn line(text: &str, start: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(start))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        let stat = "42 (a) name) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 123400 1000 10";
        assert_eq!((field(stat, 14), field(stat, 15), field(stat, 22)), (Some(250.0), Some(50.0), Some(123_400.0)));
        assert_eq!((field("", 14), field(stat, 99)), (None, None));
        assert_eq!(line("Name: x\nVmRSS:\t  120 kB\n", "VmRSS:"), Some(120.0));
        assert_eq!(line("Max open files            1024                 4096", "Max open files"), Some(1024.0));
        assert_eq!(line("", "VmRSS:"), None);
    }
}
