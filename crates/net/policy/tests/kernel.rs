//! The table against the real kernel, with real packets in fresh network namespaces. Needs root.
#![allow(clippy::unwrap_used)]

#[path = "../../proxy/tests/topology/mod.rs"]
mod topology;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{ErrorKind, Read, Write};
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use machinery_client::ObjectKey;
use net_policy::{Kernel, PodView, Snapshot, pod, policy};
use net_proxy::{Backends, Endpoint, Family, Frontend, FrontendAddress, Origin};
use serde_json::{Value, json};
use topology::{Peer, call, echo, node, on_a_node, open, ruleset, udp, udp_call};

const TABLE: &str = "sampan-test-policy";

/// Pods, each labelled `app: <its name>` with the named port `http` (8080), and policies of the namespace `default`.
struct Cluster {
    kernel: Kernel,
    pods: BTreeMap<ObjectKey, PodView>,
}

impl Cluster {
    fn of(pods: &[(&str, &Peer)]) -> Self {
        let view = |(name, peer): &(&str, &Peer)| {
            let object = json!({
                "metadata": {"name": name, "uid": name, "labels": {"app": name}},
                "spec": {"nodeName": "here", "containers": [{"name": "main", "ports": [{"name": "http", "containerPort": 8080}]}]},
                "status": {"podIPs": Family::ALL.map(|family| json!({"ip": peer.ip(family).to_string()}))},
            });
            let view = pod(&serde_json::from_value(object).unwrap(), "here").unwrap();
            (ObjectKey::new("default", *name), view)
        };
        Self { kernel: Kernel::open(TABLE).unwrap(), pods: pods.iter().map(view).collect() }
    }

    fn apply(&mut self, policies: &[Value]) {
        let view = |(index, spec): (usize, &Value)| {
            let object = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
            (ObjectKey::new("default", format!("p{index}")), policy(object))
        };
        let policies: BTreeMap<_, _> = policies.iter().enumerate().map(view).collect();
        let plan = net_policy::plan(Snapshot {
            policies: &policies.iter().map(|(key, policy)| (key.clone(), policy)).collect(),
            namespaces: &HashMap::new(),
            pods: &self.pods.iter().map(|(key, pod)| (key.clone(), pod)).collect(),
        });
        self.kernel.apply(&plan).unwrap();
    }
}

fn app(name: &str) -> Value {
    json!({"matchLabels": {"app": name}})
}

fn deny_ingress(name: &str) -> Value {
    json!({"podSelector": app(name), "policyTypes": ["Ingress"]})
}

fn deny_egress(name: &str) -> Value {
    json!({"podSelector": app(name), "policyTypes": ["Egress"]})
}

/// The same answer in both families.
fn reaches(from: &Peer, to: &Peer, port: u16) -> bool {
    let [four, six] = Family::ALL.map(|family| arrives(from, to.ip(family), port));
    assert_eq!(four, six);
    four
}

fn arrives(from: &Peer, to: IpAddr, port: u16) -> bool {
    match from.call((to, port)) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::TimedOut => false,
        Err(error) => panic!("neither answered nor dropped: {error}"),
    }
}

fn serving(last: u8) -> Peer {
    let pod = Peer::pod(last);
    for port in [8080, 8081, 9000] {
        pod.serve(port);
    }
    pod
}

#[test]
fn an_isolated_pod_is_reached_by_whom_a_rule_allows_and_by_its_node() {
    on_a_node(|| {
        let (server, friend, stranger) = (serving(2), Peer::pod(3), Peer::pod(4));
        let mut cluster = Cluster::of(&[("server", &server), ("friend", &friend), ("stranger", &stranger)]);
        cluster.apply(&[deny_ingress("server")]);
        assert!(!reaches(&friend, &server, 8080));
        for family in Family::ALL {
            assert_eq!(call((server.ip(family), 8080)).unwrap().1, node(family));
        }
        let rule = json!({"from": [{"podSelector": app("friend")}], "ports": [{"port": "http"}]});
        cluster.apply(&[json!({"podSelector": app("server"), "ingress": [rule]})]);
        assert!(reaches(&friend, &server, 8080));
        assert!(!reaches(&friend, &server, 8081));
        assert!(!reaches(&stranger, &server, 8080));
        // The server itself may connect to anybody, and hears the answers.
        stranger.serve(8080);
        assert!(reaches(&server, &stranger, 8080));
    });
}

