//! Forgets Events an hour after they last happened, as upstream's API server does by a lease on their keys.

use std::time::Duration;

use base_tasks::Tasks;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use machinery_client::kube::api::DeleteParams;
use machinery_client::kube::runtime::watcher::Config;
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, ObjectKey, informer};

use crate::reconcile::{self, During, is_code};

/// Upstream's `--event-ttl`.
const KEPT: Duration = Duration::from_secs(60 * 60);

pub fn start(tasks: &Tasks, client: &Client) {
    // All that is kept of an event is when it last happened.
    let events = informer(tasks, Api::all(client.clone()), Config::default(), |event: Event| Some(last(&event)));
    let queue = reconcile::queue::<ObjectKey>();
    reconcile::wake(tasks, &events, {
        let queue = queue.clone();
        move |change| {
            if let Change::Applied { key, old: None, new } = change {
                queue.add_after(key.clone(), remaining(**new, Timestamp::now()));
            }
        }
    });
    let client = client.clone();
    reconcile::run(tasks, &queue, 1, std::future::ready(()), move |key| {
        let (client, last) = (client.clone(), events.get(&key));
        async move {
            let Some(last) = last else { return Ok(None) };
            let remaining = remaining(*last, Timestamp::now());
            if !remaining.is_zero() {
                return Ok(Some(remaining)); // it happened again meanwhile
            }
            match Api::<Event>::namespaced(client, &key.namespace).delete(&key.name, &DeleteParams::default()).await {
                Err(error) if is_code(&error, 404) => Ok(None),
                other => other.map(|_| None).during("deleting an old Event"),
            }
        }
    });
}

fn last(event: &Event) -> Timestamp {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    let created = event.metadata.creation_timestamp.as_ref().map(|time| time.0);
    series.max(last).max(created).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn remaining(last: Timestamp, now: Timestamp) -> Duration {
    KEPT.saturating_sub(now.duration_since(last).try_into().unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_kept_for_an_hour_after_its_last_occurrence() {
        let happened: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let at = |minutes: i64| happened + jiff::SignedDuration::from_mins(minutes);
        assert_eq!(remaining(happened, at(0)), KEPT);
        assert_eq!(remaining(happened, at(45)), Duration::from_secs(15 * 60));
        assert_eq!(remaining(happened, at(61)), Duration::ZERO);
        assert_eq!(remaining(happened, at(-5)), KEPT, "a clock that lags deletes nothing");
    }
}
