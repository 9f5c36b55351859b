//! What services cost the kernel, ten thousand and other numbers: the data plane's own writer in a namespace of its own, without the API.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Instant;

use anyhow::{Context, Result};
use base_sys::netns::NetNs;
use net_proxy::{
    Backends, Endpoint, Frontend, FrontendAddress, Kernel, Links, Network, Origin, Protocol, ProxyConfig, Tunnel,
};

use super::Setting;
use super::report::Report;
use super::stats::{median, milliseconds, percentile};

pub(super) const SERVICES: u32 = 10_000;
const LOADS: usize = 5;
const CHANGES: u32 = 1_000;
/// Of the tables that are compared, the smallest one first.
const SIZES: [u32; 4] = [100, 1_000, SERVICES, 50_000];
const ENDPOINTS: u32 = 10;

pub(super) fn measure(_: &Setting, report: &mut Report) -> Result<()> {
    let (mut loads, mut changes) = (Vec::new(), BTreeMap::<u32, Vec<f64>>::new());
    for _ in 0..LOADS {
        // In turn: the machine is not always as fast.
        for size in SIZES {
            let run = once(size, 2)?;
            changes.entry(size).or_default().extend(run.changes);
            if size == SERVICES {
                loads.push(run.load);
            }
        }
    }
    let value = median(&loads).context("no loads")?;
    let worst = percentile(&loads, 1.0).unwrap_or(value);
    report.measured("service-load", value, format!("median of {LOADS} empty namespaces, worst {worst:.3} s"));
    let text = |samples: &[f64]| {
        let (half, p99) = (median(samples).unwrap_or(f64::NAN), percentile(samples, 0.99).unwrap_or(f64::NAN));
        format!("median of {} {half:.4} ms, p99 {p99:.4} ms", samples.len())
    };
    let medians = changes.iter().map(|(size, samples)| Some((*size, median(samples)?)));
    let medians = medians.collect::<Option<BTreeMap<_, _>>>().context("no changes")?;
    report.measured("service-change", medians[&SERVICES], text(&changes[&SERVICES]));
    let slowest = medians.values().copied().fold(0.0, f64::max);
    let detail: Vec<_> = changes.iter().map(|(size, samples)| format!("among {size}: {}", text(samples))).collect();
    report.measured("service-flat", slowest / medians[&SIZES[0]], detail.join("; "));
    let ten = once(SERVICES, ENDPOINTS)?;
    report.measured("service-load-10", ten.load, "one empty namespace");
    let detail = format!("{:.2} KB of this process, {:.2} KB of the kernel's", ten.ours, ten.kernels);
    report.measured("service-memory", ten.ours + ten.kernels, detail);
    Ok(())
}

/// A first load, and changes of one service each after it.
struct Run {
    /// Seconds.
    load: f64,
    /// Milliseconds.
    changes: Vec<f64>,
    /// Kilobytes for a service, of this process and of the kernel.
    ours: f64,
    kernels: f64,
}

/// In a fresh namespace: nothing to replace.
fn once(services: u32, size: u32) -> Result<Run> {
    NetNs::create()?.run(|| inside(services, size))?
}

fn inside(services: u32, size: u32) -> Result<Run> {
    let mut kernel = Kernel::open(ProxyConfig {
        table: "sampan-bench".into(),
        node_name: "one".into(),
        networks: vec![Network {
            cluster_cidr: "10.42.0.0/16".parse()?,
            service_cidr: "10.43.0.0/16".parse()?,
            node_ip: Ipv4Addr::new(192, 0, 2, 10).into(),
        }],
        links: Links::Ours {
            prefix: "bench".into(),
            tunnel: Tunnel { link: "vx-bench".into(), addresses: vec![Ipv4Addr::new(10, 42, 0, 0).into()] },
        },
        sockets: None,
    })?;
    let table: BTreeMap<_, _> = (0..services).map(|service| (frontend(service), endpoints(service, size, 0))).collect();
    let before = (resident()?, slab()?);
    let begin = Instant::now();
    kernel.load(&table, &BTreeSet::new()).context("loading the services")?;
    let load = begin.elapsed().as_secs_f64();
    let each = |now: f64, before: f64| (now - before).max(0.0) / f64::from(services);
    let (ours, kernels) = (each(resident()?, before.0), each(slab()?, before.1));
    let mut changes = Vec::new();
    for change in 0..CHANGES {
        // Spread over the table; the prime keeps the order from being that of the load.
        let service = change * 7919 % services;
        let generation = u16::try_from(1 + change / services).unwrap_or(u16::MAX);
        let wanted = BTreeMap::from([(frontend(service), Some(endpoints(service, size, generation)))]);
        let begin = Instant::now();
        kernel.apply(&wanted, Vec::new(), Vec::new()).context("changing an endpoint")?;
        changes.push(milliseconds(begin.elapsed()));
    }
    Ok(Run { load, changes, ours, kernels })
}

/// Kilobytes of this process.
fn resident() -> Result<f64> {
    field("/proc/self/status", "VmRSS:")
}

/// Kilobytes that the kernel has in its allocators; other programs' doings are in it as well.
fn slab() -> Result<f64> {
    Ok(field("/proc/meminfo", "Slab:")? + field("/proc/meminfo", "Percpu:")?)
}

fn field(path: &str, name: &str) -> Result<f64> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let line =
        text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("{path} has no {name}"))?;
    let kibibytes: f64 =
        line.trim().trim_end_matches(" kB").trim().parse().with_context(|| format!("{path}: {name}"))?;
    Ok(kibibytes * 1.024)
}

fn frontend(service: u32) -> Frontend {
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 43, 1, 0)) + service);
    Frontend {
        origin: Origin::Cluster,
        address: FrontendAddress::Ip(address.into()),
        protocol: Protocol::Tcp,
        port: 80,
    }
}

/// `generation` moves the last one.
fn endpoints(service: u32, size: u32, generation: u16) -> Backends {
    let first = u32::from(Ipv4Addr::new(10, 64, 0, 0)) + service * size;
    let port = |number: u32| if number + 1 == size { 80 + generation } else { 80 };
    let all = (0..size).map(|number| Endpoint { ip: Ipv4Addr::from(first + number).into(), port: port(number) });
    all.collect::<BTreeSet<_>>().into()
}
