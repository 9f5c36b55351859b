//! What ten thousand services cost the kernel: the data plane's own writer in a namespace of its own, without the API.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Instant;

use anyhow::{Context, Result};
use base_sys::netns::NetNs;
use net_proxy::{Backends, Endpoint, Frontend, FrontendAddress, Kernel, Network, Origin, Protocol, ProxyConfig};

use super::Setting;
use super::report::Report;
use super::stats::{median, milliseconds, percentile};

pub(super) const SERVICES: u32 = 10_000;
const LOADS: usize = 5;
const CHANGES: u32 = 1_000;

pub(super) fn measure(_: &Setting, report: &mut Report) -> Result<()> {
    let mut loads = Vec::new();
    let mut changes = Vec::new();
    for run in 0..LOADS {
        // A fresh namespace each time: nothing to replace.
        let netns = NetNs::create()?;
        let (load, some) = netns.run(|| once(run))??;
        loads.push(load);
        changes.extend(some);
    }
    let value = median(&loads).context("no loads")?;
    let worst = percentile(&loads, 1.0).unwrap_or(value);
    report.measured("service-load", value, format!("median of {LOADS} empty namespaces, worst {worst:.3} s"));
    let value = median(&changes).context("no changes")?;
    let p99 = percentile(&changes, 0.99).unwrap_or(value);
    report.measured("service-change", value, format!("median of {}, p99 {p99:.4} ms", changes.len()));
    Ok(())
}

/// Seconds of the first load, and milliseconds of each change after it.
fn once(run: usize) -> Result<(f64, Vec<f64>)> {
    let mut kernel = Kernel::open(ProxyConfig {
        table: format!("sampan-bench-{run}"),
        node_name: "one".into(),
        v4: Some(Network {
            cluster_cidr: "10.42.0.0/16".parse()?,
            service_cidr: "10.43.0.0/16".parse()?,
            node_ip: Ipv4Addr::new(192, 0, 2, 10),
        }),
        v6: None,
        pod_interface_prefix: "bench".into(),
        tunnel: "vx-bench".into(),
    })?;
    let frontends: BTreeMap<_, _> = (0..SERVICES).map(|service| (frontend(service), endpoints(service, 0))).collect();
    let begin = Instant::now();
    kernel.load(&frontends, &BTreeSet::new()).context("loading the services")?;
    let load = begin.elapsed().as_secs_f64();
    let mut changes = Vec::new();
    for change in 0..CHANGES {
        // Spread over the table; the prime keeps the order from being that of the load.
        let service = change * 7919 % SERVICES;
        let wanted = BTreeMap::from([(frontend(service), Some(endpoints(service, 1)))]);
        let begin = Instant::now();
        kernel.apply(&wanted, Vec::new(), Vec::new()).context("changing an endpoint")?;
        changes.push(milliseconds(begin.elapsed()));
    }
    Ok((load, changes))
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

/// Two endpoints; `generation` moves the second.
fn endpoints(service: u32, generation: u16) -> Backends {
    let ip = |last: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 42, 0, 0)) + service * 2 + last);
    BTreeSet::from([Endpoint { ip: ip(0).into(), port: 80 }, Endpoint { ip: ip(1).into(), port: 80 + generation }])
        .into()
}
