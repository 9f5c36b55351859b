//! The node goes down in good order: it says so, takes no more pods, and ends those it has, band by band of their
//! priorities, each within its time. Upstream's node shutdown manager; here `sampan drain` asks for it.
//!
//! ```text
//!  sampan drain ──(drain.sock)──▶ shutting_down ──▶ Node: Ready=False, "node is shutting down"
//!                                       │         └▶ pods/admit.rs: new pods are refused (NodeShutdown)
//!                                       ▼
//!                       policy.rs (pure): bands ──▶ per band: every pod's worker ends it ──▶ withdrawn, preStop, SIGTERM
//!                                                   Failed, reason Terminated                  (as for any other end)
//! ```
//! What has begun goes on when whoever asked goes away, and who asks again follows it. Only a new start of the agent makes
//! the node take pods again.

mod policy;
mod socket;

use std::sync::Arc;
use std::time::Duration;

use base_tasks::Tasks;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::Pod;
use machinery_client::{EventKind, ObjectKey};
use tokio::io::BufReader;
use tokio::net::UnixListener;
use tokio::sync::watch;

use crate::eviction::Ending;
use crate::plan;
use crate::pods::{Machine, Message, View};
use crate::seams::chain;

use policy::Band;
pub use policy::{ShutdownError, ShutdownPolicy};
pub use socket::{DrainError, Progress, drain};

/// Upstream's words.
const REASON: &str = "Terminated";
const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";
/// Of a pod that comes too late.
pub const REFUSED: (&str, &str) = ("NodeShutdown", "Pod was rejected as the node is shutting down.");
/// Of the node, while it goes down.
pub const NOT_READY: &str = "node is shutting down";

/// What comes after the last moment: SIGKILL, and giving back what the pod had.
const SLACK: Duration = Duration::from_secs(5);

pub fn start(tasks: &Tasks, machine: Arc<Machine>) {
    match socket::listen(&machine.config.data_dir) {
        Ok(listener) => {
            let beside = tasks.clone();
            tasks.spawn("drain", serve(beside, machine, listener));
        }
        Err(error) => tracing::warn!(error = %chain(&error), "`sampan drain` will not find this node"),
    }
}

async fn serve(tasks: Tasks, machine: Arc<Machine>, listener: UnixListener) {
    let told = watch::Sender::new(Vec::new());
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "`sampan drain` no longer finds this node");
                return;
            }
        };
        let mut stream = BufReader::new(stream);
        if !socket::asks(&mut stream).await {
            continue;
        }
        if !machine.shutting_down.send_replace(true) {
            let (machine, told) = (Arc::clone(&machine), told.clone());
            tasks.spawn("shutdown", async move { shut_down(&machine, &told).await });
        }
        let told = told.subscribe();
        tasks.spawn("drain-client", async move {
            if let Err(error) = socket::follow(stream, told).await {
                tracing::debug!(%error, "who asked for the shutdown no longer follows it");
            }
        });
    }
}

async fn shut_down(machine: &Machine, told: &watch::Sender<Vec<Progress>>) {
    tracing::info!("shutting down: ending the pods");
    machine.cluster.report_node(EventKind::Normal, "NodeShutdown", "Shutdown manager detected shutdown event");
    let mut left = Vec::new();
    for (band, pods) in machine.config.shutdown.groups(machine.pods.active()) {
        left.extend(end(machine, band, pods, told).await);
    }
    let left: Vec<String> = left.iter().filter(|(view, _)| is_left(view)).map(|(_, pod)| name(pod)).collect();
    tracing::info!(?left, "the pods have ended; this node takes no more before it is started again");
    told.send_modify(|all| all.push(Progress::Done { left }));
}

/// Ends the pods of one band; answers which there were.
async fn end(
    machine: &Machine,
    band: Band,
    pods: Vec<Arc<Pod>>,
    told: &watch::Sender<Vec<Progress>>,
) -> Vec<(watch::Receiver<View>, Arc<Pod>)> {
    let tell = |progress| told.send_modify(|all| all.push(progress));
    let viewed = |pod: Arc<Pod>| machine.pods.get(&ObjectKey::of(&*pod)).map(|view| (view, pod));
    let running: Vec<_> = pods.into_iter().filter_map(viewed).collect();
    if running.is_empty() {
        return running;
    }
    tell(Progress::Ending { pods: running.len(), seconds: band.time.as_secs() });
    let ends = running.iter().map(|(view, pod)| {
        let asked = pod.spec.as_ref().map_or(band.time, plan::grace);
        machine.pods.tell(pod, Message::Ended(ending(asked.min(band.time))));
        let (mut view, pod) = (view.clone(), name(pod));
        async move {
            // A pod that is deleted meanwhile has no worker in the end.
            let _ = view.wait_for(|view| view.told).await;
            pod
        }
    });
    let mut ends: FuturesUnordered<_> = ends.collect();
    let all = async {
        while let Some(pod) = ends.next().await {
            tell(Progress::Ended { pod });
        }
    };
    // Late is late: the next band has its own time.
    let _ = tokio::time::timeout(band.time + SLACK, all).await;
    running
}

