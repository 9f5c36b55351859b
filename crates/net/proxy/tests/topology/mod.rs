//! A node, its pods and an outsider, each in a fresh network namespace, and small servers that tell who called whom.
#![allow(dead_code)] // each test binary uses its part

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use base_sys::netns::NetNs;
use base_sys::route::{MacAddress, Request, Route, RouteSpec, Veth};
use net_proxy::ProxyConfig;

pub const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
pub const OUTSIDER: Ipv4Addr = Ipv4Addr::new(192, 168, 88, 2);
/// The node's address towards the outsider.
pub const UPLINK: Ipv4Addr = Ipv4Addr::new(192, 168, 88, 1);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const HOST_MAC: MacAddress = MacAddress([0xee; 6]);
const PREFIX: &str = "smpt";

pub fn config() -> ProxyConfig {
    ProxyConfig {
        table: "sampan-test".into(),
        cluster_cidr: "10.42.0.0/16".parse().unwrap(),
        service_cidr: "10.43.0.0/16".parse().unwrap(),
        node_name: "here".into(),
        node_ip: NODE,
        pod_interface_prefix: PREFIX.into(),
    }
}

/// Runs a story in a fresh node namespace: forwarding on, a route for services, no default route.
pub fn on_a_node(story: impl FnOnce() + Send) {
    NetNs::create()
        .unwrap()
        .run(|| {
            let mut route = Route::open().unwrap();
            let services = RouteSpec { source: Some(NODE), ..RouteSpec::to_link([10, 43, 0, 0].into(), 16, 1) };
            route
                .apply([Request::link_up(1), Request::add_address(1, NODE, 32), Request::set_route(&services)])
                .unwrap();
            base_sys::sysctl::write("net/ipv4/ip_forward", "1").unwrap();
            story();
        })
        .unwrap();
}

/// A namespace connected to the node's by a veth pair.
pub struct Peer {
    pub netns: NetNs,
    pub ip: Ipv4Addr,
}

impl Peer {
    pub fn pod(last: u8) -> Self {
        let ip = Ipv4Addr::new(10, 42, 0, last);
        Self::connect(&format!("{PREFIX}{last}"), ip, None)
    }

    pub fn outsider() -> Self {
        Self::connect("out0", OUTSIDER, Some(UPLINK))
    }

    fn connect(name: &str, ip: Ipv4Addr, host_address: Option<Ipv4Addr>) -> Self {
        let netns = NetNs::create().unwrap();
        let [a, b, c, d] = ip.octets();
        let mac = MacAddress([0x0a, 0x58, a, b, c, d]);
        let veth = Veth { name, mac: HOST_MAC, peer_name: "eth0", peer_mac: mac, mtu: None };
        let mut host = Route::open().unwrap();
        host.apply([Request::create_veth(&veth, netns.fd())]).unwrap();
        let index = host.link(name).unwrap().unwrap().index;
        let mut requests = vec![
            Request::set_neighbour(index, ip, mac),
            Request::set_route(&RouteSpec { source: host_address.or(Some(NODE)), ..RouteSpec::to_link(ip, 32, index) }),
        ];
        if let Some(address) = host_address {
            requests.insert(0, Request::add_address(index, address, 32));
        }
        host.apply(requests).unwrap();
        netns
            .run(|| {
                let mut route = Route::open().unwrap();
                let index = route.link("eth0").unwrap().unwrap().index;
                let default = RouteSpec { via: Some(GATEWAY), ..RouteSpec::to_link(Ipv4Addr::UNSPECIFIED, 0, index) };
                route
                    .apply([
                        Request::link_up(1),
                        Request::link_up(index),
                        Request::add_address(index, ip, 32),
                        Request::set_neighbour(index, GATEWAY, HOST_MAC),
                        Request::set_route(&default),
                    ])
                    .unwrap();
            })
            .unwrap();
        // Asking makes the kernel finish what the carrier's change began; until then the host end drops packets.
        assert!(host.link(name).unwrap().is_some());
        Self { netns, ip }
    }

    /// Answers every TCP connection and every UDP packet on `port` with "server caller", and each further byte on a
    /// connection with itself.
    pub fn serve(&self, port: u16) {
        let (tcp, udp) = self
            .netns
            .run(|| (TcpListener::bind(("0.0.0.0", port)).unwrap(), UdpSocket::bind(("0.0.0.0", port)).unwrap()))
            .unwrap();
        let ip = self.ip;
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
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
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            loop {
                let (_, peer) = udp.recv_from(&mut buffer).unwrap();
                // The caller may be gone.
                let _ = udp.send_to(format!("{ip} {}\n", peer.ip()).as_bytes(), peer);
            }
        });
    }

    pub fn call(&self, to: impl Into<SocketAddr>) -> io::Result<(Ipv4Addr, Ipv4Addr)> {
        let to = to.into();
        self.netns.run(move || call(to)).unwrap()
    }
}

/// Connects and returns (who answered, whom it saw calling). Gives up on a connection attempt after two seconds, so
/// that a dropped packet's retransmission does not hide it from the tests that forbid any.
pub fn call(to: impl Into<SocketAddr>) -> io::Result<(Ipv4Addr, Ipv4Addr)> {
    open(to).map(|(_, answer)| answer)
}

pub fn open(to: impl Into<SocketAddr>) -> io::Result<(TcpStream, (Ipv4Addr, Ipv4Addr))> {
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

pub fn udp_call(socket: &UdpSocket, to: SocketAddr) -> io::Result<(Ipv4Addr, Ipv4Addr)> {
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.connect(to)?;
    socket.send(b"?")?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer)?;
    Ok(parse(buffer[..length].trim_ascii_end()))
}

fn parse(line: &[u8]) -> (Ipv4Addr, Ipv4Addr) {
    let (server, caller) = std::str::from_utf8(line).unwrap().split_once(' ').unwrap();
    (server.parse().unwrap(), caller.parse().unwrap())
}

/// What `nft list ruleset` prints; fails when it cannot.
pub fn ruleset() -> String {
    let output = Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
