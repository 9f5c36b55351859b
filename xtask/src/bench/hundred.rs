//! A node that is nearly full: how fast a hundred pods start and stop, and what they cost while they do nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Options};
use hyper::Method;
use serde_json::{Value, json};

use super::Setting;
use super::api::{Api, Events};
use super::idle::percent_of_core;
use super::inside::inside;
use super::memory::{Process, kilobytes};
use super::report::Report;
use super::stats::{median, milliseconds, percentile};
use super::tutorial::NAMESPACE;

const PODS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(120);
/// After the last is ready, until what that set going has come to rest.
const SETTLE: Duration = Duration::from_secs(10);
const WINDOW: Duration = Duration::from_secs(20);
const EXECS: usize = 200;
/// What one container prints, in bytes, by lines of 100.
const PRINTED: u64 = 200_000_000;

pub(super) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let cluster = Cluster::start(setting.options(Options::tutorial()))?;
    let api = Api::new(&cluster.data_dir().join("kubeconfig.yaml"))?;
    // The first pod of a node has some work to itself.
    inside(&cluster.namespace, || async {
        let mut pods = Watched::of(&api).await?;
        start(&api, 1).await?;
        pods.until(|seen| seen.values().filter(|pod| pod.ready.is_some()).count() == 1).await?;
        stop(&api).await?;
        pods.until(BTreeMap::is_empty).await
    })?;
    let server = Process::server(&cluster);
    let (before, _) = server.resident_bytes()?;
    let (begun, seen) = inside(&cluster.namespace, || started(&api))?;
    let ready: Vec<_> = seen.iter().filter_map(|pod| Some((pod.seen, pod.ready?))).collect();
    let last = ready.iter().map(|(_, ready)| *ready).max().context("no pods")?;
    let took = last.duration_since(begun).as_secs_f64();
    report.measured("pods-100", PODS as f64 / took, format!("{PODS} in {took:.2} s, by one Deployment"));
    let each: Vec<f64> = ready.iter().map(|(seen, ready)| milliseconds(ready.duration_since(*seen))).collect();
    let worst = percentile(&each, 1.0).unwrap_or_default();
    for (name, fraction) in [("pods-100-p50", 0.5), ("pods-100-p99", 0.99)] {
        let value = percentile(&each, fraction).context("no pods")?;
        report.measured(name, value, format!("of {PODS} that start at once; the last {worst:.0} ms"));
    }

    std::thread::sleep(SETTLE);
    let processes = Process::of(&cluster)?;
    let (after, _) = server.resident_bytes()?;
    let own = kilobytes(after.saturating_sub(before)) / PODS as f64;
    report.measured("pods-100-memory", own, format!("the server: {:.0} KB before", kilobytes(before)));
    let shims: Vec<f64> = processes
        .iter()
        .filter(|process| process.is_called("sampan-shim"))
        .map(|shim| Ok(kilobytes(shim.proportional_bytes()?)))
        .collect::<Result<_>>()?;
    ensure!(shims.len() == PODS, "there are {} shims", shims.len());
    report.measured("shim-memory", shims.iter().sum::<f64>() / PODS as f64, format!("Pss, mean of {PODS}"));
    let percent = percent_of_core(&processes, WINDOW)?;
    let detail = format!("over {} s, {} processes", WINDOW.as_secs(), processes.len());
    report.measured("pods-100-cpu", percent, detail);

    let stopped = inside(&cluster.namespace, || stopped(&api))?;
    report.measured("pods-100-stop", PODS as f64 / stopped, format!("{PODS} in {stopped:.2} s, deleted at once"));
    Ok(())
}

pub(super) fn streams(setting: &Setting, report: &mut Report) -> Result<()> {
    let cluster = Cluster::start(setting.options(Options::tutorial()))?;
    let api = Api::new(&cluster.data_dir().join("kubeconfig.yaml"))?;
    let samples = inside(&cluster.namespace, || execs(&api))?;
    let value = median(&samples).context("no samples")?;
    let p99 = percentile(&samples, 0.99).unwrap_or(value);
    report.measured("exec", value, format!("p50 of {EXECS}, p99 {p99:.1} ms, TLS handshake and connection included"));
    let took = inside(&cluster.namespace, || printed(&api))?;
    let megabytes = PRINTED as f64 / 1e6;
    let ticks: f64 = Process::of(&cluster)?
        .iter()
        .filter(|process| process.is_called("sampan-shim"))
        .map(Process::cpu_seconds)
        .sum::<Result<f64>>()?;
    let cost = ticks / megabytes * 100.0;
    let detail = format!("{megabytes:.0} MB by lines of 100 bytes; {cost:.2} s of the shims' time for each 100 MB");
    report.measured("log-rate", megabytes / took, detail);
    Ok(())
}

