//! No connection fails because pods go, whichever nodes they and their clients are on.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tests::{Cluster, Load, Place, eventually, must};

use crate::three;

/// How many connections are made before, between and after what must not be noticed.
const ENOUGH: usize = 200;

/// A Service with pods on several nodes.
fn web(cluster: &Cluster) -> Result<(SocketAddr, u16)> {
    cluster.run_my_nginx()?;
    cluster.kubectl(&["scale", "deployment/my-nginx", "--replicas=6"])?.ok();
    cluster.rolled_out("my-nginx")?;
    cluster.kubectl(&["expose", "deployment/my-nginx", "--type=NodePort"])?.ok();
    eventually("six endpoints", || {
        let slices = cluster.object(&["endpointslices", "-l", "kubernetes.io/service-name=my-nginx"])?;
        let endpoints = slices["items"][0]["endpoints"].as_array().cloned().unwrap_or_default();
        let ready = endpoints.iter().filter(|one| one["conditions"]["ready"] == true).count();
        ensure!(ready == 6, "{ready}");
        let nodes: std::collections::BTreeSet<_> = endpoints.iter().map(|one| one["nodeName"].to_string()).collect();
        ensure!(nodes.len() == 3, "only on {nodes:?}");
        Ok(())
    });
    let service = cluster.object(&["service", "my-nginx"])?;
    let port = service["spec"]["ports"][0]["nodePort"].as_u64().context("a node port")?;
    Ok((cluster.service("my-nginx")?, u16::try_from(port)?))
}

/// The address by which others reach a node.
fn address(cluster: &Cluster, node: &str) -> Result<IpAddr> {
    let node = cluster.object(&["node", node])?;
    let all = node["status"]["addresses"].as_array().context("addresses")?;
    let internal = all.iter().find(|one| one["type"] == "InternalIP").context("an internal address")?;
    internal["address"].as_str().context("an address")?.parse().context("an address")
}

#[test]
fn updates_scaling_and_drains_fail_no_connection_from_any_node() {
    must((|| {
        let cluster = three()?;
        let (service, port) = web(&cluster)?;
        let nodes = cluster.nodes()?;
        let (first, second) = (Arc::new(Place::of(&nodes[0])?), Arc::new(Place::of(&nodes[1])?));
        let third = SocketAddr::new(address(&cluster, &nodes[2].name)?, port);
        let loads = [
            ("n1 by ClusterIP", Load::start(&first, service)),
            ("n2 by ClusterIP", Load::start(&second, service)),
            ("n1 by n3's NodePort", Load::start(&first, third)),
        ];
        let go_on = || loads.iter().for_each(|(_, load)| load.go_on_for(ENOUGH));
        go_on();
        for _ in 0..2 {
            cluster.kubectl(&["rollout", "restart", "deployment/my-nginx"])?.ok();
            cluster.rolled_out("my-nginx")?;
            go_on();
        }
        cluster.kubectl(&["scale", "deployment/my-nginx", "--replicas=3"])?.ok();
        cluster.rolled_out("my-nginx")?;
        go_on();
        cluster.kubectl(&["drain", &nodes[1].name, "--timeout=60s"])?.ok();
        cluster.rolled_out("my-nginx")?;
        go_on();
        cluster.kubectl(&["uncordon", &nodes[1].name])?.ok();
        for (from, load) in loads {
            load.stop().assert_perfect(from);
        }
        let said = cluster.object(&["lease", "-n", "kube-system", "sampan-programmed"])?;
        ensure!(said["metadata"]["annotations"]["sampan.io/awaited"] == "3", "{said:#}");
        cluster.finish()
    })());
}
