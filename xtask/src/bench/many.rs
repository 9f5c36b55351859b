//! Ten thousand pods in one list.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Options};
use hyper::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::Setting;
use super::api::Api;
use super::inside::inside;
use super::memory::{Process, megabytes};
use super::report::Report;
use super::stats::median;
use super::wrk::{Load, Wrk};

const PODS: usize = 10_000;
const WRITERS: usize = 16;
const RUNS: usize = 3;
const COLLECTION: &str = "/api/v1/namespaces/many/pods";
/// Until what making the pods set going has come to rest.
const SETTLE: Duration = Duration::from_secs(5);

pub(super) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let cluster = Cluster::start(setting.options(Options::default()))?;
    let api = Api::new(&cluster.data_dir().join("kubeconfig.yaml"))?;
    let wrk = Wrk::new(&api)?;
    let length = inside(&cluster.namespace, || prepare(&api))?;
    std::thread::sleep(SETTLE);
    let server = Process::server(&cluster);
    server.forget_peak()?;
    let (before, _) = server.resident_bytes()?;
    let load = || Load { url: api.url(COLLECTION), connections: 4, seconds: 5, create: None };
    let rates: Vec<_> = (0..RUNS).map(|_| wrk.run(&cluster, &load())).collect::<Result<_>>()?;
    let (after, peak) = server.resident_bytes()?;
    let rate = median(&rates.iter().map(|rates| rates.per_second).collect::<Vec<_>>()).context("no runs")?;
    let p99: Vec<&str> = rates.iter().map(|rates| rates.p99.as_str()).collect();
    let size = format!("{length} bytes; median of {RUNS} runs");
    report.measured("list-pods", rate, format!("{size}; latency p99 {}", p99.join(", ")));
    report.measured("list-pods-bytes", rate * length as f64 / 1e6, size);
    let of = |bytes: u64| format!("{:.0} MB", megabytes(bytes));
    let detail = format!("resident {} before, {} at its highest, {} after the runs", of(before), of(peak), of(after));
    report.measured("list-pods-memory", megabytes(peak.saturating_sub(before)), detail);
    Ok(())
}

/// What a ReplicaSet would make, but for no scheduler: that would write each of them again.
fn pod(number: usize) -> Value {
    let probe = json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 5});
    let container = json!({"name": "web", "image": "registry.example/web:1.2.3", "ports": [{"containerPort": 8080}],
        "env": [{"name": "MODE", "value": "production"}, {"name": "LEVEL", "value": "info"}], "readinessProbe": probe,
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}}});
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("web-{number:05}"), "labels": {"app": "web", "shard": (number % 100).to_string()}},
        "spec": {"schedulerName": "none", "containers": [container]}})
}

/// The length of the list.
async fn prepare(api: &Api) -> Result<usize> {
    let mut connection = api.connect().await?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "many"}});
    connection.create("/api/v1/namespaces", &namespace).await?;
    // A pod needs the account, which its controller makes.
    let mut accounts = api.watch("/api/v1/namespaces/many/serviceaccounts", "").await?;
    accounts.next().await.context("the default account")?;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let api = api.clone();
        writers.spawn(async move {
            let mut connection = api.connect().await?;
            for number in (writer..PODS).step_by(WRITERS) {
                connection.create(COLLECTION, &pod(number)).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(written) = writers.join_next().await {
        written.context("a writer")??;
    }
    let list = connection.call(Method::GET, COLLECTION, "").await?;
    let pods = serde_json::from_slice::<Value>(&list)?["items"].as_array().map_or(0, Vec::len);
    ensure!(pods == PODS, "the list has {pods} pods");
    Ok(list.len())
}
