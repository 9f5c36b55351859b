//! The table against the real kernel, in fresh network namespaces. Needs root.
#![allow(clippy::unwrap_used)]

mod topology;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base_sys::route::{Request, Route, RouteKind, RouteSpec};
use net_proxy::{Affinity, Backends, Endpoint, Frontend, FrontendAddress, Kernel, Origin, Protocol};
use topology::{NODE, OUTSIDER, Peer, UPLINK, call, config, echo, on_a_node, open, ruleset, udp_call};

const WEB: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 9);

type Table = BTreeMap<Frontend, Backends>;

fn cluster_ip(protocol: Protocol, port: u16) -> Frontend {
    Frontend { origin: Origin::Cluster, address: FrontendAddress::Ip(WEB), protocol, port }
}

fn node_port(origin: Origin, port: u16) -> Frontend {
    Frontend { origin, address: FrontendAddress::Node, protocol: Protocol::Tcp, port }
}

/// The pods' port 8080.
fn endpoints(pods: &[&Peer]) -> Backends {
    pods.iter().map(|pod| Endpoint { ip: pod.ip, port: 8080 }).collect::<BTreeSet<_>>().into()
}

/// As [`endpoints`], each client with its own for a while.
fn sticky(pods: &[&Peer]) -> Backends {
    Backends { affinity: Some(Affinity::DEFAULT), ..endpoints(pods) }
}

fn loaded(table: &Table) -> Kernel {
    let mut kernel = Kernel::open(config()).unwrap();
    let hairpins = table.values().flat_map(|backends| &backends.endpoints).map(|endpoint| endpoint.ip).collect();
    kernel.load(table, &hairpins).unwrap();
    kernel
}

fn set(kernel: &mut Kernel, frontend: Frontend, pods: &[&Peer]) {
    change(kernel, frontend, endpoints(pods));
}

fn change(kernel: &mut Kernel, frontend: Frontend, backends: Backends) {
    kernel.apply(&BTreeMap::from([(frontend, Some(backends))]), Vec::new(), Vec::new()).unwrap();
}

fn serving_pods<const N: usize>() -> [Peer; N] {
    std::array::from_fn(|index| {
        let pod = Peer::pod(u8::try_from(index).unwrap() + 2);
        pod.serve(8080);
        pod
    })
}

#[test]
fn the_node_and_pods_reach_a_service_and_keep_their_addresses() {
    on_a_node(|| {
        let [a, b] = serving_pods();
        let client = Peer::pod(9);
        let _kernel = loaded(&Table::from([(cluster_ip(Protocol::Tcp, 80), endpoints(&[&a, &b]))]));
        for _ in 0..20 {
            assert_eq!(call((WEB, 80)).unwrap().1, NODE);
            assert_eq!(client.call((WEB, 80)).unwrap().1, client.ip);
            // A backend calls its own Service: the other one sees its address, itself sees the node's.
            let (server, caller) = a.call((WEB, 80)).unwrap();
            assert_eq!(caller, if server == a.ip { NODE } else { a.ip });
        }
    });
}

#[test]
fn connections_spread_over_the_endpoints() {
    on_a_node(|| {
        let [a, b] = serving_pods();
        let _kernel = loaded(&Table::from([(cluster_ip(Protocol::Tcp, 80), endpoints(&[&a, &b]))]));
        let mut hits: HashMap<Ipv4Addr, u32> = HashMap::new();
        for _ in 0..400 {
            *hits.entry(call((WEB, 80)).unwrap().0).or_default() += 1;
        }
        // Five standard deviations of a fair coin.
        assert!(hits[&a.ip].abs_diff(200) < 50, "{hits:?}");
    });
}

