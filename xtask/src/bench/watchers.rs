//! From a write to the event in its watchers' hands.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Options};
use hyper::Method;
use serde_json::json;
use tokio::sync::mpsc;

use super::Setting;
use super::api::Api;
use super::disk::durable_write;
use super::floor::write_to_watcher;
use super::inside::inside_on_one_thread;
use super::memory::Process;
use super::rates::config_map;
use super::report::Report;
use super::stats::{median, milliseconds, percentile};
use super::tutorial::PATIENCE;

/// How many writes, and how far apart: the events of one pass before the next.
const FEW: (usize, Duration) = (300, Duration::from_millis(10));
const THOUSAND: (usize, Duration) = (100, Duration::from_millis(100));
const COLLECTION: &str = "/api/v1/namespaces/watched/configmaps";
const WRITTEN: &str = "/api/v1/namespaces/watched/configmaps/written";

pub(super) fn few(setting: &Setting, report: &mut Report) -> Result<()> {
    let cluster = Cluster::start(setting.options(Options::default()))?;
    let api = Api::new(&cluster.data_dir().join("kubeconfig.yaml"))?;
    inside_on_one_thread(&cluster.namespace, || async {
        prepare(&api).await?;
        for (name, watchers) in [("watch-1", 1), ("watch-50", 50)] {
            let Latencies { last, answered, .. } = Crowd::gather(&api, watchers).await?.latencies(&api, FEW).await?;
            let value = median(&last).context("no samples")?;
            let p99 = percentile(&last, 0.99).unwrap_or(value);
            let answered = median(&answered).unwrap_or(value);
            let disk = durable_write(&cluster.data_dir())?;
            let floor = write_to_watcher(&cluster.data_dir())?;
            let detail = format!(
                "{} writes, from sending the PUT to the last watcher's event; p99 {p99:.2} ms; \
                 the PUT's own answer {answered:.2} ms; without Sampan, two threads, TLS and the disk for one watcher \
                 {floor:.2} ms, a durable write of the disk alone {disk:.2} ms",
                last.len()
            );
            report.measured(name, value, detail);
        }
        Ok(())
    })
}

pub(super) fn thousand(setting: &Setting, report: &mut Report) -> Result<()> {
    const WATCHERS: usize = 1000;
    // Both ends of a connection are files, and a shell's limit is often 1,024. The server inherits this.
    harness::run("prlimit", &["--pid", &std::process::id().to_string(), "--nofile=8192:"])?;
    let cluster = Cluster::start(setting.options(Options::default()))?;
    let api = Api::new(&cluster.data_dir().join("kubeconfig.yaml"))?;
    let server = Process::server(&cluster);
    inside_on_one_thread(&cluster.namespace, || async {
        prepare(&api).await?;
        let before = server.proportional_bytes()?;
        let crowd = Crowd::gather(&api, WATCHERS).await?;
        let after = server.proportional_bytes()?;
        let each = after.saturating_sub(before) as f64 / WATCHERS as f64 / 1e3;
        report.measured("watchers-memory", each, format!("{before} bytes before, {after} with {WATCHERS} watchers"));
        let Latencies { each, last, answered } = crowd.latencies(&api, THOUSAND).await?;
        let answered = median(&answered).context("no samples")?;
        let p99 = percentile(&each, 0.99).context("no samples")?;
        let p50 = median(&each).context("no samples")?;
        report.measured("watchers-p99", p99, format!("{} events, from sending the PUT; p50 {p50:.2} ms", each.len()));
        let p99 = percentile(&last, 0.99).context("no samples")?;
        let detail = format!("{} writes; p99 {p99:.2} ms; the PUT's own answer {answered:.2} ms", last.len());
        report.measured("watchers-last", median(&last).context("no samples")?, detail);
        Ok(())
    })
}

/// The object that is written.
async fn prepare(api: &Api) -> Result<()> {
    let mut connection = api.connect().await?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "watched"}});
    connection.create("/api/v1/namespaces", &namespace).await?;
    connection.create(COLLECTION, &config_map("written", 0)).await?;
    Ok(())
}

/// Milliseconds from sending each write.
#[derive(Default)]
struct Latencies {
    /// Until each watcher has its event, of all writes.
    each: Vec<f64>,
    /// Until the last watcher has it.
    last: Vec<f64>,
    /// Until the writer has its answer.
    answered: Vec<f64>,
}

/// Watchers with a connection each, who have what was there already.
struct Crowd {
    watchers: usize,
    arrivals: mpsc::UnboundedReceiver<(Instant, bytes::Bytes)>,
}

impl Crowd {
    async fn gather(api: &Api, watchers: usize) -> Result<Self> {
        let (seen, arrivals) = mpsc::unbounded_channel::<(Instant, bytes::Bytes)>();
        for _ in 0..watchers {
            let mut events = api.watch(COLLECTION, "&fieldSelector=metadata.name%3Dwritten").await?;
            let seen = seen.clone();
            tokio::spawn(async move {
                while let Ok(line) = events.line().await {
                    if seen.send((Instant::now(), line)).is_err() {
                        return;
                    }
                }
            });
        }
        let mut crowd = Self { watchers, arrivals };
        for _ in 0..watchers {
            crowd.next().await?;
        }
        Ok(crowd)
    }

    async fn latencies(mut self, api: &Api, (writes, pace): (usize, Duration)) -> Result<Latencies> {
        let mut connection = api.connect().await?;
        let mut pace = tokio::time::interval(pace);
        let mut latencies = Latencies::default();
        for write in 0..writes {
            pace.tick().await;
            let mut object = config_map("written", 1000);
            let mark = format!("mark-{}-{write}.", self.watchers);
            object["data"]["mark"] = mark.as_str().into();
            let body = object.to_string();
            let sent = Instant::now();
            let written = async {
                connection.call(Method::PUT, WRITTEN, body).await?;
                Ok(Instant::now())
            };
            let (answered, arrived) = tokio::try_join!(written, self.arrived(&mark))?;
            let after = |at: &Instant| milliseconds(*at - sent);
            latencies.last.push(arrived.iter().map(after).fold(0.0, f64::max));
            latencies.each.extend(arrived.iter().map(after));
            latencies.answered.push(milliseconds(answered - sent));
        }
        Ok(latencies)
    }

    /// When each watcher had the event of a write.
    async fn arrived(&mut self, mark: &str) -> Result<Vec<Instant>> {
        let mut all = Vec::with_capacity(self.watchers);
        while all.len() < self.watchers {
            let (at, line) = self.next().await?;
            let ours = line.windows(mark.len()).any(|window| window == mark.as_bytes());
            ensure!(ours, "a watcher saw another write than {mark}");
            all.push(at);
        }
        Ok(all)
    }

    async fn next(&mut self) -> Result<(Instant, bytes::Bytes)> {
        let arrival = tokio::time::timeout(PATIENCE, self.arrivals.recv()).await.context("a watcher waited in vain")?;
        arrival.context("a watch ended")
    }
}
