//! A pod's life against the fakes, on a paused clock.

mod eviction;
mod network;
mod resize;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::fakes::{State, World, nginx};
use crate::pods::worker::Worker;
use crate::pods::{Machine, Message};
use crate::seams::PullError;

fn pod(changes: impl FnOnce(&mut Value)) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "u1", "generation": 1},
        "spec": {
            "containers": [{"name": "app", "image": "nginx", "imagePullPolicy": "IfNotPresent"}],
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
        },
        "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]},
    });
    changes(&mut pod);
    Arc::new(serde_json::from_value(pod).unwrap())
}

struct Bench {
    world: Arc<World>,
    machine: Arc<Machine>,
    dir: tempfile::TempDir,
    pod: Arc<Pod>,
    worker: JoinHandle<()>,
    outbox: mpsc::UnboundedSender<Message>,
}

impl Bench {
    async fn new(pod: Arc<Pod>, prepare: impl FnOnce(&World)) -> Self {
        let world = World::new();
        prepare(&world);
        let dir = tempfile::tempdir().unwrap();
        let machine = world.machine(dir.path());
        let (outbox, worker) = spawn(&world, &machine, &pod);
        Self { world, machine, dir, pod, worker, outbox }
    }

    /// A new agent over what the old one left.
    fn restart(&mut self) {
        self.worker.abort();
        let mut pod = (*self.pod).clone();
        pod.status = Some(self.world.status());
        self.pod = Arc::new(pod);
        self.machine = self.world.machine(self.dir.path());
        (self.outbox, self.worker) = spawn(&self.world, &self.machine, &self.pod);
    }

    fn delete(&self, grace: i64) {
        let mut pod = (*self.pod).clone();
        let at = self.world.clock.now() + jiff::SignedDuration::from_secs(grace);
        pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        pod.status = Some(self.world.status());
        self.outbox.send(Message::Updated(Arc::new(pod))).unwrap();
    }

    fn calls(&self) -> Vec<String> {
        self.world.state.lock().unwrap().calls.clone()
    }

    fn has_event(&self, wanted: &str) -> bool {
        self.world.state.lock().unwrap().events.iter().any(|event| event.contains(wanted))
    }

    async fn ready(&self) {
        self.world.until("pod ready", |state| condition(state, "Ready") == "True").await;
    }
}

fn spawn(
    world: &Arc<World>,
    machine: &Arc<Machine>,
    pod: &Arc<Pod>,
) -> (mpsc::UnboundedSender<Message>, JoinHandle<()>) {
    let channel = mpsc::unbounded_channel();
    let outbox = channel.0.clone();
    let worker = Worker::new(Arc::clone(machine), Arc::clone(pod), channel);
    let sandboxes = world.state.lock().unwrap().sandboxes.values().cloned().collect();
    (outbox, tokio::spawn(worker.run(sandboxes)))
}

