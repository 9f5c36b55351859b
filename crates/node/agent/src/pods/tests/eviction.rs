//! A pod that has to go for the node's sake.

use super::*;
use crate::eviction::Ending;

fn eviction(grace: Option<u64>, disrupted: bool) -> Message {
    let grace = grace.map(Duration::from_secs);
    let event = Some(Default::default());
    Message::Ended(Ending { reason: "Evicted", message: "it was low".into(), event, grace, disrupted })
}

fn with_volume() -> Arc<Pod> {
    pod(|pod| pod["spec"]["volumes"] = json!([{"name": "room", "emptyDir": {}}]))
}

#[tokio::test(start_paused = true)]
async fn an_evicted_pod_ends_in_a_second_and_gives_back_what_it_took() {
    let bench = Bench::new(with_volume(), |world| world.state.lock().unwrap().ignored_signals = vec![3]).await;
    bench.ready().await;
    let volume = bench.machine.pod_volumes("u1").join("room");
    assert!(volume.is_dir());
    let mut view = bench.machine.pods.get(&machinery_client::ObjectKey::of(&*bench.pod)).unwrap();
    assert!(bench.machine.pods.tell(&bench.pod, eviction(Some(1), true)));
    view.wait_for(|view| view.ended).await.unwrap();
    assert!(!volume.exists());
    // Also while the API has not been told, it is nobody to evict again.
    assert!(bench.machine.pods.active().is_empty() && bench.machine.pods.list().len() == 1);
    bench.world.until("told", |state| state.status["phase"] == "Failed").await;
    let signals: Vec<String> = bench.calls().into_iter().filter(|call| call.starts_with("signal")).collect();
    let at = |call: &String| call.rsplit(' ').next().unwrap().trim_end_matches("ms").parse::<u64>().unwrap();
    // SIGKILL comes no sooner than two seconds after the signal.
    assert!(signals.len() == 2 && at(&signals[1]) - at(&signals[0]) < 2_100, "{signals:?}");
    let state = bench.world.state.lock().unwrap();
    assert_eq!((&state.status["reason"], &state.status["message"]), (&json!("Evicted"), &json!("it was low")));
    assert_eq!(condition(&state, "DisruptionTarget"), "True");
    assert_eq!(state.events.iter().filter(|event| *event == "Evicted it was low").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_took_too_much_itself_is_no_target_of_a_disruption_and_goes_once() {
    let bench = Bench::new(with_volume(), |_| {}).await;
    bench.ready().await;
    for _ in 0..2 {
        assert!(bench.machine.pods.tell(&bench.pod, eviction(None, false)));
    }
    bench.world.until("told", |state| state.status["reason"] == "Evicted").await;
    let state = bench.world.state.lock().unwrap();
    assert_eq!(condition(&state, "DisruptionTarget"), "");
    assert_eq!(state.events.iter().filter(|event| event.starts_with("Evicted")).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn another_pod_of_that_name_is_not_told() {
    let bench = Bench::new(with_volume(), |_| {}).await;
    bench.ready().await;
    let other = pod(|pod| pod["metadata"]["uid"] = "u2".into());
    assert!(!bench.machine.pods.tell(&other, eviction(None, true)));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_short_takes_no_pod_in() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let machine = world.machine(dir.path());
    machine.pressures.send_replace([crate::eviction::Pressure::Disk].into());
    let (_outbox, _worker) = spawn(&world, &machine, &pod(|_| {}));
    let message = "Pod was rejected: The node had condition: [DiskPressure]. ";
    world.until("refused", |state| state.status["message"] == message).await;
    let state = world.state.lock().unwrap();
    assert_eq!((&state.status["reason"], &state.status["phase"]), (&json!("Evicted"), &json!("Failed")));
    assert!(!state.calls.iter().any(|call| call == "create sandbox"), "{:?}", state.calls);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_deleted_has_no_more_time_than_its_node() {
    let bench = Bench::new(with_volume(), |world| world.state.lock().unwrap().ignored_signals = vec![3]).await;
    bench.ready().await;
    bench.delete(300);
    bench.world.until("the signal", |state| state.calls.iter().any(|call| call.starts_with("signal"))).await;
    let before = bench.world.clock.now();
    assert!(bench.machine.pods.tell(&bench.pod, eviction(Some(5), true)));
    bench.world.until("gone", |state| state.deleted).await;
    let took = bench.world.clock.now().duration_since(before).as_secs();
    assert!((4..8).contains(&took), "{took} s");
    assert!(!bench.has_event("Evicted"), "it was going anyhow");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_goes_down_takes_no_pod_in() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let machine = world.machine(dir.path());
    machine.shutting_down.send_replace(true);
    let (_outbox, _worker) = spawn(&world, &machine, &pod(|_| {}));
    let message = "Pod was rejected: Pod was rejected as the node is shutting down.";
    world.until("refused", |state| state.status["message"] == message).await;
    assert_eq!(world.state.lock().unwrap().status["reason"], "NodeShutdown");
}
