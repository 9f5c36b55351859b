//! A host that lacks what the server needs: disk, a port, the data directory.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tests::{Answer, Cluster, NODE_IP, Options, eventually, must};

use crate::in_order;

/// Starts a second server in the cluster's network, which is expected to end by itself.
fn second_server(cluster: &Cluster, arguments: &[&str]) -> Result<Answer> {
    let program = tests::binary().to_string_lossy().into_owned();
    let all = [&["30", program.as_str(), "server", "--node-name", "two", "--node-ip", NODE_IP], arguments].concat();
    cluster.node("timeout", &all)
}

#[test]
fn what_another_server_has_is_not_taken() {
    must((|| {
        let cluster = Cluster::start(Options::default())?;
        let log = cluster.log();
        let own = cluster.data_dir();
        let own = own.to_string_lossy();
        let other = cluster.write("other", "")?;
        std::fs::remove_file(&other)?;

        let refused = second_server(&cluster, &["--data-dir", &own, "--https-listen-port", "7443"])?;
        assert_ne!(refused.code, Some(124), "it went on: {refused:?}");
        in_order(&refused.error(), &["sampan: ", &own, "in use"]);
        let refused = second_server(&cluster, &["--data-dir", &other])?;
        assert_ne!(refused.code, Some(124), "it went on: {refused:?}");
        in_order(&refused.error(), &["sampan: ", "6443", "Address already in use"]);
        let refused = second_server(&cluster, &["--data-dir", "/dev/null/data"])?.error();
        in_order(&refused, &["sampan: ", "/dev/null/data", "Not a directory"]);
        let table: [(&[&str], &[&str]); 6] = [
            (&["--cluster-cidr", "nonsense"], &["nonsense", "--cluster-cidr", "10.42.0.0/16"]),
            (&["--service-cidr", "10.42.0.0/16"], &["--cluster-cidr", "--service-cidr", "overlap"]),
            (&["--https-listen-port", "70000"], &["70000", "--https-listen-port"]),
            (&["--eviction-hard", "memory.available<much"], &["--eviction-hard", "memory.available", "much"]),
            (
                &["--https-listen-port", "7443", "--eviction-soft", "memory.available<1Gi"],
                &["memory.available", "--eviction-soft-grace-period"],
            ),
            (&["--no-such-option"], &["--no-such-option"]),
        ];
        for (arguments, needles) in table {
            in_order(&second_server(&cluster, &[&["--data-dir", &other], arguments].concat())?.error(), needles);
        }
        // The first has noticed nothing.
        cluster.kubectl(&["create", "configmap", "still", "--from-literal=here=yes"])?.ok();
        cluster.kubectl(&["wait", "node/one", "--for=condition=Ready", "--timeout=10s"])?.ok();
        let since = cluster.log();
        let since = since.strip_prefix(&log).unwrap_or_default();
        assert!(!since.contains("ERROR"), "{since}");
        let _ = std::fs::remove_dir_all(&other);
        cluster.finish()
    })());
}

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() {
    must((|| {
        let mut cluster = Cluster::start(Options { disk: Some(64), ..Options::default() })?;
        cluster.kubectl(&["create", "configmap", "before", "--from-literal=a=b"])?.ok();
        let filler = cluster.data_dir().with_file_name("filler");
        fill(&filler)?;
        let value = cluster.write("value", &"x".repeat(200_000))?;
        let mut made = Vec::new();
        let refused = loop {
            let name = format!("filling-{}", made.len());
            let answer = cluster.kubectl(&["create", "configmap", &name, &format!("--from-file=value={value}")])?;
            if !answer.success {
                break answer;
            }
            made.push(name);
            ensure!(made.len() < 1000, "the disk does not fill");
            // What the store had set aside for itself is used up one by one.
            fill(&filler)?;
        };
        in_order(&refused.stderr, &["Internal error occurred: no space left for the datastore"]);
        // Reading goes on, and so does the server.
        cluster.kubectl(&["get", "configmap", "before"])?.ok();
        assert_eq!(cluster.kubectl(&["get", "--raw", "/readyz"])?.ok(), "ok");
        assert!(
            cluster.kubectl(&["get", "configmap", &format!("filling-{}", made.len())])?.error().contains("NotFound")
        );

        std::fs::remove_file(&filler).context("making room")?;
        eventually("writes are taken again", || {
            let answer = cluster.kubectl(&["create", "configmap", "after", "--from-literal=a=b"])?;
            ensure!(answer.success, "{}", answer.stderr);
            Ok(())
        });
        cluster.stop_server(nix::sys::signal::Signal::SIGKILL)?;
        cluster.start_server()?;
        made.extend(["before".to_owned(), "after".to_owned()]);
        for name in &made {
            cluster.kubectl(&["get", "configmap", name, "-o", "name"])?.ok();
        }
        cluster.kubectl(&["wait", "node/one", "--for=condition=Ready", "--timeout=30s"])?.ok();
        cluster.finish()
    })());
}

/// Appends to a file until its disk is full.
fn fill(path: &std::path::Path) -> Result<()> {
    let mut dd = std::process::Command::new("dd");
    dd.args(["if=/dev/zero", "bs=4k", "oflag=append", "conv=notrunc"]).arg(format!("of={}", path.display()));
    let status = dd.stderr(Stdio::null()).status().context("dd")?;
    ensure!(!status.success(), "dd should have met a full disk");
    Ok(())
}
