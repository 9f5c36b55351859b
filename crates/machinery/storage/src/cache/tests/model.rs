//! Random writes, lists and watches against plain maps.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// Creates or updates.
    Put {
        key: u8,
    },
    Delete {
        key: u8,
    },
    /// A write that the cache must not see.
    Elsewhere,
    /// A page of at most `limit` after `after`, as of `back` revisions ago.
    List {
        back: u64,
        after: u8,
        limit: usize,
    },
    Watch {
        back: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..8u8).prop_map(|key| Step::Put { key }),
        2 => (0..8u8).prop_map(|key| Step::Delete { key }),
        1 => Just(Step::Elsewhere),
        2 => (0..12u64, 0..8u8, 0..5usize).prop_map(|(back, after, limit)| Step::List { back, after, limit }),
        1 => (0..12u64).prop_map(|back| Step::Watch { back }),
    ]
}

/// Keys and the revision each was last written at.
type Shown = BTreeMap<String, Revision>;

fn key(n: u8) -> String {
    format!("{PODS}default/{n}")
}

async fn run(steps: Vec<Step>) {
    let store = store().await;
    let roomy = pods(&store).await;
    // Forgets so soon that older lists come from the store.
    let forgetful =
        Cache::start_with(store.clone(), PODS, extract(), Keep { events: 2, ..Keep::default() }).await.unwrap();
    // The state at each revision from 1 on, and each revision's change.
    let mut states: Vec<Shown> = vec![Shown::new()];
    let mut changes: Vec<(Revision, EventKind, String)> = Vec::new();
    let mut watchers: Vec<(Revision, Watcher)> = Vec::new();
    for (n, step) in steps.into_iter().enumerate() {
        let mut state = states.last().unwrap().clone();
        let newest = states.len() as u64;
        match step {
            Step::Put { key: n } => {
                let key = key(n);
                let (expect, kind) = match state.get(&key) {
                    Some(at) => (Expect::At(*at), EventKind::Updated),
                    None => (Expect::Absent, EventKind::Created),
                };
                let revision = put(&store, &key, expect, &n.to_string()).await;
                state.insert(key.clone(), revision);
                changes.push((revision, kind, key));
                states.push(state);
            }
            Step::Delete { key: n } => {
                let Some(at) = state.remove(&key(n)) else { continue };
                let last = Op::Delete { last: body(&n.to_string()) };
                let revision = store.write(&key(n), Expect::At(at), last).await.unwrap();
                changes.push((revision, EventKind::Deleted, key(n)));
                states.push(state);
            }
            Step::Elsewhere => {
                create(&store, &format!("/registry/other/{n}")).await;
                states.push(state);
            }
            Step::List { back, after, limit } => {
                let revision = Revision(newest.saturating_sub(back).max(1));
                let after = key(after);
                let mut expected: Vec<_> = states[revision.0 as usize - 1].range(after.clone()..).collect();
                expected.retain(|(key, _)| **key > after);
                let more = limit != 0 && expected.len() > limit;
                let remaining = more.then(|| (expected.len() - limit) as u64);
                expected.truncate(if limit == 0 { usize::MAX } else { limit });
                for cache in [&roomy, &forgetful] {
                    let query = Query { prefix: PODS, start_after: Some(&after), limit, at: At::Exact(revision) };
                    let page = cache.list(query, |_| true).await.unwrap();
                    let shown: Vec<_> =
                        page.items.iter().map(|object| (object.key.to_string(), object.revision)).collect();
                    let expected: Vec<_> = expected.iter().map(|(key, at)| ((*key).clone(), **at)).collect();
                    assert_eq!((shown, page.revision, page.more), (expected, revision, more));
                    assert_eq!(page.remaining, remaining);
                }
            }
            Step::Watch { back } => {
                let revision = Revision(newest.saturating_sub(back).max(1));
                watchers.push((revision, roomy.watch(Start::After(revision), PODS).await.unwrap()));
            }
        }
    }
    let latest = roomy.list(all(At::Fresh(Freshness::Latest)), |_| true).await.unwrap();
    let shown: Shown = latest.items.iter().map(|object| (object.key.to_string(), object.revision)).collect();
    assert_eq!((&shown, latest.revision), (states.last().unwrap(), Revision(states.len() as u64)));
    for (after, mut watcher) in watchers {
        for (revision, kind, key) in changes.iter().filter(|(revision, ..)| *revision > after) {
            let event = next(&mut watcher).await.unwrap();
            assert_eq!((event.revision(), event.kind, &*event.object.key), (*revision, *kind, key.as_str()));
            let before = states[revision.0 as usize - 2].get(key).copied();
            assert_eq!(event.previous.as_ref().map(|object| object.revision), before);
        }
        assert_eq!(watcher.progress(), Revision(states.len() as u64));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn lists_and_watches_agree_with_a_model(steps in proptest::collection::vec(step(), 1..80)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(steps));
    }
}
