//! What pods and nodes use, through `kubectl top` with nothing installed, and through the node's own paths.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, NODE_IP, Options, eventually, with_every_kubectl};

use super::{create, reaches, script, with};

#[test]
fn kubectl_top_works_with_nothing_installed() {
    tests::must(with_every_kubectl(&Options::tutorial(), |cluster| {
        let kind = json!({"terminationGracePeriodSeconds": 0});
        // A fifth of a processor, which the kernel sees to.
        let limited = json!({"resources": {"limits": {"cpu": "200m", "memory": "64Mi"}}});
        create(cluster, "busy", &with(script("while :; do :; done"), &limited), &kind)?;
        create(cluster, "idle", &script("sleep infinity"), &kind)?;
        for pod in ["busy", "idle"] {
            reaches(cluster, pod, "status.phase", "Running")?;
        }
        pods(cluster)?;
        nodes(cluster)?;
        kinds(cluster)?;
        paths(cluster)?;
        access(cluster)?;
        scraper(cluster)?;
        another_server(cluster)
    }));
}

/// The cells of each line but the first.
fn table(cluster: &Cluster, arguments: &[&str]) -> Result<Vec<Vec<String>>> {
    let answer = cluster.kubectl(arguments)?;
    ensure!(answer.success, "{arguments:?}: {}", answer.stderr);
    Ok(answer.stdout.lines().skip(1).map(|line| line.split_whitespace().map(str::to_owned).collect()).collect())
}

fn pods(cluster: &Cluster) -> Result<()> {
    // Just begun, it has had less: the rate is that of the last second once the first has passed.
    eventually("the rate of a limited loop", || {
        let rows = table(cluster, &["top", "pods", "-l", "run=busy"])?;
        let [row] = rows.as_slice() else { anyhow::bail!("{rows:?}") };
        let milli: u32 = row[1].strip_suffix('m').context("thousandths")?.parse()?;
        ensure!(row[0] == "busy" && (120..=280).contains(&milli), "{row:?}");
        ensure!(row[2].ends_with("Mi"), "{row:?}");
        Ok(())
    });
    let rows = table(cluster, &["top", "pods", "--sort-by=cpu", "--containers"])?;
    let names: Vec<_> = rows.iter().map(|row| (row[0].as_str(), row[1].as_str())).collect();
    assert_eq!(names, [("busy", "main"), ("idle", "main")]);
    let error = cluster.kubectl(&["top", "pod", "nobody"])?.error();
    assert!(error.contains("not found"), "{error}");
    Ok(())
}

fn nodes(cluster: &Cluster) -> Result<()> {
    let rows = table(cluster, &["top", "nodes"])?;
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    let milli: u32 = row[1].strip_suffix('m').context("thousandths")?.parse()?;
    assert!(milli >= 100 && row[2].ends_with('%') && row[3].ends_with("Mi") && row[4].ends_with('%'), "{row:?}");
    Ok(())
}

fn kinds(cluster: &Cluster) -> Result<()> {
    let answer = cluster.kubectl(&["get", "pods.metrics.k8s.io", "-l", "run=busy"])?.ok();
    let head: Vec<_> = answer.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(head, ["NAME", "CPU", "MEMORY", "WINDOW"]);
    assert_eq!(table(cluster, &["get", "nodes.metrics.k8s.io"])?.len(), 1);
    let object = cluster.object(&["pods.metrics.k8s.io", "idle"])?;
    assert_eq!((&object["kind"], &object["apiVersion"]), (&json!("PodMetrics"), &json!("metrics.k8s.io/v1beta1")));
    assert_eq!(object["metadata"]["labels"], json!({"run": "idle"}));
    assert_eq!(object["containers"][0]["name"], "main");
    let by_node =
        cluster.kubectl(&["get", "pods.metrics.k8s.io", "-o", "name", "--field-selector=metadata.name=idle"])?;
    assert_eq!(by_node.ok(), "podmetrics.metrics.k8s.io/idle\n");
    let error = cluster.kubectl(&["delete", "pods.metrics.k8s.io", "idle"])?.error();
    assert!(error.contains("MethodNotAllowed") || error.contains("not allow"), "{error}");
    // `pods` alone stays what it was.
    assert!(cluster.kubectl(&["get", "pods", "-o", "name"])?.ok().contains("pod/busy"));
    Ok(())
}

