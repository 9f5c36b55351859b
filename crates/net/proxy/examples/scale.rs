//! How long the kernel takes with 10,000 Services of two endpoints, in a fresh network namespace. Needs root.
//!
//! `cargo run --release -p net-proxy --example scale`
#![allow(clippy::print_stdout)] // its output is the point

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use base_sys::netns::NetNs;
use net_proxy::{Backends, Endpoint, Frontend, FrontendAddress, Kernel, Network, Origin, Protocol, ProxyConfig};

const SERVICES: u32 = 10_000;
const ROUNDS: u32 = 1_000;

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Outcome {
    NetNs::create()?.run(measure)?
}

fn measure() -> Outcome {
    let mut kernel = Kernel::open(ProxyConfig {
        table: "sampan-scale".into(),
        node_name: "here".into(),
        pod_interface_prefix: "smp".into(),
        v4: Some(Network {
            cluster_cidr: "10.42.0.0/16".parse()?,
            service_cidr: "10.43.0.0/16".parse()?,
            node_ip: Ipv4Addr::LOCALHOST,
        }),
        v6: None,
        tunnel: "vx-smp".into(),
    })?;
    let table: BTreeMap<_, _> = (0..SERVICES).map(|n| (frontend(n), endpoints(n, 0))).collect();
    let start = Instant::now();
    kernel.load(&table, &BTreeSet::new())?;
    println!("load {SERVICES} services              {:9.3} ms", milliseconds(start.elapsed()));
    let start = Instant::now();
    kernel.load(&table, &BTreeSet::new())?;
    println!("replace them, as a restart does   {:9.3} ms", milliseconds(start.elapsed()));

    let none = Vec::new;
    report("change one endpoint", |round| {
        kernel.apply(&BTreeMap::from([(frontend(round), Some(endpoints(round, 1)))]), none(), none()).map(drop)
    })?;
    report("add a service", |round| {
        let new = SERVICES + round;
        kernel.apply(&BTreeMap::from([(frontend(new), Some(endpoints(new, 0)))]), none(), none()).map(drop)
    })?;
    report("remove a service", |round| {
        kernel.apply(&BTreeMap::from([(frontend(SERVICES + round), None)]), none(), none()).map(drop)
    })?;
    report("withdraw one of two endpoints", |round| {
        let one: BTreeSet<_> = endpoints(round, 1).endpoints.into_iter().take(1).collect();
        kernel.apply(&BTreeMap::from([(frontend(round), Some(one.into()))]), none(), none()).map(drop)
    })?;
    Ok(())
}

/// Runs `work` a thousand times and prints the median and the 99th percentile.
fn report<E>(what: &str, mut work: impl FnMut(u32) -> Result<(), E>) -> Result<(), E> {
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let start = Instant::now();
        work(round)?;
        times.push(start.elapsed());
    }
    times.sort();
    let at = |share: usize| milliseconds(times[times.len() * share / 100]);
    println!("{what:33} {:9.3} ms median, {:.3} ms p99", at(50), at(99));
    Ok(())
}

fn frontend(number: u32) -> Frontend {
    let ip = IpAddr::V4(Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 43, 0, 10)) + number));
    Frontend { origin: Origin::Cluster, address: FrontendAddress::Ip(ip), protocol: Protocol::Tcp, port: 80 }
}

fn endpoints(number: u32, generation: u16) -> Backends {
    let ip = |offset| IpAddr::V4(Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 42, 0, 1)) + 2 * number + offset));
    BTreeSet::from([Endpoint { ip: ip(0), port: 8080 }, Endpoint { ip: ip(1), port: 8080 + generation }]).into()
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
