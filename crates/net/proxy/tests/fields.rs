//! What a Service can say beyond its cluster IP, as packets see it: balancer addresses and their sources, silence,
//! loopback, SCTP. Needs root.
#![allow(clippy::unwrap_used)]

mod topology;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base_sys::sysctl;
use net_proxy::{Backends, Family, Origin, Otherwise, Protocol, ROUTE_LOOPBACK};
use topology::table::{On, Table, change, loaded, on_nodes, serving_pods};
use topology::{Peer, call, on_a_node};

fn balancer(on: On) -> IpAddr {
    match on.0 {
        Family::V4 => [203, 0, 113, 7].into(),
        Family::V6 => "2001:db8:ffff::7".parse().unwrap(),
    }
}

#[test]
fn a_balancers_address_is_translated_for_everybody() {
    on_nodes(|on| {
        let [a, b] = serving_pods();
        let (outsider, client) = (Peer::outsider(), Peer::pod(9));
        let at = |origin| on.at(origin, balancer(on), Protocol::Tcp, 80);
        // A route leads there, as the balancer's or the router's would lead here.
        add_route(on, balancer(on));
        let _kernel = loaded(&Table::from([
            (at(Origin::External), on.endpoints(&[&a])),
            (at(Origin::Cluster), on.endpoints(&[&b])),
        ]));
        assert_eq!(outsider.call((balancer(on), 80)).unwrap(), (on.of(&a), on.outsider()));
        assert_eq!(client.call((balancer(on), 80)).unwrap(), (on.of(&b), on.of(&client)));
        assert_eq!(call((balancer(on), 80)).unwrap().0, on.of(&b));
    });
}

/// For the node's own connections: any route will do, since the address is translated on its way out.
fn add_route(on: On, ip: IpAddr) {
    let (family, source) = (if on.0 == Family::V4 { "-4" } else { "-6" }, on.node().to_string());
    let route = ["route", "add", &ip.to_string(), "dev", "lo", "src", &source];
    assert!(std::process::Command::new("ip").arg(family).args(route).status().unwrap().success());
}

#[test]
fn only_the_given_sources_reach_a_guarded_front_end() {
    on_nodes(|on| {
        let [a, b] = serving_pods();
        let (outsider, client) = (Peer::outsider(), Peer::pod(9));
        let blocks = |texts: &[&str]| Some(texts.iter().map(|text| text.parse().unwrap()).collect::<BTreeSet<_>>());
        let (outside, pods) = match on.0 {
            Family::V4 => ("192.168.88.0/24", "10.42.0.9/32"),
            Family::V6 => ("2001:db8:88::/48", "fd42::9/128"),
        };
        let at = |origin| on.at(origin, balancer(on), Protocol::Tcp, 80);
        let guarded = |pods: &[&Peer], texts: &[&str]| Backends { sources: blocks(texts), ..on.endpoints(pods) };
        let mut kernel = loaded(&Table::from([
            (at(Origin::External), guarded(&[&a], &[outside])),
            (at(Origin::Cluster), guarded(&[&a], &[outside])),
            (on.cluster_ip(Protocol::Tcp, 80), on.endpoints(&[&a])),
        ]));
        let reaches = |peer: &Peer| match peer.call((balancer(on), 80)) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::TimedOut, "dropped, not refused");
                false
            }
        };
        assert!(reaches(&outsider) && !reaches(&client));
        // Other front ends of the same Service know no guard.
        client.call((on.web(), 80)).unwrap();
        // Sources and endpoints change apart from each other.
        change(&mut kernel, at(Origin::Cluster), guarded(&[&a, &b], &[outside, pods]));
        assert!(reaches(&client));
        change(&mut kernel, at(Origin::External), guarded(&[&a, &b], &[pods]));
        assert!(!reaches(&outsider));
        // Without endpoints, whoever may come is refused at once.
        change(&mut kernel, at(Origin::Cluster), guarded(&[], &[pods]));
        assert_eq!(client.call((balancer(on), 80)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let sticky = Backends { sources: blocks(&[pods]), ..on.sticky(&[&a, &b]) };
        change(&mut kernel, at(Origin::Cluster), sticky);
        let first = client.call((balancer(on), 80)).unwrap().0;
        (0..10).for_each(|_| assert_eq!(client.call((balancer(on), 80)).unwrap().0, first));
        change(&mut kernel, at(Origin::External), on.endpoints(&[&b]));
        assert!(reaches(&outsider));
        topology::ruleset();
    });
}

