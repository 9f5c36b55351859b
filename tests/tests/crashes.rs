//! The binary ends at each step of a pod's start and end (`base_sys::crash`). Who comes after it finishes the step: nothing
//! restarts without need, and nothing is left over.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tests::{Cluster, Options, eventually, must};

const START: [&str; 10] = [
    "volumes mounted",
    "sandbox recorded",
    "shim spawned",
    "sandbox created",
    "address granted",
    "link made",
    "network attached",
    "container created",
    "container started",
    "status written",
];
const END: [&str; 9] = [
    "drain begun",
    "signal sent",
    "container ended",
    "link deleted",
    "network detached",
    "sandbox stopped",
    "shim ended",
    "sandbox removed",
    "object deleted",
];

const POD: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
    "terminationGracePeriodSeconds": 2,
    "containers": [{"name": "main", "image": "busybox:1.37", "command": ["sh", "-c", "trap exit TERM; while :; do sleep 1000 & wait; done"],
        "resources": {"limits": {"memory": "32Mi"}},
        "volumeMounts": [{"name": "fast", "mountPath": "/fast"}, {"name": "plain", "mountPath": "/plain"}]}],
    "volumes": [{"name": "fast", "emptyDir": {"medium": "Memory"}}, {"name": "plain", "emptyDir": {}}]}}"#;

/// How much of each kind is there that pods are made of.
fn made(cluster: &Cluster) -> Result<BTreeMap<&'static str, usize>> {
    let data = cluster.data_dir();
    let inside = |directory: &str| std::fs::read_dir(data.join(directory)).map_or(0, |entries| entries.count());
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let text = data.to_string_lossy().into_owned();
    let pods = data.join("agent/pods");
    let state = cluster.namespace.kernel_state()?;
    let shims = std::fs::read_dir("/proc")?.flatten().filter(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&format!("{text}/containers/"))
    });
    Ok(BTreeMap::from([
        ("sandboxes", inside("containers")),
        ("directories of pods", std::fs::read_dir(pods).map_or(0, |entries| entries.count())),
        ("directories of logs", inside("agent/logs")),
        ("addresses", std::fs::read_dir(data.join("net/leases")).map_or(0, |all| all.flatten().filter(lease).count())),
        ("mounts", mounts.lines().filter(|line| line.contains(&text)).count()),
        ("routes", state.lines().filter(|line| line.starts_with("10.42.0.")).count()),
        ("links", state.lines().filter(|line| line.contains("link-netns")).count()),
        ("cgroups", cgroups(&state)?),
        ("shims", shims.count()),
    ]))
}

/// Named after its address.
fn lease(entry: &std::fs::DirEntry) -> bool {
    entry.file_name().to_string_lossy().parse::<std::net::IpAddr>().is_ok()
}

/// Of pods, in every hierarchy, below the cluster's own, which has the name of its table of rules.
fn cgroups(state: &str) -> Result<usize> {
    let tables = state.lines().filter_map(|line| line.strip_prefix("table inet ")?.strip_suffix(" {"));
    let own = tables.min().context("a table")?;
    let mount = Path::new("/sys/fs/cgroup");
    let mut count = 0;
    let mut left: Vec<_> = std::fs::read_dir(mount)?.flatten().map(|entry| entry.path().join(own)).collect();
    left.push(mount.join(own));
    while let Some(directory) = left.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
            count += usize::from(entry.file_name().to_string_lossy().starts_with("pod"));
            left.push(entry.path());
        }
    }
    Ok(count)
}

fn becomes(cluster: &Cluster, what: &str, wanted: &BTreeMap<&'static str, usize>) {
    eventually(what, || {
        let found = made(cluster)?;
        ensure!(found == *wanted, "{found:#?}\nwanted {wanted:#?}\n{}", cluster.log());
        Ok(())
    });
}

fn runs(cluster: &Cluster) -> Result<()> {
    let answer = cluster.kubectl(&["wait", "--for=condition=Ready", "pod/p", "--timeout=60s"])?;
    ensure!(answer.success, "{}\n{}\n{}", answer.stderr, cluster.object(&["pod", "p"])?["status"], cluster.log());
    Ok(())
}

/// What is there with the pod, and without.
struct Counts {
    with: BTreeMap<&'static str, usize>,
    without: BTreeMap<&'static str, usize>,
}

impl Counts {
    fn of(cluster: &Cluster) -> Result<Self> {
        let without = made(cluster)?;
        cluster.apply(POD)?;
        runs(cluster)?;
        let with = made(cluster)?;
        for (kind, count) in &with {
            ensure!(*count > without[kind], "a pod has {kind}: {with:?}");
        }
        cluster.kubectl(&["delete", "pod/p"])?.ok();
        becomes(cluster, "a clean node", &without);
        Ok(Self { with, without })
    }
}

#[test]
fn a_start_that_is_cut_off_is_finished() {
    must((|| {
        let mut cluster = Cluster::start(Options { images: vec!["busybox"], ..Options::default() })?;
        let counts = Counts::of(&cluster)?;
        for point in START {
            cluster.stop_server(Signal::SIGTERM)?;
            cluster.crash_at = Some(point);
            cluster.start_server()?;
            // Its answer may be lost with the server.
            let _ = cluster.kubectl_input(&["apply", "-f", "-"], POD)?;
            cluster.crashes()?;
            runs(&cluster).with_context(|| point)?;
            let status = cluster.object(&["pod", "p"])?["status"]["containerStatuses"][0].clone();
            ensure!(status["restartCount"] == 0, "{point}: {status}");
            becomes(&cluster, point, &counts.with);
            cluster.kubectl(&["delete", "pod/p"])?.ok();
            becomes(&cluster, point, &counts.without);
        }
        cluster.finish()
    })());
}

#[test]
fn an_end_that_is_cut_off_is_finished() {
    must((|| {
        let mut cluster = Cluster::start(Options { images: vec!["busybox"], ..Options::default() })?;
        let counts = Counts::of(&cluster)?;
        for point in END {
            cluster.apply(POD)?;
            runs(&cluster)?;
            cluster.stop_server(Signal::SIGTERM)?;
            cluster.crash_at = Some(point);
            cluster.start_server()?;
            let _ = cluster.kubectl(&["delete", "pod/p", "--wait=false"])?;
            cluster.crashes()?;
            let gone = cluster.kubectl(&["wait", "--for=delete", "pod/p", "--timeout=60s"])?;
            ensure!(gone.success, "{point}: {}\n{}", gone.stderr, cluster.log());
            becomes(&cluster, point, &counts.without);
        }
        cluster.finish()
    })());
}
