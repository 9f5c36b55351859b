//! The Node object as it should be: pure.

use std::collections::BTreeMap;

use api::pod::requests::Amounts;
use api::volume::{LOCAL_DIRECTORY, REMOVAL, REMOVAL_WANTED};
use base_meta::quantity::{Format, Quantity};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures, NodeRuntimeHandler,
    NodeRuntimeHandlerFeatures, NodeSpec, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::config::{AgentConfig, RuntimeFeatures};
use crate::container::resources;
use crate::eviction::Signal;
use crate::node::Facts;
use crate::node::health::Health;
use crate::seams::Resources;

fn labels(config: &AgentConfig) -> BTreeMap<String, String> {
    let arch = Facts::architecture_of_this_build();
    [
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// Where its local volumes are.
fn annotations(config: &AgentConfig) -> BTreeMap<String, String> {
    let directory = config.storage_dir().to_string_lossy().into_owned();
    BTreeMap::from([(LOCAL_DIRECTORY.to_owned(), directory)])
}

/// The volumes whose directories it is asked to remove.
pub(super) fn removals(node: &Node) -> Vec<String> {
    let all = node.metadata.annotations.iter().flatten().filter(|(_, value)| *value == REMOVAL_WANTED);
    all.filter_map(|(key, _)| key.strip_prefix(REMOVAL).map(ToOwned::to_owned)).collect()
}

pub(super) fn new(config: &AgentConfig, facts: &Facts, health: &Health, now: Timestamp) -> Node {
    let metadata = ObjectMeta {
        name: Some(config.node_name.clone()),
        labels: Some(labels(config)),
        annotations: Some(annotations(config)),
        ..ObjectMeta::default()
    };
    // A node that is known anew keeps the addresses of its pods.
    let spec = NodeSpec {
        pod_cidr: config.node_cidrs.first().cloned(),
        pod_cidrs: Some(config.node_cidrs.clone()).filter(|blocks| !blocks.is_empty()),
        ..NodeSpec::default()
    };
    Node { metadata, spec: Some(spec), status: Some(status(config, facts, None, health, now)) }
}

/// Whether an object says of our conditions what we say.
pub(super) fn agrees(node: &Node, health: &Health) -> bool {
    let there: Vec<_> = node.status.iter().flat_map(|status| status.conditions.iter().flatten()).collect();
    health.said().all(|(kind, status, ..)| there.iter().any(|one| one.type_ == kind && one.status == status))
}

/// What an existing node lacks of our labels and annotations.
pub(super) fn metadata_patch(node: &Node, config: &AgentConfig) -> Option<serde_json::Value> {
    let lacks = |known: &Option<BTreeMap<String, String>>, wanted: BTreeMap<String, String>| {
        let has = |key: &String| known.as_ref().and_then(|known| known.get(key));
        wanted.into_iter().filter(|(key, value)| has(key) != Some(value)).collect::<BTreeMap<_, _>>()
    };
    let labels = lacks(&node.metadata.labels, labels(config));
    let annotations = lacks(&node.metadata.annotations, annotations(config));
    let complete = labels.is_empty() && annotations.is_empty();
    (!complete).then(|| serde_json::json!({ "metadata": { "labels": labels, "annotations": annotations } }))
}

pub(super) fn status(
    config: &AgentConfig,
    facts: &Facts,
    old: Option<&NodeStatus>,
    health: &Health,
    now: Timestamp,
) -> NodeStatus {
    let capacity = capacity(config, facts);
    NodeStatus {
        addresses: Some(addresses(config)),
        allocatable: Some(allocatable_list(config, facts)),
        capacity: Some(capacity),
        conditions: Some(conditions(old, health, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(config.kubelet_port) }),
        }),
        node_info: Some(NodeSystemInfo {
            architecture: facts.architecture.into(),
            boot_id: facts.boot_id.clone(),
            container_runtime_version: config.versions.container_runtime.clone(),
            kernel_version: facts.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: config.versions.kubelet.clone(),
            machine_id: facts.machine_id.clone(),
            operating_system: "linux".into(),
            os_image: facts.os_image.clone(),
            system_uuid: facts.machine_id.clone(),
            ..NodeSystemInfo::default()
        }),
        runtime_handlers: Some(vec![handler(config.features)]),
        features: Some(NodeFeatures { supplemental_groups_policy: Some(config.features.supplemental_groups_policy) }),
        ..NodeStatus::default()
    }
}

/// What the one runtime can do, which has no name.
fn handler(features: RuntimeFeatures) -> NodeRuntimeHandler {
    let features = NodeRuntimeHandlerFeatures {
        recursive_read_only_mounts: Some(features.recursive_read_only_mounts),
        user_namespaces: Some(features.users.is_some()),
    };
    NodeRuntimeHandler { name: Some(String::new()), features: Some(features) }
}

