//! How nodes come to a cluster, and leave it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use tests::{Cluster, Options, eventually, must};

use crate::three;

#[test]
fn three_nodes_are_up_soon_and_down_without_a_trace() {
    must((|| {
        let started = Instant::now();
        let cluster = Cluster::start(Options { nodes: 3, quiet: true, ..Options::default() })?;
        // The budget is for the release binary on an idle machine; here it is only that nothing waits for a timer.
        ensure!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
        let nodes = cluster.object(&["nodes"])?;
        let nodes = nodes["items"].as_array().context("items")?.clone();
        ensure!(nodes.len() == 3, "{nodes:#?}");
        let mut blocks: Vec<&str> = nodes.iter().filter_map(|node| node["spec"]["podCIDR"].as_str()).collect();
        blocks.sort_unstable();
        assert_eq!(blocks, ["10.42.0.0/24", "10.42.1.0/24", "10.42.2.0/24"]);
        cluster.finish()
    })());
}

#[test]
fn a_second_cluster_in_one_directory_is_refused() {
    must((|| {
        let cluster = Cluster::start(Options { nodes: 1, ..Options::default() })?;
        let refused = cluster.sampan(&["up"])?.error();
        ensure!(refused.contains("there is a cluster in"), "{refused}");
        cluster.finish()
    })());
}

#[test]
fn a_block_of_addresses_is_free_again_once_its_node_is_gone() {
    must((|| {
        let cluster = three()?;
        let block = |name: &str| -> Result<String> {
            let node = cluster.object(&["node", name])?;
            Ok(node["spec"]["podCIDR"].as_str().context("a block")?.to_owned())
        };
        let (gone, kept) = (block("n3")?, block("n2")?);
        kill(cluster.node_process("n3")?, Signal::SIGTERM).context("stopping n3")?;
        cluster.kubectl(&["delete", "node", "n3"])?.ok();
        cluster.apply("apiVersion: v1\nkind: Node\nmetadata: {name: other}")?;
        eventually("the block is given to another node", || {
            ensure!(block("other")? == gone, "{}", block("other")?);
            Ok(())
        });
        assert_eq!(block("n2")?, kept);
        cluster.finish()
    })());
}

/// What an agent says that may not join.
fn refused(cluster: &Cluster, token: &str, server: &str) -> Result<String> {
    let data = tempfile::tempdir().context("a data directory")?;
    let data = data.path().to_string_lossy();
    let arguments = ["agent", "--server", server, "--token", token, "--node-name", "stranger", "--data-dir", &data];
    Ok(cluster.sampan_on(&cluster.nodes()?[1], &arguments)?.error())
}

#[test]
fn who_may_not_join_is_told_why() {
    must((|| {
        let cluster = Cluster::start(Options { nodes: 2, ..Options::default() })?;
        let server = format!("https://{}:6443", cluster.nodes()?[0].address());
        let good = cluster.sampan(&["token", "create"])?.ok();
        let (hash, bearer) = good.trim().split_once("::").context("K10<hash>::<token>")?;
        ensure!(hash.len() == 67 && hash.starts_with("K10"), "{good}");
        let other = format!("K10{}::{bearer}", "0".repeat(64));
        for (token, server, said) in [
            (bearer, &*server, "the token does not say whose it is"),
            (&*other, &server, "the server's authority is not the one that the token names"),
            (&*format!("{hash}::aaaaaa.0123456789abcdef"), &server, "Unauthorized"),
            (&*good, "http://192.0.2.1:6443", "does not name a server"),
        ] {
            let told = refused(&cluster, token.trim(), server)?;
            ensure!(told.contains(said), "{token} at {server}: {told}");
        }
        // A token that was deleted is none.
        cluster.sampan(&["token", "delete", good.trim()])?.ok();
        let told = refused(&cluster, good.trim(), &server)?;
        ensure!(told.contains("Unauthorized"), "{told}");
        let stranger = cluster.kubectl(&["get", "node", "stranger"])?.error();
        ensure!(stranger.contains("not found"), "{stranger}");
        cluster.finish()
    })());
}

#[test]
fn a_node_changes_its_own_only() {
    must((|| {
        let cluster = Cluster::start(Options { nodes: 2, ..Options::default() })?;
        let pem = cluster.data_dir().join("n2/tls/node-client.pem");
        let ca = cluster.data_dir().join("n2/tls/ca.crt");
        let server = format!("https://{}:6443", cluster.nodes()?[0].address());
        let (pem, ca) = (pem.to_string_lossy().into_owned(), ca.to_string_lossy().into_owned());
        let ask = |method: &str, path: &str, body: &str| -> Result<String> {
            let url = format!("{server}{path}");
            let status = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", &ca, "--cert", &pem];
            let request = ["-X", method, "-H", "Content-Type: application/merge-patch+json", "-d", body, &url];
            Ok(cluster.node("curl", &[&status[..], &request[..]].concat())?.ok())
        };
        let label = r#"{"metadata": {"labels": {"node.kubernetes.io/mine": "x"}}}"#;
        assert_eq!(ask("PATCH", "/api/v1/nodes/n2", label)?, "200");
        assert_eq!(ask("PATCH", "/api/v1/nodes/n1", label)?, "403");
        assert_eq!(ask("GET", "/api/v1/secrets", "")?, "403");
        let pod = r#"{"metadata": {"name": "x"}, "spec": {"containers": [{"name": "x", "image": "x"}]}}"#;
        assert_eq!(ask("POST", "/api/v1/namespaces/default/pods", pod)?, "415");
        cluster.finish()
    })());
}
