//! What the translation of a service address adds to a connection, and takes from how many there can be.

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
/// For rates: who connects, and how long to each address in a round.
const CLIENTS: usize = 4;
const RUSH: Duration = Duration::from_millis(500);
/// Where this program answers inside the pod, beside nginx: for those who come through the Service, and for those who do not.
/// On one port a client's port that has just come the one way would be late, by its clock, when it comes the other.
const PORT: u16 = 9000;
const DIRECT: u16 = 9001;
const RETRY: Duration = Duration::from_millis(1);

/// Each has a cluster of its own; they are measured in turn.
const SIDES: [(&str, [&str; 2]); 2] =
    [("off", ["service-path", "service-rate"]), ("auto", ["service-path-ebpf", "service-rate-ebpf"])];

pub(super) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let mut sides = SIDES.iter().map(|(option, _)| Side::start(setting, option)).collect::<Result<Vec<_>>>()?;
    for _ in 0..ROUNDS {
        sides.iter_mut().try_for_each(Side::round)?;
    }
    for ((_, [path, rate]), side) in SIDES.iter().zip(&sides) {
        let (value, spread) = middle(&side.times)?;
        report.measured(path, value, format!("median of {ROUNDS} rounds of {PAIRS} pairs, {spread}"));
        let ratios: Vec<_> = side.rates.iter().map(|(through, direct)| through / direct).collect();
        let (value, spread) = middle(&ratios)?;
        let (through, direct): (Vec<_>, Vec<_>) = side.rates.iter().copied().unzip();
        let (through, direct) = median(&through).zip(median(&direct)).context("no rounds")?;
        let detail = format!("median of {ROUNDS} rounds, {spread}; {through:.0}/s and {direct:.0}/s at the median");
        report.measured(rate, value, detail);
    }
    Ok(())
}

/// The median, and in words how far the others are from it.
fn middle(ratios: &[f64]) -> Result<(f64, String)> {
    let value = median(ratios).context("no rounds")?;
    let (least, most) = (percentile(ratios, 0.0).unwrap_or(value), percentile(ratios, 1.0).unwrap_or(value));
    Ok((value, format!("from {least:.3} to {most:.3}")))
}

struct Side {
    node: NetNs,
    service: SocketAddr,
    pod: SocketAddr,
    /// A round each: the time through the Service over that to the pod.
    times: Vec<f64>,
    /// A round each: connections per second through the Service, and to the pod.
    rates: Vec<(f64, f64)>,
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
        serve(&cluster, &name, (pod, PORT))?;
        serve(&cluster, &name, (pod, DIRECT))?;
        let node = NetNs::open(&Path::new("/run/netns").join(&cluster.namespace.name))?;
        let (service, pod) = ((service, 80).into(), (pod, DIRECT).into());
        node.run(|| answers(service))??;
        Ok(Self { node, service, pod, times: Vec::new(), rates: Vec::new(), _cluster: cluster })
    }

    fn round(&mut self) -> Result<()> {
        let ratio = self.node.run(|| compare(self.service, self.pod))??;
        self.times.push(ratio);
        let through = self.node.run(|| rate(self.service))?.context("through the ClusterIP")?;
        let direct = self.node.run(|| rate(self.pod))?.context("to the pod")?;
        self.rates.push((through, direct));
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
fn serve(cluster: &Cluster, name: &str, address: (Ipv4Addr, u16)) -> Result<()> {
    let process = harness::first_process(cluster, name)?;
    let inside = NetNs::open(&PathBuf::from(format!("/proc/{process}/ns/net")))?;
    let listener = inside.run(|| TcpListener::bind(address))?.context("listening in the pod")?;
    for _ in 0..CLIENTS {
        let listener = listener.try_clone().context("a second server")?;
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // A client that has gone is no concern of the next.
                let _ = stream.write_all(b"x");
            }
        });
    }
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

/// New connections per second of clients that do nothing else. They inherit the calling thread's namespace.
fn rate(address: SocketAddr) -> Result<f64> {
    let begin = Instant::now();
    let client = || -> std::io::Result<u32> {
        let mut made = 0;
        while begin.elapsed() < RUSH {
            connection(address)?;
            made += 1;
        }
        Ok(made)
    };
    let made = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().expect("a client does not panic")).sum::<std::io::Result<u32>>()
    });
    Ok(f64::from(made?) / begin.elapsed().as_secs_f64())
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
