//! What the translation of a service address adds to a connection.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use base_sys::netns::NetNs;
use harness::{Cluster, Options};
use serde_json::{Value, json};

use super::Setting;
use super::api::Api;
use super::inside::inside;
use super::report::Report;
use super::stats::{median, percentile};
use super::tutorial::{NAMESPACE, PATIENCE, Pods, cluster_ip, kubectl, manifest};

const ROUNDS: usize = 5;
const PAIRS: usize = 1_500;
/// Where this program answers inside the pod, beside nginx.
const PORT: u16 = 9000;
const RETRY: Duration = Duration::from_millis(1);

/// Each has a cluster of its own; they are measured in turn.
const ROWS: [(&str, &str); 2] = [("service-path", "off"), ("service-path-ebpf", "auto")];

pub(super) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let mut sides = ROWS.iter().map(|(_, option)| Side::start(setting, option)).collect::<Result<Vec<_>>>()?;
    for _ in 0..ROUNDS {
        sides.iter_mut().try_for_each(Side::round)?;
    }
    for ((row, _), Side { ratios, .. }) in ROWS.iter().zip(&sides) {
        let value = median(ratios).context("no rounds")?;
        let (least, most) = (percentile(ratios, 0.0).unwrap_or(value), percentile(ratios, 1.0).unwrap_or(value));
        report.measured(
            row,
            value,
            format!("median of {ROUNDS} rounds of {PAIRS} pairs, from {least:.3} to {most:.3}"),
        );
    }
    Ok(())
}

struct Side {
    node: NetNs,
    service: SocketAddr,
    pod: SocketAddr,
    ratios: Vec<f64>,
    /// Kept until all is measured.
    _cluster: Cluster,
}

impl Side {
    fn start(setting: &Setting, option: &str) -> Result<Self> {
        let arguments = vec![format!("--socket-load-balancing={option}")];
        let cluster = Cluster::start(setting.options(Options { arguments, ..Options::tutorial() }))?;
        let file = cluster.write("my-nginx.yaml", &manifest(1))?;
        let api = Api::new(&cluster.data_dir().join("kubeconfig.yaml"))?;
        let (name, pod, service) = inside(&cluster.namespace, || prepare(&cluster, &api, &file))?;
        serve(&cluster, &name, pod)?;
        let node = NetNs::open(&Path::new("/run/netns").join(&cluster.namespace.name))?;
        let (service, pod) = ((service, 80).into(), (pod, PORT).into());
        node.run(|| answers(service))??;
        Ok(Self { node, service, pod, ratios: Vec::new(), _cluster: cluster })
    }

    fn round(&mut self) -> Result<()> {
        let ratio = self.node.run(|| compare(self.service, self.pod))??;
        self.ratios.push(ratio);
        Ok(())
    }
}

/// One pod behind a Service whose port leads to ours; returns its name and both addresses.
async fn prepare(cluster: &Cluster, api: &Api, file: &str) -> Result<(String, Ipv4Addr, Ipv4Addr)> {
    let mut pods = Pods::watch(api).await?;
    kubectl(cluster, &["apply", "-f", file]).await?;
    let name = pods.ready(1).await?.remove(0);
    let mut connection = api.connect().await?;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "echo"},
        "spec": {"selector": {"run": "my-nginx"}, "ports": [{"port": 80, "targetPort": PORT}]},
    });
    connection.create(&format!("{NAMESPACE}/services"), &service).await?;
    let pod = connection.get(&format!("{NAMESPACE}/pods/{name}")).await?;
    let ip = pod.pointer("/status/podIP").and_then(Value::as_str).context("the pod has no address")?;
    let ip = ip.parse().with_context(|| format!("{ip} is no address"))?;
    Ok((name, ip, cluster_ip(api, "echo").await?))
}

/// Answers every connection to the pod with one byte, from inside its namespace, until this program ends.
fn serve(cluster: &Cluster, name: &str, pod: Ipv4Addr) -> Result<()> {
    let process = harness::first_process(cluster, name)?;
    let inside = NetNs::open(&PathBuf::from(format!("/proc/{process}/ns/net")))?;
    let listener = inside.run(|| TcpListener::bind((pod, PORT)))?.context("listening in the pod")?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // A client that has gone is no concern of the next.
            let _ = stream.write_all(b"x");
        }
    });
    Ok(())
}

/// Waits until connections to the service are answered.
fn answers(service: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = connection(service) {
        if Instant::now() > deadline {
            return Err(error).context("nothing answers through the ClusterIP");
        }
        std::thread::sleep(RETRY);
    }
    Ok(())
}

/// The median time through the Service over the median time to the pod itself.
fn compare(service: SocketAddr, pod: SocketAddr) -> Result<f64> {
    let (mut through, mut direct) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        through.push(connection(service).context("through the ClusterIP")?.as_secs_f64());
        direct.push(connection(pod).context("to the pod")?.as_secs_f64());
    }
    let ratio = median(&through).zip(median(&direct)).map(|(through, direct)| through / direct);
    ratio.context("no pairs")
}

/// Connects, reads to the end, closes.
fn connection(address: SocketAddr) -> std::io::Result<Duration> {
    let begin = Instant::now();
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    let mut answer = Vec::with_capacity(8);
    stream.read_to_end(&mut answer)?;
    drop(stream);
    Ok(begin.elapsed())
}
