//! Workloads, jobs, claims, quotas, budgets and autoscalers: what of them is stored, shown and refused. Nothing runs.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::{Cluster, Options, must};

use crate::headings;

const TEMPLATE: &str =
    r#"{"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "none.invalid/i:1"}]}}"#;

/// One of each. Nothing of it makes a pod: what does is suspended, or has no controller yet.
fn one_of_each() -> Value {
    let template: Value = serde_json::from_str(TEMPLATE).expect("JSON");
    let selector = json!({"matchLabels": {"app": "web"}});
    let mut once = template.clone();
    once["spec"]["restartPolicy"] = "Never".into();
    let object = |version: &str, kind: &str, rest: Value| {
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "web"}});
        let (object_fields, rest) = (object.as_object_mut().expect("an object"), rest);
        object_fields.extend(rest.as_object().expect("an object").clone());
        object
    };
    let scaled = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let items = [
        object(
            "apps/v1",
            "StatefulSet",
            json!({"spec": {"replicas": 0, "serviceName": "web", "selector": selector, "template": template}}),
        ),
        object("apps/v1", "ControllerRevision", json!({"revision": 3, "data": {"a": 1}})),
        object(
            "apps/v1",
            "DaemonSet",
            json!({"spec": {"selector": selector, "template": {"metadata": template["metadata"],
                "spec": {"nodeSelector": {"no": "where"}, "containers": template["spec"]["containers"]}}}}),
        ),
        object("batch/v1", "Job", json!({"spec": {"suspend": true, "template": once}})),
        object(
            "batch/v1",
            "CronJob",
            json!({"spec": {"suspend": true, "schedule": "@daily", "timeZone": "Europe/Rome",
                "jobTemplate": {"spec": {"template": once}}}}),
        ),
        object(
            "v1",
            "ReplicationController",
            json!({"spec": {"replicas": 0, "selector": {"app": "web"}, "template": template}}),
        ),
        object("v1", "PodTemplate", json!({"template": template})),
        object(
            "v1",
            "PersistentVolume",
            json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                "storageClassName": "slow", "hostPath": {"path": "/x"}}}),
        ),
        object(
            "v1",
            "PersistentVolumeClaim",
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "slow",
                "resources": {"requests": {"storage": "1Gi"}}}}),
        ),
        object("v1", "ResourceQuota", json!({"spec": {"hard": {"pods": "10"}}})),
        object("v1", "LimitRange", json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}})),
        object(
            "policy/v1",
            "PodDisruptionBudget",
            json!({"spec": {"minAvailable": "50%", "selector": {"matchLabels": {"app": "guarded"}}}}),
        ),
        object(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            json!({"spec": {"maxReplicas": 3, "scaleTargetRef": scaled}}),
        ),
    ];
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// Name, headings, the cells after the name that do not tell an age.
const SHOWN: &[(&str, &[&str], &[&str])] = &[
    ("sts", &["NAME", "READY", "AGE"], &["0/0"]),
    ("controllerrevision", &["NAME", "CONTROLLER", "REVISION", "AGE"], &["<none>", "3"]),
    (
        "ds",
        &["NAME", "DESIRED", "CURRENT", "READY", "UP-TO-DATE", "AVAILABLE", "NODE SELECTOR", "AGE"],
        &["0", "0", "0", "0", "0", "no=where"],
    ),
    ("job", &["NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE"], &[]),
    (
        "cj",
        &["NAME", "SCHEDULE", "TIMEZONE", "SUSPEND", "ACTIVE", "LAST SCHEDULE", "AGE"],
        &["@daily", "Europe/Rome", "True", "0", "<none>"],
    ),
    ("rc", &["NAME", "DESIRED", "CURRENT", "READY", "AGE"], &["0", "0", "0"]),
    ("podtemplate", &["NAME", "CONTAINERS", "IMAGES", "POD LABELS"], &["c", "none.invalid/i:1", "app=web"]),
    (
        "pv",
        &[
            "NAME",
            "CAPACITY",
            "ACCESS MODES",
            "RECLAIM POLICY",
            "STATUS",
            "CLAIM",
            "STORAGECLASS",
            "VOLUMEATTRIBUTESCLASS",
            "REASON",
            "AGE",
        ],
        &["1Gi", "RWO", "Retain"],
    ),
    (
        "pvc",
        &["NAME", "STATUS", "VOLUME", "CAPACITY", "ACCESS MODES", "STORAGECLASS", "VOLUMEATTRIBUTESCLASS", "AGE"],
        &[],
    ),
    ("quota", &["NAME", "REQUEST", "LIMIT", "AGE"], &[]),
    ("limits", &["NAME", "CREATED AT"], &[]),
    ("pdb", &["NAME", "MIN AVAILABLE", "MAX UNAVAILABLE", "ALLOWED DISRUPTIONS", "AGE"], &["50%", "N/A", "0"]),
    (
        "hpa",
        &["NAME", "REFERENCE", "TARGETS", "MINPODS", "MAXPODS", "REPLICAS", "AGE"],
        &["Deployment/web", "cpu:", "<unknown>/80%", "1", "3", "0"],
    ),
];