fn name(pod: &Pod) -> String {
    ObjectKey::of(pod).to_string()
}

fn ending(grace: Duration) -> Ending {
    Ending { reason: REASON, message: MESSAGE.into(), event: None, grace: Some(grace), disrupted: true }
}

/// Whether something of it runs, or the API does not know that nothing does.
fn is_left(view: &watch::Receiver<View>) -> bool {
    view.has_changed().is_ok() && !view.borrow().told
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::sync::mpsc;

    use super::*;
    use crate::fakes::World;

    #[tokio::test]
    async fn whoever_asks_is_told_to_the_end_and_others_are_left_alone() {
        let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
        let machine = world.machine(dir.path());
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u"},
            "spec": {"containers": [{"name": "app"}], "terminationGracePeriodSeconds": 5},
        }))
        .unwrap();
        let (view, viewer) = watch::channel(View { pod: Arc::new(pod), ..View::default() });
        let (worker, mut inbox) = mpsc::unbounded_channel();
        machine.pods.insert(ObjectKey::new("default", "web"), viewer, worker);
        let tasks = Tasks::root("test");
        start(&tasks, Arc::clone(&machine));
        assert!(!*machine.shutting_down.borrow());

        let asked = dir.path().to_owned();
        let client = tokio::spawn(async move {
            let mut told = Vec::new();
            let left = drain(&asked, |progress| told.push(progress.clone())).await.unwrap();
            (told, left)
        });
        let Some(Message::Ended(ending)) = inbox.recv().await else { panic!("another message") };
        assert_eq!((ending.reason, ending.grace), ("Terminated", Some(Duration::from_secs(5))));
        assert!(*machine.shutting_down.borrow());
        view.send_modify(|view| view.told = true);
        let (told, left) = client.await.unwrap();
        let pod = "default/web".to_owned();
        let expected =
            [Progress::Ending { pods: 1, seconds: 20 }, Progress::Ended { pod }, Progress::Done { left: Vec::new() }];
        assert_eq!((told.as_slice(), left), (expected.as_slice(), Vec::new()));
        // Who comes later hears the same.
        let mut again = Vec::new();
        drain(dir.path(), |progress| again.push(progress.clone())).await.unwrap();
        assert_eq!(again, told);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_in_its_time_is_named_and_keeps_nobody() {
        let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
        let machine = world.machine(dir.path());
        let mut views = Vec::new();
        let mut inboxes = Vec::new();
        for (name, priority) in [("stuck", 0), ("critical", 2_000_000_000)] {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "default", "uid": name},
                "spec": {"containers": [], "priority": priority},
            }))
            .unwrap();
            let (view, viewer) = watch::channel(View { pod: Arc::new(pod), ..View::default() });
            let (worker, inbox) = mpsc::unbounded_channel();
            machine.pods.insert(ObjectKey::new("default", name), viewer, worker);
            views.push(view);
            inboxes.push(inbox);
        }
        let told = watch::Sender::new(Vec::new());
        let started = tokio::time::Instant::now();
        shut_down(&machine, &told).await;
        assert_eq!(started.elapsed(), Duration::from_secs(20 + 10) + 2 * SLACK);
        let left = ["default/stuck", "default/critical"].map(str::to_owned).to_vec();
        assert_eq!(told.borrow().last(), Some(&Progress::Done { left }));
        assert!(inboxes.iter_mut().all(|inbox| inbox.try_recv().is_ok()));
    }

    #[tokio::test]
    async fn a_stray_word_ends_nothing() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
        let machine = world.machine(dir.path());
        start(&Tasks::root("test"), Arc::clone(&machine));
        let mut stray = tokio::net::UnixStream::connect(dir.path().join("drain.sock")).await.unwrap();
        stray.write_all(b"hello\n").await.unwrap();
        assert_eq!(stray.read(&mut [0]).await.unwrap(), 0);
        assert!(!*machine.shutting_down.borrow());
        let nobody = tempfile::tempdir().unwrap();
        let error = drain(nobody.path(), |_| {}).await.unwrap_err();
        assert!(error.to_string().starts_with("no node listens at"), "{error}");
    }
}
