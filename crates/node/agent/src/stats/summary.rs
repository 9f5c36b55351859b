//! `/stats/summary`: upstream's `Summary`, as far as this node accounts. Pure.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::sample::{ContainerSample, FileSystem, NodeSample, PodSample, Sample};
use super::window::{Counters, NODE};
use crate::seams::{DiskUsage, Interface, Usage};

/// `all`: beside CPU and memory, networks, disks and processes.
pub(super) fn summary(node_name: &str, sample: &Sample, basis: &Counters, all: bool) -> Value {
    let view = View { basis, at: sample.at, all, disk: sample.node.disk };
    json!({
        "node": view.node(node_name, &sample.node),
        "pods": sample.pods.iter().map(|pod| view.pod(pod)).collect::<Vec<_>>(),
    })
}

struct View<'a> {
    basis: &'a Counters,
    at: Timestamp,
    all: bool,
    disk: FileSystem,
}

impl View<'_> {
    fn node(&self, name: &str, node: &NodeSample) -> Value {
        let mut value = json!({ "nodeName": name, "startTime": seconds(node.booted) });
        self.usage(&mut value, NODE, node.booted, &node.usage, Some(node.available));
        if self.all {
            let file_system = self.file_system();
            let with_used = |used: u64| {
                let mut value = file_system.clone();
                value["usedBytes"] = json!(used);
                value["inodesUsed"] = json!(self.disk.inodes.saturating_sub(self.disk.inodes_free));
                value
            };
            value["network"] = self.network(&node.network);
            value["fs"] = with_used(self.disk.used);
            // Images and writable layers lie on the same one.
            value["runtime"] = json!({ "imageFs": file_system, "containerFs": file_system });
            let (running, most) = node.processes;
            value["rlimit"] = json!({ "time": self.time(), "maxpid": most, "curproc": running });
            value["swap"] = json!({
                "time": self.time(), "swapAvailableBytes": node.swap_free, "swapUsageBytes": node.usage.swap,
            });
        }
        value
    }

    fn pod(&self, pod: &PodSample) -> Value {
        let mut value = json!({
            "podRef": { "name": pod.name, "namespace": pod.namespace, "uid": pod.uid },
            "startTime": seconds(pod.started),
            "containers": pod.containers.iter().map(|container| self.container(container)).collect::<Vec<_>>(),
        });
        self.usage(&mut value, &pod.id, pod.started, &pod.usage, None);
        if self.all {
            if !pod.network.is_empty() {
                value["network"] = self.network(&pod.network);
            }
            value["process_stats"] = json!({ "process_count": pod.usage.processes });
            value["swap"] = self.swap(&pod.usage);
        }
        value
    }

    fn container(&self, container: &ContainerSample) -> Value {
        let mut value = json!({ "name": container.name, "startTime": seconds(container.started) });
        self.usage(&mut value, &container.id, container.started, &container.usage, None);
        if self.all {
            value["swap"] = self.swap(&container.usage);
        }
        if let Some((layer, logs)) = container.disk {
            value["rootfs"] = self.written(layer);
            value["logs"] = self.written(logs);
        }
        value
    }

    fn usage(&self, value: &mut Value, id: &str, started: Timestamp, usage: &Usage, available: Option<u64>) {
        value["cpu"] = json!({
            "time": self.time(),
            "usageNanoCores": self.basis.rate(id, (started, self.at), usage.cpu),
            "usageCoreNanoSeconds": usage.cpu,
        });
        let mut memory = Map::new();
        memory.insert("time".into(), self.time());
        if let Some(available) = available {
            memory.insert("availableBytes".into(), json!(available));
        }
        for (name, amount) in [
            ("usageBytes", usage.memory),
            ("workingSetBytes", usage.working_set),
            ("rssBytes", usage.anonymous),
            ("pageFaults", usage.page_faults),
            ("majorPageFaults", usage.major_page_faults),
        ] {
            memory.insert(name.into(), json!(amount));
        }
        value["memory"] = memory.into();
    }

    fn swap(&self, usage: &Usage) -> Value {
        json!({ "time": self.time(), "swapUsageBytes": usage.swap })
    }

    fn file_system(&self) -> Value {
        json!({
            "time": self.time(),
            "availableBytes": self.disk.available,
            "capacityBytes": self.disk.capacity,
            "inodesFree": self.disk.inodes_free,
            "inodes": self.disk.inodes,
        })
    }

    fn written(&self, usage: DiskUsage) -> Value {
        let mut value = self.file_system();
        value["usedBytes"] = json!(usage.bytes);
        value["inodesUsed"] = json!(usage.inodes);
        value
    }

    /// The first one's numbers stand for them all, as upstream's default interface.
    fn network(&self, interfaces: &[Interface]) -> Value {
        let one = |interface: &Interface| {
            json!({
                "name": interface.name,
                "rxBytes": interface.rx_bytes, "rxErrors": interface.rx_errors,
                "txBytes": interface.tx_bytes, "txErrors": interface.tx_errors,
            })
        };
        let default = interfaces.iter().find(|interface| interface.name == "eth0").or(interfaces.first());
        let mut value = default.map_or_else(|| json!({}), one);
        value["time"] = self.time();
        value["interfaces"] = interfaces.iter().map(one).collect();
        value
    }

    fn time(&self) -> Value {
        json!(self.at.to_string())
    }
}