fn condition(state: &State, kind: &str) -> String {
    let conditions = state.status["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == kind);
    found.map(|condition| condition["status"].as_str().unwrap().to_owned()).unwrap_or_default()
}

fn waiting(state: &State) -> &str {
    state.status["containerStatuses"][0]["state"]["waiting"]["reason"].as_str().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn no_container_starts_before_the_policies_are_in_force() {
    let release = Arc::new(tokio::sync::Notify::new());
    let held = release.clone();
    let bench = Bench::new(pod(|_| {}), |world| *world.policies.lock().unwrap() = Some(held)).await;
    let protect = "protect [10.42.0.7]".to_owned();
    bench.world.until("the wait", |state| state.calls.contains(&protect)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.calls(), ["create sandbox", "attach network", &protect]);
    release.notify_one();
    bench.ready().await;
    assert_eq!(bench.calls()[3..], ["create app #0", "start app"]);
}

#[tokio::test(start_paused = true)]
async fn policies_that_cannot_be_programmed_are_waited_for_again_and_again() {
    let release = Arc::new(tokio::sync::Notify::new());
    let held = release.clone();
    let bench = Bench::new(pod(|_| {}), |world| *world.policies.lock().unwrap() = Some(held)).await;
    bench.world.until("a failure", |state| state.events.iter().any(|event| event.contains("NetworkPolicies"))).await;
    assert!(
        bench.has_event("Failed to create pod sandbox: wait for the NetworkPolicies of pod web: deadline has elapsed")
    );
    assert!(!bench.calls().iter().any(|call| call.starts_with("create app")), "{:?}", bench.calls());
    release.notify_one();
    bench.ready().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_comes_up_and_reports_ready() {
    let bench = Bench::new(pod(|_| {}), |_| {}).await;
    bench.ready().await;
    assert_eq!(bench.calls(), ["create sandbox", "attach network", "create app #0", "start app"]);
    let status = bench.world.status();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(status.pod_ip.as_deref(), Some("10.42.0.7"));
    assert_eq!(status.host_ip.as_deref(), Some("192.0.2.1"));
    let container = &status.container_statuses.unwrap()[0];
    assert_eq!((container.ready, container.started, container.restart_count), (true, Some(true), 0));
    assert!(container.container_id.as_ref().unwrap().starts_with("sampan://"));
    let kinds: Vec<_> = status.conditions.unwrap().into_iter().map(|condition| condition.type_).collect();
    assert_eq!(kinds, ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]);
    let events = bench.world.state.lock().unwrap().events.clone();
    assert_eq!(
        events,
        [
            "app: Pulled Container image \"nginx\" already present on machine and can be accessed by the pod",
            "app: Created Container created",
            "app: Started Container started",
        ]
    );
    let spec = bench.world.state.lock().unwrap().specs.values().next().unwrap().clone();
    assert_eq!(spec.args, ["/entry", "nginx"]);
    assert_eq!(spec.env, [("HOSTNAME".into(), "web".into()), ("PATH".to_owned(), "/bin".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_container_without_a_readiness_probe_is_ready_once_it_listens() {
    let declares = |pod: &mut serde_json::Value| {
        pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}, {"containerPort": 443, "protocol": "TCP"}]);
    };
    let started = |state: &State| state.status["containerStatuses"][0]["started"] == true;
    let bench = Bench::new(pod(declares), |_| {}).await;
    bench.world.until("started", started).await;
    let listen = |port| bench.world.state.lock().unwrap().listeners.insert(port, mpsc::unbounded_channel().0);
    listen(80);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(condition(&bench.world.state.lock().unwrap(), "Ready"), "False", "443 is still closed");
    let before = tokio::time::Instant::now();
    listen(443);
    bench.ready().await;
    assert!(before.elapsed() < Duration::from_millis(100), "{:?}", before.elapsed());

    // Who never listens is ready, too.
    let bench = Bench::new(pod(declares), |_| {}).await;
    bench.world.until("started", started).await;
    let before = tokio::time::Instant::now();
    bench.ready().await;
    let after = before.elapsed().as_secs_f64();
    assert!((1.9..2.2).contains(&after), "{after} s");
}

#[tokio::test(start_paused = true)]
async fn deletion_withdraws_then_signals_then_kills_then_deletes() {
    let bench = Bench::new(pod(|_| {}), |world| {
        *world.withdrawal.lock().unwrap() = Duration::from_millis(200);
        world.state.lock().unwrap().ignored_signals = vec![3];
    })
    .await;
    bench.ready().await;
    bench.delete(30);
    bench.world.until("object deleted", |state| state.deleted).await;
    let calls = bench.calls();
    assert_eq!(calls[4], "withdraw 10.42.0.7");
    // The image's own stop signal, 50 ms after the withdrawal; the kill 30 s after the deletion.
    assert!(calls[5].starts_with("signal app 3 at 25"), "{calls:#?}");
    assert!(calls[6].starts_with("signal app 9 at 3000"), "{calls:#?}");
    assert_eq!(calls[7..], ["detach network", "remove sandbox", "delete object"]);
    assert_eq!(bench.world.status().phase.as_deref(), Some("Failed"));
    bench.outbox.send(Message::Gone).unwrap();
    bench.worker.await.unwrap();
    assert!(!bench.dir.path().join("pods/u1").exists());
}

#[tokio::test(start_paused = true)]
async fn a_withdrawal_that_never_comes_delays_the_signal_by_a_quarter_of_the_grace_period() {
    let bench = Bench::new(pod(|_| {}), |world| *world.withdrawal.lock().unwrap() = Duration::from_secs(999)).await;
    bench.ready().await;
    bench.delete(30);
    bench.world.until("object deleted", |state| state.deleted).await;
    assert!(bench.calls()[5].starts_with("signal app 3 at 755"), "{:#?}", bench.calls());
    assert_eq!(bench.world.status().phase.as_deref(), Some("Succeeded"));
}

#[tokio::test(start_paused = true)]
async fn a_forced_deletion_waits_for_nothing() {
    let bench = Bench::new(pod(|_| {}), |world| world.state.lock().unwrap().ignored_signals = vec![3]).await;
    bench.ready().await;
    bench.outbox.send(Message::Gone).unwrap();
    bench.worker.await.unwrap();
    let calls = bench.world.state.lock().unwrap().calls.clone();
    assert!(calls[4].starts_with("signal app 3 at 0ms") || calls[4].starts_with("signal app 3 at 1ms"), "{calls:#?}");
    assert!(calls[5].starts_with("signal app 9 at 200"), "{calls:#?}");
    assert_eq!(calls[6..], ["detach network", "remove sandbox"]);
}

#[tokio::test(start_paused = true)]
async fn a_pre_stop_hook_shares_the_grace_period() {
    let sleep = |seconds: i64| json!({"preStop": {"sleep": {"seconds": seconds}}});
    for (seconds, signal, kill) in [(4, "signal app 3 at 400", "signal app 9 at 1000"), (60, "at 1000", "at 1200")] {
        let bench = Bench::new(pod(|pod| pod["spec"]["containers"][0]["lifecycle"] = sleep(seconds)), |world| {
            world.state.lock().unwrap().ignored_signals = vec![3];
        })
        .await;
        bench.ready().await;
        bench.delete(10);
        bench.world.until("object deleted", |state| state.deleted).await;
        let calls = bench.calls();
        assert!(calls[5].contains(signal) && calls[6].contains(kill), "{calls:#?}");
        assert!(!bench.has_event("FailedPreStopHook"), "time that runs out is no failure of the hook");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_hook_is_told_and_a_failing_start_restarts() {
    let exec = |command: &str| json!({"exec": {"command": [command]}});
    let hooks = json!({"postStart": exec("greet"), "preStop": exec("part")});
    let bench = Bench::new(pod(|pod| pod["spec"]["containers"][0]["lifecycle"] = hooks), |_| {}).await;
    bench.ready().await;
    let hooked = |bench: &Bench| bench.calls().iter().filter(|call| *call == "exec in app: greet").count();
    assert_eq!(hooked(&bench), 1);
    bench.world.state.lock().unwrap().exec_code = 1;
    bench.world.exit("app", 1);
    bench.world.until("a restart", |state| state.status["containerStatuses"][0]["restartCount"] == 2).await;
    assert!(bench.has_event("app: FailedPostStartHook PostStartHook failed"));
    assert!(bench.has_event("app: Killing FailedPostStartHook"));
    assert!(bench.has_event("app: FailedPreStopHook PreStopHook failed"));
}

#[tokio::test(start_paused = true)]
async fn a_container_is_not_running_before_its_post_start_hook_is_done() {
    let hook = json!({"postStart": {"sleep": {"seconds": 5}}});
    let bench = Bench::new(pod(|pod| pod["spec"]["containers"][0]["lifecycle"] = hook), |_| {}).await;
    bench.world.until("a start", |state| state.calls.iter().any(|call| call == "start app")).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let status = bench.world.status();
    assert_eq!(status.phase, None, "still the one that the pod came with");
    let state = status.container_statuses.unwrap()[0].state.clone().unwrap();
    assert_eq!(state.waiting.unwrap().reason.as_deref(), Some("ContainerCreating"));
    bench.ready().await;
    assert_eq!(bench.world.status().phase.as_deref(), Some("Running"));
}

#[tokio::test(start_paused = true)]
async fn a_shorter_grace_hastens_a_stop_under_way() {
    let bench = Bench::new(pod(|_| {}), |world| world.state.lock().unwrap().ignored_signals = vec![3]).await;
    bench.ready().await;
    bench.delete(30);
    bench.world.until("signal", |state| state.calls.iter().any(|call| call.starts_with("signal app 3"))).await;
    bench.delete(5);
    bench.world.until("object deleted", |state| state.deleted).await;
    assert!(bench.calls()[6].starts_with("signal app 9 at 50"), "{:#?}", bench.calls());
}

#[tokio::test(start_paused = true)]
async fn a_crashing_container_backs_off() {
    let bench = Bench::new(pod(|_| {}), |_| {}).await;
    bench.ready().await;
    bench.world.exit("app", 1);
    bench.world.until("restart", |state| state.calls.iter().any(|call| call == "create app #1")).await;
    bench.ready().await;
    bench.world.exit("app", 1);
    bench.world.until("back-off", |state| waiting(state) == "CrashLoopBackOff").await;
    let status = &bench.world.status().container_statuses.unwrap()[0];
    assert_eq!(status.restart_count, 1);
    let message = status.state.as_ref().unwrap().waiting.as_ref().unwrap().message.clone().unwrap();
    assert_eq!(message, "back-off 10s restarting failed container=app pod=web_default(u1)");
    let last = status.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (1, Some("Error")));
    assert!(bench.has_event("BackOff Back-off restarting failed container app in pod web_default(u1)"));
    bench.world.until("third start", |state| state.calls.iter().any(|call| call == "create app #2")).await;
    let waited =
        bench.world.clock.now().as_second() - crate::fakes::START.parse::<jiff::Timestamp>().unwrap().as_second();
    assert_eq!(waited, 10);
}

#[tokio::test(start_paused = true)]
async fn restart_policies_end_pods() {
    for (policy, code, phase) in [("Never", 0, "Succeeded"), ("Never", 3, "Failed"), ("OnFailure", 0, "Succeeded")] {
        let bench = Bench::new(pod(|pod| pod["spec"]["restartPolicy"] = policy.into()), |_| {}).await;
        bench.ready().await;
        bench.world.exit("app", code);
        bench.world.until("terminal", |state| state.status["phase"] == phase).await;
        bench.world.until("sandbox removed", |state| state.sandboxes.is_empty()).await;
        let status = bench.world.status();
        assert_eq!(status.pod_ip.as_deref(), Some("10.42.0.7"));
        let terminated = status.container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
        assert_eq!(terminated.exit_code, code);
        bench.delete(0);
        bench.world.until("object deleted", |state| state.deleted).await;
    }
}

#[tokio::test(start_paused = true)]
async fn init_containers_run_one_by_one() {
    let bench = Bench::new(
        pod(|pod| {
            let init = |name| json!({"name": name, "image": "nginx", "imagePullPolicy": "Never"});
            pod["spec"]["initContainers"] = json!([init("one"), init("two")]);
        }),
        |_| {},
    )
    .await;
    bench.world.until("first init", |state| state.calls.iter().any(|call| call == "start one")).await;
    bench.world.until("status", |state| waiting(state) == "PodInitializing").await;
    assert!(!bench.calls().iter().any(|call| call == "start two"));
    bench.world.exit("one", 0);
    bench.world.until("second init", |state| state.calls.iter().any(|call| call == "start two")).await;
    bench.world.exit("two", 0);
    bench.ready().await;
    assert!(bench.calls().iter().any(|call| call == "start app"));
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_fails_shows_both_states_and_is_retried() {
    let bench = Bench::new(pod(|pod| pod["spec"]["containers"][0]["image"] = "none".into()), |world| {
        let refuse = || Err(PullError::Failed("none: not found".into()));
        world.state.lock().unwrap().pulls = vec![refuse(), refuse(), Ok(nginx())];
    })
    .await;
    bench.world.until("error", |state| waiting(state) == "ErrImagePull").await;
    assert!(bench.has_event("app: Failed Failed to pull image \"none\": none: not found"));
    bench.world.until("back-off", |state| waiting(state) == "ImagePullBackOff").await;
    let status = bench.world.status().container_statuses.unwrap()[0].state.clone().unwrap().waiting.unwrap();
    assert_eq!(status.message.as_deref(), Some("Back-off pulling image \"none\": ErrImagePull: none: not found"));
    assert!(bench.has_event("app: BackOff Back-off pulling image \"none\""));
    bench.ready().await;
    let waited =
        bench.world.clock.now().as_second() - crate::fakes::START.parse::<jiff::Timestamp>().unwrap().as_second();
    assert_eq!(waited, 30);
}

#[tokio::test(start_paused = true)]
async fn an_imported_image_stands_in_for_an_unreachable_registry_alone() {
    for imported in [true, false] {
        let bench = Bench::new(pod(|pod| pod["spec"]["containers"][0]["imagePullPolicy"] = "Always".into()), |world| {
            let mut state = world.state.lock().unwrap();
            state.images.get_mut("nginx").unwrap().imported = imported;
            state.pulls = vec![Err(PullError::Unreachable("no route to registry".into()))];
        })
        .await;
        if imported {
            bench.ready().await;
            assert!(bench.has_event("UsingLocalImage"));
        } else {
            bench.world.until("error", |state| waiting(state) == "ErrImagePull").await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bad_images_are_named() {
    let image = |image: &str, policy: &str| {
        let (image, policy) = (image.to_owned(), policy.to_owned());
        pod(move |pod| {
            pod["spec"]["containers"][0]["image"] = image.into();
            pod["spec"]["containers"][0]["imagePullPolicy"] = policy.into();
        })
    };
    let bench = Bench::new(image("a..b", "Always"), |_| {}).await;
    bench.world.until("invalid", |state| waiting(state) == "InvalidImageName").await;
    let bench = Bench::new(image("absent", "Never"), |_| {}).await;
    bench.world.until("never", |state| waiting(state) == "ErrImageNeverPull").await;
    assert!(bench.has_event("Container image \"absent\" is not present with pull policy of Never"));
}

#[tokio::test(start_paused = true)]
async fn a_missing_config_map_is_waited_for() {
    let from = json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}}]);
    let bench = Bench::new(pod(|pod| pod["spec"]["containers"][0]["env"] = from), |_| {}).await;
    bench.world.until("error", |state| waiting(state) == "CreateContainerConfigError").await;
    assert!(bench.has_event("app: Failed Error: configmap \"settings\" not found"));
    let map = serde_json::from_value(json!({"data": {"a": "1"}})).unwrap();
    bench.world.state.lock().unwrap().config_maps.insert("settings".into(), map);
    bench.ready().await;
    let state = bench.world.state.lock().unwrap();
    assert!(state.specs.values().next().unwrap().env.contains(&("A".into(), "1".into())));
}

#[tokio::test(start_paused = true)]
async fn a_program_that_is_not_there_is_a_start_error() {
    let bench = Bench::new(pod(|_| {}), |world| world.state.lock().unwrap().fail_start = true).await;
    bench.world.until("back-off", |state| waiting(state) == "CrashLoopBackOff").await;
    let status = &bench.world.status().container_statuses.unwrap()[0];
    let last = status.last_state.clone().unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (128, Some("StartError")));
    assert!(bench.has_event("executable file not found in $PATH"));
}

#[tokio::test(start_paused = true)]
async fn an_unsupported_volume_is_named_and_holds_the_pod() {
    let bench = Bench::new(pod(|pod| pod["spec"]["volumes"] = json!([{"name": "v", "flocker": {}}])), |_| {}).await;
    bench.world.until("status", |state| waiting(state) == "ContainerCreating").await;
    assert!(bench.has_event(
        "FailedMount MountVolume.SetUp failed for volume \"v\" : volume type flocker is not supported by this node"
    ));
    assert!(bench.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn volumes_follow_their_sources_and_keep_what_they_had_when_those_go() {
    let settings = |text: &str| serde_json::from_value(json!({"data": {"a": text}})).unwrap();
    let volume = json!([{"name": "v", "configMap": {"name": "settings"}}]);
    let bench = Bench::new(pod(|pod| pod["spec"]["volumes"] = volume), |world| {
        world.state.lock().unwrap().config_maps.insert("settings".into(), settings("1"));
    })
    .await;
    bench.ready().await;
    let file = bench.dir.path().join("pods/u1/volumes/v/a");
    let read = || std::fs::read_to_string(&file).unwrap();
    let change = |version: &str, map: Option<_>| {
        let mut state = bench.world.state.lock().unwrap();
        state.config_maps = map.map(|map| ("settings".to_owned(), map)).into_iter().collect();
        state.followed.values().for_each(|object| object.change(version));
    };
    assert_eq!(read(), "1");
    change("2", Some(settings("2")));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(read(), "2");
    change("3", None);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(
        bench.has_event("FailedMount MountVolume.SetUp failed for volume \"v\" : configmap \"settings\" not found")
    );
    assert_eq!(read(), "2");
}

#[tokio::test(start_paused = true)]
async fn failing_liveness_withdraws_and_restarts() {
    let probe = json!({"exec": {"command": ["check"]}, "periodSeconds": 5, "failureThreshold": 2});
    let bench = Bench::new(pod(|pod| pod["spec"]["containers"][0]["livenessProbe"] = probe), |_| {}).await;
    bench.ready().await;
    bench.world.state.lock().unwrap().exec_code = 1;
    bench.world.until("restart", |state| state.calls.iter().any(|call| call == "create app #1")).await;
    let calls = bench.calls();
    let withdrawn = calls.iter().position(|call| call.starts_with("withdraw")).unwrap();
    let signalled = calls.iter().position(|call| call.starts_with("signal app 3")).unwrap();
    assert!(withdrawn < signalled);
    assert!(bench.has_event("app: Unhealthy Liveness probe failed: not well"));
    assert!(bench.has_event("app: Killing Container app failed liveness probe, will be restarted"));
}

#[tokio::test(start_paused = true)]
async fn readiness_follows_its_probe() {
    let probe = json!({"exec": {"command": ["check"]}, "periodSeconds": 1, "failureThreshold": 1});
    let bench = Bench::new(pod(|pod| pod["spec"]["containers"][0]["readinessProbe"] = probe), |world| {
        world.state.lock().unwrap().exec_code = 1;
    })
    .await;
    bench.world.until("running", |state| state.status["phase"] == "Running").await;
    bench.world.until("not ready", |state| condition(state, "Ready") == "False").await;
    bench.world.state.lock().unwrap().exec_code = 0;
    bench.ready().await;
    bench.world.state.lock().unwrap().exec_code = 1;
    bench.world.until("not ready again", |state| condition(state, "Ready") == "False").await;
}

#[tokio::test(start_paused = true)]
async fn a_startup_probe_holds_the_others_back() {
    let probe = |command: &str| json!({"exec": {"command": [command]}, "periodSeconds": 1});
    let bench = Bench::new(
        pod(|pod| {
            pod["spec"]["containers"][0]["startupProbe"] = probe("startup");
            pod["spec"]["containers"][0]["startupProbe"]["failureThreshold"] = 1000.into();
            pod["spec"]["containers"][0]["readinessProbe"] = probe("readiness");
        }),
        |world| world.state.lock().unwrap().exec_code = 1,
    )
    .await;
    let attempts = |state: &State| state.calls.iter().filter(|call| call.contains("exec in app: startup")).count();
    bench.world.until("startup probes", |state| attempts(state) > 3).await;
    assert!(!bench.calls().iter().any(|call| call.contains("readiness")));
    bench.world.state.lock().unwrap().exec_code = 0;
    bench.ready().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_agent_adopts_what_runs() {
    let mut bench = Bench::new(pod(|_| {}), |_| {}).await;
    bench.ready().await;
    bench.world.exit("app", 1);
    bench.world.until("restart", |state| state.status["containerStatuses"][0]["restartCount"] == 1).await;
    bench.ready().await;
    let before = bench.world.status();
    let calls = bench.calls().len();
    bench.restart();
    bench.world.until("adopted", |state| state.calls.len() > calls).await;
    bench.delete(0);
    bench.world.until("stopped", |state| state.calls.iter().any(|call| call.starts_with("signal"))).await;
    // Nothing was created or started; the network was only confirmed.
    assert_eq!(bench.calls()[calls], "attach network");
    assert!(bench.calls()[calls + 1].starts_with("signal app 3"), "{:#?}", bench.calls());
    assert_eq!(before.container_statuses.unwrap()[0].restart_count, 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_reboot_the_pod_starts_anew_and_counts_on() {
    let mut bench = Bench::new(pod(|_| {}), |_| {}).await;
    bench.ready().await;
    bench.world.state.lock().unwrap().sandboxes.clear();
    bench.restart();
    bench.world.until("started again", |state| state.status["containerStatuses"][0]["restartCount"] == 1).await;
    bench.ready().await;
    let last = bench.world.status().container_statuses.unwrap()[0].last_state.clone().unwrap().terminated.unwrap();
    assert_eq!(last.reason.as_deref(), Some("ContainerStatusUnknown"));
}

#[tokio::test(start_paused = true)]
async fn a_lost_sandbox_is_replaced() {
    let bench = Bench::new(pod(|_| {}), |_| {}).await;
    bench.ready().await;
    bench.outbox.send(Message::SandboxLost).unwrap();
    bench
        .world
        .until("new sandbox", |state| state.calls.iter().filter(|call| *call == "create sandbox").count() == 2)
        .await;
    bench.world.until("restarted", |state| state.status["containerStatuses"][0]["restartCount"] == 1).await;
    assert!(bench.has_event("SandboxChanged"));
}

#[tokio::test(start_paused = true)]
async fn a_status_that_cannot_be_written_is_retried() {
    let bench = Bench::new(pod(|_| {}), |world| world.state.lock().unwrap().fail_status = 3).await;
    bench.ready().await;
    assert_eq!(bench.world.state.lock().unwrap().writes, 4);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_pod_writes_no_status() {
    let bench = Bench::new(pod(|_| {}), |_| {}).await;
    bench.ready().await;
    let before = bench.world.state.lock().unwrap().writes;
    bench.outbox.send(Message::Updated(pod(|_| {}))).unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(bench.world.state.lock().unwrap().writes, before);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_the_node_does_not_take_fails_and_nothing_is_made() {
    let bench = Bench::new(pod(|pod| pod["spec"]["nodeSelector"] = json!({"disk": "hdd"})), |_| {}).await;
    bench.world.until("its end", |state| state.status["phase"] == "Failed").await;
    let status = bench.world.state.lock().unwrap().status.clone();
    let why = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
    assert_eq!(
        (&status["reason"], &status["message"]),
        (&json!("NodeAffinity"), &json!(format!("Pod was rejected: {why}")))
    );
    assert!(bench.has_event(&format!("NodeAffinity {why}")));
    assert_eq!(bench.calls(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_has_started_is_not_refused_any_more() {
    let started = |pod: &mut Value| {
        pod["spec"]["nodeSelector"] = json!({"disk": "hdd"});
        pod["status"]["startTime"] = json!("2026-01-01T00:00:00Z");
    };
    Bench::new(pod(started), |_| {}).await.ready().await;
}
