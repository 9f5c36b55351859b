//! Pods, nodes and hosts outside reach each other's pods and Services, whichever node they are on.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::{Cluster, Dig, Place, Resolver, eventually, get, must};

use crate::{one_on_each, three, three_of};

/// Who answered, and whom it saw.
pub(crate) fn ask(place: &Place, address: SocketAddr) -> Result<(String, IpAddr)> {
    let answer = place.run(|| get(address, "/"))?;
    let (name, seen) = answer.body.trim().split_once(' ').with_context(|| format!("{:?}", answer.body))?;
    Ok((name.to_owned(), seen.parse().context("an address")?))
}

/// Everybody reaches every address of every pod; pods are seen by their own addresses.
pub(crate) fn everybody_reaches_every_pod(cluster: &Cluster) -> Result<()> {
    let mut pods = Vec::new();
    for (name, _) in one_on_each(cluster)?.into_values() {
        let ips = cluster.pod_ips(&name)?;
        ensure!(ips.len() == cluster.nodes()?[0].addresses.len(), "{name} has {ips:?}");
        pods.push((name, ips));
    }
    for (name, ips) in &pods {
        for (family, ip) in ips.iter().enumerate() {
            let address = SocketAddr::new(*ip, 80);
            for (client, own) in &pods {
                let (answered, seen) = ask(&Place::pod(cluster, client)?, address)?;
                ensure!((&answered, seen) == (name, own[family]), "{client} to {name}: {answered} saw {seen}");
            }
            for node in cluster.nodes()? {
                let (answered, _) = ask(&Place::of(&node)?, address)?;
                ensure!(answered == *name, "{} to {name}: {answered}", node.name);
            }
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
    cluster.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: echo}\nspec: {type: NodePort, ipFamilyPolicy: PreferDualStack, \
         selector: {app: echo}, ports: [{port: 80}]}",
    )?;
    let families = cluster.nodes()?[0].addresses.len();
    eventually("all endpoints", || {
        let slices = cluster.object(&["endpointslices", "-l", "kubernetes.io/service-name=echo"])?;
        let slices = slices["items"].as_array().context("a list")?;
        let found: Vec<_> = slices.iter().map(|slice| slice["endpoints"].as_array().map_or(0, Vec::len)).collect();
        ensure!(found == vec![pods.len(); families], "{slices:#?}");
        Ok(())
    });
    let service = cluster.object(&["service", "echo"])?;
    let port = u16::try_from(service["spec"]["ports"][0]["nodePort"].as_u64().context("a node port")?)?;
    let cluster_ips = cluster.service_ips("echo")?;
    ensure!(cluster_ips.len() == families, "{cluster_ips:?}");
    let asked = ["exec", &pods["n2"].0, "--", "nslookup", "echo.default.svc.cluster.local"];
    let answer = cluster.kubectl(&asked)?.ok();
    ensure!(cluster_ips.iter().all(|ip| answer.contains(&ip.ip().to_string())), "{cluster_ips:?}: {answer}");
    let outside = Place::outside(cluster)?;
    for node in cluster.nodes()? {
        let (here, pod) = (Place::of(&node)?, Place::pod(cluster, &pods[&node.name].0)?);
        for (cluster_ip, address) in cluster_ips.iter().zip(&node.addresses) {
            let node_port = SocketAddr::new(*address, port);
            all_answer(&here, *cluster_ip, 3)?;
            all_answer(&pod, *cluster_ip, 3)?;
            all_answer(&outside, node_port, 3)?;
            all_answer(&pod, node_port, 3)?;
        }
    }
    Ok(())
}

fn without_anything_in_between(family: &'static str) {
    must((|| {
        let cluster = three_of(family)?;
        everybody_reaches_every_pod(&cluster)?;
        services_lead_to_all_nodes(&cluster)?;
        cluster.routes("dev eth0", 4)?;
        cluster.finish()
    })());
}

#[test]
fn without_anything_in_between_by_ipv4() {
    without_anything_in_between("ipv4");
}

#[test]
fn without_anything_in_between_by_ipv6() {
    without_anything_in_between("ipv6");
}

#[test]
fn without_anything_in_between_by_both() {
    without_anything_in_between("dual");
}

#[test]
fn through_the_tunnel_where_the_network_carries_nodes_packets_only() {
    must((|| {
        let cluster = three_of("dual")?;
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

#[test]
fn the_settings_of_names_reach_every_node() {
    must((|| {
        let cluster = three()?;
        let nodes = cluster.nodes()?;
        let at = SocketAddr::new(nodes[0].address(), 5300);
        let _stub = Resolver::start(&Place::of(&nodes[0])?, at, &[("db.corp.test", [192, 0, 2, 99].into())])?;
        let data = json!({"stubDomains": json!({"corp.test": [at.to_string()]}).to_string()});
        let metadata = json!({"name": "sampan-dns", "namespace": "kube-system"});
        let settings = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
        cluster.apply(&settings.to_string())?;
        for node in &nodes {
            let place = Place::of(node)?;
            eventually("a name of the stub domain", || {
                let dig = Dig::ask(&place, &["db.corp.test", "A"])?;
                ensure!(dig.answer.iter().any(|record| record.ends_with("IN A 192.0.2.99")), "{}: {dig:?}", node.name);
                Ok(())
            });
        }
        cluster.finish()
    })());
}
