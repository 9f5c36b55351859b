#![allow(clippy::unwrap_used)]
use futures::FutureExt;
use machinery_registry::UserInfo;

use super::*;
use crate::authorization::Action;

fn flows(seats: usize) -> Arc<Flows> {
    Flows::new(&Limits { read_only: seats, mutating: 0, ..Limits::default() })
}

fn person(name: &str) -> UserInfo {
    UserInfo { name: name.into(), groups: vec!["system:authenticated".into()], ..UserInfo::default() }
}

fn asks(user: &UserInfo) -> Attributes<'_> {
    Attributes { user, verb: "get", action: Action::Path("/apis") }
}

/// Waiting and served, of all levels.
fn count(flows: &Flows) -> (usize, usize) {
    flows.count().into_iter().fold((0, 0), |(all, used), (_, waiting, served)| (all + waiting, used + served))
}

async fn enter(flows: &Arc<Flows>, user: &UserInfo) -> Result<Option<Seat>, Status> {
    flows.enter(&asks(user)).await
}

#[tokio::test(start_paused = true)]
async fn a_greedy_client_does_not_starve_another() {
    // Six seats: one for each level of its own.
    let flows = flows(6);
    let (greedy, modest) = (person("greedy"), person("modest"));
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(enter(&flows, &greedy).await.unwrap());
    }
    let mut waiting: Vec<_> = (0..20).map(|_| Box::pin(enter(&flows, &greedy))).collect();
    for one in &mut waiting {
        assert!(one.now_or_never().is_none());
    }
    let mut asked = Box::pin(enter(&flows, &modest));
    assert!((&mut asked).now_or_never().is_none());
    assert_eq!(count(&flows), (21, 6));
    // Its turn comes after one of the greedy client's, not after all of them.
    held.pop();
    held.pop();
    let seat = asked.await.unwrap();
    assert!(seat.is_some());
    assert_eq!(count(&flows), (19, 6));
}

#[tokio::test(start_paused = true)]
async fn another_level_has_seats_of_its_own_and_masters_need_none() {
    let flows = flows(6);
    let greedy = person("greedy");
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(enter(&flows, &greedy).await.unwrap());
    }
    let account = UserInfo { name: "sa".into(), groups: vec!["system:serviceaccounts".into()], ..UserInfo::default() };
    assert!(enter(&flows, &account).await.unwrap().is_some());
    let master = UserInfo { name: "admin".into(), groups: vec!["system:masters".into()], ..UserInfo::default() };
    assert!(enter(&flows, &master).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn queues_are_bounded_in_length_and_time() {
    let flows = flows(1);
    let user = person("x");
    let mut held = Vec::new();
    while let Some(Ok(seat)) = enter(&flows, &user).now_or_never() {
        held.push(seat);
    }
    let mut waiting: Vec<_> = (0..QUEUE).map(|_| Box::pin(enter(&flows, &user))).collect();
    for one in &mut waiting {
        assert!(one.now_or_never().is_none());
    }
    let refused = enter(&flows, &user).await.err().unwrap();
    assert_eq!((refused.code, refused.details.unwrap().retry_after_seconds), (429, Some(1)));
    let late = waiting.pop().unwrap().await.err().unwrap();
    assert_eq!(late.code, 429);
    // Those who left are passed over.
    drop(waiting);
    let mut last = Box::pin(enter(&flows, &user));
    assert!((&mut last).now_or_never().is_none());
    held.clear();
    assert!(last.await.unwrap().is_some());
    assert_eq!(count(&flows), (0, 0));
}
