//! Services of type LoadBalancer: who gives them an address, and who answers for it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::{Cluster, Node, Options, Place, eventually, get, must, run};

use crate::one_on_each;

const POOL: &str = "172.31.7.200-172.31.7.201";

/// Three nodes, a pod on each, and Services of these names over them.
fn with_services(arguments: &[&str], names: &[&str]) -> Result<Cluster> {
    let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let cluster = Cluster::start(Options { nodes: 3, arguments, ..Options::tutorial() })?;
    one_on_each(&cluster)?;
    for name in names {
        cluster.apply(&format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: LoadBalancer, selector: {{app: echo}}, \
             ports: [{{port: 80}}]}}"
        ))?;
    }
    Ok(cluster)
}

pub(crate) fn addresses(cluster: &Cluster, service: &str) -> Result<Vec<IpAddr>> {
    let service = cluster.object(&["service", service])?;
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten();
    ingress.map(|one| one["ip"].as_str().context("an ip")?.parse().context("an address")).collect()
}

/// The nodes that have an address on their link.
pub(crate) fn holders(cluster: &Cluster, address: IpAddr) -> Result<Vec<Node>> {
    let mut holders = Vec::new();
    for node in cluster.nodes()? {
        let shown = run("ip", &["-n", &node.namespace, "-o", "address", "show", "to", &address.to_string()])?;
        if !shown.is_empty() {
            holders.push(node);
        }
    }
    Ok(holders)
}

#[test]
fn an_address_of_the_pool_is_answered_by_one_node_and_by_another_once_that_is_gone() {
    must((|| {
        let cluster = with_services(&["--load-balancer-pool", POOL], &["one", "two", "three"])?;
        eventually("two have addresses, and the third says why not", || {
            let all: Vec<IpAddr> = ["one", "two", "three"]
                .iter()
                .map(|name| addresses(&cluster, name))
                .collect::<Result<Vec<_>>>()?
                .concat();
            ensure!(all.len() == 2 && all[0] != all[1], "{all:?}");
            let events = cluster.kubectl(&["get", "events"])?.ok();
            ensure!(events.contains("PoolExhausted"), "{events}");
            Ok(())
        });
        let mut all = Vec::new();
        for name in ["one", "two", "three"] {
            all.extend(addresses(&cluster, name)?);
        }
        let outside = Place::outside(&cluster)?;
        for ip in &all {
            let address = SocketAddr::new(*ip, 80);
            eventually("one node answers", || {
                let holders = holders(&cluster, *ip)?;
                ensure!(holders.len() == 1, "{holders:?}");
                ensure!(outside.run(|| get(address, "/"))?.body.contains("echo-"), "not ours");
                Ok(())
            });
        }
        let (ip, address) = (all[0], SocketAddr::new(all[0], 80));
        let first = holders(&cluster, ip)?.remove(0);
        let cut = Instant::now();
        cluster.node("ip", &["link", "set", &first.link, "down"])?.ok();
        // What was in flight waits for its second attempt.
        let answer = outside.run(|| get(address, "/"))?;
        ensure!(answer.body.contains("echo-"), "{answer:?}");
        ensure!(cut.elapsed() < Duration::from_secs(10), "the address came back after {:?}", cut.elapsed());
        let second = holders(&cluster, ip)?;
        ensure!(second.iter().any(|node| node.name != first.name), "{second:?}");
        cluster.node("ip", &["link", "set", &first.link, "up"])?.ok();
        eventually("one node answers", || {
            let holders = holders(&cluster, ip)?;
            ensure!(holders.len() == 1, "{holders:?}");
            Ok(())
        });
        // No longer a load balancer: nobody answers, and the next one waiting gets it.
        cluster.kubectl(&["patch", "service", "one", "-p", r#"{"spec": {"type": "ClusterIP"}}"#])?.ok();
        eventually("the address is another's", || {
            ensure!(addresses(&cluster, "one")?.is_empty(), "still there");
            ensure!(!addresses(&cluster, "two")?.is_empty() && !addresses(&cluster, "three")?.is_empty(), "not given");
            Ok(())
        });
        cluster.finish()
    })());
}

#[test]
fn without_a_pool_the_nodes_own_addresses_lead_to_it() {
    must((|| {
        let cluster = with_services(&[], &["one", "two"])?;
        let nodes = cluster.nodes()?;
        eventually("one has all nodes' addresses, and the other says why not", || {
            let (one, two) = (addresses(&cluster, "one")?, addresses(&cluster, "two")?);
            let (has, other) = if one.is_empty() { (two, one) } else { (one, two) };
            let wanted: Vec<IpAddr> = nodes.iter().map(|node| node.address()).collect();
            ensure!(has == wanted && other.is_empty(), "{has:?} {other:?}");
            let events = cluster.kubectl(&["get", "events"])?.ok();
            ensure!(events.contains("PortInUse"), "{events}");
            Ok(())
        });
        let outside = Place::outside(&cluster)?;
        for node in &nodes {
            let address = SocketAddr::new(node.address(), 80);
            eventually("the node answers", || {
                let answer = outside.run(|| get(address, "/"))?;
                ensure!(answer.body.contains("echo-"), "{answer:?}");
                Ok(())
            });
        }
        cluster.finish()
    })());
}
