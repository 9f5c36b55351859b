//! Nodes and agents that are gone, and come back.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use tests::{Cluster, Load, Place, eventually, get, must};

use crate::{one_on_each, three};

fn echo_service(cluster: &Cluster) -> Result<SocketAddr> {
    // It selects pods labelled app=echo.
    cluster.kubectl(&["create", "service", "clusterip", "echo", "--tcp=80"])?.ok();
    let address = cluster.service("echo")?;
    eventually("all endpoints", || {
        let slices = cluster.object(&["endpointslices", "-l", "kubernetes.io/service-name=echo"])?;
        let found = slices["items"][0]["endpoints"].as_array().map_or(0, Vec::len);
        ensure!(found == 3, "{slices:#}");
        Ok(())
    });
    Ok(address)
}

#[test]
fn an_agent_that_is_gone_takes_nothing_with_it() {
    must((|| {
        let cluster = three()?;
        one_on_each(&cluster)?;
        let address = echo_service(&cluster)?;
        let first = Arc::new(Place::of(&cluster.nodes()?[0])?);
        let load = Load::start(&first, address);
        load.go_on_for(100);
        kill(cluster.node_process("n2")?, Signal::SIGKILL).context("killing n2's agent")?;
        load.go_on_for(2000);
        load.stop().assert_perfect("n1");
        cluster.finish()
    })());
}

/// How long after the cut the last connection from there was begun that went to who is gone.
fn unused(from: &Place, address: SocketAddr, cut: Instant) -> Result<Duration> {
    let (mut last, mut in_a_row) = (Duration::ZERO, 0);
    while in_a_row < 50 {
        let begun = cut.elapsed();
        // No Lease can tell it as early.
        ensure!(begun < Duration::from_secs(5), "connections still go to n2 after {begun:?}");
        if from.run(|| TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_ok()) {
            in_a_row += 1;
        } else {
            (last, in_a_row) = (begun, 0);
        }
    }
    Ok(last)
}

#[test]
fn a_node_that_is_gone_is_soon_unused() {
    must((|| {
        let cluster = three()?;
        one_on_each(&cluster)?;
        let address = echo_service(&cluster)?;
        let nodes = cluster.nodes()?;
        let (first, second, third) = (Place::of(&nodes[0])?, &nodes[1], Place::of(&nodes[2])?);
        let used = || {
            eventually("n2 is used", || {
                let answers = (0..20).map(|_| first.run(|| get(address, "/"))).collect::<Result<Vec<_>>>()?;
                ensure!(answers.iter().any(|answer| answer.body.contains("echo-n2")), "{answers:?}");
                Ok(())
            });
        };
        // A second is what users are told. A machine that is busy with something else may miss it once, not three times.
        let mut took = Vec::new();
        while took.iter().all(|took| *took > Duration::from_secs(1)) {
            ensure!(took.len() < 3, "connections went to n2 for {took:?}");
            if !took.is_empty() {
                cluster.node("ip", &["link", "set", &second.link, "up"])?.ok();
            }
            used();
            cluster.node("ip", &["link", "set", &second.link, "down"])?.ok();
            let cut = Instant::now();
            let unused =
                [&first, &third].into_iter().map(|from| unused(from, address, cut)).collect::<Result<Vec<_>>>()?;
            took.push(unused.into_iter().max().context("two places")?);
        }
        for _ in 0..20 {
            let answer = first.run(|| get(address, "/"))?;
            ensure!(!answer.body.contains("echo-n2"), "n2 answered after its end");
        }
        // Nothing of it is written: who is to be evicted, and when, is upstream's to say.
        let pod = cluster.object(&["pod", "echo-n2"])?;
        let conditions = pod["status"]["conditions"].as_array().context("conditions")?;
        ensure!(conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"), "{pod:#}");
        cluster.node("ip", &["link", "set", &second.link, "up"])?.ok();
        used();
        cluster.finish()
    })());
}
