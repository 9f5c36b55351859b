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

#[test]
fn a_node_that_is_gone_is_soon_unused() {
    must((|| {
        let cluster = three()?;
        one_on_each(&cluster)?;
        let address = echo_service(&cluster)?;
        let nodes = cluster.nodes()?;
        let (first, second) = (Place::of(&nodes[0])?, &nodes[1]);
        for _ in 0..20 {
            first.run(|| get(address, "/"))?;
        }
        let cut = Instant::now();
        cluster.node("ip", &["link", "set", &second.link, "down"])?.ok();
        // The bench has the second as its budget; here it is enough that no Lease can have told it.
        let mut in_a_row = 0;
        while in_a_row < 50 {
            let quick = first.run(|| TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_ok());
            in_a_row = if quick { in_a_row + 1 } else { 0 };
            ensure!(cut.elapsed() < Duration::from_secs(5), "connections still go to n2 after {:?}", cut.elapsed());
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
        eventually("n2 is used again", || {
            let answers = (0..20).map(|_| first.run(|| get(address, "/"))).collect::<Result<Vec<_>>>()?;
            ensure!(answers.iter().any(|answer| answer.body.contains("echo-n2")), "{answers:?}");
            Ok(())
        });
        cluster.finish()
    })());
}
