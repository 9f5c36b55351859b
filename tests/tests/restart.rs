//! The binary goes and comes back: objects, containers, addresses and connections outlive it. What uninstall removes.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::{Cluster, Load, Options, Place, binary, eventually, get, must, processes};

fn tutorial_and_curl() -> Options {
    Options { images: vec!["nginx", "busybox", "curl"], ..Options::default() }
}

/// Everything that must be the same afterwards: objects by identity and generation, pods also by address and containers.
fn objects(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let kinds = "deployments,replicasets,pods,services,configmaps,secrets,serviceaccounts,namespaces,nodes";
    let list = cluster.object(&[kinds, "--all-namespaces"])?;
    let items = list["items"].as_array().context("a list has items")?;
    let described = items.iter().map(|item| {
        let meta = &item["metadata"];
        let name = format!("{} {}/{}", item["kind"], meta["namespace"], meta["name"]);
        let status = &item["status"];
        let containers = status["containerStatuses"].as_array().into_iter().flatten();
        let containers: Vec<String> =
            containers.map(|one| format!("{} {}", one["containerID"], one["restartCount"])).collect();
        let address = [&status["podIP"], &item["spec"]["clusterIP"]];
        (name, format!("{} {} {address:?} {containers:?}", meta["uid"], meta["generation"]))
    });
    Ok(described.collect())
}

/// When each process of a pod began, by the machine's own count.
fn begun(pids: &[Pid]) -> Result<BTreeMap<i32, String>> {
    let begun = pids.iter().map(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
        // The command's name, in brackets, may hold anything.
        let (_, fields) = stat.rsplit_once(')').context("a process's state")?;
        Ok((pid.as_raw(), fields.split_whitespace().nth(19).context("a start time")?.to_owned()))
    });
    begun.collect()
}

/// A pod that asks for the service by its name, one line for each answer.
fn asker(cluster: &Cluster) -> Result<()> {
    let ask = "while :; do if curl -sS -o /dev/null -m 20 http://my-nginx; then echo ok; else echo FAILED; fi; done";
    let image = ["--image=curlimages/curl:8.18.0", "--command", "--", "sh", "-c", ask];
    cluster.kubectl(&[&["run", "asker"][..], &image].concat())?.ok();
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/asker", "--timeout=60s"])?.ok();
    Ok(())
}

fn answers(cluster: &Cluster) -> Result<usize> {
    let log = cluster.kubectl(&["logs", "asker"])?.ok();
    ensure!(!log.contains("FAILED"), "requests by name failed: {log}");
    Ok(log.lines().filter(|line| *line == "ok").count())
}

#[test]
fn nothing_but_the_binary_is_gone_while_it_is_down() {
    must((|| {
        let mut cluster = Cluster::start(tutorial_and_curl())?;
        cluster.run_my_nginx()?;
        cluster.kubectl(&["expose", "deployment/my-nginx"])?.ok();
        asker(&cluster)?;
        let address = cluster.service("my-nginx")?;
        let pod = Arc::new(Place::pod(&cluster, "asker")?);
        let pids: Vec<Pid> = cluster
            .pods("run=my-nginx")?
            .keys()
            .map(|name| processes(&cluster, name))
            .collect::<Result<Vec<_>>>()?
            .concat();
        let begun_before = begun(&pids)?;
        let load = Load::start(&pod, address);
        load.go_on_for(50);
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            // Acknowledged a moment before the end.
            let name = format!("written-before-{}", signal.as_str().to_lowercase());
            cluster.kubectl(&["create", "configmap", &name, "--from-literal=a=b"])?.ok();
            let before = objects(&cluster)?;
            let answered = answers(&cluster)?;
            cluster.stop_server(signal)?;
            load.go_on_for(100);
            cluster.start_server()?;
            let after = objects(&cluster)?;
            assert_eq!(before, after, "after {signal}");
            assert!(after.keys().any(|object| object.contains(&name)), "{name} is lost: {after:?}");
            assert_eq!(begun(&pids)?, begun_before, "after {signal}");
            load.go_on_for(100);
            eventually("answers by name", || {
                let now = answers(&cluster)?;
                ensure!(now > answered + 10, "{now} answers after {answered}");
                Ok(())
            });
            pods_come_and_go_right_after(&cluster)?;
        }
        load.stop().assert_perfect("a pod, while the server was away");
        cluster.finish()
    })());
}

/// The first requests to a server that has just come back.
fn pods_come_and_go_right_after(cluster: &Cluster) -> Result<()> {
    let sleeper = ["run", "newcomer", "--image=busybox:1.37", "--restart=Never", "--", "sleep", "infinity"];
    cluster.kubectl(&sleeper)?.ok();
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/newcomer", "--timeout=60s"])?.ok();
    let all = cluster.pods("")?;
    let distinct: std::collections::BTreeSet<_> = all.values().collect();
    assert_eq!(distinct.len(), all.len(), "an address was given out twice: {all:?}");
    cluster.kubectl(&["delete", "pod", "newcomer", "--grace-period=1"])?.ok();
    Ok(())
}