/// A kind, what is changed of the good one, and upstream's words.
fn refused() -> Vec<(&'static str, &'static str, Value, &'static str)> {
    vec![
        (
            "StatefulSet",
            "/spec/podManagementPolicy",
            json!("Any"),
            "spec.podManagementPolicy: Invalid value: \"Any\": must be 'OrderedReady' or 'Parallel'",
        ),
        (
            "DaemonSet",
            "/spec/selector",
            json!({}),
            "spec.selector: Invalid value: {}: empty selector is invalid for daemonset",
        ),
        (
            "Job",
            "/spec/parallelism",
            json!(-1),
            "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "CronJob",
            "/spec/schedule",
            json!("daily"),
            "spec.schedule: Invalid value: \"daily\": expected exactly 5 fields, found 1: [daily]",
        ),
        (
            "ReplicationController",
            "/spec/replicas",
            json!(-1),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        ("PodTemplate", "/template/spec/containers", json!([]), "template.spec.containers: Required value"),
        ("PersistentVolume", "/spec/accessModes", json!([]), "spec.accessModes: Required value"),
        ("PersistentVolumeClaim", "/spec/resources", json!({}), "spec.resources[storage]: Required value"),
        ("ResourceQuota", "/spec/hard", json!({"pods": "1.5"}), "must be an integer"),
        (
            "LimitRange",
            "/spec/limits",
            json!([{"type": "Node"}]),
            "spec.limits[0].type: Invalid value: \"Node\": must be a standard limit type or fully qualified",
        ),
        (
            "PodDisruptionBudget",
            "/spec/minAvailable",
            json!("200%"),
            "spec.minAvailable: Invalid value: \"200%\": must not be greater than 100%",
        ),
        (
            "HorizontalPodAutoscaler",
            "/spec/maxReplicas",
            json!(0),
            "spec.maxReplicas: Invalid value: 0: must be greater than 0",
        ),
    ]
}

#[test]
fn what_is_stored_is_shown_and_what_is_wrong_is_refused() {
    must((|| {
        let cluster = Cluster::start(Options::default())?;
        let all = one_of_each();
        let file = cluster.write("all.json", &all.to_string())?;
        cluster.kubectl(&["create", "-f", &file])?.ok();
        listings(&cluster)?;
        refusals(&cluster, &all)?;
        defaults(&cluster)?;
        first_version(&cluster)?;
        eviction(&cluster)?;
        proxies(&cluster)?;
        cluster.kubectl(&["delete", "--ignore-not-found", "-f", &file])?.ok();
        Ok(())
    })());
}

fn listings(cluster: &Cluster) -> Result<()> {
    let names: Vec<String> = SHOWN.iter().map(|(kind, ..)| format!("{kind}/web")).collect();
    let arguments: Vec<&str> = ["get"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let text = cluster.kubectl(&arguments)?.ok();
    let tables: Vec<&str> = text.trim_end().split("\n\n").collect();
    assert_eq!(tables.len(), SHOWN.len(), "{text}");
    for ((kind, expected, cells), table) in SHOWN.iter().zip(tables) {
        assert_eq!(headings(table), *expected, "{kind}:\n{table}");
        let row: Vec<&str> = table.lines().nth(1).context("a row")?.split_whitespace().collect();
        assert!(row[0].ends_with("/web"), "{kind}: {row:?}");
        assert!(row[1..].starts_with(cells), "{kind}: {row:?}");
    }
    let health = cluster.kubectl(&["get", "cs"])?;
    assert!(health.stderr.contains("Warning: v1 ComponentStatus is deprecated in v1.19+"), "{}", health.stderr);
    assert_eq!(headings(&health.ok()), ["NAME", "STATUS", "MESSAGE", "ERROR"]);
    Ok(())
}

fn refusals(cluster: &Cluster, all: &Value) -> Result<()> {
    let items = all["items"].as_array().context("items")?;
    let mut wrong = Vec::new();
    for (kind, pointer, value, _) in refused() {
        let mut bad = items.iter().find(|item| item["kind"] == kind).context("a good one")?.clone();
        bad["metadata"]["name"] = "bad".into();
        let (parent, last) = pointer.rsplit_once('/').context("a pointer")?;
        bad.pointer_mut(parent).context("a parent")?[last] = value;
        wrong.push(bad);
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": wrong});
    let file = cluster.write("bad.json", &list.to_string())?;
    let error = cluster.kubectl(&["create", "--validate=false", "-f", &file])?.error();
    for (kind, _, _, words) in refused() {
        let said = error.lines().any(|line| line.contains(kind) && line.contains(words));
        assert!(said, "{kind}: no {words:?} in\n{error}");
    }
    Ok(())
}

fn defaults(cluster: &Cluster) -> Result<()> {
    let job = cluster.object(&["job", "web"])?;
    let uid = &job["metadata"]["uid"];
    assert_eq!(job["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"], *uid);
    assert_eq!(job["spec"]["template"]["metadata"]["labels"]["job-name"], "web");
    assert_eq!((&job["spec"]["completions"], &job["spec"]["backoffLimit"]), (&json!(1), &json!(6)));
    let set = cluster.object(&["sts", "web"])?;
    assert_eq!(set["spec"]["updateStrategy"]["rollingUpdate"], json!({"partition": 0, "maxUnavailable": 1}));
    cluster.kubectl(&["scale", "sts/web", "--replicas=0"])?.ok();
    assert_eq!(cluster.object(&["limits", "web"])?["spec"]["limits"][0]["defaultRequest"]["cpu"], "2");
    Ok(())
}

fn first_version(cluster: &Cluster) -> Result<()> {
    let first = cluster.object(&["horizontalpodautoscalers.v1.autoscaling", "web"])?;
    assert_eq!(
        (&first["apiVersion"], &first["spec"]["targetCPUUtilizationPercentage"]),
        (&json!("autoscaling/v1"), &json!(80))
    );
    let patch = r#"{"spec": {"targetCPUUtilizationPercentage": 50}}"#;
    cluster.kubectl(&["patch", "horizontalpodautoscalers.v1.autoscaling", "web", "--type=merge", "-p", patch])?.ok();
    let second = cluster.object(&["horizontalpodautoscalers.v2.autoscaling", "web"])?;
    assert_eq!(second["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
    Ok(())
}

/// A ready pod under a budget that is not met stays; without one it goes.
fn eviction(cluster: &Cluster) -> Result<()> {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "guarded", "labels": {"app": "guarded"}},
        "spec": {"schedulerName": "nobody", "containers": [{"name": "c", "image": "none.invalid/i:1"}]}});
    let file = cluster.write("pod.json", &pod.to_string())?;
    cluster.kubectl(&["create", "-f", &file])?.ok();
    let running = r#"{"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}"#;
    cluster.kubectl(&["patch", "pod", "guarded", "--subresource=status", "--type=merge", "-p", running])?.ok();
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "guarded"}});
    let file = cluster.write("eviction.json", &eviction.to_string())?;
    let path = "/api/v1/namespaces/default/pods/guarded/eviction";
    let evict = || cluster.kubectl(&["create", "--raw", path, "-f", &file]);
    let error = evict()?.error();
    assert!(error.contains("Cannot evict pod as it would violate the pod's disruption budget."), "{error}");
    cluster.kubectl(&["delete", "pdb", "web"])?.ok();
    assert!(evict()?.ok().contains("\"Success\""));
    let gone = cluster.kubectl(&["get", "pod", "guarded"])?.error();
    assert!(gone.contains("not found"), "{gone}");
    Ok(())
}

fn proxies(cluster: &Cluster) -> Result<()> {
    assert_eq!(cluster.kubectl(&["get", "--raw", "/api/v1/nodes/one/proxy/healthz"])?.ok().trim(), "ok");
    let none = cluster.kubectl(&["get", "--raw", "/api/v1/namespaces/kube-system/services/kube-dns:9/proxy/"])?.error();
    assert!(none.contains("no service port 9 found for service \"kube-dns\""), "{none}");
    Ok(())
}
