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
    let default = RouteSpec { via: Some(gateway), ..RouteSpec::to_link(Ipv4Addr::UNSPECIFIED, 0, theirs.index) };
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
    assert!(there.addresses().unwrap().contains(&(theirs.index, pod_ip)));

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