#[test]
fn pods_deleted_while_the_server_is_down_end_when_it_is_back() {
    must((|| {
        let mut cluster = Cluster::start(tutorial_and_curl())?;
        cluster.run_my_nginx()?;
        let pods = cluster.pods("run=my-nginx")?;
        let (gone, ip) = pods.first_key_value().context("a pod")?;
        cluster.kubectl(&["delete", "pod", gone, "--wait=false"])?.ok();
        cluster.stop_server(Signal::SIGKILL)?;
        cluster.start_server()?;
        cluster.kubectl(&["wait", "--for=delete", &format!("pod/{gone}"), "--timeout=60s"])?.ok();
        cluster.rolled_out("my-nginx")?;
        eventually("a replacement", || {
            let now = cluster.pods("run=my-nginx")?;
            ensure!(now.len() == 2 && !now.contains_key(gone) && now.values().all(|other| other != ip), "{now:?}");
            Ok(())
        });
        cluster.finish()
    })());
}

fn shim(cluster: &Cluster, pod: &str) -> Result<Pid> {
    let shims: Vec<Pid> = processes(cluster, pod)?
        .into_iter()
        .filter(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sampan-shim")))
        .collect();
    ensure!(shims.len() == 1, "pod {pod} has the shims {shims:?}");
    Ok(shims[0])
}

#[test]
fn a_pod_that_loses_its_shim_is_started_anew() {
    must((|| {
        let mut cluster = Cluster::start(tutorial_and_curl())?;
        cluster.run_my_nginx()?;
        cluster.kubectl(&["expose", "deployment/my-nginx"])?.ok();
        let once = ["run", "once", "--image=busybox:1.37", "--restart=Never", "--", "sleep", "infinity"];
        cluster.kubectl(&once)?.ok();
        cluster.kubectl(&["wait", "--for=condition=Ready", "pod/once", "--timeout=60s"])?.ok();
        let pods = cluster.pods("run=my-nginx")?;
        let names: Vec<&String> = pods.keys().collect();

        kill(shim(&cluster, names[0])?, Signal::SIGKILL).context("killing a shim")?;
        comes_back(&cluster, names[0]);
        // And while nobody looks.
        let (second, once) = (shim(&cluster, names[1])?, shim(&cluster, "once")?);
        cluster.stop_server(Signal::SIGKILL)?;
        kill(second, Signal::SIGKILL).context("killing a shim")?;
        kill(once, Signal::SIGKILL).context("killing a shim")?;
        cluster.start_server()?;
        comes_back(&cluster, names[1]);
        cluster.kubectl(&["wait", "--for=jsonpath={.status.phase}=Failed", "pod/once", "--timeout=60s"])?.ok();
        let now = cluster.pods("run=my-nginx")?;
        assert_eq!(now.keys().collect::<Vec<_>>(), names, "the pods themselves are the same");
        eventually("the endpoints", || cluster.endpoints_are("my-nginx", &now.values().copied().collect()));
        cluster.finish()
    })());
}

/// A restarted container that answers.
fn comes_back(cluster: &Cluster, pod: &str) {
    eventually("a new container", || {
        let object = cluster.object(&["pod", pod])?;
        let status = &object["status"]["containerStatuses"][0];
        ensure!(status["restartCount"] == 1 && status["ready"] == true, "{status}");
        let ip: std::net::IpAddr = object["status"]["podIP"].as_str().context("an address")?.parse()?;
        Place::node(cluster)?.run(|| get((ip, 80).into(), "/"))?;
        Ok(())
    });
}

#[test]
fn uninstall_removes_what_is_ours_and_nothing_else() {
    must((|| {
        let mut cluster = Cluster::start(tutorial_and_curl())?;
        cluster.run_my_nginx()?;
        cluster.kubectl(&["expose", "deployment/my-nginx"])?.ok();
        let before = objects(&cluster)?;

        let refusal = cluster.sampan(&["uninstall"])?.error();
        assert!(refusal.contains("stop the server first"), "{refusal}");
        assert_eq!(objects(&cluster)?, before, "a refused uninstall changed something");
        Place::node(&cluster)?.run(|| get(cluster.service("my-nginx")?, "/"))?;
        a_second_server_is_refused(&cluster)?;

        let foreign = tempfile::tempdir().context("a directory")?;
        let file = foreign.path().join("precious");
        std::fs::write(&file, "mine").context("a file")?;
        let binary = binary().to_string_lossy().into_owned();
        let uninstall = |directory: &str| cluster.node(&binary, &["uninstall", "--data-dir", directory]);
        let refusal = uninstall(&foreign.path().to_string_lossy())?.error();
        assert!(refusal.contains("is not a data directory of Sampan; nothing was removed"), "{refusal}");
        assert_eq!(std::fs::read_to_string(&file).context("the file")?, "mine");
        uninstall("/nonexistent/sampan")?.ok();

        cluster.stop_server(Signal::SIGKILL)?;
        cluster.finish()
    })());
}

fn a_second_server_is_refused(cluster: &Cluster) -> Result<()> {
    let binary = binary().to_string_lossy().into_owned();
    let other = tempfile::tempdir().context("a directory")?;
    let server = ["server", "--node-ip", tests::NODE_IP, "--data-dir"];
    let taken = cluster.node(&binary, &[&server[..], &[&other.path().to_string_lossy()]].concat())?.error();
    assert!(taken.contains("listening on 0.0.0.0:6443") && taken.contains("in use"), "{taken}");
    let same = cluster.data_dir().to_string_lossy().into_owned();
    let arguments = [&server[..], &[&same, "--https-listen-port", "6444"]].concat();
    let taken = cluster.node(&binary, &arguments)?.error();
    assert!(taken.contains("in use by process"), "{taken}");
    assert!(cluster.kubectl(&["get", "--raw", "/readyz"])?.success);
    Ok(())
}