#[test]
fn a_local_policy_without_endpoints_here_is_silent() {
    on_nodes(|on| {
        let outsider = Peer::outsider();
        let silent = Backends { otherwise: Otherwise::Drop, ..Backends::default() };
        let port = on.node_port(Origin::External, 30080);
        let mut kernel = loaded(&Table::from([(port, silent)]));
        assert_eq!(outsider.call((on.uplink(), 30080)).unwrap_err().kind(), ErrorKind::TimedOut);
        change(&mut kernel, port, Backends::default());
        assert_eq!(outsider.call((on.uplink(), 30080)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn loopback_has_node_ports_and_nobody_else_reaches_it() {
    on_a_node(|| {
        let on = On(Family::V4);
        let [a] = serving_pods();
        let outsider = Peer::outsider();
        let port = |origin| (on.node_port(origin, 30080), on.endpoints(&[&a]));
        let _kernel = loaded(&Table::from([port(Origin::Cluster), port(Origin::External)]));
        sysctl::write(ROUTE_LOOPBACK.0, ROUTE_LOOPBACK.1).unwrap();
        assert_eq!(call((Ipv4Addr::LOCALHOST, 30080)).unwrap(), (on.of(&a), on.node()));
        assert_eq!(call((Ipv4Addr::new(127, 0, 0, 2), 30080)).unwrap().0, on.of(&a));

        // A service of loopback stays the host's own: neither a pod nor a neighbour gets a packet to it.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 9090)).unwrap();
        TcpStream::connect((Ipv4Addr::LOCALHOST, 9090)).unwrap();
        listener.accept().unwrap();
        for peer in [&a, &outsider] {
            let attempt = |port: u16| {
                peer.netns
                    .run(move || {
                        // Loopback addresses leave this namespace as any others do.
                        sysctl::write("net/ipv4/conf/all/route_localnet", "1").unwrap();
                        let rule = "ip address del 127.0.0.1/8 dev lo 2>/dev/null; ip route replace 127.0.0.0/8 dev eth0 via 169.254.1.1 onlink; ip route flush table local 127.0.0.0/8; true";
                        std::process::Command::new("sh").args(["-c", rule]).status().unwrap();
                        TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), Duration::from_secs(1))
                    })
                    .unwrap()
            };
            for port in [9090, 30080] {
                assert_eq!(attempt(port).unwrap_err().kind(), ErrorKind::TimedOut, "port {port}");
            }
        }
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);

        // Nor does a process of the node send from a loopback address to where no node port leads.
        let from_loopback = std::process::Command::new("nft")
            .arg("table ip test { chain out { type filter hook postrouting priority 300; ip saddr 127.0.0.0/8 oifname != lo counter; }; }")
            .status()
            .unwrap();
        assert!(from_loopback.success());
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        // The packet is dropped on its way out.
        assert_eq!(socket.send_to(b"?", (on.of(&a), 8080)).unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert!(topology::ruleset().contains("counter packets 0"));
    });
}

/// Runs one side of the handshake in a peer's namespace.
fn sctp(peer: &Peer, role: &str, address: IpAddr, port: u16) -> Child {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sctp.py");
    let arguments = [script, role, &address.to_string(), &port.to_string()];
    peer.netns.run(|| Command::new("python3").args(arguments).stdout(Stdio::piped()).spawn().unwrap()).unwrap()
}

#[test]
fn sctp_is_translated_there_and_back() {
    on_nodes(|on| {
        let (server, client) = (Peer::pod(2), Peer::pod(9));
        let web = on.cluster_ip(Protocol::Sctp, 80);
        // The same address and port over TCP are another front end.
        let _kernel = loaded(&Table::from([
            (web, on.endpoints(&[&server])),
            (on.cluster_ip(Protocol::Tcp, 80), Backends::default()),
        ]));
        let mut answering = sctp(&server, "server", on.of(&server), 8080);
        let mut said = BufReader::new(answering.stdout.take().unwrap()).lines();
        assert_eq!(said.next().unwrap().unwrap(), "ready");
        let asking = sctp(&client, "client", on.web(), 80).wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&asking.stdout), format!("{} 80\n", on.web()));
        assert_eq!(said.next().unwrap().unwrap(), on.of(&client).to_string());
        assert!(answering.wait().unwrap().success() && asking.status.success());
        assert_eq!(client.call((on.web(), 80)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}