fn raw(cluster: &Cluster, path: &str) -> Result<String> {
    let node = cluster.kubectl(&["get", "nodes", "-o", "name"])?.ok();
    let node = node.trim().strip_prefix("node/").context("a node")?;
    Ok(cluster.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy{path}")])?.ok())
}

fn paths(cluster: &Cluster) -> Result<()> {
    let text = raw(cluster, "/metrics/resource")?;
    for line in [
        "container_cpu_usage_seconds_total{container=\"main\",namespace=\"default\",pod=\"busy\"} ",
        "pod_memory_working_set_bytes{namespace=\"default\",pod=\"idle\"} ",
        "node_cpu_usage_seconds_total ",
        "resource_scrape_error 0",
    ] {
        assert!(text.lines().any(|one| one.starts_with(line)), "{line}\n{text}");
    }
    let find = |summary: &Value| -> Result<Value> {
        let pods = summary["pods"].as_array().context("pods")?;
        Ok(pods.iter().find(|pod| pod["podRef"]["name"] == "busy").context("the busy pod")?.clone())
    };
    let summary = || -> Result<Value> { Ok(serde_json::from_str(&raw(cluster, "/stats/summary")?)?) };
    // A foreign runtime counts from time to time.
    eventually("what is written is counted", || {
        let container = find(&summary()?)?["containers"][0].clone();
        ensure!(container["rootfs"]["inodesUsed"].as_u64() >= Some(1), "{container}");
        Ok(())
    });
    let summary = summary()?;
    let busy = find(&summary)?;
    assert!(busy["network"]["interfaces"][0]["name"] == "eth0", "{busy}");
    assert!(busy["process_stats"]["process_count"].as_u64() >= Some(1), "{busy}");
    let container = &busy["containers"][0];
    assert!(container["memory"]["workingSetBytes"].as_u64() > Some(0), "{container}");
    assert!(summary["node"]["fs"]["capacityBytes"].as_u64() > Some(0), "{summary}");
    Ok(())
}

fn access(cluster: &Cluster) -> Result<()> {
    let can = |user: &str| -> Result<String> {
        let answer = cluster.kubectl(&["auth", "can-i", "list", "pods.metrics.k8s.io", "--as", user])?;
        Ok(answer.stdout.trim().to_owned())
    };
    cluster.kubectl(&["create", "rolebinding", "looks", "--clusterrole=view", "--user=jane"])?.ok();
    eventually("a binding", || {
        ensure!(can("jane")? == "yes");
        Ok(())
    });
    assert_eq!(can("joe")?, "no");
    Ok(())
}

/// What scrapes the node itself comes with an account's token, and may what roles say.
fn scraper(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["create", "serviceaccount", "scraper"])?.ok();
    let token = cluster.kubectl(&["create", "token", "scraper"])?.ok();
    let bearer = format!("Authorization: Bearer {}", token.trim());
    let get = |path: &str, header: &str| {
        let url = format!("https://{NODE_IP}:10250{path}");
        let answer = cluster.node("curl", &["-sk", "-m", "10", "-w", "\n%{http_code}", "-H", header, &url])?;
        let (text, code) = answer.stdout.trim_end().rsplit_once('\n').context("an answer")?;
        anyhow::Ok((code.to_owned(), text.trim_end().to_owned()))
    };
    let metrics = "/metrics/resource";
    assert_eq!(get(metrics, "X: none")?, ("401".into(), "Unauthorized".into()));
    let user = "system:serviceaccount:default:scraper";
    let refused = format!("Forbidden (user={user}, verb=get, resource=nodes, subresource(s)=[metrics])");
    assert_eq!(get(metrics, &bearer)?, ("403".into(), refused));
    // Another account, since the refusal of this one is remembered for a while.
    let role = ["create", "clusterrole", "scrapes", "--verb=get", "--resource=nodes/metrics"];
    cluster.kubectl(&role)?.ok();
    let account = "--serviceaccount=default:second";
    cluster.kubectl(&["create", "clusterrolebinding", "scrapes", "--clusterrole=scrapes", account])?.ok();
    cluster.kubectl(&["create", "serviceaccount", "second"])?.ok();
    let token = cluster.kubectl(&["create", "token", "second"])?.ok();
    eventually("the binding", || {
        let question = ["auth", "can-i", "get", "nodes", "--subresource=metrics", "--as"];
        let can = cluster.kubectl(&[&question[..], &["system:serviceaccount:default:second"]].concat())?;
        ensure!(can.stdout.trim() == "yes", "{can:?}");
        Ok(())
    });
    let bearer = format!("Authorization: Bearer {}", token.trim());
    let (code, text) = get(metrics, &bearer)?;
    assert_eq!(code, "200", "{text}");
    assert!(text.contains("node_cpu_usage_seconds_total "), "{text}");
    assert_eq!(get("/pods", &bearer)?.0, "403");
    Ok(())
}

/// Whose APIService the group has, is asked; without it the built-in answers again.
fn another_server(cluster: &Cluster) -> Result<()> {
    let service = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "spec": {"group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": {"namespace": "kube-system", "name": "metrics-server"}}});
    cluster.apply(&service.to_string())?;
    eventually("the other server's absence", || {
        let answer = cluster.kubectl(&["get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes"])?;
        ensure!(!answer.success && answer.stderr.contains("ServiceUnavailable"), "{answer:?}");
        Ok(())
    });
    cluster.kubectl(&["delete", "apiservice", "v1beta1.metrics.k8s.io"])?.ok();
    eventually("the built-in server", || {
        ensure!(cluster.kubectl(&["top", "nodes"])?.success);
        Ok(())
    });
    Ok(())
}
