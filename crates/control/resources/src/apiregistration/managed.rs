//! An APIService for every version of every group that definitions make: it comes and goes with them, as upstream's
//! automatic registration. Those of built-in groups are written at start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base_meta::{Reason, Status, decode_value};
use base_tasks::Tasks;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
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

/// What is stored, by name: the spec of one of ours, `None` of a user's.
type Stored = BTreeMap<String, Option<Value>>;

#[derive(Debug, Default, PartialEq)]
struct Plan {
    missing: Vec<Value>,
    /// Ours that say something else: no user's to change.
    changed: Vec<Value>,
    /// Ours that nothing asks for any more.
    gone: Vec<String>,
}

fn plan(wanted: &BTreeMap<String, BTreeSet<String>>, stored: &Stored) -> Plan {
    let wanted = wanted.iter().flat_map(|(group, versions)| versions.iter().map(move |version| (group, version)));
    let wanted: BTreeMap<String, Value> =
        wanted.map(|(group, version)| (format!("{version}.{group}"), object(group, version))).collect();
    let ours = stored.iter().filter(|(_, spec)| spec.is_some()).map(|(name, _)| name);
    let mut plan = Plan { gone: ours.filter(|name| !wanted.contains_key(*name)).cloned().collect(), ..Plan::default() };
    for (name, object) in wanted {
        match stored.get(&name) {
            None => plan.missing.push(object),
            Some(Some(spec)) if *spec != object["spec"] => plan.changed.push(object),
            Some(_) => {}
        }
    }
    plan
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
                    more = change(watched) => if !more {
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
        let mut stored = Stored::new();
        for object in &list.items {
            let spec = if ours(&object.meta.labels) {
                let parsed: Value = serde_json::from_slice(object.json()).map_err(Status::internal)?;
                Some(parsed["spec"].clone())
            } else {
                None
            };
            stored.insert(object.meta.name.to_string(), spec);
        }
        let Plan { missing, changed, gone } = plan(wanted, &stored);
        for object in changed {
            let wanted: APIService = decode_value(&object).map_err(Status::internal)?;
            let name = wanted.metadata.name.as_deref().unwrap_or_default();
            let written = self.registry.update_with(&ctx, name, |stored| {
                stored.spec.clone_from(&wanted.spec);
                Ok(())
            });
            match written.await {
                Err(status) if status.reason != Reason::NotFound => return Err(status),
                _ => {}
            }
        }
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

/// Resolves when an object changes or goes; false at the end of the watch.
async fn change(events: &mut BoxStream<'static, WatchEvent>) -> bool {
    while let Some(event) = events.next().await {
        match event {
            WatchEvent::Deleted(_) | WatchEvent::Modified(_) => return true,
            WatchEvent::Error(_) => return false,
            WatchEvent::Added(_) | WatchEvent::Bookmark { .. } => {}
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
        let stored = |name: &str, spec: Option<Value>| (name.to_owned(), spec);
        let users = [stored("v1.a.example", None), stored("v1.mine.example", None)];
        let gone = stored("v1.gone.example", Some(object("gone.example", "v1")["spec"].clone()));
        let expected = Plan {
            missing: vec![object("a.example", "v2")],
            changed: Vec::new(),
            gone: vec!["v1.gone.example".to_owned()],
        };
        assert_eq!(plan(&wanted, &users.iter().cloned().chain([gone]).collect()), expected);

        let mut other = object("a.example", "v1")["spec"].clone();
        other["service"] = json!({"namespace": "default", "name": "nobody"});
        let kept = stored("v2.a.example", Some(object("a.example", "v2")["spec"].clone()));
        let changed = plan(&wanted, &Stored::from([stored("v1.a.example", Some(other)), kept]));
        assert_eq!(changed, Plan { changed: vec![object("a.example", "v1")], ..Plan::default() });
    }
}