#[test]
fn an_isolated_pod_reaches_whom_a_rule_allows_and_answers_anybody() {
    on_a_node(|| {
        let (client, a, b) = (serving(2), serving(3), serving(4));
        let mut cluster = Cluster::of(&[("client", &client), ("a", &a), ("b", &b)]);
        cluster.apply(&[deny_egress("client")]);
        assert!(!reaches(&client, &a, 8080));
        assert!(reaches(&a, &client, 8080));
        let range = json!([{"port": 8080, "endPort": 8090}]);
        let rule = json!({"to": [{"podSelector": app("a")}], "ports": range});
        cluster.apply(&[json!({"podSelector": app("client"), "policyTypes": ["Egress"], "egress": [rule]})]);
        for (pod, port, allowed) in [(&a, 8080, true), (&a, 8081, true), (&a, 9000, false), (&b, 8080, false)] {
            assert_eq!(reaches(&client, pod, port), allowed, "{:?} {port}", pod.ip(Family::V4));
        }
    });
}

#[test]
fn blocks_of_addresses_with_exceptions_and_protocols() {
    on_a_node(|| {
        let (server, outsider) = (serving(2), Peer::outsider());
        let mut cluster = Cluster::of(&[("server", &server)]);
        let by_udp = |from: &Peer, family: Family| {
            let to = (server.ip(family), 8080).into();
            from.netns.run(move || udp_call(&udp(family), to)).unwrap().is_ok()
        };
        for (except, ports, tcp_allowed, udp_allowed) in [
            (json!([]), json!([]), true, true),
            (json!(["192.168.88.0/30", "2001:db8:88::/126"]), json!([]), false, false),
            (json!(["192.168.88.4/30", "2001:db8:88::4/126"]), json!([{"protocol": "UDP"}]), false, true),
            (json!([]), json!([{"port": 8000, "endPort": 8080}, {"protocol": "UDP", "port": 53}]), true, false),
        ] {
            // The API server lets no exception of the other family through; here it is nobody's.
            let block = |cidr: &str| json!({"ipBlock": {"cidr": cidr, "except": except}});
            let rule = json!({"from": [block("192.168.88.0/24"), block("2001:db8:88::/64")], "ports": ports});
            cluster.apply(&[json!({"podSelector": app("server"), "ingress": [rule]})]);
            assert_eq!(reaches(&outsider, &server, 8080), tcp_allowed, "{rule}");
            for family in Family::ALL {
                assert_eq!(by_udp(&outsider, family), udp_allowed, "{rule}");
            }
        }
    });
}

#[test]
fn a_change_cuts_flows_in_both_directions_and_gives_them_back() {
    // With the data plane's table every flow is tracked from its first packet; alone, one is met in its middle.
    for (tracked, family) in [(true, Family::V4), (true, Family::V6), (false, Family::V4)] {
        on_a_node(move || {
            let (server, client) = (serving(2), Peer::pod(3));
            let mut cluster = Cluster::of(&[("server", &server), ("client", &client)]);
            let mut proxy = net_proxy::Kernel::open(topology::config()).unwrap();
            if tracked {
                proxy.load(&BTreeMap::new(), &BTreeSet::new()).unwrap();
            }
            let to = (server.ip(family), 8080);
            let (mut stream, _) = client.netns.run(move || open(to)).unwrap().unwrap();
            echo(&mut stream).unwrap();
            for policy in [deny_ingress("server"), deny_egress("client")] {
                cluster.apply(&[policy]);
                stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                stream.write_all(b"x").unwrap();
                let error = stream.read_exact(&mut [0]).unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
                cluster.apply(&[]);
                // What was written meanwhile is sent again.
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                stream.read_exact(&mut [0]).unwrap();
                echo(&mut stream).unwrap();
            }
        });
    }
}

#[test]
fn behind_a_service_the_pods_own_address_and_port_count() {
    on_a_node(|| {
        let (server, client) = (serving(2), Peer::pod(3));
        let web = |family| topology::service(family, 9);
        let frontend = |family| Frontend {
            origin: Origin::Cluster,
            address: FrontendAddress::Ip(web(family)),
            protocol: net_proxy::Protocol::Tcp,
            port: 80,
        };
        let backends = |family| Backends::from(BTreeSet::from([Endpoint { ip: server.ip(family), port: 8080 }]));
        let mut proxy = net_proxy::Kernel::open(topology::config()).unwrap();
        let services = Family::ALL.map(|family| (frontend(family), backends(family)));
        proxy.load(&BTreeMap::from(services), &Family::ALL.map(|family| server.ip(family)).into()).unwrap();
        let through = |from: &Peer| {
            let [four, six] = Family::ALL.map(|family| arrives(from, web(family), 80));
            assert_eq!(four, six);
            four
        };
        let mut cluster = Cluster::of(&[("server", &server), ("client", &client)]);
        let allow = |port: u16| json!({"podSelector": app("server"), "ingress": [{"ports": [{"port": port}]}]});
        cluster.apply(&[allow(80)]);
        assert!(!through(&client));
        cluster.apply(&[allow(8080)]);
        assert!(through(&client));
        // To itself a pod may always talk.
        cluster.apply(&[deny_ingress("server"), deny_egress("server")]);
        assert!(through(&server));
        assert!(!through(&client));
    });
}

