//! How many questions the cluster's DNS answers, and how soon.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Options, Place};

use super::Setting;
use super::report::Report;
use super::stats::{median, milliseconds, percentile};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(1);
/// Each waits for its answer before it asks again.
const CLIENTS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let cluster = Cluster::start(setting.options(Options { images: vec!["busybox"], ..Options::default() }))?;
    let run = ["run", "client", "--image=busybox", "--image-pull-policy=IfNotPresent", "--", "sleep", "infinity"];
    cluster.kubectl(&run)?.ok();
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/client", "--timeout=60s"])?.ok();
    let pod = Place::pod(&cluster, "client")?;
    let query = query("kubernetes.default.svc.cluster.local");
    let (mut rates, mut waits) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let samples = pod.run(|| round(&query))?;
        rates.push(samples.len() as f64 / ROUND.as_secs_f64());
        waits.extend(samples);
    }
    let rate = median(&rates).context("no rounds")?;
    report.measured("dns-queries", rate, format!("median of {ROUNDS} rounds of 1 s, {CLIENTS} clients in one pod"));
    let p99 = percentile(&waits, 0.99).context("no answers")?;
    let half = median(&waits).context("no answers")?;
    report.measured("dns-p99", p99, format!("of {} answers, half within {half:.3} ms", waits.len()));
    cluster.finish()
}

/// Milliseconds that each answer took.
fn round(query: &[u8]) -> Result<Vec<f64>> {
    let end = Instant::now() + ROUND;
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| client(query, end))).collect();
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(all)
    })
}

fn client(query: &[u8], end: Instant) -> Result<Vec<f64>> {
    let socket = UdpSocket::bind("0.0.0.0:0").context("a socket")?;
    socket.connect("10.43.0.10:53").context("the cluster DNS")?;
    socket.set_read_timeout(Some(PATIENCE)).context("a timeout")?;
    let (mut samples, mut answer) = (Vec::new(), [0; 512]);
    while Instant::now() < end {
        let begin = Instant::now();
        socket.send(query).context("asking")?;
        let length = socket.recv(&mut answer).context("no answer")?;
        // No error, and one record.
        ensure!(length > 12 && answer[3] & 15 == 0 && answer[6..8] == [0, 1], "a wrong answer");
        samples.push(milliseconds(begin.elapsed()));
    }
    Ok(samples)
}

/// For the A records of a name.
fn query(name: &str) -> Vec<u8> {
    let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).expect("labels are short"));
        packet.extend(label.as_bytes());
    }
    packet.extend([0, 0, 1, 0, 1]);
    packet
}
