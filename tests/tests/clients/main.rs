//! Clients that nobody here wrote, against the real binary. `scripts/setup.sh tests` installs them.

mod access;
mod applying;
mod libraries;
mod nodes;
mod reading;
mod workloads;

use anyhow::{Context, Result};
use serde_json::Value;
use tests::{Cluster, Options, in_order, kubectl_1_20, kubectls};

/// A cluster of its own for each kubectl, the oldest first, with the minor number of its version: 20, 32 and 36.
fn each_kubectl(options: &Options, test: impl Fn(&Cluster, u32) -> Result<()>) -> Result<()> {
    for kubectl in [vec![kubectl_1_20()], kubectls()].concat() {
        let path = kubectl.display().to_string();
        let cluster = Cluster::start(Options { kubectl: Some(kubectl), ..options.clone() })?;
        let versions: Value = serde_json::from_str(&say(&cluster, "version -o json")?).context("versions")?;
        let minor = versions["clientVersion"]["minor"].as_str().context("a minor version")?;
        assert_eq!(versions["serverVersion"]["minor"], "36");
        let minor = minor.parse().with_context(|| format!("{minor} is no version"))?;
        test(&cluster, minor).with_context(|| format!("with {path}"))?;
        cluster.finish()?;
    }
    Ok(())
}

/// What a command prints that must succeed. No word of it has a blank in it.
#[track_caller]
fn say(cluster: &Cluster, command: &str) -> Result<String> {
    Ok(cluster.kubectl(&command.split(' ').collect::<Vec<_>>())?.ok())
}

/// What a command says that must fail.
#[track_caller]
fn refused(cluster: &Cluster, command: &str) -> Result<String> {
    Ok(cluster.kubectl(&command.split(' ').collect::<Vec<_>>())?.error())
}

fn field(cluster: &Cluster, object: &str, path: &str) -> Result<String> {
    Ok(cluster.kubectl(&["get", object, "-o", &format!("jsonpath={{{path}}}")])?.ok())
}
