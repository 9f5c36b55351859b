use serde_json::{Value, json};

use super::*;
use crate::view;

/// The cluster of these tests: two namespaces, and pods of which those of `here` are this node's.
struct Cluster {
    policies: BTreeMap<ObjectKey, PolicyView>,
    namespaces: HashMap<String, Labels>,
    pods: BTreeMap<ObjectKey, PodView>,
}

fn pod(name: &str, labels: &Value, ip: &str, node: &str, ports: &Value) -> PodView {
    let object = json!({
        "metadata": {"name": name, "uid": name, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "main", "ports": ports}]},
        "status": {"podIPs": [{"ip": ip}]},
    });
    view::pod(&serde_json::from_value(object).expect("a pod"), "here").expect("a pod with an address of its own")
}

impl Cluster {
    fn with(policies: &[Value]) -> Self {
        let http = |number: u16| json!([{"name": "http", "containerPort": number}]);
        let pods = [
            ("default", "db", json!({"role": "db"}), "10.42.0.2", "here", http(6379)),
            ("default", "db-2", json!({"role": "db"}), "10.42.0.3", "here", http(6380)),
            ("default", "front", json!({"role": "frontend"}), "10.42.0.4", "here", json!([])),
            ("default", "far", json!({"role": "frontend"}), "10.42.1.4", "there", json!([])),
            ("myproject", "job", json!({"role": "client"}), "10.42.1.5", "there", http(8080)),
            ("myproject", "web", json!({"role": "web"}), "10.42.1.6", "there", json!([])),
        ];
        let pods = pods.iter().map(|(namespace, name, labels, ip, node, ports)| {
            (ObjectKey::new(*namespace, *name), pod(name, labels, ip, node, ports))
        });
        let namespaces = [("default", None), ("myproject", Some("myproject"))];
        let labels =
            |project: Option<&str>| project.map(|name| ("project".to_owned(), name.to_owned())).into_iter().collect();
        let policies = policies.iter().enumerate().map(|(index, spec)| {
            let object = serde_json::from_value(json!({"metadata": {}, "spec": spec})).expect("a policy");
            (ObjectKey::new("default", format!("p{index}")), view::policy(object))
        });
        Self {
            policies: policies.collect(),
            namespaces: namespaces.into_iter().map(|(name, project)| (name.to_owned(), labels(project))).collect(),
            pods: pods.collect(),
        }
    }

    fn plan(&self) -> Plan {
        plan(Snapshot {
            policies: &self.policies.iter().map(|(key, policy)| (key.clone(), policy)).collect(),
            namespaces: &self.namespaces.iter().map(|(name, labels)| (name.as_str(), labels)).collect(),
            pods: &self.pods.iter().map(|(key, pod)| (key.clone(), pod)).collect(),
        })
    }
}

/// A line for each class: its members, then what it may reach.
fn written(side: &Side) -> Vec<String> {
    let line = |(class, allowed): (&Class, &Allowed)| {
        let members = side.members.iter().filter(|(_, of)| *of == class).map(|(ip, _)| ip.to_string());
        let mut words: Vec<String> = members.collect();
        words.push(":".into());
        words.extend(allowed.peers.iter().map(|ip| format!("{ip} all")));
        words.extend(allowed.ports.iter().map(|(ip, protocol, port)| format!("{ip} {protocol:?}/{port}")));
        words.extend(allowed.ranges.iter().map(|range| {
            let ((first, last), protocols, ports) = (range.addresses, range.protocols, range.ports);
            match (protocols, ports) {
                ((0, 255), (0, 65535)) => format!("{first}-{last} all"),
                _ => format!("{first}-{last} {}/{}-{}", protocols.0, ports.0, ports.1),
            }
        }));
        words.join(" ")
    };
    side.classes.iter().map(line).collect()
}

fn ingress(policies: &[Value]) -> Vec<String> {
    written(&Cluster::with(policies).plan().ingress)
}

fn egress(policies: &[Value]) -> Vec<String> {
    written(&Cluster::with(policies).plan().egress)
}

const ANYBODY: &str = "0.0.0.0-255.255.255.255 all ::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff all";

/// The example of the documentation's first page.
fn test_network_policy() -> Value {
    json!({
        "podSelector": {"matchLabels": {"role": "db"}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{
            "from": [
                {"ipBlock": {"cidr": "172.17.0.0/16", "except": ["172.17.1.0/24"]}},
                {"namespaceSelector": {"matchLabels": {"project": "myproject"}}},
                {"podSelector": {"matchLabels": {"role": "frontend"}}},
            ],
            "ports": [{"protocol": "TCP", "port": 6379}],
        }],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/24"}}], "ports": [{"protocol": "TCP", "port": 5978}]}],
    })
}

#[test]
fn the_documentations_example() {
    let policies = [test_network_policy()];
    assert_eq!(
        ingress(&policies),
        ["10.42.0.2 10.42.0.3 : 10.42.0.4 Tcp/6379 10.42.1.4 Tcp/6379 10.42.1.5 Tcp/6379 10.42.1.6 Tcp/6379 \
          172.17.0.0-172.17.0.255 6/6379-6379 172.17.2.0-172.17.255.255 6/6379-6379"]
    );
    assert_eq!(egress(&policies), ["10.42.0.2 10.42.0.3 : 10.0.0.0-10.0.0.255 6/5978-5978"]);
}

