use std::net::Ipv4Addr;

use super::*;
use crate::netns::NetNs;

const HOST: MacAddress = MacAddress([0xee; 6]);
const POD: MacAddress = MacAddress([0x0a, 0x58, 10, 42, 0, 2]);

#[test]
fn a_veth_pair_spans_two_namespaces() {
    let (host, pod) = (NetNs::create().unwrap(), NetNs::create().unwrap());
    let mut here = host.run(Route::open).unwrap().unwrap();
    let mut there = pod.run(Route::open).unwrap().unwrap();
    let veth = Veth { name: "vtest0", mac: HOST, peer_name: "eth0", peer_mac: POD, mtu: Some(1400) };
    here.apply([Request::create_veth(&veth, pod.fd())]).unwrap();

    let ours = here.link("vtest0").unwrap().unwrap();
    let theirs = there.link("eth0").unwrap().unwrap();
    assert_eq!((ours.mac, ours.mtu, ours.up), (Some(HOST), 1400, true));
    assert_eq!((theirs.mac, theirs.mtu, theirs.up), (Some(POD), 1400, false));

    let pod_ip = Ipv4Addr::new(10, 42, 0, 2);
    let gateway = Ipv4Addr::new(169, 254, 1, 1);
    let default = RouteSpec { via: Some(gateway.into()), ..RouteSpec::to_link(Ipv4Addr::UNSPECIFIED, 0, theirs.index) };
    there
        .apply([
            Request::link_up(1),
            Request::link_up(theirs.index),
            Request::add_address(theirs.index, pod_ip, 32),
            Request::set_neighbour(theirs.index, gateway, HOST),
            Request::set_route(&default),
        ])
        .unwrap();
    here.apply([
        Request::set_alias(ours.index, "owner"),
        Request::set_route(&RouteSpec::to_link(pod_ip, 32, ours.index)),
    ])
    .unwrap();
    assert_eq!(here.link("vtest0").unwrap().unwrap().alias.as_deref(), Some("owner"));
    assert!(there.addresses().unwrap().contains(&(theirs.index, pod_ip.into())));

    here.apply([Request::delete_link("vtest0")]).unwrap();
    assert_eq!(here.links("vtest").unwrap(), []);
    assert_eq!(there.link("eth0").unwrap(), None);
}

#[test]
fn a_refusal_names_the_request() {
    let mut route = NetNs::create().unwrap().run(Route::open).unwrap().unwrap();
    let error = route.apply([Request::link_up(1), Request::delete_link("absent0")]).unwrap_err();
    assert_eq!(error.errno(), Some(libc::ENODEV));
    assert_eq!(error.to_string(), "delete link absent0");
}

#[test]
fn a_tunnel_leads_where_its_entries_say() {
    let netns = NetNs::create().unwrap();
    let mut route = netns.run(Route::open).unwrap().unwrap();
    let (local, far) = (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(192, 0, 2, 7).into());
    let vxlan = Vxlan { name: "vxtest", mac: POD, id: 77, port: 8472, local, mtu: 1400 };
    route.apply([Request::link_up(1), Request::create_vxlan(&vxlan)]).unwrap();
    let link = route.link("vxtest").unwrap().unwrap();
    assert_eq!((link.mac, link.mtu, link.up), (Some(POD), 1400, true));
    let gateway: IpAddr = Ipv4Addr::new(10, 42, 1, 0).into();
    let block =
        RouteSpec { via: Some(gateway), mtu: Some(1350), protocol: 83, ..RouteSpec::to_link(gateway, 24, link.index) };
    route
        .apply([
            Request::set_neighbour(link.index, gateway, HOST),
            Request::set_forwarding(link.index, HOST, far),
            Request::set_route(&block),
        ])
        .unwrap();
    assert_eq!(route.routes(83).unwrap(), [block]);
    assert_eq!(route.routes(84).unwrap(), []);
    assert_eq!(route.way_to(Ipv4Addr::new(10, 42, 1, 9)).unwrap(), Some((link.index, Some(gateway))));
    assert_eq!(route.way_to(far).unwrap(), None);
    route
        .apply([
            Request::delete_forwarding(link.index, HOST, far),
            Request::delete_neighbour(link.index, gateway),
            Request::delete_route(&block),
        ])
        .unwrap();
    assert_eq!(route.routes(83).unwrap(), []);
}