#[test]
fn a_client_keeps_its_endpoint_until_that_goes() {
    on_a_node(|| {
        let pods: [Peer; 3] = serving_pods();
        let [a, b, c] = &pods;
        let clients = [Peer::pod(9), Peer::pod(10), Peer::pod(11), Peer::outsider()];
        let (web, port) = (cluster_ip(Protocol::Tcp, 80), node_port(Origin::External, 30080));
        let all = sticky(&[a, b, c]);
        let mut kernel = loaded(&Table::from([(web, all.clone()), (port, all.clone())]));
        let server = |client: &Peer| {
            let first = client.call((WEB, 80)).unwrap().0;
            (0..10).for_each(|_| assert_eq!(client.call((WEB, 80)).unwrap().0, first));
            first
        };
        let before: Vec<Ipv4Addr> = clients.iter().map(server).collect();
        let outside = clients[3].call((UPLINK, 30080)).unwrap().0;
        (0..10).for_each(|_| assert_eq!(clients[3].call((UPLINK, 30080)).unwrap().0, outside));
        // A restart of the binary forgets nobody.
        kernel = {
            drop(kernel);
            loaded(&Table::from([(web, all.clone()), (port, all.clone())]))
        };
        assert_eq!(clients.iter().map(server).collect::<Vec<_>>(), before);

        // Each endpoint goes in turn: its clients move, the others stay.
        for gone in [a, b, c] {
            let before: Vec<Ipv4Addr> = clients.iter().map(server).collect();
            let left: Vec<&Peer> = pods.iter().filter(|pod| pod.ip != gone.ip).collect();
            change(&mut kernel, web, sticky(&left));
            for (client, before) in clients.iter().zip(before) {
                let after = server(client);
                assert!(if before == gone.ip { after != before } else { after == before }, "{before}, then {after}");
            }
            change(&mut kernel, web, all.clone());
        }
        // The last client's endpoint goes with the whole service; nobody is sent there by a memory.
        change(&mut kernel, web, sticky(&[a]));
        clients.iter().for_each(|client| assert_eq!(server(client), a.ip));
        kernel.apply(&BTreeMap::from([(web, None)]), Vec::new(), Vec::new()).unwrap();
        change(&mut kernel, web, sticky(&[b]));
        clients.iter().for_each(|client| assert_eq!(server(client), b.ip));
        // `nft` can print all of it.
        assert!(ruleset().contains("service-affinity"));

        change(&mut kernel, web, endpoints(&[a, b]));
        let servers: BTreeSet<_> = (0..100).map(|_| clients[0].call((WEB, 80)).unwrap().0).collect();
        assert_eq!(servers.len(), 2);
    });
}

#[test]
fn an_affinity_ends_when_its_time_is_up() {
    on_a_node(|| {
        let pods: [Peer; 2] = serving_pods();
        let web = cluster_ip(Protocol::Tcp, 80);
        let affinity = Affinity::of_seconds(1);
        let _kernel = loaded(&Table::from([(web, Backends { affinity, ..endpoints(&[&pods[0], &pods[1]]) })]));
        // While the client comes back in time, it stays; the kernel's clock is the only event here.
        let (start, first) = (Instant::now(), call((WEB, 80)).unwrap().0);
        while start.elapsed() < Duration::from_millis(2500) {
            assert_eq!(call((WEB, 80)).unwrap().0, first);
        }
        // Away long enough, it is forgotten: then it is as likely to meet the other one.
        let deadline = Instant::now() + Duration::from_secs(10);
        while ruleset().contains(" expires ") {
            assert!(Instant::now() < deadline, "still remembered:\n{}", ruleset());
        }
    });
}