#[test]
fn deny_and_allow_all() {
    let all = "10.42.0.2 10.42.0.3 10.42.0.4 :";
    for (policy, incoming, outgoing) in [
        (json!({"podSelector": {}, "policyTypes": ["Ingress"]}), Some(all.to_owned()), None),
        (json!({"podSelector": {}, "policyTypes": ["Egress"]}), None, Some(all.to_owned())),
        (json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}), Some(all.to_owned()), Some(all.to_owned())),
        (json!({"podSelector": {}, "ingress": [{}]}), Some(format!("{all} {ANYBODY}")), None),
        (json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}), None, Some(format!("{all} {ANYBODY}"))),
        // Without types: about incoming traffic, and about outgoing where there are rules.
        (json!({"podSelector": {}}), Some(all.to_owned()), None),
        (json!({"podSelector": {}, "egress": [{}]}), Some(all.to_owned()), Some(format!("{all} {ANYBODY}"))),
        (json!({"podSelector": {"matchLabels": {"role": "nobody"}}}), None, None),
    ] {
        let policies = [policy];
        assert_eq!(ingress(&policies), Vec::from_iter(incoming), "{policies:?}");
        assert_eq!(egress(&policies), Vec::from_iter(outgoing), "{policies:?}");
    }
}

#[test]
fn one_peer_of_two_selectors_is_not_two_peers() {
    let peers = |from: Value| {
        ingress(&[json!({"podSelector": {"matchLabels": {"role": "frontend"}}, "ingress": [{"from": from}]})])
    };
    let project = json!({"matchLabels": {"project": "myproject"}});
    let client = json!({"matchLabels": {"role": "client"}});
    assert_eq!(peers(json!([{"namespaceSelector": project, "podSelector": client}])), ["10.42.0.4 : 10.42.1.5 all"]);
    assert_eq!(
        peers(json!([{"namespaceSelector": project}, {"podSelector": client}])),
        ["10.42.0.4 : 10.42.1.5 all 10.42.1.6 all"]
    );
    assert_eq!(
        peers(json!([{"podSelector": {}}])),
        ["10.42.0.4 : 10.42.0.2 all 10.42.0.3 all 10.42.0.4 all 10.42.1.4 all"]
    );
    let not_web =
        json!({"matchExpressions": [{"key": "role", "operator": "NotIn", "values": ["web", "db", "frontend"]}]});
    assert_eq!(peers(json!([{"namespaceSelector": {}, "podSelector": not_web}])), ["10.42.0.4 : 10.42.1.5 all"]);
}

#[test]
fn ports_by_number_range_protocol_and_name() {
    let ports = |ports: Value| {
        ingress(&[json!({"podSelector": {"matchLabels": {"role": "frontend"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"role": "db"}}}], "ports": ports}]})])
    };
    assert_eq!(ports(json!([{"port": 80}])), ["10.42.0.4 : 10.42.0.2 Tcp/80 10.42.0.3 Tcp/80"]);
    assert_eq!(
        ports(json!([{"port": 32000, "endPort": 32768}, {"protocol": "SCTP", "port": 7}])),
        ["10.42.0.4 : 10.42.0.2 Sctp/7 10.42.0.3 Sctp/7 10.42.0.2-10.42.0.3 6/32000-32768"]
    );
    assert_eq!(ports(json!([{"protocol": "UDP"}])), ["10.42.0.4 : 10.42.0.2-10.42.0.3 17/0-65535"]);

    // A name means a port of the pod that is connected to: each of the two has its own.
    let named = json!([{"port": "http"}]);
    let from = json!([{"podSelector": {"matchLabels": {"role": "frontend"}}}]);
    assert_eq!(
        ingress(&[
            json!({"podSelector": {"matchLabels": {"role": "db"}}, "ingress": [{"from": from, "ports": named}]})
        ]),
        ["10.42.0.2 : 10.42.0.4 Tcp/6379 10.42.1.4 Tcp/6379", "10.42.0.3 : 10.42.0.4 Tcp/6380 10.42.1.4 Tcp/6380"]
    );
    let to = json!([{"namespaceSelector": {}}, {"ipBlock": {"cidr": "192.0.2.0/24"}}]);
    assert_eq!(
        egress(&[json!({"podSelector": {"matchLabels": {"role": "frontend"}}, "policyTypes": ["Egress"],
            "egress": [{"to": to, "ports": named}]})]),
        ["10.42.0.4 : 10.42.0.2 Tcp/6379 10.42.0.3 Tcp/6380 10.42.1.5 Tcp/8080"]
    );
}

#[test]
fn policies_add_up_and_overlaps_are_told_apart() {
    let policy = |cidr: &str, ports: Value| {
        json!({"podSelector": {"matchLabels": {"role": "frontend"}}, "policyTypes": ["Egress"],
            "egress": [{"to": [{"ipBlock": {"cidr": cidr}}], "ports": ports}]})
    };
    assert_eq!(
        egress(&[policy("10.0.0.0/8", json!([{"port": 443}])), policy("10.1.0.0/16", json!([]))]),
        ["10.42.0.4 : 10.0.0.0-10.0.255.255 6/443-443 10.1.0.0-10.1.255.255 all 10.2.0.0-10.255.255.255 6/443-443"]
    );
}

#[test]
fn pods_of_the_nodes_address_and_ended_ones_are_nobody() {
    let object = |extra: Value| {
        let mut object =
            json!({"metadata": {"name": "x"}, "spec": {"containers": []}, "status": {"podIPs": [{"ip": "10.42.0.9"}]}});
        for (path, value) in extra.as_object().expect("fields") {
            *object.pointer_mut(path).expect("a place") = value.clone();
        }
        view::pod(&serde_json::from_value(object).expect("a pod"), "here")
    };
    assert!(object(json!({})).is_some());
    assert!(object(json!({"/spec": {"containers": [], "hostNetwork": true}})).is_none());
    assert!(object(json!({"/status": {"phase": "Succeeded", "podIPs": [{"ip": "10.42.0.9"}]}})).is_none());
}
