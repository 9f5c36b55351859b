//! get in every form, watches, describe, explain, wait, events; what the server says about itself.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use tests::{Cluster, Options, must, repository};

use crate::{each_kubectl, in_order, refused, say};

#[test]
fn everything_there_is_can_be_read() {
    must(each_kubectl(&Options::default(), |cluster, minor| {
        let kinds = repository().join("tests/clients/kinds.yaml");
        say(cluster, &format!("create -f {}", kinds.display()))?;
        every_kind(cluster, minor)?;
        forms(cluster)?;
        watches(cluster)?;
        waits(cluster, minor)?;
        explanations(cluster, minor)?;
        the_server(cluster, minor)?;
        events(cluster, minor)
    }));
}

/// What a kubectl describes by a version that v1.36 no longer serves.
fn gone(minor: u32) -> &'static [&'static str] {
    match minor {
        ..21 => &["cronjobs.batch", "endpointslices.discovery.k8s.io", "poddisruptionbudgets.policy"],
        21..33 => &[
            "ipaddresses.networking.k8s.io",
            "servicecidrs.networking.k8s.io",
            "volumeattributesclasses.storage.k8s.io",
        ],
        _ => &[],
    }
}

fn every_kind(cluster: &Cluster, minor: u32) -> Result<()> {
    let resources = say(cluster, "api-resources --verbs=list -o name")?;
    let all: Vec<&str> = resources.lines().collect();
    let names = say(cluster, &format!("get -l sample=yes -o name {}", all.join(",")))?;
    let kinds: BTreeSet<&str> = names.lines().filter_map(|line| line.split('/').next()).collect();
    // Events are served by two groups, and every one of them in both.
    assert_eq!(kinds.len(), 57, "{kinds:?}");
    let wide = say(cluster, &format!("get -l sample=yes -o wide {}", all.join(",")))?;
    assert_eq!(wide.lines().filter(|line| line.starts_with("NAME ")).count(), 55, "{wide}");
    let gone = gone(minor);
    let told: Vec<&str> = all.into_iter().filter(|resource| !gone.contains(resource)).collect();
    let told = say(cluster, &format!("describe -l sample=yes {}", told.join(",")))?;
    let described = told.lines().filter(|line| line.starts_with("Name:")).count();
    assert!(described >= kinds.len() - gone.len(), "{described} are described");
    for resource in gone {
        let error = refused(cluster, &format!("describe {resource} -l sample=yes"))?;
        assert!(error.contains("the server could not find the requested resource"), "{resource}: {error}");
    }
    Ok(())
}

fn forms(cluster: &Cluster) -> Result<()> {
    let get = |form: &str| say(cluster, &format!("get svc sample -o {form}"));
    in_order(&get("json")?, &["\"kind\": \"Service\"", "\"sessionAffinity\": \"ClientIP\""]);
    in_order(&get("yaml")?, &["kind: Service", "sessionAffinity: ClientIP"]);
    in_order(&get("wide")?, &["NAME", "CLUSTER-IP", "SELECTOR", "80/TCP,53/UDP", "app=sample"]);
    assert_eq!(get("name")?, "service/sample\n");
    assert_eq!(get("jsonpath={.spec.ports[*].port}")?, "80 53");
    assert_eq!(get("jsonpath={.spec.ports[?(@.protocol==\"UDP\")].name}")?, "dns");
    assert_eq!(get("go-template={{range.spec.ports}}{{.name}};{{end}}")?, "web;dns;");
    assert_eq!(get("custom-columns=N:.metadata.name,P:.spec.ports[*].port")?, "N        P\nsample   80,53\n");
    in_order(&say(cluster, "get svc sample --show-labels")?, &["LABELS", "sample=yes"]);
    in_order(&say(cluster, "get cm --sort-by=.metadata.name")?, &["NAME", "kube-root-ca.crt", "sample"]);
    in_order(&say(cluster, "get svc sample --label-columns=sample")?, &["SAMPLE", "yes"]);
    assert_eq!(refused(cluster, "get svc nobody")?, "Error from server (NotFound): services \"nobody\" not found\n");
    assert_eq!(say(cluster, "get --raw /readyz")?, "ok");
    Ok(())
}

fn watches(cluster: &Cluster) -> Result<()> {
    let mut watch = cluster.session(&["get", "secrets", "--watch", "--output-watch-events"])?;
    watch.expect("sample")?;
    say(cluster, "create secret generic watched --from-literal=a=1")?;
    watch.expect("ADDED      watched")?;
    say(cluster, "label secret watched seen=yes")?;
    watch.expect("MODIFIED   watched")?;
    say(cluster, "delete secret watched")?;
    watch.expect("DELETED    watched")?;
    Ok(())
}

