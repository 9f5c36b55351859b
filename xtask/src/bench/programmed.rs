//! From a write to the API until the kernel has it, in a cluster with ten thousand services.
//!
//! The kernel itself says when: it notifies listeners of every nftables transaction, as `nft monitor` shows.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::{Cluster, Options};
use hyper::Method;
use netlink_sys::{Socket, SocketAddr};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Setting;
use super::api::Api;
use super::disk::durable_write;
use super::inside::inside;
use super::kernel::SERVICES;
use super::report::Report;
use super::stats::{median, milliseconds, percentile};
use super::tutorial::{NAMESPACE, PATIENCE};

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const WRITERS: u32 = 16;
const WRITES: u32 = 500;
const PACE: Duration = Duration::from_millis(10);
/// Without a transaction for so long, everything is programmed.
const QUIET: Duration = Duration::from_secs(1);
/// NFNLGRP_NFTABLES of linux/netfilter/nfnetlink.h.
const NFTABLES_GROUP: u32 = 7;

pub(super) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let cluster = Cluster::start(setting.options(Options::default()))?;
    let api = Api::new(&cluster.data_dir().join("kubeconfig.yaml"))?;
    inside(&cluster.namespace, || async {
        let mut monitor = Monitor::open()?;
        let begin = Instant::now();
        fill(&api).await?;
        let filled = begin.elapsed();
        while tokio::time::timeout(QUIET, monitor.transaction()).await.is_ok() {
            monitor.drain();
        }
        let samples = latencies(&api, &mut monitor).await?;
        let value = percentile(&samples, 0.99).context("no writes")?;
        let detail = format!(
            "{} writes from sending the PATCH, p50 {:.2} ms, worst {:.2} ms; creating the services took {:.1} s; \
             a durable write of the disk alone {:.2} ms",
            samples.len(),
            median(&samples).unwrap_or(value),
            percentile(&samples, 1.0).unwrap_or(value),
            filled.as_secs_f64(),
            durable_write(&cluster.data_dir())?
        );
        report.measured("service-programmed", value, detail);
        Ok(())
    })
}

async fn latencies(api: &Api, monitor: &mut Monitor) -> Result<Vec<f64>> {
    let mut connection = api.connect().await?;
    let mut pace = tokio::time::interval(PACE);
    let mut samples = Vec::new();
    for write in 0..WRITES {
        pace.tick().await;
        monitor.drain();
        let service = write * 7919 % SERVICES;
        let endpoints = endpoints(service, 1 + write);
        let sent = Instant::now();
        let path = format!("{SLICES}/service-{service}");
        let written = connection.call(Method::PATCH, &path, json!({"endpoints": endpoints}).to_string());
        let programmed = async {
            let transaction = tokio::time::timeout(PATIENCE, monitor.transaction()).await;
            transaction.context("the kernel was not told in time")?
        };
        let (_, programmed) = tokio::try_join!(written, programmed)?;
        samples.push(milliseconds(programmed - sent));
    }
    Ok(samples)
}

/// Creates the services, each with a slice of two endpoints of its own.
async fn fill(api: &Api) -> Result<()> {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let api = api.clone();
        writers.spawn(async move {
            let mut connection = api.connect().await?;
            for service in (writer..SERVICES).step_by(WRITERS as usize) {
                let name = format!("service-{service}");
                let object = json!({
                    "apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}]},
                });
                connection.call(Method::POST, &format!("{NAMESPACE}/services"), object.to_string()).await?;
                let slice = json!({
                    "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                    "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
                    "ports": [{"name": "", "port": 80, "protocol": "TCP"}], "endpoints": endpoints(service, 0),
                });
                connection.call(Method::POST, SLICES, slice.to_string()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.context("a writer")??;
    }
    Ok(())
}

/// Addresses outside the cluster's own; `generation` moves the second.
fn endpoints(service: u32, generation: u32) -> Value {
    let ip = |low: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 0)) + low);
    let conditions = json!({"ready": true});
    json!([
        {"addresses": [ip(service)], "conditions": conditions},
        {"addresses": [ip(SERVICES + service + generation * 16)], "conditions": conditions},
    ])
}

/// The kernel's notifications of nftables transactions in this namespace.
pub(super) struct Monitor {
    arrivals: mpsc::UnboundedReceiver<Instant>,
}

impl Monitor {
    pub(super) fn open() -> Result<Self> {
        let mut socket = Socket::new(nix::libc::NETLINK_NETFILTER as isize).context("opening a netlink socket")?;
        socket.bind(&SocketAddr::new(0, 0)).context("binding a netlink socket")?;
        socket.add_membership(NFTABLES_GROUP).context("listening to nftables")?;
        // A first load may overrun the buffer; only that something came is read.
        socket.set_no_enobufs(true).context("ignoring overruns")?;
        let (seen, arrivals) = mpsc::unbounded_channel();
        std::thread::spawn(move || listen(&socket, &seen));
        Ok(Self { arrivals })
    }

    /// When the next transaction was committed.
    pub(super) async fn transaction(&mut self) -> Result<Instant> {
        self.arrivals.recv().await.context("nobody listens to the kernel any more")
    }

    /// Forgets what has been notified.
    pub(super) fn drain(&mut self) {
        while self.arrivals.try_recv().is_ok() {}
    }
}

/// Ends when nobody is interested.
fn listen(socket: &Socket, seen: &mpsc::UnboundedSender<Instant>) {
    let mut buffer = Vec::with_capacity(64 * 1024);
    while !seen.is_closed() {
        let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        if poll(&mut waiting, PollTimeout::from(100_u8)).is_ok_and(|ready| ready > 0) {
            let at = Instant::now();
            buffer.clear();
            if socket.recv(&mut buffer, nix::libc::MSG_DONTWAIT).is_ok() && seen.send(at).is_err() {
                return;
            }
        }
    }
}
