//! Several nodes on one machine, each in a network namespace of its own: what crosses nodes.

mod balancers;
mod certificates;
mod distribution;
mod families;
mod gone;
mod joining;
mod matrix;
mod policies;
mod reach;
mod rollout;
mod secure;
mod shutdown;
mod statics;
mod storage;

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::net::IpAddr;

use tests::{Cluster, Options};

/// Three nodes with the tutorial's images.
fn three() -> Result<Cluster> {
    three_of("ipv4")
}

/// With addresses of these families (`--ip-family`).
fn three_of(ip_family: &'static str) -> Result<Cluster> {
    Cluster::start(Options { nodes: 3, ip_family: Some(ip_family), ..Options::tutorial() })
}

/// A pod on each node, by the node's name: it answers with its own name, and logs who asked.
fn one_on_each(cluster: &Cluster) -> Result<BTreeMap<String, (String, IpAddr)>> {
    for node in cluster.nodes()? {
        cluster.apply(&echo(&format!("echo-{}", node.name), &node.name))?;
    }
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod", "-l", "app=echo", "--timeout=60s"])?.ok();
    let pods = cluster.pods("app=echo")?;
    let on = |pod: &str| pod.rsplit('-').next().context("a node in the pod's name").map(str::to_owned);
    pods.into_iter().map(|(name, ip)| Ok((on(&name)?, (name, ip)))).collect()
}

/// nginx that answers with its pod's name and the address of who asked.
fn echo(name: &str, node: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: echo, "on": {node}}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 1
  containers:
  - name: echo
    image: nginx
    imagePullPolicy: IfNotPresent
    command: [sh, -c]
    args:
    - |
      printf 'server {{ listen 80; listen [::]:80; location / {{ return 200 "%s $remote_addr\\n"; }} }}' {name} > /etc/nginx/conf.d/default.conf
      exec nginx -g 'daemon off;'
    ports: [{{containerPort: 80, name: http}}]
    readinessProbe: {{httpGet: {{port: 80}}, periodSeconds: 1}}
"#
    )
}
