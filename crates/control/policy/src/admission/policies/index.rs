//! The policies in force, each with its bindings: read at boot and again after each change of one.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base_meta::{Gvr, Status};
use base_tasks::Tasks;
use futures::StreamExt as _;
use futures::stream::select_all;
use machinery_registry::resource::WatchEvent;
use machinery_registry::{ListOptions, Operation, Resource};
use machinery_storage::Object;
use serde_json::Value;

use super::super::late::server_context;
use super::super::matching::is_exempt;
use super::policy::{Binding, Policy};
use super::served::Served;
use super::status;

/// Before watches that ended are opened again.
const AGAIN: Duration = Duration::from_secs(1);
/// Events that are ready together change the index once.
const TOGETHER: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    Validating,
    Mutating,
}

impl Flavour {
    fn resources(self) -> [&'static str; 2] {
        match self {
            Self::Validating => ["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
            Self::Mutating => ["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"],
        }
    }
}

/// A policy that something binds.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) policy: Arc<Policy>,
    pub(super) bindings: Vec<Binding>,
}

pub(super) struct Index {
    flavour: Flavour,
    served: Arc<Served>,
    /// In the order of their names.
    active: RwLock<Arc<[Active]>>,
}

impl Index {
    pub(super) fn new(flavour: Flavour, served: Arc<Served>) -> Arc<Self> {
        Arc::new(Self { flavour, served, active: RwLock::new(Arc::new([])) })
    }

    pub(super) fn active(&self) -> Arc<[Active]> {
        self.active.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether some policy may be about such requests; costs next to nothing where there is no policy.
    pub(super) fn concerns(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        let active = self.active();
        let may_match = |policy: &Policy| {
            // One whose constraints cannot be read fails for everything.
            policy.criteria.as_ref().map_or(true, |criteria| criteria.may_match(gvr, subresource, operation))
        };
        !active.is_empty() && !is_exempt(gvr) && active.iter().any(|active| may_match(&active.policy))
    }

    pub(super) fn set(&self, policies: Vec<Arc<Policy>>, bindings: Vec<Binding>) {
        let mut by_policy: BTreeMap<String, Vec<Binding>> = BTreeMap::new();
        for binding in bindings {
            by_policy.entry(binding.policy.clone()).or_default().push(binding);
        }
        let active = policies.into_iter().filter_map(|policy| {
            let mut bindings = by_policy.remove(&policy.name)?;
            bindings.sort_by(|a, b| a.name.cmp(&b.name));
            Some(Active { policy, bindings })
        });
        let mut active: Vec<Active> = active.collect();
        active.sort_by(|a, b| a.policy.name.cmp(&b.policy.name));
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = active.into();
    }

    /// Complete when this returns, and kept so under `tasks`.
    pub(super) async fn follow(self: &Arc<Self>, all: &[Arc<dyn Resource>], tasks: &Tasks) -> Result<(), Status> {
        let find = |plural: &str| {
            let mine = |resource: &&Arc<dyn Resource>| {
                let def = resource.def();
                def.plural == plural && def.gvk.group == "admissionregistration.k8s.io"
            };
            all.iter().find(mine).cloned()
        };
        let [Some(policies), Some(bindings)] = self.flavour.resources().map(find) else { return Ok(()) };
        self.refresh(&*policies, &*bindings).await?;
        let index = self.clone();
        tasks.spawn(self.flavour.resources()[0], async move {
            loop {
                if let Err(status) = index.watch(&*policies, &*bindings).await {
                    tracing::warn!(%status, "following admission policies failed");
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
        Ok(())
    }

    /// Until a watch ends. What is there is told as events too, so nothing that happened meanwhile is missed.
    async fn watch(&self, policies: &dyn Resource, bindings: &dyn Resource) -> Result<(), Status> {
        let mut streams = Vec::new();
        for resource in [policies, bindings] {
            let ctx = server_context(resource.def().gvr(), None);
            streams.push(resource.watch(&ctx, &ListOptions::default()).await?);
        }
        let listed = self.refresh(policies, bindings).await?;
        self.settle(policies, &listed).await;
        // Each stream says when it ends: an index that follows one of two would be wrong.
        let streams = streams.into_iter().map(|stream| stream.map(Some).chain(futures::stream::iter([None])));
        let mut events = select_all(streams).ready_chunks(TOGETHER);
        while let Some(batch) = events.next().await {
            if batch.iter().any(|event| matches!(event, None | Some(WatchEvent::Error(_)))) {
                return Ok(());
            }
            if batch.iter().any(|event| !matches!(event, Some(WatchEvent::Bookmark { .. }))) {
                let listed = self.refresh(policies, bindings).await?;
                self.settle(policies, &listed).await;
            }
        }
        Ok(())
    }

    /// Compiles what has changed since the last time.
    async fn refresh(&self, policies: &dyn Resource, bindings: &dyn Resource) -> Result<Vec<Arc<Object>>, Status> {
        let (listed, bindings) = (list(policies).await?, list(bindings).await?);
        let known = self.active();
        let read = |object: &Arc<Object>| {
            let same = |active: &&Active| {
                active.policy.name == *object.meta.name && active.policy.revision == object.revision.0
            };
            match known.iter().find(same) {
                Some(active) => Some(active.policy.clone()),
                None => Some(Arc::new(Policy::read(&value(object)?, object.revision.0))),
            }
        };
        let bindings: Vec<Binding> =
            bindings.iter().filter_map(|object| Some(Binding::read(&value(object)?))).collect();
        let bound = |object: &&Arc<Object>| bindings.iter().any(|binding| *binding.policy == *object.meta.name);
        let active = listed.iter().filter(bound).filter_map(read).collect();
        self.set(active, bindings);
        Ok(listed)
    }

    /// Tells what can be told of the policies themselves.
    async fn settle(&self, policies: &dyn Resource, listed: &[Arc<Object>]) {
        if self.flavour == Flavour::Validating {
            for policy in listed.iter().filter_map(|object| value(object)) {
                status::settle(policies, &self.served, &policy).await;
            }
        }
    }
}

fn value(object: &Object) -> Option<Value> {
    let value = object.to_value();
    value.inspect_err(|error| tracing::error!(key = &*object.key, %error, "a policy that is not in force")).ok()
}

async fn list(resource: &dyn Resource) -> Result<Vec<Arc<Object>>, Status> {
    let ctx = server_context(resource.def().gvr(), None);
    Ok(resource.list(&ctx, &ListOptions::default()).await?.items)
}
