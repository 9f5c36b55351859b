use super::*;
use crate::view::PortView;

fn ip(last: u8) -> IpAddr {
    [10, 42, 0, last].into()
}

fn endpoint(last: u8, node: &str, ready: bool, terminating: bool) -> EndpointView {
    EndpointView { ready, terminating, ..EndpointView::ready(ip(last), node) }
}

fn web() -> ServiceView {
    ServiceView {
        cluster_ips: vec![[10, 43, 0, 9].into()],
        ports: vec![PortView { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port: None }],
        ..ServiceView::default()
    }
}

fn slice(endpoints: Vec<EndpointView>) -> SliceView {
    SliceView { ports: vec![(String::new(), Protocol::Tcp, 8080)], endpoints, ..SliceView::default() }
}

fn here() -> Locality {
    Locality { node_name: "here".into(), ..Locality::default() }
}

fn backends(plan: &ServicePlan, origin: Origin, address: FrontendAddress, port: u16) -> Backends {
    plan.frontends[&Frontend { origin, address, protocol: Protocol::Tcp, port }].clone()
}

fn endpoints(plan: &ServicePlan, origin: Origin, address: FrontendAddress, port: u16) -> Vec<u8> {
    let last = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(ip) => ip.octets()[15],
    };
    backends(plan, origin, address, port).endpoints.iter().map(|endpoint| last(endpoint.ip)).collect()
}

fn at(ip: &str) -> FrontendAddress {
    FrontendAddress::Ip(ip.parse().expect("an address"))
}

const CLUSTER_IP: FrontendAddress = FrontendAddress::Ip(IpAddr::V4(std::net::Ipv4Addr::new(10, 43, 0, 9)));
const NODE: FrontendAddress = FrontendAddress::Node(Family::V4);

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
    assert_eq!(endpoints(&before, Origin::External, NODE, 30080), [2]);
    assert_eq!(endpoints(&before, Origin::Cluster, NODE, 30080), [2, 3]);
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

#[test]
fn a_local_policy_without_endpoints_here_is_silent_only_where_others_have_some() {
    let mut service = web();
    service.ports[0].node_port = Some(30080);
    (service.internal, service.external) = (TrafficPolicy::Local, TrafficPolicy::Local);
    let there = slice(vec![endpoint(3, "there", true, false)]);
    let elsewhere = plan(&service, &[&there], &here());
    assert_eq!(backends(&elsewhere, Origin::Cluster, CLUSTER_IP, 80).otherwise, Otherwise::Drop);
    assert_eq!(backends(&elsewhere, Origin::External, NODE, 30080).otherwise, Otherwise::Drop);
    assert_eq!(endpoints(&elsewhere, Origin::Cluster, NODE, 30080), [3]);
    let nowhere = plan(&service, &[&slice(vec![endpoint(3, "there", false, false)])], &here());
    assert_eq!(backends(&nowhere, Origin::Cluster, CLUSTER_IP, 80).otherwise, Otherwise::Refuse);
}

#[test]
fn a_terminating_endpoint_here_is_a_local_policys_last_resort() {
    let mut service = web();
    service.internal = TrafficPolicy::Local;
    let slice = slice(vec![endpoint(2, "here", false, true), endpoint(3, "there", true, false)]);
    let plan = plan(&service, &[&slice], &here());
    assert_eq!(endpoints(&plan, Origin::Cluster, CLUSTER_IP, 80), [2]);
    assert!(plan.in_service.is_empty());
}

#[test]
fn each_family_has_its_own_endpoints() {
    let mut service = web();
    service.cluster_ips.push("fd43::9".parse().expect("an address"));
    service.ports[0].node_port = Some(30080);
    let four = slice(vec![endpoint(2, "here", true, false)]);
    let six = slice(vec![EndpointView::ready("fd42::3".parse().expect("an address"), "here")]);
    let plan = plan(&service, &[&four, &six], &here());
    assert_eq!(endpoints(&plan, Origin::Cluster, CLUSTER_IP, 80), [2]);
    assert_eq!(endpoints(&plan, Origin::Cluster, at("fd43::9"), 80), [3]);
    assert_eq!(endpoints(&plan, Origin::External, NODE, 30080), [2]);
    assert_eq!(endpoints(&plan, Origin::External, FrontendAddress::Node(Family::V6), 30080), [3]);
}

#[test]
fn balancer_and_external_addresses_bind_the_outside_alone() {
    let mut service = web();
    service.balancer_ips = vec![[203, 0, 113, 7].into()];
    service.external_ips = vec![[192, 0, 2, 1].into()];
    service.external = TrafficPolicy::Local;
    service.sources = vec!["198.51.100.0/24".parse().expect("a block")];
    let slice = slice(vec![endpoint(2, "here", true, false), endpoint(3, "there", true, false)]);
    let plan = plan(&service, &[&slice], &here());
    for (address, guarded) in [(at("203.0.113.7"), true), (at("192.0.2.1"), false)] {
        assert_eq!(endpoints(&plan, Origin::External, address, 80), [2]);
        assert_eq!(endpoints(&plan, Origin::Cluster, address, 80), [2, 3]);
        for origin in [Origin::External, Origin::Cluster] {
            assert_eq!(backends(&plan, origin, address, 80).sources.is_some(), guarded);
        }
    }
    assert_eq!(backends(&plan, Origin::Cluster, CLUSTER_IP, 80).sources, None);
}

