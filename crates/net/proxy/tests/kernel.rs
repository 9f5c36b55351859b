//! The table against the real kernel, in fresh network namespaces, once per family. Needs root.
#![allow(clippy::unwrap_used)]

mod topology;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base_sys::netlink;
use net_proxy::{Affinity, Backends, Endpoint, Family, Kernel, Origin, Otherwise, Protocol};
use topology::table::{Table, change, hairpins, loaded, on_nodes, serving_pods};
use topology::{Peer, call, config, echo, open, ruleset, service, udp, udp_call};

#[test]
fn the_node_and_pods_reach_a_service_and_keep_their_addresses() {
    on_nodes(|on| {
        let [a, b] = serving_pods();
        let client = Peer::pod(9);
        let _kernel = loaded(&Table::from([(on.cluster_ip(Protocol::Tcp, 80), on.endpoints(&[&a, &b]))]));
        for _ in 0..20 {
            assert_eq!(call((on.web(), 80)).unwrap().1, on.node());
            assert_eq!(client.call((on.web(), 80)).unwrap().1, on.of(&client));
            // A backend calls its own Service: the other one sees its address, itself sees the node's.
            let (server, caller) = a.call((on.web(), 80)).unwrap();
            assert_eq!(caller, if server == on.of(&a) { on.node() } else { on.of(&a) });
        }
    });
}

#[test]
fn connections_spread_over_the_endpoints() {
    on_nodes(|on| {
        let [a, b] = serving_pods();
        let _kernel = loaded(&Table::from([(on.cluster_ip(Protocol::Tcp, 80), on.endpoints(&[&a, &b]))]));
        let mut hits: HashMap<IpAddr, u32> = HashMap::new();
        for _ in 0..400 {
            *hits.entry(call((on.web(), 80)).unwrap().0).or_default() += 1;
        }
        // Five standard deviations of a fair coin.
        assert!(hits[&on.of(&a)].abs_diff(200) < 50, "{hits:?}");
    });
}

#[test]
fn a_client_keeps_its_endpoint_until_that_goes() {
    on_nodes(|on| {
        let pods: [Peer; 3] = serving_pods();
        let [a, b, c] = &pods;
        let clients = [Peer::pod(9), Peer::pod(10), Peer::pod(11), Peer::outsider()];
        let (web, port) = (on.cluster_ip(Protocol::Tcp, 80), on.node_port(Origin::External, 30080));
        let all = on.sticky(&[a, b, c]);
        let mut kernel = loaded(&Table::from([(web, all.clone()), (port, all.clone())]));
        let server = |client: &Peer| {
            let first = client.call((on.web(), 80)).unwrap().0;
            (0..10).for_each(|_| assert_eq!(client.call((on.web(), 80)).unwrap().0, first));
            first
        };
        let before: Vec<IpAddr> = clients.iter().map(server).collect();
        let outside = clients[3].call((on.uplink(), 30080)).unwrap().0;
        (0..10).for_each(|_| assert_eq!(clients[3].call((on.uplink(), 30080)).unwrap().0, outside));
        // A restart of the binary forgets nobody.
        kernel = {
            drop(kernel);
            loaded(&Table::from([(web, all.clone()), (port, all.clone())]))
        };
        assert_eq!(clients.iter().map(server).collect::<Vec<_>>(), before);

        // Each endpoint goes in turn: its clients move, the others stay.
        for gone in [a, b, c] {
            let before: Vec<IpAddr> = clients.iter().map(server).collect();
            let left: Vec<&Peer> = pods.iter().filter(|pod| on.of(pod) != on.of(gone)).collect();
            change(&mut kernel, web, on.sticky(&left));
            for (client, before) in clients.iter().zip(before) {
                let after = server(client);
                assert!(
                    if before == on.of(gone) { after != before } else { after == before },
                    "{before}, then {after}"
                );
            }
            change(&mut kernel, web, all.clone());
        }
        // The last client's endpoint goes with the whole service; nobody is sent there by a memory.
        change(&mut kernel, web, on.sticky(&[a]));
        clients.iter().for_each(|client| assert_eq!(server(client), on.of(a)));
        kernel.apply(&BTreeMap::from([(web, None)]), Vec::new(), Vec::new()).unwrap();
        change(&mut kernel, web, on.sticky(&[b]));
        clients.iter().for_each(|client| assert_eq!(server(client), on.of(b)));
        // `nft` can print all of it.
        let shape = if on.0 == Family::V4 { "service" } else { "service6" };
        assert!(ruleset().contains(&format!("update @{shape}-affinity")));

        change(&mut kernel, web, on.endpoints(&[a, b]));
        let servers: BTreeSet<_> = (0..100).map(|_| clients[0].call((on.web(), 80)).unwrap().0).collect();
        assert_eq!(servers.len(), 2);
    });
}

