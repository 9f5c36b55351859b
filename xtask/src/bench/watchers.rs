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
use super::inside::inside_on_one_thread;
use super::rates::config_map;
use super::report::Report;
use super::stats::{median, milliseconds, percentile};
use super::tutorial::PATIENCE;

const WRITES: usize = 300;
/// Lets the events of one write pass before the next.
const PACE: Duration = Duration::from_millis(10);
const COLLECTION: &str = "/api/v1/namespaces/watched/configmaps";
const WRITTEN: &str = "/api/v1/namespaces/watched/configmaps/written";

pub(super) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let cluster = Cluster::start(setting.options(Options::default()))?;
    let api = Api::new(&cluster.data_dir().join("kubeconfig.yaml"))?;
    inside_on_one_thread(&cluster.namespace, || async {
        let mut connection = api.connect().await?;
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "watched"}});
        connection.create("/api/v1/namespaces", &namespace).await?;
        connection.create(COLLECTION, &config_map("written", 0)).await?;
        for (name, watchers) in [("watch-1", 1), ("watch-50", 50)] {
            let Latencies { seen, answered } = latencies(&api, watchers).await?;
            let value = median(&seen).context("no samples")?;
            let p99 = percentile(&seen, 0.99).unwrap_or(value);
            let answered = median(&answered).unwrap_or(value);
            let disk = durable_write(&cluster.data_dir())?;
            let detail = format!(
                "{} writes, from sending the PUT to the last watcher's event; p99 {p99:.2} ms; \
                 the PUT's own answer {answered:.2} ms; a durable write of the disk alone {disk:.2} ms",
                seen.len()
            );
            report.measured(name, value, detail);
        }
        Ok(())
    })
}

/// Milliseconds from sending each write.
#[derive(Default)]
struct Latencies {
    /// Until the last watcher has its event.
    seen: Vec<f64>,
    /// Until the writer has its answer.
    answered: Vec<f64>,
}

async fn latencies(api: &Api, watchers: usize) -> Result<Latencies> {
    let (seen, mut arrivals) = mpsc::unbounded_channel::<(Instant, bytes::Bytes)>();
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
    for _ in 0..watchers {
        next(&mut arrivals).await?;
    }
    let mut connection = api.connect().await?;
    let mut pace = tokio::time::interval(PACE);
    let mut latencies = Latencies::default();
    for write in 0..WRITES {
        pace.tick().await;
        let mut object = config_map("written", 1000);
        let mark = format!("mark-{watchers}-{write}.");
        object["data"]["mark"] = mark.as_str().into();
        let body = object.to_string();
        let sent = Instant::now();
        let written = async {
            connection.call(Method::PUT, WRITTEN, body).await?;
            Ok(Instant::now())
        };
        let arrived = async {
            let mut last = sent;
            for _ in 0..watchers {
                let (at, line) = next(&mut arrivals).await?;
                let ours = line.windows(mark.len()).any(|window| window == mark.as_bytes());
                ensure!(ours, "a watcher saw another write than {mark}");
                last = last.max(at);
            }
            Ok(last)
        };
        let (answered, last) = tokio::try_join!(written, arrived)?;
        latencies.seen.push(milliseconds(last - sent));
        latencies.answered.push(milliseconds(answered - sent));
    }
    Ok(latencies)
}

async fn next(arrivals: &mut mpsc::UnboundedReceiver<(Instant, bytes::Bytes)>) -> Result<(Instant, bytes::Bytes)> {
    let arrival = tokio::time::timeout(PATIENCE, arrivals.recv()).await.context("a watcher waited in vain")?;
    arrival.context("a watch ended")
}
