//! `cargo xtask zero-drop`: clients keep coming while the pods that answer them are updated, scaled, deleted and drained
//! away on three nodes; none of them may notice.
//!
//! Half of the clients connect anew for each request, half keep their connections. The latter may repeat a request once,
//! where a connection on which others were answered closed before any byte of an answer: that is how HTTP ends
//! connections, and is counted.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base_sys::netns::NetNs;
use harness::{Cluster, Options as ClusterOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Clients of each kind, for each address; each asks once a second.
const CLIENTS: u32 = 50;
const BETWEEN: Duration = Duration::from_secs(1);
/// A request that takes longer has failed.
const REQUEST: Duration = Duration::from_secs(10);
const REPLICAS: usize = 6;
/// Between what must not be noticed.
const CALM: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many updates, scale-downs, deletions and drains, in turn.
    #[arg(long, default_value_t = 100, value_name = "N")]
    rounds: usize,
    /// The binary to run [default: target/release/sampan of this repository].
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

/// What became of the requests of one kind of clients.
#[derive(Debug, Default)]
struct Tally {
    answered: usize,
    repeated: usize,
    failed: BTreeMap<String, usize>,
    slowest: Duration,
}

type Shared = Arc<Mutex<Tally>>;

pub(crate) fn run(options: &Options) -> Result<()> {
    let binary = options.binary.clone().unwrap_or_else(|| harness::repository().join("target/release/sampan"));
    let binary = binary.canonicalize().with_context(|| format!("finding the binary {}", binary.display()))?;
    let settings = ClusterOptions { nodes: 3, binary: Some(binary), quiet: true, ..ClusterOptions::tutorial() };
    let cluster = Cluster::start(settings)?;
    let (service, node_port) = deploy(&cluster)?;
    let first = &cluster.nodes()?[0];
    let netns = NetNs::open(&Path::new("/run/netns").join(&first.namespace))?;
    // Its threads inherit the node's namespace.
    let runtime = netns.run(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("a runtime")
    })??;
    let mut tallies = Vec::new();
    for (way, address) in [("the ClusterIP", service), ("another node's NodePort", node_port)] {
        for keeps in [true, false] {
            let tally = Shared::default();
            for number in 0..CLIENTS {
                let first = BETWEEN * number / CLIENTS;
                runtime.spawn(client(address, keeps, first, tally.clone()));
            }
            let kind = if keeps { "kept" } else { "new" };
            tallies.push((format!("{kind} connections through {way}"), tally));
        }
    }
    let started = Instant::now();
    let result = disturb(&cluster, options.rounds, &tallies);
    // Requests sent last have their time to fail.
    std::thread::sleep(Duration::from_secs(2));
    runtime.shutdown_timeout(REQUEST);
    let (mut failed, mut out) = (0, io::stdout().lock());
    for (name, tally) in &tallies {
        let tally = lock(tally);
        failed += tally.failed.values().sum::<usize>();
        writeln!(
            out,
            "{name}: {} answered, {} repeated, failed: {:?}, slowest {:.2} s",
            tally.answered,
            tally.repeated,
            tally.failed,
            tally.slowest.as_secs_f64()
        )?;
    }
    writeln!(out, "{} rounds in {:.0} s", options.rounds, started.elapsed().as_secs_f64())?;
    result?;
    ensure!(failed == 0, "{failed} requests failed");
    cluster.finish()
}

fn lock(tally: &Shared) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The tutorial's Deployment on all nodes, and its addresses: the Service's own, and a port of the last node.
fn deploy(cluster: &Cluster) -> Result<(SocketAddr, SocketAddr)> {
    cluster.run_my_nginx()?;
    scale(cluster, REPLICAS)?;
    cluster.kubectl(&["expose", "deployment/my-nginx", "--type=NodePort"])?.ok();
    let service = cluster.object(&["service", "my-nginx"])?;
    let port = service["spec"]["ports"][0]["nodePort"].as_u64().context("a node port")?;
    let nodes = cluster.nodes()?;
    let last = nodes.last().context("nodes")?;
    let (service, node_port) = (cluster.service("my-nginx")?, SocketAddr::new(last.address(), u16::try_from(port)?));
    let here = harness::Place::of(&nodes[0])?;
    for address in [service, node_port] {
        harness::eventually("an answer", || here.run(|| harness::get(address, "/")).map(drop));
    }
    Ok((service, node_port))
}

fn scale(cluster: &Cluster, replicas: usize) -> Result<()> {
    cluster.kubectl(&["scale", "deployment/my-nginx", &format!("--replicas={replicas}")])?.ok();
    cluster.rolled_out("my-nginx")
}

