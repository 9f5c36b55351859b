//! From a pod's change of readiness until the kernels of three nodes know it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use base_sys::netns::NetNs;
use harness::{Cluster, Options};
use hyper::Method;
use serde_json::{Value, json};

use super::Setting;
use super::api::Api;
use super::disk::durable_write;
use super::inside::inside;
use super::programmed::Monitor;
use super::report::Report;
use super::stats::{median, milliseconds, percentile};
use super::tutorial::{NAMESPACE, PATIENCE};

const NODES: usize = 3;
const CHANGES: usize = 40;
const PACE: Duration = Duration::from_millis(100);
/// A pod is ready when its probes say so, and this condition of ours.
const GATE: &str = "bench.example/open";
const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: gated, labels: {app: gated}}
spec:
  nodeName: n2
  readinessGates: [{conditionType: bench.example/open}]
  containers: [{name: web, image: nginx, imagePullPolicy: IfNotPresent}]
"#;

pub(super) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let cluster = Cluster::start(setting.options(Options { nodes: NODES, ..Options::tutorial() }))?;
    cluster.apply(POD)?;
    cluster.kubectl(&["create", "service", "clusterip", "gated", "--tcp=80"])?.ok();
    cluster.kubectl(&["wait", "--for=condition=ContainersReady", "pod/gated", "--timeout=60s"])?.ok();
    let mut monitors = Vec::new();
    for node in cluster.nodes()? {
        let netns = NetNs::open(&Path::new("/run/netns").join(&node.namespace))?;
        monitors.push(netns.run(Monitor::open)??);
    }
    let api = Api::new(&cluster.data_dir().join("kubeconfig.yaml"))?;
    let samples = inside(&cluster.namespace, || changes(&api, &mut monitors))?;
    let value = median(&samples).context("no changes")?;
    let detail = format!(
        "{CHANGES} changes of a readiness gate's condition, from sending the PATCH, half of them to ready; worst {:.1} ms; \
         a durable write of the disk alone {:.2} ms",
        percentile(&samples, 1.0).unwrap_or(value),
        durable_write(&cluster.data_dir())?
    );
    report.measured("programmed-3", value, detail);
    Ok(())
}

/// Milliseconds until the last of the kernels has committed a transaction.
async fn changes(api: &Api, monitors: &mut [Monitor]) -> Result<Vec<f64>> {
    let path = format!("{NAMESPACE}/pods/gated");
    let mut connection = api.connect().await?;
    let mut pace = tokio::time::interval(PACE);
    let mut samples = Vec::new();
    for change in 0..CHANGES {
        pace.tick().await;
        let mut conditions = connection.get(&path).await?["status"]["conditions"].take();
        let conditions = conditions.as_array_mut().context("conditions")?;
        conditions.retain(|condition| condition["type"] != GATE);
        conditions.push(json!({"type": GATE, "status": if change % 2 == 0 { "True" } else { "False" }}));
        let body = json!({"status": {"conditions": Value::from(conditions.clone())}}).to_string();
        for monitor in &mut *monitors {
            monitor.drain();
        }
        let sent = Instant::now();
        connection.call(Method::PATCH, &format!("{path}/status"), body).await?;
        let mut last = sent;
        for monitor in &mut *monitors {
            let programmed = tokio::time::timeout(PATIENCE, monitor.transaction()).await;
            last = last.max(programmed.context("a kernel was not told in time")??);
        }
        samples.push(milliseconds(last - sent));
    }
    Ok(samples)
}
