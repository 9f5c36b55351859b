//! Logs that outgrow a file: nothing is lost, and what is kept is bounded.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::{Cluster, eventually};

use super::{create, on_a_cluster, reaches, script};

/// Lines of 46 bytes or so: some 40 MB, four files of at most 10 MiB and the one that is written.
const KEPT: u32 = 900_000;
/// More than five files hold.
const MORE: u32 = 1_500_000;

#[test]
fn logs_are_rotated() {
    on_a_cluster(|cluster| {
        nothing_is_lost(cluster)?;
        the_oldest_goes(cluster)
    });
}

fn numbers(text: &str) -> Vec<u32> {
    text.lines().filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect()
}

fn nothing_is_lost(cluster: &Cluster) -> Result<()> {
    let always = json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 0});
    let once =
        format!("[ -e /again ] || seq 1 {KEPT}; echo done; while [ ! -e /again ]; do sleep 0.1; done; sleep infinity");
    let volume = json!({"volumes": [{"name": "again", "emptyDir": {}}]});
    let spec = super::with(always, &volume);
    let shared = json!({"volumeMounts": [{"name": "again", "mountPath": "/state"}]});
    let once = once.replace("/again", "/state/again");
    create(cluster, "long", &super::with(script(&once), &shared), &spec)?;
    reaches(cluster, "long", "status.phase", "Running")?;
    // From before the first rotation to after the last: kubectl ends when the container does.
    let followed = std::thread::scope(|scope| -> Result<String> {
        let follower = scope.spawn(|| cluster.kubectl(&["logs", "-f", "long"]));
        eventually("the end of the log", || {
            let tail = cluster.kubectl(&["logs", "long", "--tail=1"])?.ok();
            ensure!(tail == "done\n", "{tail}");
            Ok(())
        });
        cluster.kubectl(&["exec", "long", "--", "touch", "/state/again"])?.ok();
        another_instance(cluster)?;
        Ok(follower.join().expect("a follower")?.ok())
    })?;
    let all: Vec<u32> = (1..=KEPT).collect();
    assert!(numbers(&followed) == all, "followed {} of {KEPT} lines", numbers(&followed).len());
    reaches(cluster, "long", "status.containerStatuses[0].restartCount", "1")?;
    let previous = cluster.kubectl(&["logs", "long", "--previous"])?.ok();
    assert!(numbers(&previous) == all, "kept {} of {KEPT} lines", numbers(&previous).len());
    // Further back than one file reaches.
    let tail = numbers(&cluster.kubectl(&["logs", "long", "--previous", "--tail=400001"])?.ok());
    assert_eq!((tail.len(), tail.first()), (400_000, Some(&(KEPT - 399_999))));
    let now = cluster.kubectl(&["logs", "long"])?.ok();
    assert_eq!(now, "done\n");
    cluster.kubectl(&["delete", "pod", "long"])?.ok();
    Ok(())
}

/// Changes the image's name: the container is started again.
fn another_instance(cluster: &Cluster) -> Result<()> {
    let image = json!({"spec": {"containers": [{"name": "main", "image": "docker.io/library/busybox:1.37"}]}});
    cluster.kubectl(&["patch", "pod", "long", "-p", &image.to_string()])?.ok();
    Ok(())
}

fn the_oldest_goes(cluster: &Cluster) -> Result<()> {
    create(cluster, "longer", &script(&format!("seq 1 {MORE}")), &json!({}))?;
    reaches(cluster, "longer", "status.phase", "Succeeded")?;
    let kept = numbers(&cluster.kubectl(&["logs", "longer"])?.ok());
    let first = *kept.first().context("a log")?;
    assert!(first > 1, "the oldest lines are gone");
    assert!(kept == (first..=MORE).collect::<Vec<_>>(), "no line is missing in between");
    let logs = cluster.data_dir().join("agent/logs");
    let pod = std::fs::read_dir(&logs)?
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_string_lossy().contains("longer"));
    let mut sizes = Vec::new();
    for file in std::fs::read_dir(pod.context("the pod's logs")?.path().join("main"))? {
        sizes.push(file?.metadata()?.len());
    }
    assert_eq!(sizes.len(), 5, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size <= 10 << 20), "{sizes:?}");
    Ok(())
}
