//! What becomes of nodes and their pods, through kubectl: taints, silence, eviction, removal, draining, daemons, and what
//! all data planes know.

mod daemons;
mod drain;
mod planes;
mod pressure;
mod silence;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, Options, eventually, must};

fn on_a_cluster(test: impl FnOnce(&Cluster) -> Result<()>) {
    must((|| {
        let cluster = Cluster::start(Options::tutorial())?;
        test(&cluster)?;
        cluster.finish()
    })());
}

fn conditions(pairs: &[(&str, &str)]) -> Value {
    let now = "2026-01-01T00:00:00Z";
    let one = |(kind, status): &(&str, &str)| {
        json!({"type": kind, "status": status, "reason": "Test", "message": "by hand",
               "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    pairs.iter().map(one).collect()
}

fn condition(object: &Value, kind: &str) -> Value {
    let all = object["status"]["conditions"].as_array().into_iter().flatten();
    all.into_iter().find(|one| one["type"] == kind).cloned().unwrap_or_default()
}

/// `key:effect` of each of the node's taints.
fn taints(cluster: &Cluster, node: &str) -> Result<Vec<String>> {
    let node = cluster.object(&["node", node])?;
    let text =
        |taint: &Value| format!("{}:{}", taint["key"].as_str().unwrap_or(""), taint["effect"].as_str().unwrap_or(""));
    Ok(node["spec"]["taints"].as_array().into_iter().flatten().map(text).collect())
}

/// Waits until it does, in whichever order they came.
#[track_caller]
fn has_taints(cluster: &Cluster, node: &str, wanted: &[&str]) {
    let mut wanted: Vec<&str> = wanted.to_vec();
    wanted.sort_unstable();
    eventually(&format!("{node} has the taints {wanted:?}"), || {
        let mut found = taints(cluster, node)?;
        found.sort_unstable();
        ensure!(found == wanted, "it has {found:?}");
        Ok(())
    });
}

/// Whether an Event of this reason about the object has this message.
fn has_event(cluster: &Cluster, name: &str, reason: &str, message: &str) {
    eventually(&format!("{name}: {reason} {message}"), || {
        let selector = format!("involvedObject.name={name},reason={reason}");
        let events = cluster.object(&["events", "--all-namespaces", "--field-selector", &selector])?;
        let events = events["items"].as_array().context("a list")?;
        ensure!(events.iter().any(|event| event["message"] == message), "only {events:?}");
        Ok(())
    });
}
