//! rollout status, history, undo, pause, resume, restart; both strategies.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use tests::{Cluster, Options, eventually, must, with_every_kubectl};

use crate::{WAITER, in_order};

fn environment(cluster: &Cluster) -> Result<String> {
    let path = "jsonpath={range .spec.template.spec.containers[0].env[*]}{.name}={.value} {end}";
    Ok(cluster.kubectl(&["get", "deploy", "web", "-o", path])?.ok().trim().to_owned())
}

fn pods(cluster: &Cluster) -> Result<BTreeSet<String>> {
    Ok(cluster.pods("app=web")?.into_keys().collect())
}

/// The revisions that history lists.
fn revisions(cluster: &Cluster) -> Result<Vec<String>> {
    let history = cluster.kubectl(&["rollout", "history", "deploy/web"])?.ok();
    in_order(&history, &["deployment.apps/web", "REVISION  CHANGE-CAUSE"]);
    let rows = history.lines().skip(2).filter_map(|line| line.split_whitespace().next());
    Ok(rows.map(str::to_owned).collect())
}

#[test]
fn a_deployment_rolls_out_and_back() {
    let options = Options { images: vec!["busybox"], ..Options::default() };
    must(with_every_kubectl(&options, |cluster| {
        let create = ["create", "deployment", "web", "--image=busybox:1.37", "--replicas=2", "--", "sh", "-c", WAITER];
        cluster.kubectl(&create)?.ok();
        let status = cluster.kubectl(&["rollout", "status", "deploy/web", "--timeout=60s"])?.ok();
        assert!(status.ends_with("deployment \"web\" successfully rolled out\n"), "{status}");
        forth_and_back(cluster)?;
        paused_and_resumed(cluster)?;
        restarted(cluster)?;
        stuck_and_healed(cluster)?;
        recreated(cluster)
    }));
}

fn forth_and_back(cluster: &Cluster) -> Result<()> {
    let undo = |more: &[&str]| cluster.kubectl(&[&["rollout", "undo", "deploy/web"], more].concat());
    cluster.kubectl(&["annotate", "deploy", "web", "kubernetes.io/change-cause=first"])?.ok();
    cluster.kubectl(&["set", "env", "deploy/web", "A=1"])?.ok();
    cluster.kubectl(&["annotate", "deploy", "web", "kubernetes.io/change-cause=second", "--overwrite"])?.ok();
    cluster.rolled_out("web")?;
    assert_eq!(revisions(cluster)?, ["1", "2"]);
    let history = cluster.kubectl(&["rollout", "history", "deploy/web"])?.ok();
    in_order(&history, &["first", "second"]);
    let second = cluster.kubectl(&["rollout", "history", "deploy/web", "--revision=2"])?.ok();
    in_order(&second, &["with revision #2", "pod-template-hash=", "busybox:1.37", "A:\t1"]);

    assert_eq!(undo(&[])?.ok(), "deployment.apps/web rolled back\n");
    cluster.rolled_out("web")?;
    assert_eq!((environment(cluster)?, revisions(cluster)?), (String::new(), vec!["2".into(), "3".into()]));
    undo(&["--to-revision=2"])?.ok();
    cluster.rolled_out("web")?;
    assert_eq!((environment(cluster)?, revisions(cluster)?), ("A=1".into(), vec!["3".into(), "4".into()]));
    assert!(undo(&["--to-revision=99"])?.error().contains("unable to find specified revision 99 in history"));
    // Two templates, so two replica sets; the old one is kept, empty.
    let sets = cluster.object(&["rs", "-l", "app=web"])?;
    let sizes = sets["items"].as_array().into_iter().flatten().filter_map(|set| set["spec"]["replicas"].as_u64());
    assert_eq!(sizes.collect::<BTreeSet<_>>(), BTreeSet::from([0, 2]));
    Ok(())
}

fn paused_and_resumed(cluster: &Cluster) -> Result<()> {
    let rollout = |verb: &str| cluster.kubectl(&["rollout", verb, "deploy/web"]);
    let running = pods(cluster)?;
    assert_eq!(rollout("pause")?.ok(), "deployment.apps/web paused\n");
    assert!(rollout("pause")?.error().contains("is already paused"));
    cluster.kubectl(&["set", "env", "deploy/web", "B=2"])?.ok();
    eventually("the controller has seen the change", || {
        let web = cluster.object(&["deploy", "web"])?;
        ensure!(web["status"]["observedGeneration"] == web["metadata"]["generation"], "{}", web["status"]);
        Ok(())
    });
    assert_eq!((pods(cluster)?, revisions(cluster)?.len()), (running.clone(), 2));
    let condition = r#"jsonpath={.status.conditions[?(@.type=="Progressing")].reason}"#;
    assert_eq!(cluster.kubectl(&["get", "deploy", "web", "-o", condition])?.ok(), "DeploymentPaused");
    assert!(rollout("undo")?.error().contains("paused"));
    assert_eq!(rollout("resume")?.ok(), "deployment.apps/web resumed\n");
    cluster.rolled_out("web")?;
    assert_eq!(environment(cluster)?, "A=1 B=2");
    assert!(pods(cluster)?.is_disjoint(&running));
    Ok(())
}

fn restarted(cluster: &Cluster) -> Result<()> {
    let running = pods(cluster)?;
    assert_eq!(cluster.kubectl(&["rollout", "restart", "deploy/web"])?.ok(), "deployment.apps/web restarted\n");
    cluster.rolled_out("web")?;
    assert!(pods(cluster)?.is_disjoint(&running));
    Ok(())
}

fn stuck_and_healed(cluster: &Cluster) -> Result<()> {
    let running = pods(cluster)?;
    cluster.kubectl(&["set", "image", "deploy/web", "busybox=localhost/none:1"])?.ok();
    let status = cluster.kubectl(&["rollout", "status", "deploy/web", "--timeout=2s"])?;
    assert!(status.error().contains("timed out waiting for the condition"));
    // A quarter of two, rounded down, may be missing: none is taken away for the broken one.
    assert!(pods_ready(cluster)?.is_superset(&running));
    cluster.kubectl(&["rollout", "undo", "deploy/web"])?.ok();
    cluster.rolled_out("web")?;
    assert_eq!(pods_ready(cluster)?, running);
    Ok(())
}

fn pods_ready(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let list = cluster.object(&["pods", "-l", "app=web"])?;
    let ready = |pod: &&serde_json::Value| pod["status"]["containerStatuses"][0]["ready"] == true;
    let names = list["items"].as_array().context("items")?.iter().filter(ready);
    names.map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned).context("a name")).collect()
}

fn recreated(cluster: &Cluster) -> Result<()> {
    let running = pods(cluster)?;
    let strategy = r#"{"spec":{"strategy":{"type":"Recreate","rollingUpdate":null},"revisionHistoryLimit":1}}"#;
    cluster.kubectl(&["patch", "deploy", "web", "-p", strategy])?.ok();
    cluster.kubectl(&["set", "env", "deploy/web", "C=3"])?.ok();
    cluster.rolled_out("web")?;
    assert!(pods(cluster)?.is_disjoint(&running));
    eventually("only one old replica set is kept", || {
        let count = cluster.kubectl(&["get", "rs", "-l", "app=web", "-o", "name"])?.ok().lines().count();
        ensure!(count == 2, "{count} replica sets");
        Ok(())
    });
    Ok(())
}
