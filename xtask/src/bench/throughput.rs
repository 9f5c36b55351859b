//! How much goes from pod to pod over one connection: on one node, and through the tunnel to another.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::{Cluster, Options, Place};

use super::Setting;
use super::report::Report;
use super::stats::median;

const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(1);
const CHUNK: usize = 128 * 1024;

pub(super) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let images = vec!["busybox"];
    let cluster = Cluster::start(setting.options(Options { nodes: 2, images, ..Options::default() }))?;
    cluster.only_node_addresses_pass()?;
    for (pod, node) in [("from", "n1"), ("near", "n1"), ("far", "n2")] {
        let place = format!("--overrides={{\"spec\":{{\"nodeName\":\"{node}\"}}}}");
        let run = ["run", pod, "--image=busybox", "--image-pull-policy=IfNotPresent", "--labels=app=bench", &place];
        cluster.kubectl(&[&run[..], &["--", "sleep", "infinity"]].concat())?.ok();
    }
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod", "-l", "app=bench", "--timeout=60s"])?.ok();
    let pods = cluster.pods("app=bench")?;
    let node = Place::of(&cluster.nodes()?[0])?;
    let from = Place::pod(&cluster, "from")?;
    let (mut loopback, mut near, mut far) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // In turn: the machine is not always as fast.
        loopback.push(one(&node, &node, IpAddr::from([127, 0, 0, 1]))?);
        for (name, samples) in [("near", &mut near), ("far", &mut far)] {
            let ip = *pods.get(name).context("a pod's address")?;
            samples.push(one(&Place::pod(&cluster, name)?, &from, ip)?);
        }
    }
    let loopback = median(&loopback).context("no rounds")?;
    for (row, samples) in [("throughput-node", near), ("throughput-tunnel", far)] {
        let value = median(&samples).context("no rounds")?;
        let times = value / loopback;
        let detail = format!(
            "median of {ROUNDS} rounds of 1 s, one connection; the node's loopback {loopback:.0} MB/s in the same run: {times:.2} ×"
        );
        report.measured(row, value, detail);
    }
    Ok(())
}

/// Megabytes a second that arrive.
fn one(server: &Place, client: &Place, ip: IpAddr) -> Result<f64> {
    let listener = server.run(|| TcpListener::bind(SocketAddr::new(ip, 0))).context("listening")?;
    let address = listener.local_addr().context("the address")?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || {
            client.run(|| -> Result<()> {
                let mut stream = TcpStream::connect(address).context("connecting")?;
                let (chunk, begin) = (vec![7; CHUNK], Instant::now());
                while begin.elapsed() < ROUND {
                    stream.write_all(&chunk).context("sending")?;
                }
                Ok(())
            })
        });
        let (mut stream, _) = listener.accept().context("accepting")?;
        let (mut buffer, mut bytes, begin) = (vec![0; CHUNK], 0, Instant::now());
        loop {
            match stream.read(&mut buffer).context("receiving")? {
                0 => break,
                length => bytes += length,
            }
        }
        let seconds = begin.elapsed().as_secs_f64();
        sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(bytes as f64 / 1e6 / seconds)
    })
}