fn waits(cluster: &Cluster, minor: u32) -> Result<()> {
    say(cluster, "wait --for=condition=Established crd/samples.example.com --timeout=10s")?;
    in_order(&say(cluster, "get crd samples.example.com")?, &["NAME", "CREATED AT"]);
    cluster.apply("---\n{apiVersion: example.com/v1, kind: Sample, metadata: {name: s}, spec: {size: 3}}")?;
    in_order(&say(cluster, "get samples")?, &["NAME", "SIZE", "s", "3"]);
    say(cluster, "wait --for=condition=Ready node/one --timeout=10s")?;
    let late = refused(cluster, "wait --for=condition=Never node/one --timeout=1s")?;
    in_order(&late, &["timed out waiting for the condition on nodes/one"]);
    cluster.apply("---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: held, finalizers: [a.example/hold]}}")?;
    say(cluster, "delete cm held --wait=false")?;
    let late = refused(cluster, "wait --for=delete cm/held --timeout=1s")?;
    in_order(&late, &["timed out waiting for the condition on configmaps/held"]);
    let mut deletion = cluster.session(&["delete", "cm", "held", "--timeout=30s"])?;
    deletion.expect("configmap \"held\" deleted")?;
    cluster.kubectl(&["patch", "cm", "held", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#])?.ok();
    assert!(deletion.finish()?.0.success());
    if minor >= 23 {
        say(cluster, "wait --for=jsonpath={.status.phase}=Active ns/default --timeout=10s")?;
        say(cluster, "wait --for=jsonpath={.spec.size}=3 samples/s --timeout=10s")?;
    }
    Ok(())
}

fn explanations(cluster: &Cluster, minor: u32) -> Result<()> {
    let explained = say(cluster, "explain pod.spec.containers")?;
    in_order(&explained, &["KIND:", "Pod", "VERSION:", "v1", "containers", "image", "string", "ports"]);
    let all = say(cluster, "explain deployment --recursive")?;
    in_order(
        &all,
        &[
            "spec",
            "strategy",
            "rollingUpdate",
            "maxSurge",
            "template",
            "containers",
            "livenessProbe",
            "httpGet",
            "status",
            "replicas",
        ],
    );
    let version = say(cluster, "explain hpa --api-version=autoscaling/v2")?;
    in_order(&version, &["HorizontalPodAutoscaler", "VERSION:", "v2"]);
    in_order(&say(cluster, "explain samples.spec.size")?, &["Sample", "size", "<integer>"]);
    let error = refused(cluster, "explain pod.spec.nothing")?;
    assert!(error.contains("field \"nothing\" does not exist"), "{minor}: {error}");
    Ok(())
}

fn the_server(cluster: &Cluster, minor: u32) -> Result<()> {
    in_order(&say(cluster, "api-versions")?, &["apps/v1\n", "batch/v1\n", "networking.k8s.io/v1\n", "v1\n"]);
    let resources = say(cluster, "api-resources --no-headers")?;
    for row in
        ["pods po v1 true Pod", "deployments deploy apps/v1 true Deployment", "samples example.com/v1 true Sample"]
    {
        let found = resources.lines().any(|line| line.split_whitespace().eq(row.split(' ')));
        assert!(found, "{row} is missing:\n{resources}");
    }
    in_order(&say(cluster, "api-resources --api-group=apps -o wide")?, &["VERBS", "deployments", "create"]);
    in_order(&say(cluster, "cluster-info")?, &["is running at", ":6443"]);
    let dump = say(cluster, "cluster-info dump")?;
    in_order(&dump, &["\"kind\": \"NodeList\"", "\"kind\": \"EventList\"", "\"kind\": \"PodList\""]);
    in_order(&say(cluster, "version")?, &["Client Version: ", &format!("v1.{minor}."), "Server Version: ", "v1.36."]);
    let view = say(cluster, "config view")?;
    in_order(&view, &["server: https://", "client-certificate-data: ", "client-key-data: "]);
    let context = say(cluster, "config current-context")?;
    in_order(&say(cluster, "config get-contexts")?, &["CURRENT", "*", context.trim()]);
    let error = refused(cluster, "convert -f x.yaml")?;
    in_order(&error, &["unknown command \"convert\" for \"kubectl\""]);
    Ok(())
}

fn events(cluster: &Cluster, minor: u32) -> Result<()> {
    in_order(
        &say(cluster, "get events")?,
        &["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE", "Sampled", "configmap/sample"],
    );
    let listed = say(cluster, "get events --field-selector=reason=Sampled,involvedObject.kind=ConfigMap -o name")?;
    assert_eq!(listed.lines().collect::<Vec<_>>(), ["event/sample", "event/sample-new"]);
    if minor >= 26 {
        in_order(&say(cluster, "events --for=cm/sample")?, &["LAST SEEN", "Sampled", "was sampled"]);
        let none = cluster.kubectl(&["events", "--for=cm/nobody"])?;
        assert!(none.stderr.contains("No events found"), "{none:?}");
    }
    say(cluster, "get componentstatuses").context("component statuses")?;
    Ok(())
}
