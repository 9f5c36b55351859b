//! `/metrics/resource`: counters as Prometheus reads them, under upstream's names. Pure.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::sample::Sample;
use crate::seams::Usage;

struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(Timestamp, &Usage) -> f64,
}

const CPU: &str = "CPU time used so far, in core-seconds";
const MEMORY: &str = "Working set, in bytes";
const SWAP: &str = "Swap used, in bytes";

fn cpu(_: Timestamp, usage: &Usage) -> f64 {
    rounded(usage.cpu) / 1e9
}

fn memory(_: Timestamp, usage: &Usage) -> f64 {
    rounded(usage.working_set)
}

fn swap(_: Timestamp, usage: &Usage) -> f64 {
    rounded(usage.swap)
}

/// The format's numbers are floating.
#[allow(clippy::cast_precision_loss)]
fn rounded(value: u64) -> f64 {
    value as f64
}

const CONTAINER: &[Family] = &[
    Family { name: "container_cpu_usage_seconds_total", kind: "counter", help: CPU, value: cpu },
    Family { name: "container_memory_working_set_bytes", kind: "gauge", help: MEMORY, value: memory },
    Family {
        name: "container_start_time_seconds",
        kind: "gauge",
        help: "When it started, in seconds since the epoch",
        value: |started, _| started.as_duration().as_secs_f64(),
    },
    Family { name: "container_swap_usage_bytes", kind: "gauge", help: SWAP, value: swap },
];

const NODE: &[Family] = &[
    Family { name: "node_cpu_usage_seconds_total", kind: "counter", help: CPU, value: cpu },
    Family { name: "node_memory_working_set_bytes", kind: "gauge", help: MEMORY, value: memory },
    Family { name: "node_swap_usage_bytes", kind: "gauge", help: SWAP, value: swap },
];

const POD: &[Family] = &[
    Family { name: "pod_cpu_usage_seconds_total", kind: "counter", help: CPU, value: cpu },
    Family { name: "pod_memory_working_set_bytes", kind: "gauge", help: MEMORY, value: memory },
    Family { name: "pod_swap_usage_bytes", kind: "gauge", help: SWAP, value: swap },
];

/// `None`: it could not be read, and the text says so.
pub(super) fn text(sample: Option<&Sample>) -> String {
    let mut out = String::new();
    if let Some(sample) = sample {
        let containers: Vec<_> = sample
            .pods
            .iter()
            .flat_map(|pod| pod.containers.iter().map(move |container| (pod, container)))
            .map(|(pod, container)| {
                // Names of pods, namespaces and containers hold nothing that would need quoting.
                let labels = format!(
                    "{{container=\"{}\",namespace=\"{}\",pod=\"{}\"}}",
                    container.name, pod.namespace, pod.name
                );
                (labels, container.started, &container.usage)
            })
            .collect();
        let pods = sample
            .pods
            .iter()
            .map(|pod| (format!("{{namespace=\"{}\",pod=\"{}\"}}", pod.namespace, pod.name), pod.started, &pod.usage));
        let node = [(String::new(), sample.node.booted, &sample.node.usage)];
        families(&mut out, CONTAINER, sample.at, &containers);
        families(&mut out, NODE, sample.at, &node);
        families(&mut out, POD, sample.at, &pods.collect::<Vec<_>>());
    }
    let failed = i32::from(sample.is_none());
    for name in ["resource_scrape_error", "scrape_error"] {
        // Writing to a string does not fail.
        let _ =
            writeln!(out, "# HELP {name} 1 if what pods use could not be read\n# TYPE {name} gauge\n{name} {failed}");
    }
    out
}

fn families(out: &mut String, families: &[Family], at: Timestamp, lines: &[(String, Timestamp, &Usage)]) {
    if lines.is_empty() {
        return;
    }
    for Family { name, kind, help, value } in families {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, started, usage) in lines {
            let _ = writeln!(out, "{name}{labels} {} {}", value(*started, usage), at.as_millisecond());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::sample::{ContainerSample, NodeSample, PodSample};

    #[test]
    fn the_text_has_upstreams_names_and_labels() {
        let started = Timestamp::from_millisecond(1_700_000_000_500).unwrap();
        let usage = Usage { cpu: 1_500_000_000, working_set: 4096, ..Usage::default() };
        let container = ContainerSample { id: "c".into(), name: "app".into(), started, usage, disk: None };
        let pod = PodSample {
            id: "s".into(),
            namespace: "ns".into(),
            name: "web".into(),
            uid: "u".into(),
            started,
            usage,
            network: Vec::new(),
            containers: vec![container],
        };
        let at = Timestamp::from_second(1_700_000_010).unwrap();
        let text = text(Some(&Sample { at, node: NodeSample::default(), pods: vec![pod] }));
        for line in [
            "# TYPE container_cpu_usage_seconds_total counter",
            "container_cpu_usage_seconds_total{container=\"app\",namespace=\"ns\",pod=\"web\"} 1.5 1700000010000",
            "container_memory_working_set_bytes{container=\"app\",namespace=\"ns\",pod=\"web\"} 4096 1700000010000",
            "container_start_time_seconds{container=\"app\",namespace=\"ns\",pod=\"web\"} 1700000000.5 1700000010000",
            "pod_cpu_usage_seconds_total{namespace=\"ns\",pod=\"web\"} 1.5 1700000010000",
            "node_memory_working_set_bytes 0 1700000010000",
            "resource_scrape_error 0",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let text = text(None);
        assert!(text.contains("\nresource_scrape_error 1\n") && !text.contains("cpu"), "{text}");
    }
}
