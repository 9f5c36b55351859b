//! How objects end: grace, finalizers, owners, namespaces; and waiting for it.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::{Api, Cluster, Options, eventually, must, with_every_kubectl};

use crate::{WAITER, in_order};

fn busybox() -> Options {
    Options { images: vec!["busybox"], ..Options::default() }
}

fn deploy(cluster: &Cluster, name: &str) -> Result<()> {
    let create = ["create", "deployment", name, "--image=busybox:1.37", "--replicas=2", "--", "sh", "-c", WAITER];
    cluster.kubectl(&create)?.ok();
    cluster.rolled_out(name)
}

fn names(cluster: &Cluster, kind: &str) -> Result<BTreeSet<String>> {
    let listed = cluster.kubectl(&["get", kind, "-o", "name"])?.ok();
    Ok(listed.lines().map(str::to_owned).collect())
}

fn gone(cluster: &Cluster, what: &str) -> Result<()> {
    cluster.kubectl(&["wait", "--for=delete", what, "--timeout=60s"])?.ok();
    Ok(())
}

#[test]
fn what_an_owner_made_goes_with_it_or_stays() {
    must(with_every_kubectl(&busybox(), |cluster| {
        deploy(cluster, "web")?;
        let (sets, pods) = (names(cluster, "rs")?, names(cluster, "pods")?);
        assert_eq!((sets.len(), pods.len()), (1, 2));
        let set = sets.first().context("a replica set")?;

        // Orphaned, and taken in again by a deployment of the same template.
        cluster.kubectl(&["delete", "deploy", "web", "--cascade=orphan"])?.ok();
        eventually("the replica set has no owner", || {
            let owners = cluster.object(&[set])?["metadata"]["ownerReferences"].clone();
            ensure!(owners.is_null(), "{owners}");
            Ok(())
        });
        assert_eq!((names(cluster, "rs")?, names(cluster, "pods")?), (sets.clone(), pods.clone()));
        deploy(cluster, "web")?;
        let owner = cluster.object(&[set])?["metadata"]["ownerReferences"][0]["uid"].clone();
        assert_eq!(owner, cluster.object(&["deploy", "web"])?["metadata"]["uid"]);
        assert_eq!((names(cluster, "rs")?, names(cluster, "pods")?), (sets.clone(), pods.clone()));

        // In the foreground the owner is the last to go.
        let pod = pods.first().context("a pod")?;
        hold(cluster, pod)?;
        cluster.kubectl(&["delete", "deploy", "web", "--cascade=foreground", "--wait=false"])?.ok();
        eventually("all but the held pod", || {
            ensure!(names(cluster, "pods")? == BTreeSet::from([pod.clone()]), "{:?}", names(cluster, "pods")?);
            Ok(())
        });
        for object in ["deployment.apps/web", set] {
            let meta = cluster.object(&[object])?["metadata"].clone();
            assert!(meta["deletionTimestamp"].is_string(), "{meta}");
            assert_eq!(meta["finalizers"], json!(["foregroundDeletion"]), "{object}");
        }
        release(cluster, pod)?;
        gone(cluster, "deployment/web")?;
        assert!(names(cluster, "rs")?.is_empty() && names(cluster, "pods")?.is_empty());

        // In the background it is the first.
        deploy(cluster, "web")?;
        let (sets, pods) = (names(cluster, "rs")?, names(cluster, "pods")?);
        cluster.kubectl(&["delete", "deploy", "web"])?.ok();
        assert!(names(cluster, "deploy")?.is_empty());
        for object in sets.iter().chain(&pods) {
            gone(cluster, object)?;
        }
        Ok(())
    }));
}

fn hold(cluster: &Cluster, object: &str) -> Result<()> {
    let patch = r#"{"metadata":{"finalizers":["example.com/hold"]}}"#;
    cluster.kubectl(&["patch", object, "--type=merge", "-p", patch])?.ok();
    Ok(())
}

