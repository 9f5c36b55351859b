//! The priority levels and flow schemas that every cluster has, as upstream's: two of each are mandatory and never
//! change, the others are suggestions that users may take over.

use serde_json::{Value, json};

/// On objects that the server keeps as they are here; a user who sets it to `false` keeps his own.
pub const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// Names and specs.
pub fn mandatory_levels() -> Vec<(&'static str, Value)> {
    vec![
        ("exempt", json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}})),
        (
            "catch-all",
            json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 5, "lendablePercent": 0,
                "limitResponse": {"type": "Reject"}}}),
        ),
    ]
}

pub fn suggested_levels() -> Vec<(&'static str, Value)> {
    let level = |shares: i32, lendable: i32, queues: i32, hand: i32| {
        json!({"type": "Limited", "limited": {"nominalConcurrencyShares": shares, "lendablePercent": lendable,
            "limitResponse": {"type": "Queue",
                "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50}}}})
    };
    vec![
        ("system", level(30, 33, 64, 6)),
        ("node-high", level(40, 25, 64, 6)),
        ("leader-election", level(10, 0, 16, 4)),
        ("workload-high", level(40, 50, 128, 6)),
        ("workload-low", level(100, 90, 128, 6)),
        ("global-default", level(20, 50, 128, 6)),
    ]
}

pub fn mandatory_schemas() -> Vec<(&'static str, Value)> {
    vec![
        ("exempt", schema("exempt", 1, None, everything(groups(&["system:masters"])))),
        ("catch-all", schema("catch-all", 10_000, Some("ByUser"), everything(groups(EVERYBODY)))),
    ]
}

const EVERYBODY: &[&str] = &["system:unauthenticated", "system:authenticated"];
const MANAGER: &str = "system:kube-controller-manager";
const SCHEDULER: &str = "system:kube-scheduler";

pub fn suggested_schemas() -> Vec<(&'static str, Value)> {
    let (user, namespace) = (Some("ByUser"), Some("ByNamespace"));
    let nodes = || groups(&["system:nodes"]);
    let elect = |subjects: Vec<Value>| {
        let leases = resource(&["get", "create", "update"], "coordination.k8s.io", &["leases"], false);
        json!({"subjects": subjects, "resourceRules": [leases]})
    };
    let heartbeats = json!({"subjects": nodes(), "resourceRules": [
        resource(&["*"], "", &["nodes", "nodes/status"], true),
        resource(&["*"], "coordination.k8s.io", &["leases"], false)]});
    let probes = json!({"subjects": groups(EVERYBODY),
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]});
    let endpoints = json!({
        "subjects": joined(users(&[MANAGER]),
            accounts(&["endpoint-controller", "endpointslicemirroring-controller"])),
        "resourceRules": [resource(&["get", "create", "update"], "", &["endpoints"], false)]});
    vec![
        ("system-nodes", schema("system", 500, user, everything(nodes()))),
        ("system-node-high", schema("node-high", 400, user, heartbeats)),
        ("probes", schema("exempt", 2, None, probes)),
        (
            "system-leader-election",
            schema("leader-election", 100, user, elect(joined(users(&[MANAGER, SCHEDULER]), accounts(&["*"])))),
        ),
        ("endpoint-controller", schema("workload-high", 150, user, endpoints)),
        ("workload-leader-election", schema("leader-election", 200, user, elect(accounts(&["*"])))),
        ("kube-controller-manager", schema("workload-high", 800, namespace, everything(users(&[MANAGER])))),
        ("kube-scheduler", schema("workload-high", 800, namespace, everything(users(&[SCHEDULER])))),
        ("kube-system-service-accounts", schema("workload-high", 900, namespace, everything(accounts(&["*"])))),
        ("service-accounts", schema("workload-low", 9000, user, everything(groups(&["system:serviceaccounts"])))),
        ("global-default", schema("global-default", 9900, user, everything(groups(EVERYBODY)))),
    ]
}

fn schema(level: &str, precedence: i32, distinguisher: Option<&str>, rule: Value) -> Value {
    let mut spec = json!({"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence,
        "rules": [rule]});
    if let Some(method) = distinguisher {
        spec["distinguisherMethod"] = json!({"type": method});
    }
    spec
}

fn everything(subjects: Vec<Value>) -> Value {
    json!({"subjects": subjects,
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true,
            "namespaces": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]})
}

fn resource(verbs: &[&str], group: &str, resources: &[&str], cluster_scope: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]});
    if cluster_scope {
        rule["clusterScope"] = json!(true);
    }
    rule
}

fn groups(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "Group", "group": {"name": name}})).collect()
}

fn users(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "User", "user": {"name": name}})).collect()
}

/// In `kube-system`.
fn accounts(names: &[&str]) -> Vec<Value> {
    let account =
        |name: &&str| json!({"kind": "ServiceAccount", "serviceAccount": {"name": name, "namespace": "kube-system"}});
    names.iter().map(account).collect()
}

fn joined(mut first: Vec<Value>, second: Vec<Value>) -> Vec<Value> {
    first.extend(second);
    first
}