#[test]
fn a_bridge_takes_ports() {
    let (netns, other) = (NetNs::create().unwrap(), NetNs::create().unwrap());
    let mut route = netns.run(Route::open).unwrap().unwrap();
    let veth = Veth { name: "vtest0", mac: HOST, peer_name: "eth0", peer_mac: POD, mtu: None };
    route.apply([Request::create_bridge("btest"), Request::create_veth(&veth, other.fd())]).unwrap();
    let index = |route: &mut Route, name| route.link(name).unwrap().unwrap().index;
    let (port, bridge) = (index(&mut route, "vtest0"), index(&mut route, "btest"));
    route.apply([Request::set_master(port, bridge)]).unwrap();
    let error = route.apply([Request::set_master(bridge, port)]).unwrap_err();
    assert!(error.to_string().contains("a port of bridge"), "{error}");
}

#[test]
fn marked_addresses_are_told_from_others() {
    let netns = NetNs::create().unwrap();
    let mut route = netns.run(Route::open).unwrap().unwrap();
    let (ours, other) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
    route
        .apply([Request::link_up(1), Request::add_marked_address(1, ours, 32, 83), Request::add_address(1, other, 32)])
        .unwrap();
    assert_eq!(route.addresses_by(83).unwrap(), [(1, ours.into())]);
    assert_eq!(route.addresses_by(84).unwrap(), []);
    let (six, link) = ("fd00::7".parse::<IpAddr>().unwrap(), ["-6", "-o", "address", "show", "dev", "lo"]);
    route.apply([Request::add_marked_address(1, six, 128, 84)]).unwrap();
    assert_eq!(route.addresses_by(84).unwrap(), [(1, six)]);
    let shown = netns.run(|| std::process::Command::new("ip").args(link).output().unwrap()).unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.lines().any(|line| line.contains("fd00::7/128") && line.contains("deprecated")), "{shown}");
    route.apply([Request::delete_address(1, ours, 32)]).unwrap();
    assert_eq!(route.addresses_by(83).unwrap(), []);
    assert!(route.addresses().unwrap().contains(&(1, other.into())));
}

#[test]
fn addresses_and_routes_of_ipv6_are_usable_at_once() {
    let netns = NetNs::create().unwrap();
    let mut route = netns.run(Route::open).unwrap().unwrap();
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let (own, tunnel) = (address("fd00::1"), address("fd42::"));
    let (local, far) = (own, address("fd00::2"));
    route.apply([Request::link_up(1), Request::add_address(1, own, 128)]).unwrap();
    let vxlan = Vxlan { name: "vxtest", mac: POD, id: 77, port: 8472, local, mtu: 1400 };
    route.apply([Request::create_vxlan(&vxlan)]).unwrap();
    let link = route.link("vxtest").unwrap().unwrap().index;
    let gateway = address("fe80::1");
    let block = RouteSpec {
        via: Some(gateway),
        source: Some(tunnel),
        mtu: Some(1350),
        protocol: 83,
        ..RouteSpec::to_link(address("fd42:0:0:1::"), 64, link)
    };
    route
        .apply([
            Request::add_address(link, tunnel, 128),
            Request::set_neighbour(link, gateway, HOST),
            Request::set_forwarding(link, HOST, far),
            Request::set_route(&block),
        ])
        .unwrap();
    assert_eq!(route.routes(83).unwrap(), [block]);
    assert_eq!(route.way_to(address("fd42:0:0:1::9")).unwrap(), Some((link, Some(gateway))));
    assert_eq!(route.way_to(far).unwrap(), None);
    // Another way takes its place; it is gone by its destination alone.
    route.apply([Request::set_route(&RouteSpec { mtu: None, source: Some(own), ..block })]).unwrap();
    assert_eq!(route.routes(83).unwrap(), [RouteSpec { mtu: None, source: Some(own), ..block }]);
    route.apply([Request::delete_route(&RouteSpec { source: None, ..block })]).unwrap();
    assert_eq!(route.routes(83).unwrap(), []);
}
