//! Which of several endpoints a client is led to: what a Service says about near and far, and about those that are not
//! ready or not ready any more.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, Options, Place, eventually, get, must};

use crate::{echo, one_on_each};

fn service(cluster: &Cluster, name: &str, more: Value) -> Result<SocketAddr> {
    // By the name that the container's port has.
    let mut spec = json!({"selector": {"app": "echo"}, "ports": [{"port": 80, "targetPort": "http"}]});
    if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
    }
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    cluster.apply(&object.to_string())?;
    cluster.service(name)
}

/// Who answers thirty connections.
fn answering(place: &Place, address: SocketAddr) -> Result<BTreeSet<String>> {
    let answers = (0..30).map(|_| place.run(|| get(address, "/")).map(|answer| answer.body));
    answers.map(|answer| Ok(answer?.split(' ').next().context("a name")?.to_owned())).collect()
}

fn answered_by(what: &str, place: &Place, address: SocketAddr, wanted: &[&str]) {
    eventually(what, || {
        let found = answering(place, address)?;
        ensure!(found.iter().eq(wanted), "{found:?}");
        Ok(())
    });
}

#[test]
fn near_endpoints_are_taken_where_a_service_says_so() {
    must((|| {
        let arguments = ["--service-node-port-range", "31000-31004"].map(str::to_owned).to_vec();
        let cluster = Cluster::start(Options { nodes: 2, arguments, ..Options::tutorial() })?;
        for (node, zone) in [("n1", "a"), ("n2", "b")] {
            cluster.kubectl(&["label", "node", node, &format!("topology.kubernetes.io/zone={zone}")])?.ok();
        }
        one_on_each(&cluster)?;
        let nodes = cluster.nodes()?;
        let both = ["echo-n1", "echo-n2"];
        let any = service(&cluster, "any", json!({}))?;
        let here = service(&cluster, "here", json!({"internalTrafficPolicy": "Local"}))?;
        let node = service(&cluster, "same-node", json!({"trafficDistribution": "PreferSameNode"}))?;
        let zone = service(&cluster, "same-zone", json!({"trafficDistribution": "PreferSameZone"}))?;
        for (number, own) in both.iter().enumerate() {
            for place in [Place::of(&nodes[number])?, Place::pod(&cluster, own)?] {
                answered_by("everybody answers", &place, any, &both);
                answered_by("a local policy keeps to the node", &place, here, &[own]);
                answered_by("the same node is preferred", &place, node, &[own]);
                answered_by("the same zone is preferred", &place, zone, &[own]);
            }
        }
        // Without one that is near, preferences give way and a policy does not.
        let first = Place::of(&nodes[0])?;
        cluster.kubectl(&["delete", "pod", "echo-n1"])?.ok();
        answered_by("the other node's, then", &first, node, &["echo-n2"]);
        answered_by("the other zone's, then", &first, zone, &["echo-n2"]);
        eventually("nobody answers here", || {
            let tried = first.run(|| TcpStream::connect_timeout(&here, Duration::from_millis(300)));
            ensure!(tried.is_err(), "somebody did");
            Ok(())
        });
        node_ports_are_of_the_range(&cluster, nodes[0].address())?;
        cluster.finish()
    })());
}

fn node_ports_are_of_the_range(cluster: &Cluster, node: IpAddr) -> Result<()> {
    service(
        cluster,
        "fixed",
        json!({"type": "NodePort", "ports": [{"port": 80, "targetPort": 80, "nodePort": 31003}]}),
    )?;
    let outside = Place::outside(cluster)?;
    answered_by("the port that was asked for", &outside, SocketAddr::new(node, 31003), &["echo-n2"]);
    let elsewhere = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "elsewhere"},
        "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30003}]}});
    let refused = cluster.kubectl_input(&["apply", "-f", "-"], &elsewhere.to_string())?.error();
    ensure!(
        refused.contains("provided port is not in the valid range. The range of valid ports is 31000-31004"),
        "{refused}"
    );
    Ok(())
}

#[test]
fn who_is_not_ready_and_who_is_about_to_end_answers_where_it_should() {
    must((|| {
        let cluster = Cluster::start(Options { nodes: 2, ..Options::tutorial() })?;
        let place = Place::of(&cluster.nodes()?[0])?;
        // Never ready; it says that it ends twenty seconds before it does.
        let never = "readinessProbe: {exec: {command: [\"false\"]}, periodSeconds: 1}\n    \
                     lifecycle: {preStop: {sleep: {seconds: 20}}}";
        let pod =
            echo("echo-n2", "n2").replace("terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 30");
        let probe = "readinessProbe: {httpGet: {port: 80}, periodSeconds: 1}";
        ensure!(pod.contains(probe), "{pod}");
        cluster.apply(&pod.replace(probe, never))?;
        let ready = service(&cluster, "ready", json!({}))?;
        let early = service(&cluster, "early", json!({"publishNotReadyAddresses": true}))?;
        answered_by("one that is not ready, where that is wanted", &place, early, &["echo-n2"]);
        let tried = place.run(|| get(ready, "/"));
        ensure!(tried.as_ref().is_err_and(|error| format!("{error:#}").contains("refused")), "{tried:?}");
        cluster.kubectl(&["delete", "pod", "echo-n2", "--force", "--grace-period=0"])?.ok();
        let lasting = "lifecycle: {preStop: {sleep: {seconds: 20}}}";
        cluster.apply(&pod.replace(probe, &format!("{probe}\n    {lasting}")))?;
        cluster.kubectl(&["wait", "--for=condition=Ready", "pod/echo-n2", "--timeout=60s"])?.ok();
        answered_by("the only one", &place, ready, &["echo-n2"]);
        cluster.kubectl(&["delete", "pod", "echo-n2", "--wait=false"])?.ok();
        eventually("it is about to end", || {
            let slices = cluster.object(&["endpointslices", "-l", "kubernetes.io/service-name=ready"])?;
            let conditions = &slices["items"][0]["endpoints"][0]["conditions"];
            ensure!(conditions["terminating"] == true && conditions["ready"] == false, "{slices:#}");
            Ok(())
        });
        answered_by("there is nobody else", &place, ready, &["echo-n2"]);
        cluster.apply(&echo("echo-n1", "n1"))?;
        cluster.kubectl(&["wait", "--for=condition=Ready", "pod/echo-n1", "--timeout=60s"])?.ok();
        ensure!(cluster.object(&["pod", "echo-n2"])?["status"]["phase"] == "Running", "it has ended too soon to tell");
        answered_by("one that stays comes first", &place, ready, &["echo-n1"]);
        cluster.kubectl(&["delete", "pod", "echo-n2", "--force", "--grace-period=0"])?.ok();
        cluster.finish()
    })());
}