fn hinted(last: u8, node: &str, zones: &[&str], nodes: &[&str]) -> EndpointView {
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
    EndpointView { zones: names(zones), nodes: names(nodes), ..endpoint(last, node, true, false) }
}

fn with_hints(views: Vec<EndpointView>, zone: &str) -> Vec<u8> {
    let locality = Locality { zone: Some(zone.into()), ..here() };
    endpoints(&plan(&web(), &[&slice(views)], &locality), Origin::Cluster, CLUSTER_IP, 80)
}

#[test]
fn hints_keep_traffic_near_where_all_endpoints_have_them() {
    let zones = || vec![hinted(2, "here", &["a"], &[]), hinted(3, "there", &["b"], &[])];
    assert_eq!(with_hints(zones(), "a"), [2]);
    assert_eq!(with_hints(zones(), "b"), [3]);
    // Nothing for this zone, or no zone known: anywhere.
    assert_eq!(with_hints(zones(), "c"), [2, 3]);
    assert_eq!(with_hints(vec![hinted(2, "here", &["a"], &[]), hinted(3, "there", &[], &[])], "a"), [2, 3]);
    // One that is not ready needs no hint.
    let mut with_unready = zones();
    with_unready.push(endpoint(4, "there", false, false));
    assert_eq!(with_hints(with_unready, "a"), [2]);
    // The node before the zone; the zone where no hint names the node.
    let nodes = |here: &'static str| {
        vec![hinted(2, "here", &["a"], &[here]), hinted(3, "x", &["a"], &["x"]), hinted(4, "y", &["b"], &["y"])]
    };
    assert_eq!(with_hints(nodes("here"), "a"), [2]);
    assert_eq!(with_hints(nodes("z"), "a"), [2, 3]);
}

#[test]
fn hints_do_not_bind_a_local_policy_or_the_last_resort() {
    let mut service = web();
    service.internal = TrafficPolicy::Local;
    let far = slice(vec![hinted(2, "here", &["b"], &[]), hinted(3, "there", &["a"], &[])]);
    let locality = Locality { zone: Some("a".into()), ..here() };
    assert_eq!(endpoints(&plan(&service, &[&far], &locality), Origin::Cluster, CLUSTER_IP, 80), [2]);
    let leaving = |last, zone| EndpointView { ready: false, terminating: true, ..hinted(last, "there", &[zone], &[]) };
    assert_eq!(with_hints(vec![leaving(2, "a"), leaving(3, "b")], "a"), [2, 3]);
}

#[test]
fn a_suspects_endpoints_come_last_and_never_leave_nothing() {
    let locality = Locality { suspects: BTreeSet::from(["there".into()]), ..here() };
    let chosen = |views: Vec<EndpointView>, locality: &Locality| {
        let plan = plan(&web(), &[&slice(views)], locality);
        endpoints(&plan, Origin::Cluster, CLUSTER_IP, 80)
    };
    let both = || vec![endpoint(2, "here", true, false), endpoint(3, "there", true, false)];
    assert_eq!(chosen(both(), &locality), [2]);
    assert_eq!(chosen(both(), &here()), [2, 3]);
    assert_eq!(chosen(vec![endpoint(3, "there", true, false)], &locality), [3]);
    // A ready one of a suspect is better than one that terminates.
    assert_eq!(chosen(vec![endpoint(2, "here", false, true), endpoint(3, "there", true, false)], &locality), [3]);
    assert_eq!(chosen(vec![endpoint(2, "here", false, true), endpoint(3, "there", false, true)], &locality), [2]);
    // Suspicion before nearness: a zone of suspects alone is no zone to stay in.
    let zone = Locality { zone: Some("b".into()), ..locality };
    assert_eq!(chosen(vec![hinted(2, "here", &["a"], &[]), hinted(3, "there", &["b"], &[])], &zone), [2]);
}

#[test]
fn health_counts_pods_not_addresses() {
    let mut service = web();
    service.health_port = Some(31_000);
    let four = slice(vec![endpoint(2, "here", true, false), endpoint(3, "there", true, false)]);
    let six = slice(vec![EndpointView::ready("fd42::2".parse().expect("an address"), "here")]);
    assert_eq!(plan(&service, &[&four, &six], &here()).health, Some((31_000, 1)));
    assert_eq!(plan(&service, &[], &here()).health, Some((31_000, 0)));
    assert_eq!(plan(&web(), &[&four], &here()).health, None);
}

#[test]
fn addresses_of_a_further_range_are_served_to_the_outside_as_well() {
    let slice = slice(vec![endpoint(2, "here", true, false)]);
    let from_outside = |range: &str| {
        let locality = Locality { service_ranges: vec![range.parse().expect("a block")], ..here() };
        let plan = plan(&web(), &[&slice], &locality);
        assert_eq!(endpoints(&plan, Origin::Cluster, CLUSTER_IP, 80), [2]);
        let outside = Frontend { origin: Origin::External, address: CLUSTER_IP, protocol: Protocol::Tcp, port: 80 };
        plan.frontends.contains_key(&outside)
    };
    assert!(!from_outside("10.43.0.0/16"));
    assert!(from_outside("10.77.0.0/16"));
}