fn container(name: &str, script: &str) -> Value {
    json!({"name": name, "image": "busybox:1.37", "command": ["sh", "-c", script]})
}

async fn start(api: &Api, replicas: usize) -> Result<()> {
    let labels = json!({"app": "many"});
    let spec = json!({"containers": [container("main", "trap exit TERM; sleep 100000 & wait")]});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "many"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
    });
    api.connect().await?.create("/apis/apps/v1/namespaces/default/deployments", &deployment).await.map(drop)
}

async fn stop(api: &Api) -> Result<()> {
    let path = "/apis/apps/v1/namespaces/default/deployments/many";
    api.connect().await?.call(Method::DELETE, path, r#"{"propagationPolicy":"Background"}"#).await.map(drop)
}

/// When the request was sent, and what became of the pods.
async fn started(api: &Api) -> Result<(Instant, Vec<Seen>)> {
    let mut pods = Watched::of(api).await?;
    let begun = Instant::now();
    start(api, PODS).await?;
    pods.until(|seen| seen.values().filter(|pod| pod.ready.is_some()).count() == PODS).await?;
    Ok((begun, pods.seen.into_values().collect()))
}

/// Seconds.
async fn stopped(api: &Api) -> Result<f64> {
    let mut pods = Watched::of(api).await?;
    pods.until(|seen| seen.len() == PODS).await?;
    let begun = Instant::now();
    stop(api).await?;
    pods.until(BTreeMap::is_empty).await?;
    Ok(begun.elapsed().as_secs_f64())
}

struct Seen {
    seen: Instant,
    ready: Option<Instant>,
}

/// The pods of the default namespace as a watch shows them.
struct Watched {
    events: Events,
    seen: BTreeMap<String, Seen>,
}

impl Watched {
    async fn of(api: &Api) -> Result<Self> {
        Ok(Self { events: api.watch(&format!("{NAMESPACE}/pods"), "").await?, seen: BTreeMap::new() })
    }

    async fn until(&mut self, done: impl Fn(&BTreeMap<String, Seen>) -> bool) -> Result<()> {
        let wait = async {
            while !done(&self.seen) {
                let event = self.events.next().await?;
                if event.gone {
                    self.seen.remove(event.name());
                    continue;
                }
                let now = Instant::now();
                let pod = self.seen.entry(event.name().to_owned()).or_insert(Seen { seen: now, ready: None });
                if event.condition("Ready") {
                    pod.ready.get_or_insert(now);
                }
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, wait).await.context("the pods were not as they should be in time")?
    }
}

/// Milliseconds of each.
async fn execs(api: &Api) -> Result<Vec<f64>> {
    let mut pods = Watched::of(api).await?;
    let spec = json!({"containers": [container("main", "sleep 100000")], "terminationGracePeriodSeconds": 0});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": spec});
    api.connect().await?.create(&format!("{NAMESPACE}/pods"), &pod).await?;
    pods.until(|seen| seen.values().any(|pod| pod.ready.is_some())).await?;
    let path = format!("{NAMESPACE}/pods/one/exec?command=true&stdout=true&container=main");
    let mut samples = Vec::with_capacity(EXECS);
    for round in 0..=EXECS {
        let begun = Instant::now();
        api.exec(&path).await?;
        if round > 0 {
            samples.push(milliseconds(begun.elapsed()));
        }
    }
    Ok(samples)
}

/// Seconds from the container's start to its end, as a watch tells them. Another keeps the pod's shim.
async fn printed(api: &Api) -> Result<f64> {
    let line = "0123456789".repeat(10);
    let print = format!("yes {} | head -c {PRINTED}", &line[..99]);
    let spec = json!({
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
        "containers": [container("prints", &print), container("stays", "sleep 100000")],
    });
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "prints"}, "spec": spec});
    let mut events = api.watch(&format!("{NAMESPACE}/pods"), "&fieldSelector=metadata.name%3Dprints").await?;
    api.connect().await?.create(&format!("{NAMESPACE}/pods"), &pod).await?;
    let ended = async {
        let mut begun = None;
        loop {
            let event = events.next().await?;
            let statuses = event.object.pointer("/status/containerStatuses").and_then(Value::as_array);
            let Some(own) = statuses.into_iter().flatten().find(|one| one["name"] == "prints") else { continue };
            if own["state"]["running"].is_object() {
                begun.get_or_insert_with(Instant::now);
            }
            if let (Some(exit), Some(begun)) = (own["state"]["terminated"].as_object(), begun) {
                ensure!(exit["exitCode"] == 0, "it failed: {own}");
                return Ok(begun.elapsed().as_secs_f64());
            }
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.context("it did not print everything in time")?
}
