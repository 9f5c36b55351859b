//! New connections through the virtual IP while one of its two pods is deleted, again and again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Options};
use hyper::Method;
use tokio::task::JoinSet;

use super::Setting;
use super::api::Api;
use super::inside::inside;
use super::report::Report;
use super::tutorial::{NAMESPACE, PATIENCE, Pods, cluster_ip, fetch, kubectl, manifest};

const DELETIONS: usize = 6;
/// 200 connections a second.
const BETWEEN: Duration = Duration::from_millis(5);
/// A connection without its page by then has failed.
const CONNECTION: Duration = Duration::from_secs(2);
/// Load before the first deletion and after each replacement.
const CALM: Duration = Duration::from_millis(500);

/// What became of the connections, by why they failed.
#[derive(Default)]
struct Tally {
    opened: usize,
    failed: BTreeMap<String, usize>,
}

pub(super) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let cluster = Cluster::start(setting.options(Options::tutorial()))?;
    let file = cluster.write("my-nginx.yaml", &manifest(2))?;
    let api = Api::new(&cluster.data_dir().join("kubeconfig.yaml"))?;
    inside(&cluster.namespace, || async {
        let mut pods = Pods::watch(&api).await?;
        kubectl(&cluster, &["apply", "-f", &file]).await?;
        pods.ready(2).await?;
        let ip = cluster_ip(&api, "my-nginx").await?;
        let answers = async {
            while fetch(ip).await.is_err() {
                tokio::time::sleep(BETWEEN).await;
            }
        };
        tokio::time::timeout(PATIENCE, answers).await.context("no page through the ClusterIP")?;

        let tally = Arc::new(Mutex::new(Tally::default()));
        let load = tokio::spawn(load(ip, tally.clone()));
        let deletions = delete_in_turn(&api, &mut pods).await;
        load.abort();
        // A load that ended by itself panicked.
        ensure!(load.await.is_err_and(|ended| ended.is_cancelled()), "the load ended early");
        deletions?;
        let tally = tally.lock().expect("the load has ended without a panic");
        let failed: usize = tally.failed.values().sum();
        let detail = format!("{DELETIONS} deletions, {} connections, failed: {:?}", tally.opened, tally.failed);
        report.measured("drain", failed as f64 / DELETIONS as f64, detail);
        Ok(())
    })
}

async fn delete_in_turn(api: &Api, pods: &mut Pods) -> Result<()> {
    let mut connection = api.connect().await?;
    for _ in 0..DELETIONS {
        tokio::time::sleep(CALM).await;
        let victim = pods.ready(2).await?.remove(0);
        connection.call(Method::DELETE, &format!("{NAMESPACE}/pods/{victim}"), "").await?;
        pods.replaced(&victim, 2).await?;
    }
    // Connections opened last have their time to fail.
    tokio::time::sleep(CONNECTION).await;
    Ok(())
}

async fn load(ip: std::net::Ipv4Addr, tally: Arc<Mutex<Tally>>) {
    let mut connections = JoinSet::new();
    let mut clock = tokio::time::interval(BETWEEN);
    loop {
        clock.tick().await;
        while connections.try_join_next().is_some() {}
        let tally = tally.clone();
        connections.spawn(async move {
            let failure = match tokio::time::timeout(CONNECTION, fetch(ip)).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.kind().to_string()),
                Err(_) => Some("timed out".to_owned()),
            };
            let mut tally = tally.lock().expect("no holder panics");
            tally.opened += 1;
            if let Some(why) = failure {
                *tally.failed.entry(why).or_default() += 1;
            }
        });
    }
}
