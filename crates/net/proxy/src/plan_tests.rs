use super::*;
use crate::view::PortView;

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 42, 0, last)
}

fn endpoint(last: u8, node: &str, ready: bool, terminating: bool) -> EndpointView {
    EndpointView { ip: ip(last), ready, serving: true, terminating, node: Some(node.into()) }
}

fn web() -> ServiceView {
    ServiceView {
        cluster_ips: vec![Ipv4Addr::new(10, 43, 0, 9)],
        ports: vec![PortView { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port: None }],
        ..ServiceView::default()
    }
}

fn slice(endpoints: Vec<EndpointView>) -> SliceView {
    SliceView { ports: vec![(String::new(), Protocol::Tcp, 8080)], endpoints, ..SliceView::default() }
}

fn here() -> Locality {
    Locality { node_name: "here".into() }
}

fn endpoints(plan: &ServicePlan, origin: Origin, address: FrontendAddress, port: u16) -> Vec<u8> {
    let frontend = Frontend { origin, address, protocol: Protocol::Tcp, port };
    plan.frontends[&frontend].endpoints.iter().map(|endpoint| endpoint.ip.octets()[3]).collect()
}

const CLUSTER_IP: FrontendAddress = FrontendAddress::Ip(Ipv4Addr::new(10, 43, 0, 9));

#[test]
fn only_ready_endpoints_get_connections() {
    let slice = slice(vec![endpoint(2, "here", true, false), endpoint(3, "there", false, true)]);
    let plan = plan(&web(), &[&slice], &here());
    assert_eq!(endpoints(&plan, Origin::Cluster, CLUSTER_IP, 80), [2]);
    assert_eq!(plan.local, BTreeSet::from([ip(2)]));
    assert_eq!(plan.in_service, BTreeSet::from([ip(2)]));
}

#[test]
fn a_terminating_endpoint_is_the_last_resort_and_counts_as_withdrawn() {
    let slice = slice(vec![endpoint(2, "here", false, true), endpoint(3, "here", false, false)]);
    let plan = plan(&web(), &[&slice], &here());
    assert_eq!(endpoints(&plan, Origin::Cluster, CLUSTER_IP, 80), [2]);
    assert!(plan.in_service.is_empty());
}

#[test]
fn no_endpoint_is_a_front_end_that_refuses() {
    let plan = plan(&web(), &[], &here());
    assert_eq!(endpoints(&plan, Origin::Cluster, CLUSTER_IP, 80), [0_u8; 0]);
}

#[test]
fn local_policies_keep_to_this_node() {
    let mut service = web();
    service.ports[0].node_port = Some(30080);
    service.external = TrafficPolicy::Local;
    let slice = slice(vec![endpoint(2, "here", true, false), endpoint(3, "there", true, false)]);
    let before = plan(&service, &[&slice], &here());
    assert_eq!(endpoints(&before, Origin::External, FrontendAddress::Node, 30080), [2]);
    assert_eq!(endpoints(&before, Origin::Cluster, FrontendAddress::Node, 30080), [2, 3]);
    assert_eq!(endpoints(&before, Origin::Cluster, CLUSTER_IP, 80), [2, 3]);

    service.internal = TrafficPolicy::Local;
    let after = plan(&service, &[&slice], &here());
    assert_eq!(endpoints(&after, Origin::Cluster, CLUSTER_IP, 80), [2]);
}

#[test]
fn ports_match_by_name_and_protocol() {
    let mut service = web();
    service.ports.push(PortView { name: "dns".into(), protocol: Protocol::Udp, port: 53, node_port: None });
    let mut slice = slice(vec![endpoint(2, "here", true, false)]);
    slice.ports = vec![("dns".into(), Protocol::Udp, 5353), ("dns".into(), Protocol::Tcp, 1)];
    let plan = plan(&service, &[&slice], &here());
    assert_eq!(endpoints(&plan, Origin::Cluster, CLUSTER_IP, 80), [0_u8; 0]);
    let dns = Frontend { origin: Origin::Cluster, address: CLUSTER_IP, protocol: Protocol::Udp, port: 53 };
    assert_eq!(plan.frontends[&dns].endpoints, BTreeSet::from([Endpoint { ip: ip(2), port: 5353 }]));
}

#[test]
fn an_address_in_two_slices_is_judged_by_the_newer() {
    let old = SliceView { revision: 1, ..slice(vec![endpoint(2, "here", true, false)]) };
    let new = SliceView { revision: 2, ..slice(vec![endpoint(2, "here", false, false)]) };
    for slices in [[&old, &new], [&new, &old]] {
        let plan = plan(&web(), &slices, &here());
        assert_eq!(endpoints(&plan, Origin::Cluster, CLUSTER_IP, 80), [0_u8; 0]);
    }
}
