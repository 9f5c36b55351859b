//! A node, its pods and an outsider, each in a fresh network namespace with addresses of both families, and small
//! servers that tell who called whom.
#![allow(dead_code)] // each test binary uses its part

pub mod driven;
pub mod table;

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use base_sys::netns::NetNs;
use base_sys::route::{MacAddress, Request, Route, RouteSpec, Veth};
use net_proxy::{Family, Links, Network, ProxyConfig, Tunnel};

const NODE: [IpAddr; 2] = [v4(192, 168, 77, 1), v6(0x2001, 0xdb8, 0x77, 1)];
/// Of the node in the tunnel.
const TUNNEL: [IpAddr; 2] = [v4(10, 42, 0, 0), v6(0xfd42, 0, 0, 0)];
const OUTSIDER: [IpAddr; 2] = [v4(192, 168, 88, 2), v6(0x2001, 0xdb8, 0x88, 2)];
/// The node's address towards the outsider.
const UPLINK: [IpAddr; 2] = [v4(192, 168, 88, 1), v6(0x2001, 0xdb8, 0x88, 1)];
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const HOST_MAC: MacAddress = MacAddress([0xee; 6]);
const PREFIX: &str = "smpt";

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(a: u16, b: u16, c: u16, last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, last))
}

const fn index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

pub const fn node(family: Family) -> IpAddr {
    NODE[index(family)]
}

pub const fn outsider(family: Family) -> IpAddr {
    OUTSIDER[index(family)]
}

pub const fn uplink(family: Family) -> IpAddr {
    UPLINK[index(family)]
}

/// A service address.
pub const fn service(family: Family, last: u8) -> IpAddr {
    match family {
        Family::V4 => v4(10, 43, 0, last),
        Family::V6 => v6(0xfd43, 0, 0, last as u16),
    }
}

pub fn config() -> ProxyConfig {
    let network = |node_ip, cluster: &str, service: &str| Network {
        cluster_cidr: cluster.parse().unwrap(),
        service_cidr: service.parse().unwrap(),
        node_ip,
    };
    ProxyConfig {
        table: "sampan-test".into(),
        node_name: "here".into(),
        links: Links::Ours {
            prefix: PREFIX.into(),
            tunnel: Tunnel { link: "vx-test".into(), addresses: TUNNEL.to_vec() },
        },
        networks: vec![network(NODE[0], "10.42.0.0/16", "10.43.0.0/16"), network(NODE[1], "fd42::/56", "fd43::/108")],
        sockets: None,
    }
}

/// Runs a story in a fresh node namespace: forwarding on, a route for services, no default route.
pub fn on_a_node(story: impl FnOnce() + Send) {
    NetNs::create()
        .unwrap()
        .run(|| {
            let mut route = Route::open().unwrap();
            let (IpAddr::V4(four), IpAddr::V6(six)) = (NODE[0], NODE[1]) else { panic!("one of each family") };
            let services = RouteSpec { source: Some(four.into()), ..RouteSpec::to_link([10, 43, 0, 0], 16, 1) };
            route
                .apply([Request::link_up(1), Request::add_address(1, four, 32), Request::set_route(&services)])
                .unwrap();
            add_address6(six.into(), "lo");
            ip6(&format!("route add fd43::/108 dev lo src {six}"));
            base_sys::sysctl::write("net/ipv4/ip_forward", "1").unwrap();
            base_sys::sysctl::write("net/ipv6/conf/all/forwarding", "1").unwrap();
            story();
        })
        .unwrap();
}

