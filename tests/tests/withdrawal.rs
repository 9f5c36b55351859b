//! No connection fails because a pod goes: its address is withdrawn first, then it is told to stop.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::{Cluster, Load, Options, Place, eventually, must};

/// How many connections are made before, between and after what must not be noticed.
const ENOUGH: usize = 300;

/// A cluster with two nginx pods behind a Service, and clients on the node and in a pod that connect all the time.
fn under_load(trouble: impl FnOnce(&Cluster, &dyn Fn()) -> Result<()>) -> Result<()> {
    let cluster = Cluster::start(Options::tutorial())?;
    cluster.run_my_nginx()?;
    cluster.kubectl(&["expose", "deployment/my-nginx"])?.ok();
    let client = ["run", "client", "--image=busybox", "--image-pull-policy=IfNotPresent", "--", "sleep", "infinity"];
    cluster.kubectl(&client)?.ok();
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/client", "--timeout=60s"])?.ok();
    let ips: BTreeSet<IpAddr> = cluster.pods("run=my-nginx")?.into_values().collect();
    eventually("two endpoints", || cluster.endpoints_are("my-nginx", &ips));

    let address = cluster.service("my-nginx")?;
    let (node, pod) = (Arc::new(Place::node(&cluster)?), Arc::new(Place::pod(&cluster, "client")?));
    let loads = [("the node", Load::start(&node, address)), ("a pod", Load::start(&pod, address))];
    let go_on = || loads.iter().for_each(|(_, load)| load.go_on_for(ENOUGH));
    go_on();
    trouble(&cluster, &go_on)?;
    go_on();
    for (from, load) in loads {
        load.stop().assert_perfect(from);
    }
    cluster.finish()
}

#[test]
fn deleting_pods_fails_no_connection() {
    must(under_load(|cluster, go_on| {
        for _ in 0..3 {
            let pods = cluster.pods("run=my-nginx")?;
            let victim = pods.keys().next().context("a pod")?;
            cluster.kubectl(&["delete", "pod", victim])?.ok();
            cluster.rolled_out("my-nginx")?;
            go_on();
        }
        Ok(())
    }));
}

#[test]
fn rolling_updates_fail_no_connection() {
    must(under_load(|cluster, go_on| {
        let before = cluster.pods("run=my-nginx")?;
        cluster.kubectl(&["set", "env", "deployment/my-nginx", "COLOUR=blue"])?.ok();
        cluster.rolled_out("my-nginx")?;
        go_on();
        cluster.kubectl(&["rollout", "restart", "deployment/my-nginx"])?.ok();
        cluster.rolled_out("my-nginx")?;
        let after = cluster.pods("run=my-nginx")?;
        assert!(before.keys().all(|name| !after.contains_key(name)), "{before:?} became {after:?}");
        Ok(())
    }));
}

#[test]
fn a_program_that_takes_its_time_is_sent_nothing_before_it_listens() {
    must(under_load(|cluster, go_on| {
        let slow = json!({"name": "my-nginx", "command": ["sh", "-c", "sleep 0.5; exec nginx -g 'daemon off;'"]});
        let patch = json!({"spec": {"template": {"spec": {"containers": [slow]}}}}).to_string();
        cluster.kubectl(&["patch", "deployment/my-nginx", "-p", &patch])?.ok();
        cluster.rolled_out("my-nginx")?;
        go_on();
        Ok(())
    }));
}

#[test]
fn a_stopping_pod_is_terminating_and_not_ready_in_its_slice() {
    must((|| {
        let cluster = Cluster::start(Options::tutorial())?;
        cluster.run_my_nginx()?;
        cluster.kubectl(&["expose", "deployment/my-nginx"])?.ok();
        let pods = cluster.pods("run=my-nginx")?;
        eventually("two endpoints", || cluster.endpoints_are("my-nginx", &pods.values().copied().collect()));
        let (victim, ip) = pods.first_key_value().context("a pod")?;

        let selector = "kubernetes.io/service-name=my-nginx";
        let mut watch = cluster.kubectl_command(&["get", "endpointslices", "-l", selector, "-w", "-o", "json"]);
        let mut watch = watch.stdout(Stdio::piped()).spawn().context("kubectl get -w")?;
        let output = watch.stdout.take().context("an output")?;
        let mut versions = serde_json::Deserializer::from_reader(output).into_iter::<Value>();
        let mut next_of_victim = || -> Result<Value> {
            loop {
                let slice = versions.next().context("the watch ended")?.context("reading the watch")?;
                let endpoints = slice["endpoints"].as_array().into_iter().flatten();
                if let Some(endpoint) = endpoints.into_iter().find(|one| one["addresses"][0] == ip.to_string()) {
                    return Ok(endpoint["conditions"].clone());
                }
            }
        };
        let ready = json!({"ready": true, "serving": true, "terminating": false});
        let stopping = json!({"ready": false, "serving": true, "terminating": true});
        assert_eq!(next_of_victim()?, ready);
        cluster.kubectl(&["delete", "pod", victim, "--wait=false"])?.ok();
        let mut seen = next_of_victim()?;
        while seen == ready {
            seen = next_of_victim()?;
        }
        assert_eq!(seen, stopping);
        watch.kill().context("ending the watch")?;
        watch.wait().context("ending the watch")?;
        cluster.finish()
    })());
}