#[test]
fn without_isolated_pods_there_is_no_table_and_what_is_there_can_be_listed() {
    on_a_node(|| {
        let (server, client) = (Peer::pod(2), Peer::pod(3));
        let mut cluster = Cluster::of(&[("server", &server), ("client", &client)]);
        cluster.apply(&[]);
        assert!(!ruleset().contains(TABLE));
        let block = |cidr: &str| json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": cidr}}]}, {"from": [{"podSelector": {}}]}]});
        // Ranges that overlap those before them take their place in one transaction.
        for cidr in ["10.0.0.0/8", "10.0.0.0/9", "10.64.0.0/10", "0.0.0.0/0", "2001:db8::/32"] {
            cluster.apply(&[block(cidr)]);
            let listed = ruleset();
            assert!(listed.contains(TABLE) && listed.contains("ct original ip saddr"), "{listed}");
        }
        let elements = cluster.kernel.elements();
        assert_eq!(elements, 4 + 4 + 4 + 1, "classes, selves, peers and a range");
        cluster.apply(&[]);
        assert!(!ruleset().contains(TABLE));
    });
}

/// Lines in chains, those of a rule each.
fn rules(listed: &str) -> Vec<&str> {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in listed.lines().map(str::trim) {
        match line {
            "}" => inside = false,
            _ if line.starts_with("chain ") => inside = true,
            _ if inside => lines.push(line),
            _ => {}
        }
    }
    lines
}

#[test]
fn more_policies_are_more_elements_and_not_one_rule_more() {
    on_a_node(|| {
        let (server, client) = (Peer::pod(2), Peer::pod(3));
        let mut cluster = Cluster::of(&[("server", &server), ("client", &client)]);
        let policy = |number: u16| {
            let peers =
                json!([{"podSelector": app("client")}, {"ipBlock": {"cidr": format!("10.{}.0.0/16", number % 256)}}]);
            let ports = json!([{"port": 1000 + number}, {"port": 20000 + number, "endPort": 30000, "protocol": "UDP"}]);
            json!({"podSelector": app(if number.is_multiple_of(2) { "server" } else { "client" }), "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": peers, "ports": ports}], "egress": [{"to": peers, "ports": ports}]})
        };
        cluster.apply(&[policy(0), policy(1)]);
        let (few, elements) = (ruleset(), cluster.kernel.elements());
        assert!(rules(&few).len() > 10, "{few}");
        cluster.apply(&(0..300).map(policy).collect::<Vec<_>>());
        assert!(cluster.kernel.elements() > 50 * elements, "{} after {elements}", cluster.kernel.elements());
        assert_eq!(rules(&ruleset()), rules(&few));
    });
}

#[test]
fn a_restart_takes_the_table_over_and_removal_leaves_nothing() {
    on_a_node(|| {
        let (server, client) = (serving(2), Peer::pod(3));
        let pods = [("server", &server), ("client", &client)];
        Cluster::of(&pods).apply(&[deny_ingress("server")]);
        assert!(!reaches(&client, &server, 8080), "in force while nobody runs");
        let mut again = Cluster::of(&pods);
        again.apply(&[deny_ingress("client")]);
        assert!(reaches(&client, &server, 8080));
        net_policy::remove(TABLE).unwrap();
        net_policy::remove(TABLE).unwrap();
        assert!(!ruleset().contains(TABLE));
    });
}

#[test]
fn packets_of_no_flow_do_not_pass_an_isolated_pod() {
    on_a_node(|| {
        let (server, client) = (serving(2), Peer::pod(3));
        // Nothing is tracked: no tuple tells who began.
        let untracked = "table inet raw { chain p { type filter hook prerouting priority raw; notrack; }; }";
        assert!(Command::new("nft").arg(untracked).status().unwrap().success());
        let mut cluster = Cluster::of(&[("server", &server), ("client", &client)]);
        cluster.apply(&[deny_ingress("nobody")]);
        assert!(reaches(&client, &server, 8080));
        for policy in [deny_ingress("server"), deny_egress("client")] {
            cluster.apply(&[policy]);
            assert!(!reaches(&client, &server, 8080));
        }
    });
}