/// As times in metadata are written.
fn seconds(time: Timestamp) -> Value {
    json!(Timestamp::from_second(time.as_second()).unwrap_or_default().to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn the_summary_has_upstreams_shape() {
        let time = |second: i64| Timestamp::from_second(1_700_000_000 + second).unwrap();
        let usage = Usage { cpu: 3_000_000_000, memory: 300, working_set: 200, processes: 2, ..Usage::default() };
        let disk = DiskUsage { bytes: 4096, inodes: 2 };
        let container =
            ContainerSample { id: "c".into(), name: "app".into(), started: time(0), usage, disk: Some((disk, disk)) };
        let eth0 = Interface { name: "eth0".into(), rx_bytes: 1, rx_errors: 0, tx_bytes: 2, tx_errors: 0 };
        let pod = PodSample {
            id: "s".into(),
            namespace: "ns".into(),
            name: "web".into(),
            uid: "u".into(),
            started: time(0),
            usage,
            network: vec![eth0],
            containers: vec![container],
        };
        let node = NodeSample { usage, available: 1000, processes: (7, 100), ..NodeSample::default() };
        let sample = Sample { at: time(20), node, pods: vec![pod] };
        let cpu = [("c", 1_000_000_000), ("s", 2_000_000_000)].map(|(id, cpu)| (id.to_owned(), cpu));
        let basis = Counters { at: time(10), cpu: HashMap::from(cpu) };
        let all = summary("n", &sample, &basis, true);
        let pod = &all["pods"][0];
        assert_eq!(pod["podRef"], json!({ "name": "web", "namespace": "ns", "uid": "u" }));
        assert_eq!(pod["cpu"]["usageNanoCores"], 100_000_000);
        assert_eq!(pod["containers"][0]["cpu"]["usageNanoCores"], 200_000_000);
        assert_eq!(pod["containers"][0]["memory"]["workingSetBytes"], 200);
        assert_eq!(pod["containers"][0]["rootfs"]["usedBytes"], 4096);
        assert_eq!(pod["network"]["interfaces"][0]["txBytes"], 2);
        assert_eq!(pod["process_stats"]["process_count"], 2);
        assert_eq!(all["node"]["nodeName"], "n");
        assert_eq!(all["node"]["memory"]["availableBytes"], 1000);
        assert_eq!(all["node"]["rlimit"]["curproc"], 7);
        assert_eq!(all["node"]["cpu"]["time"], "2023-11-14T22:13:40Z");
        let less = summary("n", &sample, &basis, false);
        assert!(less["node"]["fs"].is_null() && less["pods"][0]["network"].is_null(), "{less}");
    }
}
