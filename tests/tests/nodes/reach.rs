//! Pods, nodes and hosts outside reach each other's pods and Services, whichever node they are on.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use tests::{Cluster, Place, eventually, get, must};

use crate::{one_on_each, three};

/// Who answered, and whom it saw.
fn ask(place: &Place, address: SocketAddr) -> Result<(String, IpAddr)> {
    let answer = place.run(|| get(address, "/"))?;
    let (name, seen) = answer.body.trim().split_once(' ').with_context(|| format!("{:?}", answer.body))?;
    Ok((name.to_owned(), seen.parse().context("an address")?))
}

/// Everybody reaches every pod; pods are seen by their own addresses.
fn everybody_reaches_every_pod(cluster: &Cluster) -> Result<()> {
    let pods = one_on_each(cluster)?;
    for (name, ip) in pods.values() {
        let address = SocketAddr::new(*ip, 80);
        for (client, own) in pods.values() {
            let (answered, seen) = ask(&Place::pod(cluster, client)?, address)?;
            ensure!((&answered, seen) == (name, *own), "{client} to {name}: {answered} saw {seen}");
        }
        for node in cluster.nodes()? {
            let (answered, _) = ask(&Place::of(&node)?, address)?;
            ensure!(answered == *name, "{} to {name}: {answered}", node.name);
        }
    }
    Ok(())
}

/// Every backend answers clients in every place; asked often enough that all come to it.
fn all_answer(place: &Place, address: SocketAddr, backends: usize) -> Result<()> {
    let mut answered = std::collections::BTreeSet::new();
    for _ in 0..100 {
        answered.insert(ask(place, address)?.0);
    }
    ensure!(answered.len() == backends, "{address}: only {answered:?} answered");
    Ok(())
}

fn services_lead_to_all_nodes(cluster: &Cluster) -> Result<()> {
    let pods = one_on_each(cluster)?;
    // It selects pods labelled app=echo.
    cluster.kubectl(&["create", "service", "nodeport", "echo", "--tcp=80"])?.ok();
    let ips = pods.values().map(|(_, ip)| *ip).collect::<std::collections::BTreeSet<_>>();
    eventually("all endpoints", || {
        let slices = cluster.object(&["endpointslices", "-l", "kubernetes.io/service-name=echo"])?;
        let found = slices["items"][0]["endpoints"].as_array().map_or(0, Vec::len);
        ensure!(found == ips.len(), "{slices:#}");
        Ok(())
    });
    let service = cluster.object(&["service", "echo"])?;
    let port = u16::try_from(service["spec"]["ports"][0]["nodePort"].as_u64().context("a node port")?)?;
    let cluster_ip = cluster.service("echo")?;
    let outside = Place::outside(cluster)?;
    for node in cluster.nodes()? {
        let (here, pod) = (Place::of(&node)?, Place::pod(cluster, &pods[&node.name].0)?);
        let node_port = SocketAddr::new(node.address.into(), port);
        all_answer(&here, cluster_ip, 3)?;
        all_answer(&pod, cluster_ip, 3)?;
        all_answer(&outside, node_port, 3)?;
        all_answer(&pod, node_port, 3)?;
    }
    Ok(())
}

#[test]
fn without_anything_in_between() {
    must((|| {
        let cluster = three()?;
        everybody_reaches_every_pod(&cluster)?;
        services_lead_to_all_nodes(&cluster)?;
        cluster.routes("dev eth0", 4)?;
        cluster.finish()
    })());
}

#[test]
fn through_the_tunnel_where_the_network_carries_nodes_packets_only() {
    must((|| {
        let cluster = three()?;
        cluster.only_node_addresses_pass()?;
        everybody_reaches_every_pod(&cluster)?;
        services_lead_to_all_nodes(&cluster)?;
        cluster.every_address_passes()?;
        cluster.finish()
    })());
}

#[test]
fn streams_and_logs_come_from_every_node() {
    must((|| {
        let cluster = three()?;
        for (node, (pod, ip)) in one_on_each(&cluster)? {
            let name = cluster.kubectl(&["exec", &pod, "--", "hostname"])?.ok();
            assert_eq!(name.trim(), pod);
            eventually("the log of a pod", || {
                let log = cluster.kubectl(&["logs", &pod])?.ok();
                ensure!(log.contains("kube-probe"), "{node} {ip}: {log}");
                Ok(())
            });
        }
        cluster.finish()
    })());
}