/// Each round ends with all pods ready.
fn disturb(cluster: &Cluster, rounds: usize, tallies: &[(String, Shared)]) -> Result<()> {
    let nodes = cluster.nodes()?;
    for round in 0..rounds {
        let what = match round % 4 {
            0 => {
                cluster.kubectl(&["rollout", "restart", "deployment/my-nginx"])?.ok();
                "updated"
            }
            1 => {
                scale(cluster, REPLICAS / 2)?;
                scale(cluster, REPLICAS)?;
                "scaled down and up"
            }
            2 => {
                let pods = cluster.pods("run=my-nginx")?;
                let victim = pods.into_keys().nth(round % REPLICAS).context("pods")?;
                cluster.kubectl(&["delete", "pod", &victim])?.ok();
                "deleted a pod"
            }
            _ => {
                // Not the one where the clients are.
                let node = &nodes[1 + round / 4 % (nodes.len() - 1)].name;
                cluster.kubectl(&["drain", node, "--ignore-daemonsets", "--timeout=60s"])?.ok();
                cluster.rolled_out("my-nginx")?;
                cluster.kubectl(&["uncordon", node])?.ok();
                "drained a node"
            }
        };
        cluster.rolled_out("my-nginx")?;
        std::thread::sleep(CALM);
        let failed: usize = tallies.iter().map(|(_, tally)| lock(tally).failed.values().sum::<usize>()).sum();
        eprint!("\r{} of {rounds}: {what}; {failed} requests failed    ", round + 1);
        let _ = io::stderr().flush();
    }
    eprintln!();
    Ok(())
}

async fn client(address: SocketAddr, keeps: bool, first: Duration, tally: Shared) {
    let mut clock = tokio::time::interval_at(tokio::time::Instant::now() + first, BETWEEN);
    let mut kept = None;
    loop {
        clock.tick().await;
        let begun = Instant::now();
        let asked = tokio::time::timeout(REQUEST, ask(address, keeps, &mut kept)).await;
        let mut tally = lock(&tally);
        match asked {
            Ok(Ok(repeated)) => {
                tally.answered += 1;
                tally.repeated += usize::from(repeated);
            }
            failed => {
                let why = match failed {
                    Ok(error) => error.err().map(|error| format!("{error:#}")).unwrap_or_default(),
                    Err(_) => "timed out".to_owned(),
                };
                kept = None;
                *tally.failed.entry(why).or_default() += 1;
            }
        }
        tally.slowest = tally.slowest.max(begun.elapsed());
    }
}

/// One request; says whether it had to be repeated.
async fn ask(address: SocketAddr, keeps: bool, kept: &mut Option<TcpStream>) -> Result<bool> {
    let mut repeated = false;
    if let Some(stream) = kept.take() {
        match exchange(stream, keeps).await? {
            Exchange::Answered(stream) => {
                *kept = stream;
                return Ok(false);
            }
            Exchange::ClosedBefore => repeated = true,
        }
    }
    let stream = TcpStream::connect(address).await.context("connecting")?;
    match exchange(stream, keeps).await? {
        Exchange::Answered(stream) => *kept = stream,
        Exchange::ClosedBefore => bail!("a new connection closed without an answer"),
    }
    Ok(repeated)
}

enum Exchange {
    /// With the connection, where it may be used again.
    Answered(Option<TcpStream>),
    /// Before any byte of the answer.
    ClosedBefore,
}

async fn exchange(mut stream: TcpStream, keeps: bool) -> Result<Exchange> {
    let connection = if keeps { "keep-alive" } else { "close" };
    let request = format!("GET / HTTP/1.1\r\nHost: my-nginx\r\nConnection: {connection}\r\n\r\n");
    if stream.write_all(request.as_bytes()).await.is_err() {
        return Ok(Exchange::ClosedBefore);
    }
    let mut answer = Vec::new();
    loop {
        let mut part = [0; 4096];
        let length = match stream.read(&mut part).await {
            Ok(0) | Err(_) if answer.is_empty() => return Ok(Exchange::ClosedBefore),
            Ok(0) => bail!("an answer was cut off"),
            read => read.context("reading an answer")?,
        };
        answer.extend_from_slice(&part[..length]);
        if let Some(whole) = Head::parse(&answer)?
            && answer.len() >= whole.length
        {
            ensure!(whole.status == "200", "status {}", whole.status);
            return Ok(Exchange::Answered((keeps && !whole.closes).then_some(stream)));
        }
    }
}

/// What an answer says of itself, once its head is there.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: String,
    /// Of the whole answer.
    length: usize,
    closes: bool,
}

impl Head {
    fn parse(answer: &[u8]) -> Result<Option<Self>> {
        let text = String::from_utf8_lossy(answer);
        let Some((head, _)) = text.split_once("\r\n\r\n") else { return Ok(None) };
        let field = |name: &str| {
            let line = head.lines().filter_map(|line| line.split_once(": "));
            line.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
        };
        let status = head.split(' ').nth(1).context("a status")?.to_owned();
        let body: usize = field("Content-Length").context("an answer without Content-Length")?.parse()?;
        let closes = field("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        Ok(Some(Self { status, length: head.len() + 4 + body, closes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_how_long_it_is_and_whether_the_connection_goes_on() {
        let parse = |text: &str| Head::parse(text.as_bytes());
        assert_eq!(parse("HTTP/1.1 200 OK\r\n").expect("a part"), None);
        let kept = parse("HTTP/1.1 200 OK\r\ncontent-length: 3\r\nConnection: keep-alive\r\n\r\nab");
        assert_eq!(kept.expect("a head"), Some(Head { status: "200".into(), length: 62 + 3, closes: false }));
        let closed = parse("HTTP/1.1 502 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").expect("a head");
        assert!(closed.is_some_and(|head| head.closes && head.status == "502"));
        assert!(parse("HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