fn addresses(config: &AgentConfig) -> Vec<NodeAddress> {
    let address = |kind: &str, address: String| NodeAddress { address, type_: kind.into() };
    let external = config.external_ips.iter().map(|ip| address("ExternalIP", ip.to_string()));
    let internal = config.node_ips.iter().map(|ip| address("InternalIP", ip.to_string()));
    internal.chain(external).chain([address("Hostname", config.node_name.clone())]).collect()
}

/// What is left for pods of an amount.
fn less(capacity: Quantity, reserved: Option<Quantity>) -> Quantity {
    let left = reserved.map_or(capacity, |reserved| capacity - reserved);
    if left.is_negative() { Quantity::from_value(0, capacity.format()) } else { left }
}

/// CPU in thousandths and memory in bytes that pods may use.
pub(crate) fn allocatable(config: &AgentConfig, facts: &Facts) -> (i64, i64) {
    let all = for_pods(config, facts);
    let of = |name: &str| all.get(name).copied().unwrap_or_default();
    (of("cpu").milli_value(), of("memory").value())
}

/// What bounds all pods together: the machine without what is reserved, where something is.
pub(crate) fn of_all_pods(config: &AgentConfig, facts: &Facts) -> Resources {
    let reserved = |name: &str| config.reserved.get(name);
    let cpu = less(Quantity::from_milli(facts.cpu_milli, Format::DecimalSi), reserved("cpu"));
    let memory =
        reserved("memory").map(|memory| less(Quantity::from_value(facts.memory, Format::BinarySi), Some(memory)));
    let pids = reserved("pid").map(|pids| less(Quantity::from_value(facts.pid_max, Format::DecimalSi), Some(pids)));
    Resources {
        cpu_shares: resources::shares(cpu.milli_value()),
        memory_limit: memory.map(Quantity::value),
        pids_limit: pids.map(Quantity::value),
        ..Resources::default()
    }
}

/// What of the node is for pods.
pub(crate) fn for_pods(config: &AgentConfig, facts: &Facts) -> Amounts {
    api::pod::requests::amounts(Some(&allocatable_list(config, facts)))
}

fn allocatable_list(config: &AgentConfig, facts: &Facts) -> BTreeMap<String, Text> {
    let mut all = capacity(config, facts);
    let pages = facts.huge_pages.values().sum();
    for (name, text) in &mut all {
        let Ok(amount) = Quantity::parse(&text.0) else { continue };
        let mut left = less(amount, config.reserved.get(name));
        // Pods are evicted before they have all of it.
        let signal = match name.as_str() {
            "memory" => Some((Signal::MemoryAvailable, facts.memory)),
            "ephemeral-storage" => Some((Signal::NodeFsAvailable, facts.storage)),
            _ => None,
        };
        let kept = signal.and_then(|(signal, capacity)| config.eviction.kept(signal, capacity));
        left = less(left, kept.map(|bytes| Quantity::from_value(bytes, Format::BinarySi)));
        if name == "memory" {
            // Huge pages are no memory for anything else.
            left = less(left, Some(Quantity::from_value(pages, Format::BinarySi)));
        }
        *text = Text(left.to_string());
    }
    all
}

fn capacity(config: &AgentConfig, facts: &Facts) -> BTreeMap<String, Text> {
    let amount = |value, format| Text(Quantity::from_value(value, format).to_string());
    let pages = facts.huge_pages.iter().map(|(size, bytes)| {
        let size = Quantity::from_value(i64::try_from(*size).unwrap_or(i64::MAX), Format::BinarySi);
        (format!("hugepages-{size}"), amount(*bytes, Format::BinarySi))
    });
    let mut all = BTreeMap::from([
        ("cpu".to_owned(), Text(Quantity::from_milli(facts.cpu_milli, Format::DecimalSi).to_string())),
        ("memory".to_owned(), amount(facts.memory, Format::BinarySi)),
        ("ephemeral-storage".to_owned(), amount(facts.storage, Format::BinarySi)),
        ("pods".to_owned(), amount(i64::from(config.max_pods), Format::DecimalSi)),
    ]);
    all.extend(pages);
    all
}

fn conditions(old: Option<&NodeStatus>, health: &Health, now: Timestamp) -> Vec<NodeCondition> {
    health
        .said()
        .map(|(kind, status, reason, message)| {
            let before = old.and_then(|old| old.conditions.as_ref()?.iter().find(|before| before.type_ == kind));
            let since = before.filter(|before| before.status == status).and_then(|b| b.last_transition_time.clone());
            NodeCondition {
                type_: kind.into(),
                status: status.into(),
                reason: Some(reason.into()),
                message: Some(message),
                last_heartbeat_time: Some(Time(now)),
                last_transition_time: Some(since.unwrap_or(Time(now))),
            }
        })
        .collect()
}