#[test]
fn an_affinity_ends_when_its_time_is_up() {
    on_nodes(|on| {
        let pods: [Peer; 2] = serving_pods();
        let web = on.cluster_ip(Protocol::Tcp, 80);
        let affinity = Affinity::of_seconds(1);
        let _kernel = loaded(&Table::from([(web, Backends { affinity, ..on.endpoints(&[&pods[0], &pods[1]]) })]));
        // While the client comes back in time, it stays; the kernel's clock is the only event here.
        let (start, first) = (Instant::now(), call((on.web(), 80)).unwrap().0);
        while start.elapsed() < Duration::from_millis(2500) {
            assert_eq!(call((on.web(), 80)).unwrap().0, first);
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
    on_nodes(|on| {
        let [a] = serving_pods();
        let (empty, outsider) = (on.cluster_ip(Protocol::Tcp, 81), Peer::outsider());
        let _kernel = loaded(&Table::from([
            (on.cluster_ip(Protocol::Tcp, 80), on.endpoints(&[&a])),
            (empty, Backends::default()),
            (on.cluster_ip(Protocol::Udp, 81), Backends::default()),
            (on.node_port(Origin::External, 30081), Backends::default()),
        ]));
        let start = Instant::now();
        let unknown = service(on.0, 77);
        for to in [(on.web(), 81), (on.web(), 82), (unknown, 80)] {
            assert_eq!(call(to).unwrap_err().kind(), ErrorKind::ConnectionRefused, "node to {to:?}");
            assert_eq!(a.call(to).unwrap_err().kind(), ErrorKind::ConnectionRefused, "pod to {to:?}");
            assert_eq!(outsider.call(to).unwrap_err().kind(), ErrorKind::ConnectionRefused, "outsider to {to:?}");
        }
        assert_eq!(outsider.call((on.uplink(), 30081)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        for port in [81, 82] {
            let ask = || udp_call(&udp(on.0), (on.web(), port).into()).unwrap_err().kind();
            // The kernel tells a local sender of a packet rejected on its way out by EPERM, as with any firewall.
            assert_eq!(ask(), ErrorKind::PermissionDenied, "node, UDP {port}");
            assert_eq!(a.netns.run(ask).unwrap(), ErrorKind::ConnectionRefused, "pod, UDP {port}");
        }
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    });
}

#[test]
fn node_ports_answer_on_every_address_and_pods_see_the_outsider() {
    on_nodes(|on| {
        let [a, b] = serving_pods();
        let outsider = Peer::outsider();
        let _kernel = loaded(&Table::from([
            (on.node_port(Origin::External, 30080), on.endpoints(&[&a])),
            (on.node_port(Origin::Cluster, 30080), on.endpoints(&[&a, &b])),
            (on.cluster_ip(Protocol::Tcp, 80), on.endpoints(&[&b])),
        ]));
        for address in [on.uplink(), on.node()] {
            // The two origins have their own endpoints: a local traffic policy needs that.
            assert_eq!(outsider.call((address, 30080)).unwrap(), (on.of(&a), on.outsider()));
            call((address, 30080)).unwrap();
            b.call((address, 30080)).unwrap();
        }
        assert_eq!(outsider.call((on.web(), 80)).unwrap(), (on.of(&b), on.outsider()));
        // Other ports of the node are its own.
        let listener = std::net::TcpListener::bind((on.node(), 30090)).unwrap();
        outsider.netns.run(|| std::net::TcpStream::connect((on.node(), 30090)).unwrap()).unwrap();
        drop(listener);
    });
}

#[test]
fn pods_leave_the_cluster_with_the_nodes_address() {
    on_nodes(|on| {
        let [pod, other] = serving_pods();
        let outsider = Peer::outsider();
        outsider.serve(8080);
        let _kernel = loaded(&Table::new());
        assert_eq!(pod.call((on.outsider(), 8080)).unwrap(), (on.outsider(), on.uplink()));
        assert_eq!(pod.call((on.of(&other), 8080)).unwrap(), (on.of(&other), on.of(&pod)));
        assert_eq!(outsider.call((on.of(&pod), 8080)).unwrap(), (on.of(&pod), on.outsider()));
    });
}

#[test]
fn udp_and_several_ports_of_one_service() {
    on_nodes(|on| {
        let [a] = serving_pods();
        a.serve(5353);
        let dns = Backends::from(BTreeSet::from([Endpoint { ip: on.of(&a), port: 5353 }]));
        let _kernel = loaded(&Table::from([
            (on.cluster_ip(Protocol::Udp, 53), dns.clone()),
            (on.cluster_ip(Protocol::Tcp, 53), dns),
            (on.cluster_ip(Protocol::Tcp, 80), on.endpoints(&[&a])),
        ]));
        let socket = udp(on.0);
        assert_eq!(udp_call(&socket, (on.web(), 53).into()).unwrap(), (on.of(&a), on.node()));
        assert_eq!(call((on.web(), 53)).unwrap().0, on.of(&a));
        assert_eq!(call((on.web(), 80)).unwrap().0, on.of(&a));
    });
}

#[test]
fn an_address_that_the_node_answers_itself_is_not_translated() {
    on_nodes(|on| {
        let [a] = serving_pods();
        let _kernel = loaded(&Table::from([(on.cluster_ip(Protocol::Tcp, 80), on.endpoints(&[&a]))]));
        // A listener needs more than a local route in IPv6.
        let web = on.web().to_string();
        let add = match on.0 {
            Family::V4 => vec!["-4", "route", "add", "local", &web, "dev", "lo"],
            Family::V6 => vec!["-6", "address", "add", &web, "dev", "lo", "nodad"],
        };
        assert!(std::process::Command::new("ip").args(add).status().unwrap().success());
        let listener = std::net::TcpListener::bind((on.web(), 80)).unwrap();
        a.netns.run(|| std::net::TcpStream::connect((on.web(), 80)).unwrap()).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip(), on.of(&a));
    });
}

/// The claim this design exists for: endpoints come and go, and no new connection fails or even waits.
#[test]
fn no_connection_fails_while_endpoints_change() {
    on_nodes(|on| {
        let pods: [Peer; 4] = serving_pods();
        let client = Peer::pod(9);
        let web = on.cluster_ip(Protocol::Tcp, 80);
        let mut kernel = loaded(&Table::from([(web, on.endpoints(&[&pods[0]]))]));
        let (stop, made) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let caller = || {
                let mut slowest = Duration::ZERO;
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    call((on.web(), 80)).unwrap();
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
                change(&mut kernel, web, on.endpoints(&chosen));
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
    on_nodes(|on| {
        let [a, b] = serving_pods();
        let web = on.cluster_ip(Protocol::Tcp, 80);
        let mut kernel = loaded(&Table::from([(web, on.endpoints(&[&a]))]));
        let (mut stream, (server, _)) = open((on.web(), 80)).unwrap();
        let (mut from_pod, _) = b.netns.run(|| open((on.web(), 80))).unwrap().unwrap();
        assert_eq!(server, on.of(&a));
        change(&mut kernel, web, on.endpoints(&[&b]));
        assert_eq!(call((on.web(), 80)).unwrap().0, on.of(&b));
        let mut check = || {
            echo(&mut stream).unwrap();
            echo(&mut from_pod).unwrap();
        };
        check();
        kernel = loaded(&Table::from([(web, on.endpoints(&[&b]))]));
        check();
        drop(kernel);
        check();
    });
}

#[test]
fn nft_lists_the_table_and_removal_leaves_nothing() {
    on_nodes(|on| {
        let before = ruleset();
        let [a, b] = serving_pods();
        let web = on.cluster_ip(Protocol::Tcp, 80);
        let mut kernel = loaded(&Table::from([
            (web, on.endpoints(&[&a])),
            (on.node_port(Origin::External, 30080), on.endpoints(&[&a])),
        ]));
        let listed = ruleset();
        let (names, nat, node) = match on.0 {
            Family::V4 => (["10.43.0.9", "10.42.0.2", "service"], "ip", "192.168.77.1"),
            Family::V6 => (["fd43::9", "fd42::2", "service6"], "ip6", "2001:db8:77::1"),
        };
        let [web_ip, pod, shape] = names;
        for line in [
            format!("0x00000000 . {web_ip} . tcp . 80 : 0x00000001"),
            format!("0x00000000 . {web_ip} . tcp . 80 . 0x00000000 : {pod} . 8080"),
            "0x00100000 . tcp . 30080 : 0x00000001".into(),
            format!("0x00000001 : goto {shape}-pick-1"),
            format!("{pod} . {pod}"),
            format!("snat {nat} to {node} comment \"a pod that reaches itself through a service\""),
        ] {
            assert!(listed.contains(&line), "{line} is not in\n{listed}");
        }
        // More endpoints than chains made beforehand.
        let many: BTreeSet<Endpoint> =
            (0..40).map(|n| Endpoint { ip: if n % 2 == 0 { on.of(&a) } else { on.of(&b) }, port: 8080 + n }).collect();
        kernel.apply(&BTreeMap::from([(web, Some(many.into()))]), Vec::new(), Vec::new()).unwrap();
        assert!(ruleset().contains("numgen random mod 40"));
        kernel.apply(&BTreeMap::from([(web, None)]), Vec::new(), vec![on.of(&a)]).unwrap();
        assert!(!ruleset().contains(&on.web().to_string()));

        net_proxy::remove(&config().table).unwrap();
        net_proxy::remove(&config().table).unwrap();
        assert_eq!(ruleset(), before);
    });
}

#[test]
fn marks_of_other_programs_pass_untouched() {
    on_nodes(|on| {
        let [a] = serving_pods();
        let client = Peer::pod(9);
        let _kernel = loaded(&Table::from([(on.cluster_ip(Protocol::Tcp, 80), on.endpoints(&[&a]))]));
        let pod = if on.0 == Family::V4 { "ip daddr 10.42.0.2" } else { "ip6 daddr fd42::2" };
        let rules = format!(
            "table inet other {{
            chain pre {{ type filter hook prerouting priority mangle; meta mark set 0xab000042; }}
            chain out {{ type route hook output priority mangle; meta mark set 0xab000042; }}
            chain check {{ type filter hook postrouting priority 200; {pod} meta mark != 0xab000042 drop; }}
        }}"
        );
        assert!(std::process::Command::new("nft").arg(&rules).status().unwrap().success());
        assert_eq!(client.call((on.web(), 80)).unwrap().0, on.of(&a));
        assert_eq!(call((on.web(), 80)).unwrap().0, on.of(&a));
    });
}

#[test]
fn a_refused_change_names_what_was_refused_and_a_load_mends_it() {
    on_nodes(|on| {
        let [a, b] = serving_pods();
        let web = on.cluster_ip(Protocol::Tcp, 80);
        let mut kernel = loaded(&Table::from([(web, on.endpoints(&[&a]))]));
        // Somebody emptied our maps.
        let shape = if on.0 == Family::V4 { "service" } else { "service6" };
        for map in ["counts", "slots"].map(|map| format!("{shape}-{map}")) {
            let flush = ["flush", "map", "inet", "sampan-test", &map];
            assert!(std::process::Command::new("nft").args(flush).status().unwrap().success());
        }
        let error = kernel.apply(&BTreeMap::from([(web, None)]), Vec::new(), Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), format!("nftables transaction: delete elements of {shape}-counts"));
        kernel.load(&Table::from([(web, on.endpoints(&[&b]))]), &BTreeSet::new()).unwrap();
        assert_eq!(call((on.web(), 80)).unwrap().0, on.of(&b));
    });
}

/// A restart in mid traffic: at no moment does a first packet meet an empty map.
#[test]
fn a_resumed_table_changes_by_its_difference() {
    on_nodes(|on| {
        let [a, b] = serving_pods();
        let (web, port) = (on.cluster_ip(Protocol::Tcp, 80), on.node_port(Origin::External, 30080));
        let guarded = Backends {
            sources: Some(BTreeSet::from([match on.0 {
                Family::V4 => "192.168.88.0/24".parse().unwrap(),
                Family::V6 => "2001:db8:88::/48".parse().unwrap(),
            }])),
            ..on.endpoints(&[&a])
        };
        let other = on.cluster_ip(Protocol::Tcp, 81);
        let gone = on.cluster_ip(Protocol::Udp, 82);
        let silent = Backends { otherwise: Otherwise::Drop, ..Backends::default() };
        let mut table = Table::from([
            (web, on.sticky(&[&a, &b])),
            (port, guarded),
            (gone, on.endpoints(&[&a])),
            (on.cluster_ip(Protocol::Tcp, 83), silent),
        ]);
        drop(loaded(&table));
        let client = Peer::pod(9);
        let first = client.call((on.web(), 80)).unwrap().0;
        let before = ruleset_handles();
        let resumed = |table: &Table| {
            let mut kernel = Kernel::open(config()).unwrap();
            kernel.resume(table, &hairpins(table)).unwrap();
            kernel
        };
        // Nothing differs, nothing changes, not even a generation.
        let generation = nft_generation();
        drop(resumed(&table));
        assert_eq!(nft_generation(), generation);
        table.remove(&gone);
        table.insert(other, on.endpoints(&[&b]));
        let kernel = resumed(&table);
        assert_eq!(kernel.frontends(), 4);
        assert_eq!(ruleset_handles(), before, "no chain or map was made anew");
        assert_eq!(call((on.web(), 81)).unwrap().0, on.of(&b));
        assert_eq!(client.call((on.web(), 80)).unwrap().0, first);
        assert_eq!(udp_call(&udp(on.0), (on.web(), 82).into()).unwrap_err().kind(), ErrorKind::PermissionDenied);
        drop(kernel);

        // The remembered endpoint went while nobody watched.
        let survivor = if first == on.of(&a) { &b } else { &a };
        table.insert(web, on.sticky(&[survivor]));
        drop(resumed(&table));
        assert_eq!(client.call((on.web(), 80)).unwrap().0, on.of(survivor));

        // A table of another layout is replaced whole.
        let script = "delete table inet sampan-test; add table inet sampan-test { comment \"layout 0\"; };";
        assert!(std::process::Command::new("nft").arg(script).status().unwrap().success());
        drop(resumed(&table));
        assert_eq!(call((on.web(), 81)).unwrap().0, on.of(&b));
        // One that holds what we would not have written, too.
        let shape = if on.0 == Family::V4 { "service" } else { "service6" };
        let flush = ["flush", "map", "inet", "sampan-test", &format!("{shape}-counts")];
        assert!(std::process::Command::new("nft").args(flush).status().unwrap().success());
        drop(resumed(&table));
        assert_eq!(call((on.web(), 81)).unwrap().0, on.of(&b));
    });
}

/// Chains and maps by the numbers that the kernel gave them.
fn ruleset_handles() -> Vec<String> {
    let output = std::process::Command::new("nft").args(["-a", "-t", "list", "ruleset"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter(|line| line.contains("# handle") && !line.contains("elements"));
    lines.map(|line| line.trim().to_owned()).collect()
}

/// Counts the transactions of this namespace.
fn nft_generation() -> Vec<u8> {
    const GET_GENERATION: u16 = 0x0a10;
    let mut socket = netlink::Socket::open(netlink::Protocol::Netfilter).unwrap();
    // NLM_F_REQUEST, and the family header of netfilter.
    socket.send(&mut [netlink::Message::new(GET_GENERATION, 1, &[0; 4])]).unwrap();
    let mut generation = Vec::new();
    socket
        .answers(|_, body| generation = netlink::Attributes::after(body, 4).find(1).unwrap().payload.to_vec())
        .unwrap();
    assert_eq!(generation.len(), 4);
    generation
}
