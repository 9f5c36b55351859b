//! An APIService for every version of every group that definitions make: it comes and goes with them, as upstream's
//! automatic registration. Those of built-in groups are written at start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base_meta::{Reason, Status, decode_value};
use base_tasks::Tasks;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use machinery_registry::resource::WatchEvent;
use machinery_registry::{ListOptions, Registry, Resource, Strategy as _};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::api_service::ApiServiceStrategy;
use crate::define::server_context;

/// Says that it is not a user's. `onstart`: written at start; `true`: at all times.
pub(crate) const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
const AGAIN: Duration = Duration::from_secs(1);

/// A group and the versions of it that are served from now on.
pub type Versions = (String, BTreeSet<String>);

pub struct Managed {
    pub(crate) registry: Arc<Registry<ApiServiceStrategy>>,
}

fn object(group: &str, version: &str) -> Value {
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}"), "labels": {MANAGED: "true"}},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": 1000, "versionPriority": 100}})
}

/// Pure: what is to be made, and which of ours are to go.
fn plan(wanted: &BTreeMap<String, BTreeSet<String>>, stored: &[(String, bool)]) -> (Vec<Value>, Vec<String>) {
    let wanted = wanted.iter().flat_map(|(group, versions)| versions.iter().map(move |version| (group, version)));
    let wanted: BTreeMap<String, Value> =
        wanted.map(|(group, version)| (format!("{version}.{group}"), object(group, version))).collect();
    let gone = stored.iter().filter(|(name, ours)| *ours && !wanted.contains_key(name));
    let gone = gone.map(|(name, _)| name.clone()).collect();
    let missing = wanted.into_iter().filter(|(name, _)| !stored.iter().any(|(known, _)| known == name));
    (missing.map(|(_, object)| object).collect(), gone)
}

impl Managed {
    /// Follows `groups` under `tasks`; what it already holds is taken to be all there is.
    pub fn start(self, mut groups: UnboundedReceiver<Versions>, tasks: &Tasks) {
        tasks.spawn("managed", async move {
            let mut wanted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            while let Ok((group, versions)) = groups.try_recv() {
                wanted.insert(group, versions);
            }
            let mut events = None;
            loop {
                if events.is_none() {
                    events = self.watch().await;
                }
                if let Err(status) = self.settle(&wanted).await {
                    tracing::warn!(%status, "writing the APIServices of defined groups failed");
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
                let Some(watched) = &mut events else {
                    tokio::time::sleep(AGAIN).await;
                    continue;
                };
                tokio::select! {
                    changed = groups.recv() => match changed {
                        Some((group, versions)) => drop(wanted.insert(group, versions)),
                        None => return,
                    },
                    gone = deletion(watched) => if !gone {
                        events = None;
                    },
                }
            }
        });
    }

    async fn watch(&self) -> Option<BoxStream<'static, WatchEvent>> {
        let ctx = server_context(self.registry.strategy().def().gvr(), None);
        let watched = self.registry.watch(&ctx, &ListOptions::default()).await;
        watched.inspect_err(|status| tracing::warn!(%status, "watching the APIServices failed")).ok()
    }

    async fn settle(&self, wanted: &BTreeMap<String, BTreeSet<String>>) -> Result<(), Status> {
        let ctx = server_context(self.registry.strategy().def().gvr(), None);
        let list = self.registry.list(&ctx, &ListOptions::default()).await?;
        let ours = |labels: &BTreeMap<Arc<str>, Arc<str>>| labels.get(MANAGED).map(|value| &**value) == Some("true");
        let stored: Vec<(String, bool)> =
            list.items.iter().map(|object| (object.meta.name.to_string(), ours(&object.meta.labels))).collect();
        let (missing, gone) = plan(wanted, &stored);
        for object in missing {
            let object = decode_value(&object).map_err(Status::internal)?;
            match self.registry.create_typed(&ctx, &object).await {
                Err(status) if status.reason != Reason::AlreadyExists => return Err(status),
                _ => {}
            }
        }
        for name in gone {
            match self.registry.delete(&ctx, &name, Default::default()).await {
                Err(status) if status.reason != Reason::NotFound => return Err(status),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Resolves when an object goes; false at the end of the watch.
async fn deletion(events: &mut BoxStream<'static, WatchEvent>) -> bool {
    while let Some(event) = events.next().await {
        match event {
            WatchEvent::Deleted(_) => return true,
            WatchEvent::Error(_) => return false,
            WatchEvent::Added(_) | WatchEvent::Modified(_) | WatchEvent::Bookmark { .. } => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_follow_the_groups_and_others_stay() {
        let wanted = BTreeMap::from([
            ("a.example".to_owned(), BTreeSet::from(["v1".to_owned(), "v2".to_owned()])),
            ("gone.example".to_owned(), BTreeSet::new()),
        ]);
        let stored = [("v1.a.example", false), ("v1.gone.example", true), ("v1.mine.example", false)]
            .map(|(name, ours)| (name.to_owned(), ours));
        let (missing, gone) = plan(&wanted, &stored);
        assert_eq!(gone, ["v1.gone.example"]);
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0]["metadata"]["name"], "v2.a.example");
        assert_eq!(missing[0]["spec"]["groupPriorityMinimum"], 1000);
    }
}