fn release(cluster: &Cluster, object: &str) -> Result<()> {
    cluster.kubectl(&["patch", object, "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#])?.ok();
    Ok(())
}

#[test]
fn a_finalizer_holds_a_deleted_object() {
    must(with_every_kubectl(&Options::default(), |cluster| {
        cluster.kubectl(&["create", "configmap", "held", "--from-literal=a=b"])?.ok();
        hold(cluster, "cm/held")?;
        cluster.kubectl(&["delete", "cm", "held", "--wait=false"])?.ok();
        let held = cluster.object(&["cm", "held"])?;
        assert!(held["metadata"]["deletionTimestamp"].is_string());
        assert_eq!(held["metadata"]["deletionGracePeriodSeconds"], 0);
        // It may still change, but not be held by more.
        cluster.kubectl(&["label", "cm", "held", "still=here"])?.ok();
        let more = r#"{"metadata":{"finalizers":["example.com/hold","example.com/more"]}}"#;
        let refused = cluster.kubectl(&["patch", "cm", "held", "--type=merge", "-p", more])?.error();
        in_order(
            &refused,
            &["metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted"],
        );
        let short = cluster.kubectl(&["wait", "--for=delete", "cm/held", "--timeout=1s"])?.error();
        in_order(&short, &["timed out waiting for the condition on configmaps/held"]);
        release(cluster, "cm/held")?;
        assert!(cluster.kubectl(&["get", "cm", "held"])?.error().contains("NotFound"));
        Ok(())
    }));
}

#[test]
fn a_namespace_goes_with_all_that_is_in_it() {
    must(with_every_kubectl(&busybox(), |cluster| {
        let within = |arguments: &[&str]| cluster.kubectl(&[arguments, &["-n", "team"]].concat());
        cluster.kubectl(&["create", "namespace", "team"])?.ok();
        within(&["wait", "--for=create", "serviceaccount/default", "--timeout=30s"])?.ok();
        within(&["create", "configmap", "settings"])?.ok();
        within(&["create", "secret", "generic", "password"])?.ok();
        within(&["create", "serviceaccount", "builder"])?.ok();
        within(&["create", "service", "clusterip", "web", "--tcp=80"])?.ok();
        let deploy = ["create", "deployment", "web", "--image=busybox:1.37", "-n", "team", "--", "sh", "-c", WAITER];
        cluster.kubectl(&deploy)?.ok();
        within(&["rollout", "status", "deploy/web", "--timeout=60s"])?.ok();
        within(&[
            "patch",
            "cm",
            "settings",
            "--type=merge",
            "-p",
            r#"{"metadata":{"finalizers":["example.com/hold"]}}"#,
        ])?
        .ok();

        cluster.kubectl(&["delete", "namespace", "team", "--wait=false"])?.ok();
        let phase = "jsonpath={.status.phase}";
        assert_eq!(cluster.kubectl(&["get", "ns", "team", "-o", phase])?.ok(), "Terminating");
        let refused = within(&["create", "configmap", "late"])?.error();
        in_order(
            &refused,
            &[
                "configmaps \"late\" is forbidden: unable to create new content in namespace team because it is being terminated",
            ],
        );
        let reply = Api::new(cluster)?
            .post("/api/v1/namespaces/team/configmaps", &json!({ "metadata": { "name": "late" } }))?;
        assert_eq!((reply.code, &reply.body["reason"]), (403, &json!("Forbidden")));
        let cause = json!({ "reason": "NamespaceTerminating", "message": "namespace team is being terminated", "field": "metadata.namespace" });
        assert_eq!(reply.body["details"]["causes"], json!([cause]));
        eventually("all but the held object is gone", || {
            for kind in ["pods", "rs", "deploy", "svc", "endpoints", "endpointslices", "secrets", "sa"] {
                let left = within(&["get", kind, "-o", "name"])?.ok();
                ensure!(left.is_empty(), "{left}");
            }
            Ok(())
        });
        let held = cluster.object(&["cm", "settings", "-n", "team"])?;
        assert!(held["metadata"]["deletionTimestamp"].is_string());
        within(&["patch", "cm", "settings", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#])?.ok();
        gone(cluster, "namespace/team")?;

        // A namespace of the same name starts empty.
        cluster.kubectl(&["create", "namespace", "team"])?.ok();
        within(&["wait", "--for=create", "serviceaccount/default", "--timeout=30s"])?.ok();
        // But for the authority's certificate, which every namespace has.
        assert_eq!(within(&["get", "all,cm,secret", "-o", "name"])?.ok(), "configmap/kube-root-ca.crt\n");
        for kept in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            let refused = cluster.kubectl(&["delete", "namespace", kept]);
            // kube-node-lease may be deleted upstream, too.
            if kept == "kube-node-lease" {
                continue;
            }
            let expected = format!(
                "Error from server (Forbidden): namespaces \"{kept}\" is forbidden: this namespace may not be deleted\n"
            );
            assert_eq!(refused?.error(), expected);
        }
        Ok(())
    }));
}

#[test]
fn pods_end_gracefully_by_force_and_are_replaced() {
    must(with_every_kubectl(&busybox(), |cluster| {
        let stubborn = "apiVersion: v1\nkind: Pod\nmetadata: {name: stubborn}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
                        containers:\n  - name: box\n    image: busybox:1.37\n    command: [sh, -c, \"trap '' TERM; sleep 1000\"]\n";
        cluster.apply(stubborn)?;
        cluster.kubectl(&["wait", "pod/stubborn", "--for=condition=Ready", "--timeout=60s"])?.ok();
        // Deaf to the signal; killed when its second is over.
        in_order(&cluster.kubectl(&["delete", "pod", "stubborn"])?.ok(), &["pod \"stubborn\" deleted"]);
        assert!(names(cluster, "pods")?.is_empty());

        cluster.apply(&stubborn.replace("Seconds: 1", "Seconds: 600"))?;
        cluster.kubectl(&["wait", "pod/stubborn", "--for=condition=Ready", "--timeout=60s"])?.ok();
        cluster.kubectl(&["delete", "pod", "stubborn", "--wait=false"])?.ok();
        let meta = cluster.object(&["pod", "stubborn"])?["metadata"].clone();
        assert_eq!(meta["deletionGracePeriodSeconds"], 600);
        let listed = cluster.kubectl(&["get", "pod", "stubborn", "--no-headers"])?.ok();
        in_order(&listed, &["stubborn", "Terminating"]);
        let forced = cluster.kubectl(&["delete", "pod", "stubborn", "--grace-period=0", "--force"])?;
        assert!(forced.stderr.contains("Immediate deletion does not wait"), "{}", forced.stderr);
        in_order(&forced.ok(), &["pod \"stubborn\" force deleted"]);
        gone(cluster, "pod/stubborn")?;

        deploy(cluster, "web")?;
        let before = names(cluster, "pods")?;
        cluster.kubectl(&["delete", before.first().context("a pod")?])?.ok();
        cluster.rolled_out("web")?;
        let after = names(cluster, "pods")?;
        assert_eq!((after.len(), after.intersection(&before).count()), (2, 1));
        waited(cluster)
    }));
}

fn waited(cluster: &Cluster) -> Result<()> {
    let wait = |arguments: &[&str]| cluster.kubectl(&[&["wait"], arguments].concat());
    assert_eq!(wait(&["deploy/web", "--for=condition=Available"])?.ok(), "deployment.apps/web condition met\n");
    assert_eq!(
        wait(&["deploy/web", "--for=jsonpath={.status.readyReplicas}=2"])?.ok(),
        "deployment.apps/web condition met\n"
    );
    let pods = wait(&["pods", "-l", "app=web", "--for=condition=Ready=true"])?.ok();
    assert_eq!(pods.lines().filter(|line| line.ends_with(" condition met")).count(), 2);
    let late = wait(&["deploy/web", "--for=jsonpath={.status.readyReplicas}=3", "--timeout=1s"])?.error();
    in_order(&late, &["timed out waiting for the condition on deployments/web"]);
    let mut awaited = cluster.session(&["wait", "--for=create", "configmap/later", "--timeout=60s"])?;
    assert!(cluster.kubectl(&["get", "configmap", "later"])?.error().contains("NotFound"));
    cluster.kubectl(&["create", "configmap", "later"])?.ok();
    awaited.expect("configmap/later")?;
    assert!(awaited.finish()?.0.success());
    Ok(())
}
