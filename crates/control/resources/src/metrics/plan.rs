//! From what a node said to the objects that clients read. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use base_meta::quantity::{Format, Quantity};
use base_meta::{Status, decode};
use jiff::Timestamp;
use machinery_storage::{Meta, Object};
use serde_json::{Value, json};

use super::ask::{Told, Used};
use super::define::API_VERSION;

/// `None`: it has not said.
pub(super) fn node(meta: &Meta, told: &Told) -> Option<Value> {
    let used = &told.summary.node;
    let mut value = head("NodeMetrics", meta, told, used)?;
    value["usage"] = usage(used)?;
    Some(value)
}

/// `None`: it is not running there, or only in part: half of what it uses would mislead who scales by it.
pub(super) fn pod(meta: &Meta, told: &Told) -> Option<Value> {
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let is = |pod: &&super::ask::PodUsed| pod.pod_ref.name == *meta.name && pod.pod_ref.namespace == namespace;
    let pod = told.summary.pods.iter().find(is)?;
    let mut value = head("PodMetrics", meta, told, pod.containers.first()?)?;
    let containers = pod.containers.iter().map(|used| Some(json!({ "name": used.name, "usage": usage(used)? })));
    value["containers"] = containers.collect::<Option<Vec<_>>>()?.into();
    Some(value)
}

fn head(kind: &str, meta: &Meta, told: &Told, used: &Used) -> Option<Value> {
    let read: Timestamp = used.cpu.time.as_deref()?.parse().ok()?;
    let mut metadata = json!({ "name": &*meta.name, "creationTimestamp": seconds(Timestamp::now()) });
    if let Some(namespace) = &meta.namespace {
        metadata["namespace"] = json!(&**namespace);
    }
    if !meta.labels.is_empty() {
        metadata["labels"] = labels(&meta.labels);
    }
    Some(json!({
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": metadata,
        "timestamp": seconds(read),
        "window": window(told.window_ms),
    }))
}

fn labels(labels: &BTreeMap<Arc<str>, Arc<str>>) -> Value {
    labels.iter().map(|(name, value)| (name.to_string(), json!(&**value))).collect::<serde_json::Map<_, _>>().into()
}

fn usage(used: &Used) -> Option<Value> {
    let cpu = format!("{}n", used.cpu.usage_nano_cores?);
    let memory = i64::try_from(used.memory.working_set_bytes?).ok()?;
    Some(json!({
        "cpu": Quantity::parse(&cpu).ok()?.to_string(),
        "memory": Quantity::from_value(memory, Format::BinarySi).to_string(),
    }))
}

fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or_default().to_string()
}

/// As Go prints a duration.
fn window(milliseconds: u64) -> String {
    let (minutes, rest) = (milliseconds / 60_000, milliseconds % 60_000);
    let minutes = if minutes > 0 { format!("{minutes}m") } else { String::new() };
    let fraction = format!("{:03}", rest % 1000);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{minutes}{}{point}{fraction}s", rest / 1000)
}

/// Name, CPU, memory, window; a pod's usage is its containers' together.
pub(super) fn row(object: &Object) -> Result<Vec<Value>, Status> {
    let value: Value = decode(object.json()).map_err(Status::internal)?;
    let containers = value["containers"].as_array().into_iter().flatten().map(|container| &container["usage"]);
    let usages: Vec<&Value> = containers.chain(value.get("usage")).collect();
    let all = |resource: &str| -> String {
        let amounts = usages.iter().filter_map(|usage| Quantity::parse(usage[resource].as_str()?).ok());
        amounts.reduce(|one, other| one + other).map_or_else(|| "0".to_owned(), |sum| sum.to_string())
    };
    Ok(vec![json!(&*object.meta.name), json!(all("cpu")), json!(all("memory")), value["window"].clone()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Told {
        let used = |cpu: u64, memory: u64| json!({"cpu": {"time": "2026-01-01T00:00:05.25Z", "usageNanoCores": cpu}, "memory": {"workingSetBytes": memory}});
        let container = |name: &str, cpu: u64, memory: u64| {
            let mut value = used(cpu, memory);
            value["name"] = json!(name);
            value
        };
        let pod = |name: &str, containers: Vec<Value>| json!({"podRef": {"name": name, "namespace": "ns", "uid": "u"}, "containers": containers});
        let summary = json!({
            "node": used(1_500_000_000, 3 << 20),
            "pods": [
                pod("web", vec![container("app", 1_234_567, 1 << 20), container("side", 250_000_000, 2000)]),
                pod("new", vec![container("app", 1, 1), json!({"name": "side"})]),
                pod("over", vec![]),
            ],
        });
        Told { window_ms: 10_250, summary: serde_json::from_value(summary).expect("a summary") }
    }

    fn meta(name: &str) -> Meta {
        let labels = BTreeMap::from([("run".into(), "web".into())]);
        Meta { name: name.into(), namespace: Some("ns".into()), labels, ..Meta::default() }
    }

    #[test]
    fn objects_say_what_the_node_said() {
        let value = pod(&meta("web"), &told()).expect("metrics");
        let usage = |cpu: &str, memory: &str| json!({"cpu": cpu, "memory": memory});
        assert_eq!(value["containers"][0], json!({"name": "app", "usage": usage("1234567n", "1Mi")}));
        assert_eq!(value["containers"][1], json!({"name": "side", "usage": usage("250m", "2000")}));
        assert_eq!((&value["timestamp"], &value["window"]), (&json!("2026-01-01T00:00:05Z"), &json!("10.25s")));
        assert_eq!(value["metadata"]["labels"], json!({"run": "web"}));
        let value = node(&Meta { name: "n".into(), ..Meta::default() }, &told()).expect("metrics");
        assert_eq!(value["usage"], usage("1500m", "3Mi"));
        assert!(value["metadata"]["namespace"].is_null());
    }

    #[test]
    fn half_a_pod_is_none() {
        for name in ["new", "over", "elsewhere"] {
            assert_eq!(pod(&meta(name), &told()), None, "{name}");
        }
        assert_eq!(node(&meta("n"), &Told::default()), None);
    }

    #[test]
    fn rows_add_up() {
        let of = |value: Option<Value>| computed(&value.expect("metrics"));
        let cells = row(&of(pod(&meta("web"), &told()))).expect("a row");
        assert_eq!(cells, ["web", "251234567n", "1050576", "10.25s"]);
        let cells = row(&of(node(&meta("n"), &told()))).expect("a row");
        assert_eq!(cells, ["n", "1500m", "3Mi", "10.25s"]);
    }

    fn computed(value: &Value) -> Arc<Object> {
        let name = value["metadata"]["name"].as_str().expect("a name");
        crate::computed::object(Meta { name: name.into(), ..Meta::default() }, value).expect("an object")
    }

    #[test]
    fn windows_are_gos_durations() {
        let table =
            [(0, "0s"), (1_000, "1s"), (1_003, "1.003s"), (59_990, "59.99s"), (60_000, "1m0s"), (90_500, "1m30.5s")];
        for (milliseconds, text) in table {
            assert_eq!(window(milliseconds), text);
        }
    }
}
