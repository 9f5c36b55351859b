//! The rows of the budget table: what is measured, how, upstream's figure and ours.

/// How a figure is read and printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
    /// 10^6 bytes.
    Megabytes,
    /// 10^3 bytes.
    Kilobytes,
    MegabytesPerSecond,
    PercentOfCore,
    PerSecond,
    Times,
    Count,
}

impl Unit {
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Seconds => " s",
            Self::Milliseconds => " ms",
            Self::Megabytes => " MB",
            Self::Kilobytes => " KB",
            Self::MegabytesPerSecond => " MB/s",
            Self::PercentOfCore => " %",
            Self::PerSecond => "/s",
            Self::Times => " ×",
            Self::Count => "",
        }
    }

    pub(super) fn print(self, value: f64) -> String {
        let digits = match value.abs() {
            0.0 => 0,
            v if v >= 100.0 => 0,
            v if v >= 10.0 => 1,
            v if v >= 0.1 => 2,
            _ => 4,
        };
        format!("{value:.digits$}{}", self.symbol())
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Budget {
    Below(f64),
    AtMost(f64),
    Above(f64),
}

impl Budget {
    pub(super) fn holds(self, value: f64) -> bool {
        match self {
            Self::Below(limit) => value < limit,
            Self::AtMost(limit) => value <= limit,
            Self::Above(limit) => value > limit,
        }
    }

    pub(super) fn print(self, unit: Unit) -> String {
        let (sign, limit) = match self {
            Self::Below(limit) => ("< ", limit),
            Self::AtMost(limit) => ("", limit),
            Self::Above(limit) => ("> ", limit),
        };
        format!("{sign}{limit}{}", unit.symbol())
    }
}

#[derive(Debug)]
pub(super) struct Row {
    /// For `--only`.
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    /// Kubernetes 1.36.2 on a machine of the same size.
    pub(super) upstream: &'static str,
    pub(super) unit: Unit,
    pub(super) budget: Budget,
    /// What a reader would type, or the closest to it.
    pub(super) command: &'static str,
}

use Budget::{Above, AtMost, Below};
use Unit::{Count, Kilobytes, Megabytes, MegabytesPerSecond, Milliseconds, PerSecond, PercentOfCore, Seconds, Times};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "readyz",
        what: "start → /readyz",
        upstream: "3.7 s",
        unit: Seconds,
        budget: Below(0.3),
        command: "sampan server, empty data directory; GET /readyz over TLS until 200",
    },
    Row {
        name: "node-ready",
        what: "start → node Ready",
        upstream: "6.1 s",
        unit: Seconds,
        budget: Below(0.8),
        command: "sampan server, empty data directory; GET /api/v1/nodes?watch=1",
    },
    Row {
        name: "idle-memory",
        what: "idle resident memory, whole single-node cluster",
        upstream: "684 MB",
        unit: Megabytes,
        budget: Below(60.0),
        command: "Pss of /proc/*/smaps_rollup, every process of the data directory, 10 s after the start",
    },
    Row {
        name: "idle-cpu",
        what: "idle CPU, whole cluster",
        upstream: "5 % of a core",
        unit: PercentOfCore,
        budget: Below(0.3),
        command: "utime + stime of /proc/*/stat over 20 s",
    },
    Row {
        name: "idle-wakeups",
        what: "idle wake-ups, whole cluster",
        upstream: "–",
        unit: PerSecond,
        budget: Below(5.0),
        command: "voluntary_ctxt_switches of /proc/*/task/*/status over 20 s",
    },
    Row {
        name: "apply-ready",
        what: "apply 2-replica nginx + service → both Ready, image present",
        upstream: "0.80 s",
        unit: Seconds,
        budget: Below(0.25),
        command: "kubectl apply -f my-nginx.yaml; GET /api/v1/namespaces/default/pods?watch=1",
    },
    Row {
        name: "apply-answer",
        what: "apply 2-replica nginx + service → first 200 through the ClusterIP",
        upstream: "1.27 s",
        unit: Seconds,
        budget: Below(0.25),
        command: "kubectl apply -f my-nginx.yaml; GET http://CLUSTER-IP/ until 200",
    },
    Row {
        name: "deploy-30",
        what: "30-pod deployment → all Ready",
        upstream: "5.7 s",
        unit: Seconds,
        budget: Below(1.5),
        command: "kubectl apply -f thirty.yaml; GET /api/v1/namespaces/default/pods?watch=1",
    },
    Row {
        name: "pods-100",
        what: "100 pods started at once",
        upstream: "–",
        unit: PerSecond,
        budget: Above(10.0),
        command: "POST a Deployment of 100 replicas; GET /api/v1/namespaces/default/pods?watch=1 until all are Ready",
    },
    Row {
        name: "pods-100-p50",
        what: "one of 100 pods started at once: first seen → Ready, p50",
        upstream: "–",
        unit: Milliseconds,
        budget: Below(6000.0),
        command: "the same watch",
    },
    Row {
        name: "pods-100-p99",
        what: "one of 100 pods started at once: first seen → Ready, p99",
        upstream: "–",
        unit: Milliseconds,
        budget: Below(10_000.0),
        command: "the same watch",
    },
    Row {
        name: "pods-100-stop",
        what: "100 pods stopped at once",
        upstream: "–",
        unit: PerSecond,
        budget: Above(10.0),
        command: "DELETE the Deployment; the same watch until all are gone",
    },
    Row {
        name: "pods-100-memory",
        what: "memory of the server for each of 100 pods",
        upstream: "–",
        unit: Kilobytes,
        budget: Below(1000.0),
        command: "VmRSS of /proc/*/status, the server's, before and 10 s after",
    },
    Row {
        name: "shim-memory",
        what: "memory of a pod's shim",
        upstream: "–",
        unit: Kilobytes,
        budget: Below(3000.0),
        command: "Pss of /proc/*/smaps_rollup, mean of 100",
    },
    Row {
        name: "pods-100-cpu",
        what: "idle CPU with 100 pods",
        upstream: "–",
        unit: PercentOfCore,
        budget: Below(1.0),
        command: "utime + stime of /proc/*/stat over 20 s, server and shims",
    },
    Row {
        name: "exec",
        what: "a command in a container, connect → its end",
        upstream: "–",
        unit: Milliseconds,
        budget: Below(50.0),
        command: "GET …/pods/one/exec?command=true as a WebSocket, v5.channel.k8s.io, until the status says Success",
    },
    Row {
        name: "log-rate",
        what: "what one container can print into its log",
        upstream: "–",
        unit: MegabytesPerSecond,
        budget: Above(20.0),
        command: "yes LINE | head -c 200000000 in a pod; its container's start → its end, as a watch tells them",
    },
    Row {
        name: "get",
        what: "GET one 1.3 KB ConfigMap, 32 TLS connections",
        upstream: "4,700/s",
        unit: PerSecond,
        budget: Above(30_000.0),
        command: "wrk -t2 -c32 -d3s https://NODE:6443/api/v1/namespaces/default/configmaps/one",
    },
    Row {
        name: "list",
        what: "LIST 500 ConfigMaps (0.4 MB uncompressed) over TLS",
        upstream: "300/s",
        unit: PerSecond,
        budget: Above(1_500.0),
        command: "wrk -t2 -c32 -d3s https://NODE:6443/api/v1/namespaces/list/configmaps",
    },
    Row {
        name: "create",
        what: "durable CREATE of a 1.2 KB ConfigMap, 32 TLS connections",
        upstream: "1,500/s",
        unit: PerSecond,
        budget: Above(10_000.0),
        command: "wrk -t2 -c32 -d2s -s create.lua https://NODE:6443/api/v1/namespaces/create/configmaps",
    },
    Row {
        name: "watch-1",
        what: "write → one watcher sees it, p50",
        upstream: "3.8 ms",
        unit: Milliseconds,
        budget: Below(0.5),
        command: "PUT a ConfigMap; GET /api/v1/namespaces/watched/configmaps?watch=1",
    },
    Row {
        name: "watch-50",
        what: "write → the last of 50 watchers sees it, p50",
        upstream: "9.6 ms",
        unit: Milliseconds,
        budget: Below(2.0),
        command: "PUT a ConfigMap; 50 × GET /api/v1/namespaces/watched/configmaps?watch=1",
    },
    Row {
        name: "list-pods",
        what: "LIST 10,000 pods over TLS, 4 connections",
        upstream: "–",
        unit: PerSecond,
        budget: Above(10.0),
        command: "wrk -t2 -c4 -d5s https://NODE:6443/api/v1/namespaces/many/pods",
    },
    Row {
        name: "list-pods-bytes",
        what: "the same: bytes of JSON",
        upstream: "–",
        unit: MegabytesPerSecond,
        budget: Above(200.0),
        command: "requests a second × the list's length",
    },
    Row {
        name: "list-pods-memory",
        what: "the same: the server's memory at its highest over what it was",
        upstream: "–",
        unit: Megabytes,
        budget: Below(200.0),
        command: "VmHWM of /proc/PID/status, reset by writing 5 to clear_refs, less VmRSS before",
    },
    Row {
        name: "watchers-memory",
        what: "1,000 watchers of one kind, a TLS connection each: the server's memory for one",
        upstream: "–",
        unit: Kilobytes,
        budget: Below(100.0),
        command: "1,000 × GET /api/v1/namespaces/watched/configmaps?watch=1; Pss before and after",
    },
    Row {
        name: "watchers-p99",
        what: "write → a watcher of 1,000 sees it, p99 of all",
        upstream: "–",
        unit: Milliseconds,
        budget: Below(50.0),
        command: "PUT a ConfigMap; 1,000 × GET /api/v1/namespaces/watched/configmaps?watch=1",
    },
    Row {
        name: "watchers-last",
        what: "write → the last of 1,000 watchers sees it, p50",
        upstream: "–",
        unit: Milliseconds,
        budget: Below(40.0),
        command: "PUT a ConfigMap; 1,000 × GET /api/v1/namespaces/watched/configmaps?watch=1",
    },
    Row {
        name: "withdrawal",
        what: "pod deleted → ready: false in its EndpointSlice, gone from Endpoints",
        upstream: "25 ms",
        unit: Milliseconds,
        budget: Below(5.0),
        command: "DELETE a pod; watch pods, endpointslices, endpoints",
    },
    Row {
        name: "drain",
        what: "new connections failed while deleting one of two pods under load",
        upstream: "9 to 36 each",
        unit: Count,
        budget: AtMost(0.0),
        command: "200 × GET http://CLUSTER-IP/ a second, a connection each; DELETE a pod, six times",
    },
    Row {
        name: "service-change",
        what: "one endpoint changed among 10,000 services: kernel work",
        upstream: "70 ms",
        unit: Milliseconds,
        budget: Below(0.05),
        command: "net_proxy::Kernel::apply, one of 10,000 front ends",
    },
    Row {
        name: "service-programmed",
        what: "one endpoint changed among 10,000 services: write → programmed, p99",
        upstream: "over 1 s",
        unit: Milliseconds,
        budget: Below(10.0),
        command: "PATCH an EndpointSlice; the kernel's nftables notification (as nft monitor)",
    },
    Row {
        name: "service-load",
        what: "first load of 10,000 services into the kernel",
        upstream: "14 s",
        unit: Seconds,
        budget: Below(0.3),
        command: "net_proxy::Kernel::load, 10,000 front ends with two endpoints each",
    },
    Row {
        name: "service-flat",
        what: "one endpoint changed among 1,000, 10,000 or 50,000 services, the slowest over among 100",
        upstream: "–",
        unit: Times,
        budget: Below(2.0),
        command: "net_proxy::Kernel::apply, one front end of each number",
    },
    Row {
        name: "service-load-10",
        what: "first load of 10,000 services of 10 endpoints",
        upstream: "–",
        unit: Seconds,
        budget: Below(1.5),
        command: "net_proxy::Kernel::load, 10,000 front ends with ten endpoints each",
    },
    Row {
        name: "service-memory",
        what: "memory of a service of 10 endpoints, the data plane's and the kernel's",
        upstream: "–",
        unit: Kilobytes,
        budget: Below(8.0),
        command: "VmRSS of /proc/self/status, Slab and Percpu of /proc/meminfo, before and after the load",
    },
    Row {
        name: "programmed-3",
        what: "a pod's readiness changes → the last of three nodes' kernels knows",
        upstream: "–",
        unit: Milliseconds,
        budget: Below(20.0),
        command: "PATCH the condition of a readiness gate; the kernels' nftables notifications (as nft monitor)",
    },
    Row {
        name: "throughput-node",
        what: "one connection between two pods of a node",
        upstream: "–",
        unit: MegabytesPerSecond,
        budget: Above(500.0),
        command: "write(2) of 128 KiB in one pod, read(2) in the other, 1 s",
    },
    Row {
        name: "throughput-tunnel",
        what: "one connection between pods of two nodes, over VXLAN",
        upstream: "–",
        unit: MegabytesPerSecond,
        budget: Above(200.0),
        command: "the same, where the network between the nodes carries their own addresses only",
    },
    Row {
        name: "service-path",
        what: "connect + read + close through a ClusterIP over direct pod IP, nftables",
        upstream: "1.17 ×",
        unit: Times,
        budget: Below(1.2),
        command: "connect, read one byte, close: CLUSTER-IP:80 and POD-IP:9001 in turn, from the node",
    },
    Row {
        name: "service-path-ebpf",
        what: "the same where sockets are balanced",
        upstream: "–",
        unit: Times,
        budget: Below(1.05),
        command: "the same in a second cluster, a round of each in turn",
    },
    Row {
        name: "service-rate",
        what: "new connections per second through a ClusterIP over direct pod IP, nftables",
        upstream: "–",
        unit: Times,
        budget: Above(0.8),
        command: "four clients that connect, read one byte, close: CLUSTER-IP:80 and POD-IP:9001, half a second each",
    },
    Row {
        name: "service-rate-ebpf",
        what: "the same where sockets are balanced",
        upstream: "–",
        unit: Times,
        budget: Above(0.9),
        command: "the same in the second cluster",
    },
    Row {
        name: "dns-queries",
        what: "answers of the cluster DNS to one pod, a Service's A record over UDP",
        upstream: "not measured",
        unit: PerSecond,
        budget: Above(10_000.0),
        command: "16 sockets in one pod, each asks again once it is answered, for a second",
    },
    Row {
        name: "dns-p99",
        what: "the same, p99",
        upstream: "not measured",
        unit: Milliseconds,
        budget: Below(10.0),
        command: "the same run",
    },
    Row {
        name: "up-3",
        what: "sampan up --nodes 3 → all Ready",
        upstream: "–",
        unit: Seconds,
        budget: Below(1.9),
        command: "sampan up --nodes 3",
    },
    Row {
        name: "node-gone",
        what: "a node of three is cut off → the last connection that it fails",
        upstream: "40 s",
        unit: Seconds,
        budget: Below(1.0),
        command: "ip link set <its link> down; connections to a ClusterIP from another node, 50 ms each",
    },
    Row {
        name: "binary",
        what: "release binary",
        upstream: "120 MB (API server alone)",
        unit: Megabytes,
        budget: Below(40.0),
        command: "stat -c %s target/release/sampan",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), ROWS.len());
    }

    #[test]
    fn budgets_hold_or_not() {
        assert!(Below(0.3).holds(0.29) && !Below(0.3).holds(0.3));
        assert!(AtMost(0.0).holds(0.0) && !AtMost(0.0).holds(1.0));
        assert!(Above(10.0).holds(10.1) && !Above(10.0).holds(10.0));
        assert!(!Below(0.3).holds(f64::NAN), "what was not measured is not within budget");
    }

    #[test]
    fn figures_print_with_their_unit() {
        assert_eq!(Seconds.print(0.2345), "0.23 s");
        assert_eq!(PerSecond.print(31234.5), "31234/s");
        assert_eq!(Count.print(0.0), "0");
        assert_eq!(Milliseconds.print(0.0091), "0.0091 ms");
        assert_eq!(Below(0.3).print(Seconds), "< 0.3 s");
    }
}
