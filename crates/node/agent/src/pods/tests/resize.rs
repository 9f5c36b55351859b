//! More and less of the node while the pod runs.

use serde_json::json;

use super::*;
use crate::pods::capacity::Units;
use crate::resize::{IN_PROGRESS, PENDING};

fn sized(cpu: &str, memory: &str, policy: Value, generation: i64) -> Arc<Pod> {
    pod(|pod| {
        pod["metadata"]["generation"] = generation.into();
        let list = json!({"cpu": cpu, "memory": memory});
        let container = &mut pod["spec"]["containers"][0];
        container["resources"] = json!({"requests": list, "limits": list});
        container["resizePolicy"] = policy;
    })
}

impl Bench {
    /// The object as it would be after that change.
    fn change(&mut self, pod: Arc<Pod>) {
        let mut pod = (*pod).clone();
        pod.status = Some(self.world.status());
        self.pod = Arc::new(pod);
        self.outbox.send(Message::Updated(Arc::clone(&self.pod))).unwrap();
    }

    fn resized(&self) -> Vec<String> {
        self.calls().into_iter().filter(|call| call.starts_with("resize")).collect()
    }
}

fn shown(state: &State, cpu: &str) -> bool {
    let container = &state.status["containerStatuses"][0];
    container["resources"]["limits"]["cpu"] == cpu && container["allocatedResources"]["cpu"] == cpu
}

fn reason(state: &State, kind: &str) -> Option<(String, String)> {
    let conditions = state.status["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Some((text("reason"), text("message")))
}

#[tokio::test(start_paused = true)]
async fn bounds_widen_from_outside_in_and_narrow_from_inside_out() {
    let mut bench = Bench::new(sized("1", "100", json!([]), 1), |_| {}).await;
    bench.ready().await;
    bench.change(sized("1500m", "50", json!([]), 2));
    bench.world.until("resized", |state| shown(state, "1500m")).await;
    let expected = ["resize pod 1536 150000 100", "resize app 1536 150000 50", "resize pod 1536 150000 50"];
    assert_eq!(bench.resized(), expected);
    assert!(bench.has_event("ResizeStarted Pod resize started"), "{:?}", bench.world.state.lock().unwrap().events);
    assert!(bench.has_event("ResizeCompleted Pod resize completed"));
    let state = bench.world.state.lock().unwrap();
    assert_eq!(state.status["observedGeneration"], 2);
    assert_eq!(state.status["containerStatuses"][0]["restartCount"], 0);
    assert_eq!((reason(&state, PENDING), reason(&state, IN_PROGRESS)), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_container_whose_policy_says_so_restarts_with_what_it_was_given() {
    let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let mut bench = Bench::new(sized("1", "100", policy.clone(), 1), |_| {}).await;
    bench.ready().await;
    bench.change(sized("1", "200", policy, 2));
    let restarted = |state: &State| state.status["containerStatuses"][0]["restartCount"] == 1;
    bench.world.until("restarted", restarted).await;
    bench.world.until("done", |state| reason(state, IN_PROGRESS).is_none()).await;
    assert_eq!(bench.resized(), ["resize pod 1024 100000 200"]);
    let specs = bench.world.state.lock().unwrap().specs.clone();
    let limits: Vec<_> = specs.values().map(|spec| spec.resources.memory_limit).collect();
    assert!(limits.contains(&Some(200)), "{limits:?}");
}

/// What a pod of one unit is taken to need, beside its place.
fn units(cpu: i64) -> Units {
    [("cpu".to_owned(), cpu), ("pods".to_owned(), 1)].into()
}

/// A pod of one processor that asks for half of one more, which another pod has.
async fn deferred() -> Bench {
    let mut bench = Bench::new(sized("1", "100", json!([]), 1), |_| {}).await;
    bench.ready().await;
    bench.machine.capacity.take("another", &units(900)).unwrap();
    bench.change(sized("1500m", "100", json!([]), 2));
    bench.world.until("deferred", |state| reason(state, PENDING).is_some()).await;
    bench
}

#[tokio::test(start_paused = true)]
async fn a_resize_waits_for_room_or_is_told_that_there_never_will_be() {
    let mut bench = deferred().await;
    let wanted = "Node didn't have enough resource: cpu, requested: 1500, used: 900, capacity: 2000";
    let found = reason(&bench.world.state.lock().unwrap(), PENDING);
    assert_eq!(found, Some(("Deferred".into(), wanted.into())));
    assert!(shown(&bench.world.state.lock().unwrap(), "1"));
    assert!(bench.resized().is_empty());
    bench.machine.capacity.release("another");
    bench.world.until("resized", |state| shown(state, "1500m") && reason(state, PENDING).is_none()).await;

    bench.change(sized("3", "100", json!([]), 3));
    bench.world.until("infeasible", |state| reason(state, PENDING).is_some()).await;
    let found = reason(&bench.world.state.lock().unwrap(), PENDING);
    let wanted = "Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000";
    assert_eq!(found, Some(("Infeasible".into(), wanted.into())));
    // What runs is what was given, also for the next agent.
    bench.restart();
    bench.change(sized("1600m", "100", json!([]), 4));
    bench.world.until("resized again", |state| shown(state, "1600m") && reason(state, PENDING).is_none()).await;
    assert!(bench.resized().contains(&"resize app 1638 160000 100".to_owned()), "{:?}", bench.resized());
    assert!(bench.machine.capacity.take("another", &units(500)).is_err());
    bench.machine.capacity.take("another", &units(400)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_no_longer_asks_is_given_nothing() {
    let mut bench = deferred().await;
    bench.change(sized("1", "100", json!([]), 3));
    bench.world.until("nothing asked", |state| reason(state, PENDING).is_none()).await;
    bench.machine.capacity.release("another");
    bench.machine.capacity.take("another", &units(1000)).unwrap();
    assert!(bench.resized().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_change_that_fails_is_told_and_tried_again() {
    let mut bench =
        Bench::new(sized("1", "100", json!([]), 1), |world| world.state.lock().unwrap().fail_resize = true).await;
    bench.ready().await;
    bench.change(sized("1", "50", json!([]), 2));
    bench
        .world
        .until("the failure", |state| reason(state, IN_PROGRESS).is_some_and(|(reason, _)| reason == "Error"))
        .await;
    assert!(bench.has_event("ResizeError"));
    // The next agent goes on with it.
    bench.restart();
    bench.world.state.lock().unwrap().fail_resize = false;
    let done = |state: &State| {
        state.status["containerStatuses"][0]["resources"]["limits"]["memory"] == "50"
            && reason(state, IN_PROGRESS).is_none()
    };
    bench.world.until("done", done).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_does_not_fit_is_refused() {
    let bench = Bench::new(sized("3", "100", json!([]), 1), |_| {}).await;
    bench.world.until("refused", |state| state.status["phase"] == "Failed").await;
    let status = bench.world.status();
    assert_eq!(status.reason.as_deref(), Some("OutOfcpu"));
    let message = "Pod was rejected: Node didn't have enough resource: cpu, requested: 3000, used: 0, capacity: 2000";
    assert_eq!(status.message.as_deref(), Some(message));
}