fn ip6(arguments: &str) {
    let output = Command::new("ip").arg("-6").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip -6 {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Adds an IPv6 address and waits until it is one: the kernel makes it usable after the request, even where nobody is
/// asked whether it is taken.
fn add_address6(ip: IpAddr, link: &str) {
    ip6(&format!("address add {ip}/128 dev {link} nodad"));
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    let route = ["-6", "route", "show", "table", "local", &ip.to_string()];
    while Command::new("ip").args(route).output().unwrap().stdout.is_empty() {
        assert!(std::time::Instant::now() < deadline, "{ip} is not usable");
    }
}

/// A namespace connected to the node's by a veth pair.
pub struct Peer {
    pub netns: NetNs,
    ips: [IpAddr; 2],
}

impl Peer {
    pub fn pod(last: u8) -> Self {
        Self::connect(&format!("{PREFIX}{last}"), [v4(10, 42, 0, last), v6(0xfd42, 0, 0, last.into())], None)
    }

    pub fn outsider() -> Self {
        Self::connect("out0", OUTSIDER, Some(UPLINK))
    }

    pub fn ip(&self, family: Family) -> IpAddr {
        self.ips[index(family)]
    }

    fn connect(name: &str, ips: [IpAddr; 2], host_addresses: Option<[IpAddr; 2]>) -> Self {
        let netns = NetNs::create().unwrap();
        let six = ips[1];
        let (IpAddr::V4(ip), IpAddr::V4(host_address)) = (ips[0], host_addresses.unwrap_or(NODE)[0]) else {
            panic!("one of each family")
        };
        let [a, b, c, d] = ip.octets();
        let mac = MacAddress([0x0a, 0x58, a, b, c, d]);
        let veth = Veth { name, mac: HOST_MAC, peer_name: "eth0", peer_mac: mac, mtu: None };
        let mut host = Route::open().unwrap();
        host.apply([Request::create_veth(&veth, netns.fd())]).unwrap();
        let index = host.link(name).unwrap().unwrap().index;
        let mut requests = vec![
            Request::set_neighbour(index, ip, mac),
            Request::set_route(&RouteSpec { source: Some(host_address.into()), ..RouteSpec::to_link(ip, 32, index) }),
        ];
        if host_addresses.is_some() {
            requests.insert(0, Request::add_address(index, host_address, 32));
        }
        host.apply(requests).unwrap();
        netns
            .run(|| {
                let mut route = Route::open().unwrap();
                let index = route.link("eth0").unwrap().unwrap().index;
                let default =
                    RouteSpec { via: Some(GATEWAY.into()), ..RouteSpec::to_link(Ipv4Addr::UNSPECIFIED, 0, index) };
                route
                    .apply([
                        Request::link_up(1),
                        Request::link_up(index),
                        Request::add_address(index, ip, 32),
                        Request::set_neighbour(index, GATEWAY, HOST_MAC),
                        Request::set_route(&default),
                    ])
                    .unwrap();
                // Asking makes the kernel finish what the carrier's change began; until then an end drops packets,
                // and IPv6 has no addresses.
                assert!(route.link("eth0").unwrap().is_some());
                add_address6(six, "eth0");
                ip6("neighbour add fe80::1 lladdr ee:ee:ee:ee:ee:ee nud permanent dev eth0");
                ip6("route add default via fe80::1 dev eth0");
            })
            .unwrap();
        assert!(host.link(name).unwrap().is_some());
        let mac6 = format!("0a:58:{a:02x}:{b:02x}:{c:02x}:{d:02x}");
        if let Some(addresses) = host_addresses {
            add_address6(addresses[1], name);
        }
        ip6(&format!("neighbour add {six} lladdr {mac6} nud permanent dev {name}"));
        ip6(&format!("route add {six}/128 dev {name} src {}", host_addresses.unwrap_or(NODE)[1]));
        Self { netns, ips }
    }

    /// Answers every TCP connection and every UDP packet on `port` with "server caller", and each further byte on a
    /// connection with itself.
    pub fn serve(&self, port: u16) {
        for (ip, any) in [(self.ips[0], v4(0, 0, 0, 0)), (self.ips[1], self.ips[1])] {
            let sockets = || (TcpListener::bind((any, port)).unwrap(), UdpSocket::bind((any, port)).unwrap());
            let (tcp, udp) = self.netns.run(sockets).unwrap();
            std::thread::spawn(move || answer_tcp(&tcp, ip));
            std::thread::spawn(move || answer_udp(&udp, ip));
        }
    }

    pub fn call(&self, to: impl Into<SocketAddr>) -> io::Result<(IpAddr, IpAddr)> {
        let to = to.into();
        self.netns.run(move || call(to)).unwrap()
    }
}

fn answer_tcp(listener: &TcpListener, ip: IpAddr) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        std::thread::spawn(move || -> io::Result<()> {
            let peer = stream.peer_addr()?.ip();
            stream.write_all(format!("{ip} {peer}\n").as_bytes())?;
            let mut byte = [0];
            while stream.read(&mut byte)? == 1 {
                stream.write_all(&byte)?;
            }
            Ok(())
        });
    }
}

fn answer_udp(socket: &UdpSocket, ip: IpAddr) {
    let mut buffer = [0; 64];
    loop {
        let (_, peer) = socket.recv_from(&mut buffer).unwrap();
        // The caller may be gone.
        let _ = socket.send_to(format!("{ip} {}\n", peer.ip()).as_bytes(), peer);
    }
}

/// Connects and returns (who answered, whom it saw calling). Gives up on a connection attempt after two seconds, so
/// that a dropped packet's retransmission does not hide it from the tests that forbid any.
pub fn call(to: impl Into<SocketAddr>) -> io::Result<(IpAddr, IpAddr)> {
    open(to).map(|(_, answer)| answer)
}

pub fn open(to: impl Into<SocketAddr>) -> io::Result<(TcpStream, (IpAddr, IpAddr))> {
    let mut stream = TcpStream::connect_timeout(&to.into(), Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte)?;
        if byte[0] == b'\n' {
            break;
        }
        line.push(byte[0]);
    }
    Ok((stream, parse(&line)))
}

/// One byte there and back on an open connection.
pub fn echo(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0])
}

/// A socket of any address of the family.
pub fn udp(family: Family) -> UdpSocket {
    let any = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    UdpSocket::bind((any, 0)).unwrap()
}

pub fn udp_call(socket: &UdpSocket, to: SocketAddr) -> io::Result<(IpAddr, IpAddr)> {
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.connect(to)?;
    socket.send(b"?")?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer)?;
    Ok(parse(buffer[..length].trim_ascii_end()))
}

fn parse(line: &[u8]) -> (IpAddr, IpAddr) {
    let (server, caller) = std::str::from_utf8(line).unwrap().split_once(' ').unwrap();
    (server.parse().unwrap(), caller.parse().unwrap())
}

/// What `nft list ruleset` prints; fails when it cannot.
pub fn ruleset() -> String {
    let output = Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
