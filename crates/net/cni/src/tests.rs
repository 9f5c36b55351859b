//! What is read of configurations, answers and pods.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::capabilities::{self, Dns};
use crate::{NetworkList, Version, addresses};

fn list(value: Value) -> Result<NetworkList, String> {
    NetworkList::parse(value.to_string().as_bytes()).map_err(|error| error.to_string())
}

#[test]
fn a_list_names_its_plug_ins_in_order_and_what_each_wants_to_be_told() {
    let read = list(json!({
        "cniVersion": "0.4.0", "name": "pods", "disableCheck": "true",
        "plugins": [
            {"type": "bridge", "bridge": "cni0"},
            {"type": "portmap", "capabilities": {"portMappings": true, "other": false}},
        ],
    }))
    .unwrap();
    let kinds: Vec<_> = read.plugins.iter().map(|plugin| &*plugin.kind).collect();
    assert_eq!((&*read.name, read.version, read.check, read.collect), ("pods", Version::V040, false, true));
    assert_eq!(kinds, ["bridge", "portmap"]);
    assert!(read.plugins[1].capabilities.iter().eq(["portMappings"]));
    assert_eq!(read.plugins[0].config["bridge"], "cni0");
}

#[test]
fn a_single_plug_in_is_a_list_of_one() {
    let read = list(json!({"cniVersion": "1.0.0", "name": "pods", "type": "ptp"})).unwrap();
    assert_eq!(read.plugins.len(), 1);
    assert_eq!(read.plugins[0].kind, "ptp");
}

#[test]
fn the_newest_version_that_both_know_is_spoken() {
    let version = |all: Value| list(json!({"name": "n", "type": "t", "cniVersion": "0.3.1", "cniVersions": all}));
    assert_eq!(version(json!(["1.0.0", "1.1.0", "9.0.0"])).unwrap().version, Version::V110);
    assert_eq!(version(json!(null)).unwrap().version, Version::V031);
    assert!(Version::V110.has_status_and_gc() && !Version::V100.has_status_and_gc());
    assert!(Version::V040.checks() && !Version::V031.checks());
}

#[test]
fn what_is_wrong_with_a_configuration_is_named() {
    for (bad, said) in [
        (json!([]), "the file: must be a JSON object"),
        (json!({"cniVersion": "1.0.0", "type": "t"}), "name: is required"),
        (json!({"cniVersion": "1.0.0", "name": "a/b", "type": "t"}), "name: \"a/b\" must be letters"),
        (json!({"cniVersion": "1.0.0", "name": 7, "type": "t"}), "name: must be a string"),
        (json!({"name": "n", "type": "t"}), "cniVersion: is required: from 0.3.0 to 1.1.0"),
        (json!({"cniVersion": "0.2.0", "name": "n", "type": "t"}), "cniVersion: 0.2.0 is not spoken here"),
        (json!({"cniVersion": "1.0.0", "cniVersions": "1", "name": "n", "type": "t"}), "cniVersions: must be a list"),
        (json!({"cniVersion": "1.0.0", "name": "n"}), "type: is required"),
        (json!({"cniVersion": "1.0.0", "name": "n", "plugins": []}), "plugins: must name one at least"),
        (json!({"cniVersion": "1.0.0", "name": "n", "plugins": {}}), "plugins: must be a list"),
        (json!({"cniVersion": "1.0.0", "name": "n", "plugins": [1]}), "plugins[0]: must be an object"),
        (json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "t"}, {}]}), "plugins[1].type: is required"),
        (
            json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "../sh"}]}),
            "plugins[0].type: \"../sh\" is not the name of a program",
        ),
        (
            json!({"cniVersion": "1.0.0", "name": "n", "type": "t", "capabilities": {"a": "yes"}}),
            "capabilities.a: must be true or false",
        ),
        (json!({"cniVersion": "1.0.0", "name": "n", "type": "t", "disableGC": 1}), "disableGC: must be true or false"),
    ] {
        let error = list(bad.clone()).expect_err("refused");
        assert!(error.starts_with(said), "{bad}: {error}");
    }
    assert_eq!(NetworkList::parse(b"{").expect_err("refused").to_string(), "it is not JSON");
    assert!(NetworkList::parse(&[0xff]).is_err());
}

