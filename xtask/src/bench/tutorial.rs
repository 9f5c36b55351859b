//! The tutorial's Deployment and Service, and waiting for them, shared by the rows that measure with them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::Cluster;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::api::{Api, Events};

pub(super) const NAMESPACE: &str = "/api/v1/namespaces/default";
/// The longest one thing may take before its row fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The manifest of a user: a Deployment, and a Service for port 80 of its pods.
pub(super) fn manifest(replicas: usize) -> String {
    format!(
        "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: my-nginx
spec:
  selector:
    matchLabels:
      run: my-nginx
  replicas: {replicas}
  template:
    metadata:
      labels:
        run: my-nginx
    spec:
      containers:
      - name: my-nginx
        image: nginx
        ports:
        - containerPort: 80
---
apiVersion: v1
kind: Service
metadata:
  name: my-nginx
  labels:
    run: my-nginx
spec:
  ports:
  - port: 80
    protocol: TCP
  selector:
    run: my-nginx
"
    )
}

/// kubectl with this cluster's kubeconfig; fails with what it said.
pub(super) async fn kubectl(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let mut command = tokio::process::Command::from(cluster.kubectl_command(arguments));
    let output = command.kill_on_drop(true).output().await.context("starting kubectl")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "kubectl {}: {said}", arguments.join(" "));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The tutorial's pods as a watch shows them.
pub(super) struct Pods {
    events: Events,
    ready: BTreeMap<String, bool>,
    deleting: BTreeSet<String>,
}

impl Pods {
    pub(super) async fn watch(api: &Api) -> Result<Self> {
        let events = api.watch(&format!("{NAMESPACE}/pods"), "&labelSelector=run%3Dmy-nginx").await?;
        Ok(Self { events, ready: BTreeMap::new(), deleting: BTreeSet::new() })
    }

    async fn step(&mut self) -> Result<()> {
        let event = self.events.next().await?;
        let name = event.name().to_owned();
        if event.gone {
            self.ready.remove(&name);
            self.deleting.remove(&name);
        } else {
            if event.object.pointer("/metadata/deletionTimestamp").is_some() {
                self.deleting.insert(name.clone());
            }
            self.ready.insert(name, event.condition("Ready"));
        }
        Ok(())
    }

    /// Until exactly `count` pods are there and all are ready.
    pub(super) async fn ready(&mut self, count: usize) -> Result<Vec<String>> {
        let wait = async {
            while self.ready.len() != count || !self.deleting.is_empty() || !self.ready.values().all(|ready| *ready) {
                self.step().await?;
            }
            anyhow::Ok(())
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        waited.with_context(|| format!("{count} pods were not ready in time: {:?}", self.ready))??;
        Ok(self.ready.keys().cloned().collect())
    }

    /// Until `victim`, whose deletion this watch may not have seen yet, is gone and `count` others are ready.
    pub(super) async fn replaced(&mut self, victim: &str, count: usize) -> Result<()> {
        let wait = async {
            while self.ready.contains_key(victim) {
                self.step().await?;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, wait).await.with_context(|| format!("{victim} did not go in time"))??;
        self.ready(count).await.map(drop)
    }

    pub(super) async fn gone(&mut self) -> Result<()> {
        let wait = async {
            while !self.ready.is_empty() {
                self.step().await?;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, wait).await.context("the pods did not go in time")?
    }
}

/// The virtual IP of a Service, once it is there.
pub(super) async fn cluster_ip(api: &Api, service: &str) -> Result<Ipv4Addr> {
    let mut events =
        api.watch(&format!("{NAMESPACE}/services"), &format!("&fieldSelector=metadata.name%3D{service}")).await?;
    loop {
        let event = events.next().await?;
        if let Some(ip) = event.object.pointer("/spec/clusterIP").and_then(Value::as_str) {
            return ip.parse().with_context(|| format!("{ip} is no address"));
        }
    }
}

/// One page over a new connection; anything but a 200 is an error.
pub(super) async fn fetch(ip: Ipv4Addr) -> io::Result<()> {
    let mut stream = TcpStream::connect((ip, 80)).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: my-nginx\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    if answer.starts_with(b"HTTP/1.1 200 ") { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}
