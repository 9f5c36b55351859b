//! What the translation of a service address adds to a connection.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
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

pub(super) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let cluster = Cluster::start(setting.options(Options::tutorial()))?;
    let file = cluster.write("my-nginx.yaml", &manifest(1))?;
    let api = Api::new(&cluster.data_dir().join("kubeconfig.yaml"))?;
    let (pod, service) = inside(&cluster.namespace, || prepare(&cluster, &api, &file))?;
    serve(pod)?;
    let node = NetNs::open(&Path::new("/run/netns").join(&cluster.namespace.name))?;
    let ratios = node.run(|| compare((service, 80).into(), (pod, PORT).into()))??;
    let value = median(&ratios).context("no rounds")?;
    let (least, most) = (percentile(&ratios, 0.0).unwrap_or(value), percentile(&ratios, 1.0).unwrap_or(value));
    let detail = format!("median of {ROUNDS} rounds of {PAIRS} pairs, from {least:.3} to {most:.3}");
    report.measured("service-path", value, detail);
    Ok(())
}

/// One pod behind a Service whose port leads to ours; returns both addresses.
async fn prepare(cluster: &Cluster, api: &Api, file: &str) -> Result<(Ipv4Addr, Ipv4Addr)> {
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
    Ok((ip.parse().with_context(|| format!("{ip} is no address"))?, cluster_ip(api, "echo").await?))
}

/// Answers every connection to the pod with one byte, from inside its namespace, until this program ends.
fn serve(pod: Ipv4Addr) -> Result<()> {
    let listener = namespace_of(pod)?.run(|| TcpListener::bind((pod, PORT)))?.context("listening in the pod")?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // A client that has gone is no concern of the next.
            let _ = stream.write_all(b"x");
        }
    });
    Ok(())
}

/// The network namespace that has this address, among those of all processes.
fn namespace_of(pod: Ipv4Addr) -> Result<NetNs> {
    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").context("listing processes")?.flatten() {
        let path = entry.path().join("ns/net");
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        if !seen.insert(metadata.ino()) {
            continue;
        }
        let Ok(netns) = NetNs::open(&path) else { continue };
        if netns.run(|| UdpSocket::bind((pod, 0)).is_ok()).unwrap_or(false) {
            return Ok(netns);
        }
    }
    anyhow::bail!("no process lives at {pod}")
}

/// For each round, the median time through the Service over the median time to the pod itself.
fn compare(service: SocketAddr, pod: SocketAddr) -> Result<Vec<f64>> {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = connection(service) {
        if Instant::now() > deadline {
            return Err(error).context("nothing answers through the ClusterIP");
        }
        std::thread::sleep(RETRY);
    }
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let (mut through, mut direct) = (Vec::new(), Vec::new());
        for _ in 0..PAIRS {
            through.push(connection(service).context("through the ClusterIP")?.as_secs_f64());
            direct.push(connection(pod).context("to the pod")?.as_secs_f64());
        }
        let ratio = median(&through).zip(median(&direct)).map(|(through, direct)| through / direct);
        ratios.push(ratio.context("no pairs")?);
    }
    Ok(ratios)
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
