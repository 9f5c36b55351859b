//! From `kubectl apply` to ready pods and to the first page through the virtual IP.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::{Cluster, Options};

use super::Setting;
use super::api::Api;
use super::inside::inside;
use super::report::Report;
use super::stats::{median, percentile};
use super::tutorial::{PATIENCE, Pods, cluster_ip, fetch, kubectl, manifest};

/// Between two attempts to connect: a Service without endpoints refuses at once.
const RETRY: Duration = Duration::from_micros(500);

/// Seconds since `kubectl apply` was started.
struct Run {
    ready: f64,
    answered: f64,
    /// kubectl itself, whose own work is in the other two.
    kubectl: f64,
}

pub(super) fn two(setting: &Setting, report: &mut Report) -> Result<()> {
    let runs = repeat(setting, 2, 7)?;
    let kubectl: Vec<f64> = runs.iter().map(|run| run.kubectl).collect();
    let kubectl = median(&kubectl).context("no runs")?;
    for (name, samples) in [
        ("apply-ready", runs.iter().map(|run| run.ready).collect::<Vec<_>>()),
        ("apply-answer", runs.iter().map(|run| run.answered).collect()),
    ] {
        record(report, name, &samples, kubectl)?;
    }
    Ok(())
}

pub(super) fn thirty(setting: &Setting, report: &mut Report) -> Result<()> {
    let runs = repeat(setting, 30, 3)?;
    let kubectl: Vec<f64> = runs.iter().map(|run| run.kubectl).collect();
    let samples: Vec<f64> = runs.iter().map(|run| run.ready).collect();
    record(report, "deploy-30", &samples, median(&kubectl).context("no runs")?)
}

fn record(report: &mut Report, name: &str, samples: &[f64], kubectl: f64) -> Result<()> {
    let value = median(samples).context("no runs")?;
    let worst = percentile(samples, 1.0).unwrap_or(value);
    let runs = samples.len();
    let detail =
        format!("median of {runs}, worst {worst:.3} s, from kubectl's start; kubectl itself took {kubectl:.3} s");
    report.measured(name, value, detail);
    Ok(())
}

fn repeat(setting: &Setting, replicas: usize, runs: usize) -> Result<Vec<Run>> {
    let cluster = Cluster::start(setting.options(Options::tutorial()))?;
    let file = cluster.write("my-nginx.yaml", &manifest(replicas))?;
    let api = Api::new(&cluster.data_dir().join("kubeconfig.yaml"))?;
    let mut measured = Vec::new();
    // The first fills kubectl's cache of what the server serves, as any user's is.
    for run in 0..=runs {
        let result = inside(&cluster.namespace, || once(&cluster, &api, &file, replicas))?;
        if run > 0 {
            measured.push(result);
        }
    }
    Ok(measured)
}

async fn once(cluster: &Cluster, api: &Api, file: &str, replicas: usize) -> Result<Run> {
    let mut pods = Pods::watch(api).await?;
    let start = Instant::now();
    let applied = async {
        kubectl(cluster, &["apply", "-f", file]).await?;
        anyhow::Ok(start.elapsed().as_secs_f64())
    };
    let ready = async {
        pods.ready(replicas).await?;
        anyhow::Ok(start.elapsed().as_secs_f64())
    };
    let answered = async {
        let ip = cluster_ip(api, "my-nginx").await?;
        while fetch(ip).await.is_err() {
            tokio::time::sleep(RETRY).await;
        }
        anyhow::Ok(start.elapsed().as_secs_f64())
    };
    let answered = async { tokio::time::timeout(PATIENCE, answered).await.context("no page through the ClusterIP")? };
    let (kubectl_took, ready, answered) = tokio::try_join!(applied, ready, answered)?;
    kubectl(cluster, &["delete", "-f", file]).await?;
    pods.gone().await?;
    Ok(Run { ready, answered, kubectl: kubectl_took })
}
