//! What services cost the kernel beside the benchmark's rows, in fresh network namespaces. Needs root.
//!
//! `cargo run --release -p net-proxy --example scale` adds and withdraws one among 100, 1,000, 10,000 and 50,000, restarts
//! on 10,000 services of ten endpoints, and compares connections through one of 10,000 with direct ones.
#![allow(clippy::print_stdout)] // its output is the point

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use base_sys::netns::NetNs;
use base_sys::route::{MacAddress, Request, Route, RouteSpec, Veth};
use net_proxy::{
    Backends, Endpoint, Frontend, FrontendAddress, Kernel, Links, Network, Origin, Protocol, ProxyConfig, Tunnel,
};

const ROUNDS: u32 = 1_000;
const CONNECTIONS: usize = 20_000;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Outcome {
    println!("one change, milliseconds   service p50    p99   withdrawal p50    p99");
    for services in [100, 1_000, 10_000, 50_000] {
        NetNs::create()?.run(|| changes(services))??;
    }
    NetNs::create()?.run(restart)??;
    NetNs::create()?.run(connections)?
}

fn kernel() -> Outcome<Kernel> {
    Ok(Kernel::open(ProxyConfig {
        table: "sampan-scale".into(),
        node_name: "here".into(),
        links: Links::Ours { prefix: "smp".into(), tunnel: Tunnel { link: "smpx".into(), addresses: Vec::new() } },
        networks: vec![Network {
            cluster_cidr: "10.64.0.0/10".parse()?,
            service_cidr: "10.32.0.0/12".parse()?,
            node_ip: Ipv4Addr::new(192, 168, 77, 1).into(),
        }],
        sockets: None,
    })?)
}

fn table(services: u32, size: u32) -> BTreeMap<Frontend, Backends> {
    (0..services).map(|n| (frontend(n), endpoints(n, size))).collect()
}

fn changes(services: u32) -> Outcome {
    let mut kernel = kernel()?;
    kernel.load(&table(services, 2), &BTreeSet::new())?;
    let mut measure = |wanted: &dyn Fn(u32) -> (Frontend, Backends)| -> Outcome<(f64, f64)> {
        let mut times = Vec::new();
        for round in 0..ROUNDS {
            let (frontend, backends) = wanted(round);
            let change = BTreeMap::from([(frontend, Some(backends))]);
            let start = Instant::now();
            kernel.apply(&change, Vec::new(), Vec::new())?;
            times.push(start.elapsed());
        }
        Ok(p50_and_p99(times))
    };
    let service = measure(&|round| (frontend(services + round), endpoints(round, 2)))?;
    let withdrawal = measure(&|round| (frontend(services + round), endpoints(round, 1)))?;
    let [a, b] = [service, withdrawal];
    println!("  among {services:6}                  {:6.4} {:6.4}           {:6.4} {:6.4}", a.0, a.1, b.0, b.1);
    Ok(())
}

fn restart() -> Outcome {
    let table = table(10_000, 10);
    kernel()?.load(&table, &BTreeSet::new())?;
    let start = Instant::now();
    kernel()?.resume(&table, &BTreeSet::new())?;
    println!(
        "restart with nothing changed among 10,000 services of 10 endpoints: {:.3} s",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Connect, read a byte, close: by the pod's address and through a service in turn, on a node with 10,000 services.
fn connections() -> Outcome {
    let node = Ipv4Addr::new(192, 168, 77, 1);
    let pod = Ipv4Addr::new(10, 64, 0, 2);
    let netns = NetNs::create()?;
    let mut route = Route::open()?;
    let (here, there) = (MacAddress([0xee; 6]), MacAddress([0x0a, 0x58, 10, 64, 0, 2]));
    let veth = Veth { name: "smp2", mac: here, peer_name: "eth0", peer_mac: there, mtu: None };
    let services = RouteSpec { source: Some(node.into()), ..RouteSpec::to_link(Ipv4Addr::new(10, 32, 0, 0), 12, 1) };
    route.apply([Request::link_up(1), Request::add_address(1, node, 32), Request::set_route(&services)])?;
    route.apply([Request::create_veth(&veth, netns.fd())])?;
    let index = route.link("smp2")?.ok_or("no link")?.index;
    let to_pod = RouteSpec { source: Some(node.into()), ..RouteSpec::to_link(pod, 32, index) };
    route.apply([Request::set_neighbour(index, pod, there), Request::set_route(&to_pod)])?;
    let listener = netns.run(|| -> Outcome<TcpListener> {
        let gateway = Ipv4Addr::new(169, 254, 1, 1);
        let mut route = Route::open()?;
        let index = route.link("eth0")?.ok_or("no link")?.index;
        let default = RouteSpec { via: Some(gateway.into()), ..RouteSpec::to_link(Ipv4Addr::UNSPECIFIED, 0, index) };
        route.apply([
            Request::link_up(1),
            Request::link_up(index),
            Request::add_address(index, pod, 32),
            Request::set_neighbour(index, gateway, here),
            Request::set_route(&default),
        ])?;
        Ok(TcpListener::bind((pod, 8080))?)
    })??;
    route.link("smp2")?;
    base_sys::sysctl::write("net/ipv4/ip_forward", "1")?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // The client may be gone.
            let _ = std::io::Write::write_all(&mut &stream, b"x");
        }
    });
    let mut kernel = kernel()?;
    kernel.load(&table(10_000, 2), &BTreeSet::new())?;
    let web = frontend(20_000);
    let one = BTreeSet::from([Endpoint { ip: pod.into(), port: 8080 }]);
    kernel.apply(&BTreeMap::from([(web, Some(one.into()))]), Vec::new(), Vec::new())?;
    let FrontendAddress::Ip(service) = web.address else { return Err("not an address".into()) };
    let (mut direct, mut through) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        direct.push(connection((pod, 8080).into())?);
        through.push(connection((service, 80).into())?);
    }
    let (direct, through) = (p50_and_p99(direct), p50_and_p99(through));
    println!(
        "connect, read, close, milliseconds: direct {:.4} (p99 {:.4}), through a service {:.4} (p99 {:.4}): {:.2} times",
        direct.0,
        direct.1,
        through.0,
        through.1,
        through.0 / direct.0
    );
    Ok(())
}

fn connection(to: SocketAddr) -> Outcome<Duration> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(to)?;
    stream.read_exact(&mut [0])?;
    drop(stream);
    Ok(start.elapsed())
}

fn p50_and_p99(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort();
    let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1e3;
    (at(50), at(99))
}

fn frontend(number: u32) -> Frontend {
    let ip = IpAddr::V4(Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 32, 0, 10)) + number));
    Frontend { origin: Origin::Cluster, address: FrontendAddress::Ip(ip), protocol: Protocol::Tcp, port: 80 }
}

fn endpoints(number: u32, count: u32) -> Backends {
    let endpoint = |index: u32| {
        let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 64, 0, 3)) + number * 10 + index);
        Endpoint { ip: ip.into(), port: 8080 }
    };
    (0..count).map(endpoint).collect::<BTreeSet<_>>().into()
}