fn ips(answer: Value, preferred: &str) -> Result<Vec<String>, String> {
    let ips = addresses(&answer, preferred.parse().unwrap()).map_err(|error| error.to_string())?;
    Ok(ips.iter().map(IpAddr::to_string).collect())
}

#[test]
fn a_pod_has_the_addresses_of_its_own_interface_and_the_nodes_family_first() {
    let answer = json!({
        "interfaces": [{"name": "cni0"}, {"name": "eth0", "sandbox": "/run/x"}, {"name": "net1", "sandbox": "/run/x"}],
        "ips": [
            {"address": "10.42.0.1/24", "interface": 0},
            {"address": "10.42.0.5/24", "interface": 1, "version": "4"},
            {"address": "10.42.0.6/24", "interface": 1},
            {"address": "10.9.0.5/24", "interface": 2},
            {"address": "fd42::5/64"},
        ],
    });
    assert_eq!(ips(answer.clone(), "192.0.2.1").unwrap(), ["10.42.0.5", "fd42::5"]);
    assert_eq!(ips(answer, "fd00::1").unwrap(), ["fd42::5", "10.42.0.5"]);
}

#[test]
fn what_is_wrong_with_an_answer_is_named() {
    for (bad, said) in [
        (json!({}), "its answer gives eth0 no address"),
        (json!({"ips": {}}), "ips of its answer must be a list"),
        (json!({"ips": [{}]}), "ips[0].address of its answer is required"),
        (json!({"ips": [{"address": "10.0.0.1"}]}), "ips[0].address of its answer is \"10.0.0.1\""),
        (json!({"ips": [{"address": "10.0.0.1/33"}]}), "ips[0].address of its answer is \"10.0.0.1/33\""),
        (json!({"ips": [{"address": "127.0.0.1/8"}]}), "ips[0].address of its answer is \"127.0.0.1/8\""),
        (json!({"ips": [{"address": "10.0.0.1/8", "interface": 3}]}), "ips[0].interface of its answer is not one of"),
        (json!({"ips": [{"address": "10.0.0.1/8", "interface": -1}]}), "ips[0].interface of its answer is not one of"),
    ] {
        let error = ips(bad.clone(), "192.0.2.1").expect_err("refused");
        assert!(error.starts_with(said), "{bad}: {error}");
    }
}

fn pod(value: Value) -> Pod {
    serde_json::from_value(value).unwrap()
}

#[test]
fn plug_ins_are_told_of_host_ports_limits_and_resolvers() {
    let pod = pod(json!({
        "metadata": {"annotations": {"kubernetes.io/ingress-bandwidth": "10M"}},
        "spec": {
            "containers": [{"name": "a", "ports": [
                {"containerPort": 80, "hostPort": 8080}, {"containerPort": 81},
                {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "192.0.2.1"},
            ]}],
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "ports": [{"containerPort": 9, "hostPort": 9}]},
                {"name": "i", "ports": [{"containerPort": 7, "hostPort": 7}]},
            ],
        },
    }));
    let dns = Dns { servers: vec!["10.43.0.10".into()], ..Dns::default() };
    let told = capabilities::of(&pod, &dns).unwrap();
    assert_eq!(
        told["portMappings"],
        json!([
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""},
            {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "192.0.2.1"},
            {"hostPort": 9, "containerPort": 9, "protocol": "tcp", "hostIP": ""},
        ])
    );
    assert_eq!(told["bandwidth"], json!({"ingressRate": 10_000_000, "ingressBurst": u32::MAX}));
    assert_eq!(told["dns"], json!({"servers": ["10.43.0.10"], "searches": [], "options": []}));
    assert!(capabilities::of(&Pod::default(), &Dns::default()).unwrap().is_empty());
}

#[test]
fn a_limit_that_is_none_is_named() {
    for value in ["x", "1", "2P", "-5M"] {
        let pod = pod(json!({"metadata": {"annotations": {"kubernetes.io/egress-bandwidth": value}}}));
        let error = capabilities::of(&pod, &Dns::default()).expect_err("refused").to_string();
        assert!(error.starts_with(&format!("annotation kubernetes.io/egress-bandwidth: {value:?}")), "{error}");
    }
}