#[test]
fn what_no_endpoint_serves_is_refused_at_once() {
    on_a_node(|| {
        let [a] = serving_pods();
        let (empty, outsider) = (cluster_ip(Protocol::Tcp, 81), Peer::outsider());
        let _kernel = loaded(&Table::from([
            (cluster_ip(Protocol::Tcp, 80), endpoints(&[&a])),
            (empty, Backends::default()),
            (cluster_ip(Protocol::Udp, 81), Backends::default()),
            (node_port(Origin::External, 30081), Backends::default()),
        ]));
        let start = Instant::now();
        let unknown = Ipv4Addr::new(10, 43, 7, 7);
        for to in [(WEB, 81), (WEB, 82), (unknown, 80)] {
            assert_eq!(call(to).unwrap_err().kind(), ErrorKind::ConnectionRefused, "node to {to:?}");
            assert_eq!(a.call(to).unwrap_err().kind(), ErrorKind::ConnectionRefused, "pod to {to:?}");
            assert_eq!(outsider.call(to).unwrap_err().kind(), ErrorKind::ConnectionRefused, "outsider to {to:?}");
        }
        assert_eq!(outsider.call((UPLINK, 30081)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        for port in [81, 82] {
            let ask = || udp_call(&UdpSocket::bind("0.0.0.0:0").unwrap(), (WEB, port).into()).unwrap_err().kind();
            // The kernel tells a local sender of a packet rejected on its way out by EPERM, as with any firewall.
            assert_eq!(ask(), ErrorKind::PermissionDenied, "node, UDP {port}");
            assert_eq!(a.netns.run(ask).unwrap(), ErrorKind::ConnectionRefused, "pod, UDP {port}");
        }
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    });
}

#[test]
fn node_ports_answer_on_every_address_and_pods_see_the_outsider() {
    on_a_node(|| {
        let [a, b] = serving_pods();
        let outsider = Peer::outsider();
        let _kernel = loaded(&Table::from([
            (node_port(Origin::External, 30080), endpoints(&[&a])),
            (node_port(Origin::Cluster, 30080), endpoints(&[&a, &b])),
            (cluster_ip(Protocol::Tcp, 80), endpoints(&[&b])),
        ]));
        for address in [UPLINK, NODE] {
            // The two origins have their own endpoints: a local traffic policy needs that.
            assert_eq!(outsider.call((address, 30080)).unwrap(), (a.ip, OUTSIDER));
            call((address, 30080)).unwrap();
            b.call((address, 30080)).unwrap();
        }
        assert_eq!(outsider.call((WEB, 80)).unwrap(), (b.ip, OUTSIDER));
        // Other ports of the node are its own.
        let listener = std::net::TcpListener::bind((NODE, 30090)).unwrap();
        outsider.netns.run(|| std::net::TcpStream::connect((NODE, 30090)).unwrap()).unwrap();
        drop(listener);
    });
}

#[test]
fn pods_leave_the_cluster_with_the_nodes_address() {
    on_a_node(|| {
        let [pod, other] = serving_pods();
        let outsider = Peer::outsider();
        outsider.serve(8080);
        let _kernel = loaded(&Table::new());
        assert_eq!(pod.call((OUTSIDER, 8080)).unwrap(), (OUTSIDER, UPLINK));
        assert_eq!(pod.call((other.ip, 8080)).unwrap(), (other.ip, pod.ip));
        assert_eq!(outsider.call((pod.ip, 8080)).unwrap(), (pod.ip, OUTSIDER));
    });
}

#[test]
fn udp_and_several_ports_of_one_service() {
    on_a_node(|| {
        let [a] = serving_pods();
        a.serve(5353);
        let dns = Backends::from(BTreeSet::from([Endpoint { ip: a.ip, port: 5353 }]));
        let _kernel = loaded(&Table::from([
            (cluster_ip(Protocol::Udp, 53), dns.clone()),
            (cluster_ip(Protocol::Tcp, 53), dns),
            (cluster_ip(Protocol::Tcp, 80), endpoints(&[&a])),
        ]));
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        assert_eq!(udp_call(&socket, (WEB, 53).into()).unwrap(), (a.ip, NODE));
        assert_eq!(call((WEB, 53)).unwrap().0, a.ip);
        assert_eq!(call((WEB, 80)).unwrap().0, a.ip);
    });
}

#[test]
fn an_address_that_the_node_answers_itself_is_not_translated() {
    on_a_node(|| {
        let [a] = serving_pods();
        let _kernel = loaded(&Table::from([(cluster_ip(Protocol::Tcp, 80), endpoints(&[&a]))]));
        let local = RouteSpec { kind: RouteKind::Local, ..RouteSpec::to_link(WEB, 32, 1) };
        Route::open().unwrap().apply([Request::set_route(&local)]).unwrap();
        let listener = std::net::TcpListener::bind((WEB, 80)).unwrap();
        a.netns.run(|| std::net::TcpStream::connect((WEB, 80)).unwrap()).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip(), a.ip);
    });
}

/// The claim this design exists for: endpoints come and go, and no new connection fails or even waits.
#[test]
fn no_connection_fails_while_endpoints_change() {
    on_a_node(|| {
        let pods: [Peer; 4] = serving_pods();
        let client = Peer::pod(9);
        let web = cluster_ip(Protocol::Tcp, 80);
        let mut kernel = loaded(&Table::from([(web, endpoints(&[&pods[0]]))]));
        let (stop, made) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let caller = || {
                let mut slowest = Duration::ZERO;
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    call((WEB, 80)).unwrap();
                    slowest = slowest.max(start.elapsed());
                    made.fetch_add(1, Ordering::Relaxed);
                }
                slowest
            };
            let netns = &client.netns;
            let threads = [scope.spawn(move || netns.run(caller).unwrap()), scope.spawn(caller)];
            for round in 0_usize.. {
                let count = 1 + (round * 7) % pods.len();
                let chosen: Vec<&Peer> = (0..count).map(|index| &pods[(round + index) % pods.len()]).collect();
                set(&mut kernel, web, &chosen);
                if made.load(Ordering::Relaxed) > 2_000 && round > 500 {
                    break;
                }
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
            for thread in threads {
                // A lost first packet is sent again after a second.
                assert!(thread.join().unwrap() < Duration::from_millis(900));
            }
        });
    });
}

