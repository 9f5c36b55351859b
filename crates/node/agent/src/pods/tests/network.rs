//! Pods whose network fails, comes back, or does not let go.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_pod_whose_network_is_ready_again_does_not_wait_for_its_turn() {
    let bench =
        Bench::new(pod(|_| {}), |world| drop(world.network_trouble.send_replace(Some("no plug-in".into())))).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(bench.has_event("Failed to create pod sandbox: connect sandbox"), "{:?}", bench.calls());
    bench.world.network_trouble.send_replace(None);
    let healed = tokio::time::Instant::now();
    bench.outbox.send(Message::NetworkReady).unwrap();
    bench.ready().await;
    assert!(healed.elapsed() < Duration::from_secs(1), "{:?}", healed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_half_made_sandbox_is_removed_before_another_is_made() {
    let bench = Bench::new(pod(|_| {}), |world| {
        world.network_trouble.send_replace(Some("no plug-in".into()));
        *world.network_holds.lock().unwrap() = true;
    })
    .await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    let made = |bench: &Bench| bench.calls().iter().filter(|call| *call == "attach network").count();
    assert_eq!(made(&bench), 1, "{:?}", bench.calls());
    assert!(bench.has_event("FailedKillPod"), "{:?}", bench.calls());
    bench.world.network_trouble.send_replace(None);
    *bench.world.network_holds.lock().unwrap() = false;
    bench.ready().await;
    assert_eq!(bench.world.state.lock().unwrap().sandboxes.len(), 1);
    assert_eq!(made(&bench), 2, "{:?}", bench.calls());
}
