//! Three nodes on one machine: how soon they are there, and how soon one that is gone is avoided.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Options, Place};

use super::Setting;
use super::report::Report;
use super::stats::{median, percentile};

const NODES: usize = 3;
const RUNS: usize = 5;
/// How long connections are tried after a node is cut off, and how long each may take: well over a round trip here.
const WATCHED: Duration = Duration::from_secs(3);
const CONNECT: Duration = Duration::from_millis(50);
/// Without a pause the client runs out of ports.
const BETWEEN: Duration = Duration::from_millis(5);

pub(super) fn up(setting: &Setting, report: &mut Report) -> Result<()> {
    let mut samples = Vec::new();
    for _ in 0..RUNS {
        let cluster = Cluster::start(setting.options(Options { nodes: NODES, ..Options::default() }))?;
        let up = cluster.up_took().context("it was not started by `sampan up`")?;
        samples.push(up.as_secs_f64());
    }
    let value = median(&samples).context("no runs")?;
    let worst = percentile(&samples, 1.0).unwrap_or(value);
    report.measured("up-3", value, format!("median of {RUNS} fresh clusters, worst {worst:.3} s"));
    Ok(())
}

pub(super) fn gone(setting: &Setting, report: &mut Report) -> Result<()> {
    let cluster = Cluster::start(setting.options(Options { nodes: NODES, ..Options::tutorial() }))?;
    for node in cluster.nodes()? {
        cluster.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web-{0}, labels: {{app: web}}}}\nspec:\n  nodeName: {0}\n  \
             containers:\n  - name: web\n    image: nginx\n    imagePullPolicy: IfNotPresent\n    command: [sh, -c]\n    \
             args: [\"hostname > /usr/share/nginx/html/index.html; exec nginx -g 'daemon off;'\"]\n",
            node.name
        ))?;
    }
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod", "-l", "app=web", "--timeout=60s"])?.ok();
    cluster.kubectl(&["create", "service", "clusterip", "web", "--tcp=80"])?.ok();
    let address = cluster.service("web")?;
    let nodes = cluster.nodes()?;
    let (first, second) = (Place::of(&nodes[0])?, &nodes[1]);
    let mut samples = Vec::new();
    for _ in 0..RUNS {
        // Also by the one that was gone before.
        harness::eventually("all three answer", || {
            let answers: Result<Vec<_>> = first.run(|| (0..30).map(|_| harness::get(address, "/")).collect());
            let names: BTreeSet<String> = answers?.into_iter().map(|answer| answer.body).collect();
            ensure!(names.len() == NODES, "only {names:?}");
            Ok(())
        });
        cluster.node("ip", &["link", "set", &second.link, "down"])?.ok();
        samples.push(first.run(|| last_failure(address)).as_secs_f64());
        cluster.node("ip", &["link", "set", &second.link, "up"])?.ok();
    }
    let value = median(&samples).context("no runs")?;
    let worst = percentile(&samples, 1.0).unwrap_or(value);
    report.measured("node-gone", value, format!("median of {RUNS} cuts, worst {worst:.3} s"));
    Ok(())
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&address, CONNECT)
}

/// When after now the last connection was begun that was not answered.
fn last_failure(address: SocketAddr) -> Duration {
    let start = Instant::now();
    let mut last = Duration::ZERO;
    while start.elapsed() < WATCHED {
        let begun = start.elapsed();
        if connect(address).is_err() {
            last = begun;
        }
        std::thread::sleep(BETWEEN);
    }
    last
}
