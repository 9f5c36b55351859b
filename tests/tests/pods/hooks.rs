//! postStart and preStop: what they do, when, and what is told when they fail.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, eventually};

use super::{create, has_event, log, on_a_cluster, reaches, script, with};

fn exec(script: &str) -> Value {
    json!({"exec": {"command": ["sh", "-c", script]}})
}

fn hooks(fields: Value, hooks: &Value) -> Value {
    with(fields, &json!({"lifecycle": hooks}))
}

#[test]
fn hooks_run_where_the_life_of_a_container_turns() {
    on_a_cluster(|cluster| {
        containers_after_a_hook_wait_for_it(cluster)?;
        the_stop_signal_comes_after_the_hook(cluster)?;
        an_answer_of_any_kind_will_do(cluster)?;
        a_failed_start_restarts(cluster)?;
        a_failed_stop_is_told(cluster)
    });
}

fn containers_after_a_hook_wait_for_it(cluster: &Cluster) -> Result<()> {
    let shared = json!({"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]});
    let first = with(script("sleep infinity"), &shared);
    let first = hooks(first, &json!({"postStart": exec("sleep 1; echo hooked > /shared/hook")}));
    let later = with(json!({"name": "later", "image": "busybox:1.37", "command": ["cat", "/shared/hook"]}), &shared);
    let first = with(json!({"name": "main", "image": "busybox:1.37"}), &first);
    let spec = json!({
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [first, later],
        "volumes": [{"name": "shared", "emptyDir": {}}],
    });
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ordered"}, "spec": spec});
    cluster.apply(&pod.to_string())?;
    reaches(cluster, "ordered", "status.containerStatuses[?(@.name==\"later\")].state.terminated.exitCode", "0")?;
    assert_eq!(cluster.kubectl(&["logs", "ordered", "-c", "later"])?.ok(), "hooked\n");
    cluster.kubectl(&["delete", "pod", "ordered"])?.ok();
    Ok(())
}

fn the_stop_signal_comes_after_the_hook(cluster: &Cluster) -> Result<()> {
    let story = cluster.write("story", "")?;
    let volume = json!({"volumes": [{"name": "story", "hostPath": {"path": story, "type": "File"}}]});
    let mount = json!({"volumeMounts": [{"name": "story", "mountPath": "/story"}]});
    let traps = "trap 'echo signal >> /story; exit 0' TERM; touch /trapped; while :; do sleep 0.1; done";
    let main = with(script(traps), &mount);
    let hooked = hooks(main, &json!({"preStop": exec("sleep 1; echo hook >> /story")}));
    create(cluster, "polite", &hooked, &volume)?;
    eventually("a trap", || {
        ensure!(cluster.kubectl(&["exec", "polite", "--", "test", "-e", "/trapped"])?.success, "not yet");
        Ok(())
    });
    cluster.kubectl(&["delete", "pod", "polite"])?.ok();
    assert_eq!(std::fs::read_to_string(&story)?, "hook\nsignal\n");

    let endless = hooks(script("sleep infinity"), &json!({"preStop": exec("sleep 50")}));
    create(cluster, "endless", &endless, &json!({"terminationGracePeriodSeconds": 3}))?;
    reaches(cluster, "endless", "status.phase", "Running")?;
    let begun = Instant::now();
    cluster.kubectl(&["delete", "pod", "endless"])?.ok();
    let took = begun.elapsed();
    assert!((Duration::from_secs(3)..Duration::from_secs(40)).contains(&took), "{took:?}");
    Ok(())
}

fn an_answer_of_any_kind_will_do(cluster: &Cluster) -> Result<()> {
    create(cluster, "ear", &json!({"image": "nginx"}), &json!({"terminationGracePeriodSeconds": 0}))?;
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/ear", "--timeout=60s"])?.ok();
    let ip = cluster.pods("run=ear")?.remove("ear").context("the pod")?;
    let get = |path: &str| {
        let headers = json!([{"name": "X-Told", "value": "yes"}]);
        json!({"httpGet": {"host": ip, "port": 80, "path": path, "httpHeaders": headers}})
    };
    let told = hooks(script("sleep infinity"), &json!({"postStart": get("/no-such-page"), "preStop": get("/parting")}));
    create(cluster, "teller", &told, &json!({"terminationGracePeriodSeconds": 2}))?;
    reaches(cluster, "teller", "status.phase", "Running")?;
    cluster.kubectl(&["delete", "pod", "teller"])?.ok();
    let heard = log(cluster, "ear")?;
    for request in ["GET /no-such-page HTTP/1.1\" 404", "GET /parting HTTP/1.1\" 404"] {
        let line = heard.lines().find(|line| line.contains(request)).with_context(|| format!("{request}\n{heard}"))?;
        assert!(line.contains("\"kube-lifecycle/1.36\""), "{line}");
    }
    cluster.kubectl(&["delete", "pod", "ear"])?.ok();
    Ok(())
}

fn a_failed_start_restarts(cluster: &Cluster) -> Result<()> {
    let quick = json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 1});
    let unmet = hooks(script("sleep infinity"), &json!({"postStart": exec("echo secret; exit 7")}));
    // Accepted by the API and run by no kubelet.
    let tcp = hooks(script("sleep infinity"), &json!({"postStart": {"tcpSocket": {"port": 80}}}));
    for (name, fields) in [("unmet", unmet), ("socket", tcp)] {
        create(cluster, name, &fields, &quick)?;
        reaches(cluster, name, "status.containerStatuses[0].restartCount", "1")?;
        has_event(cluster, name, "Warning FailedPostStartHook PostStartHook failed");
        has_event(cluster, name, "Normal Killing FailedPostStartHook");
        let events = super::events(cluster, name)?;
        assert!(!events.contains("secret"), "{events}");
        cluster.kubectl(&["delete", "pod", name])?.ok();
    }
    Ok(())
}

fn a_failed_stop_is_told(cluster: &Cluster) -> Result<()> {
    let refusing = hooks(script("sleep infinity"), &json!({"preStop": exec("exit 1")}));
    create(cluster, "refusing", &refusing, &json!({"terminationGracePeriodSeconds": 1}))?;
    reaches(cluster, "refusing", "status.phase", "Running")?;
    cluster.kubectl(&["delete", "pod", "refusing"])?.ok();
    has_event(cluster, "refusing", "Warning FailedPreStopHook PreStopHook failed");
    Ok(())
}