#[test]
fn established_connections_survive_withdrawal_and_reload() {
    on_a_node(|| {
        let [a, b] = serving_pods();
        let web = cluster_ip(Protocol::Tcp, 80);
        let mut kernel = loaded(&Table::from([(web, endpoints(&[&a]))]));
        let (mut stream, (server, _)) = open((WEB, 80)).unwrap();
        let (mut from_pod, _) = b.netns.run(|| open((WEB, 80))).unwrap().unwrap();
        assert_eq!(server, a.ip);
        set(&mut kernel, web, &[&b]);
        assert_eq!(call((WEB, 80)).unwrap().0, b.ip);
        let mut check = || {
            echo(&mut stream).unwrap();
            echo(&mut from_pod).unwrap();
        };
        check();
        kernel = loaded(&Table::from([(web, endpoints(&[&b]))]));
        check();
        drop(kernel);
        check();
    });
}

#[test]
fn nft_lists_the_table_and_removal_leaves_nothing() {
    on_a_node(|| {
        let before = ruleset();
        let [a, b] = serving_pods();
        let web = cluster_ip(Protocol::Tcp, 80);
        let mut kernel =
            loaded(&Table::from([(web, endpoints(&[&a])), (node_port(Origin::External, 30080), endpoints(&[&a]))]));
        let listed = ruleset();
        for line in [
            "0x00000000 . 10.43.0.9 . tcp . 80 : 0x00000001",
            "0x00000000 . 10.43.0.9 . tcp . 80 . 0x00000000 : 10.42.0.2 . 8080",
            "0x00100000 . tcp . 30080 : 0x00000001",
            "0x00000001 : goto service-pick-1",
            "10.42.0.2 . 10.42.0.2",
            "snat ip to 192.168.77.1 comment \"a pod that reaches itself through a service\"",
        ] {
            assert!(listed.contains(line), "{line} is not in\n{listed}");
        }
        // More endpoints than chains made beforehand.
        let many: BTreeSet<Endpoint> =
            (0..40).map(|n| Endpoint { ip: if n % 2 == 0 { a.ip } else { b.ip }, port: 8080 + n }).collect();
        kernel.apply(&BTreeMap::from([(web, Some(many.into()))]), Vec::new(), Vec::new()).unwrap();
        assert!(ruleset().contains("numgen random mod 40"));
        kernel.apply(&BTreeMap::from([(web, None)]), Vec::new(), vec![a.ip]).unwrap();
        assert!(!ruleset().contains("10.43.0.9"));

        net_proxy::remove(&config().table).unwrap();
        net_proxy::remove(&config().table).unwrap();
        assert_eq!(ruleset(), before);
    });
}

#[test]
fn marks_of_other_programs_pass_untouched() {
    on_a_node(|| {
        let [a] = serving_pods();
        let client = Peer::pod(9);
        let _kernel = loaded(&Table::from([(cluster_ip(Protocol::Tcp, 80), endpoints(&[&a]))]));
        let rules = "table ip other {
            chain pre { type filter hook prerouting priority mangle; meta mark set 0xab000042; }
            chain out { type route hook output priority mangle; meta mark set 0xab000042; }
            chain check { type filter hook postrouting priority 200; ip daddr 10.42.0.2 meta mark != 0xab000042 drop; }
        }";
        assert!(std::process::Command::new("nft").arg(rules).status().unwrap().success());
        assert_eq!(client.call((WEB, 80)).unwrap().0, a.ip);
        assert_eq!(call((WEB, 80)).unwrap().0, a.ip);
    });
}

#[test]
fn a_refused_change_names_what_was_refused_and_a_load_mends_it() {
    on_a_node(|| {
        let [a, b] = serving_pods();
        let web = cluster_ip(Protocol::Tcp, 80);
        let mut kernel = loaded(&Table::from([(web, endpoints(&[&a]))]));
        // Somebody emptied our maps.
        for map in ["service-counts", "service-slots"] {
            let flush = ["flush", "map", "inet", "sampan-test", map];
            assert!(std::process::Command::new("nft").args(flush).status().unwrap().success());
        }
        let error = kernel.apply(&BTreeMap::from([(web, None)]), Vec::new(), Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "nftables transaction: delete elements of service-counts");
        kernel.load(&Table::from([(web, endpoints(&[&b]))]), &BTreeSet::new()).unwrap();
        assert_eq!(call((WEB, 80)).unwrap().0, b.ip);
    });
}
