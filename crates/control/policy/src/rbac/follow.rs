//! Fills the index at boot, follows the four kinds from then on, and writes what the default policy and aggregation
//! call for.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use base_meta::{Reason, Status, decode, decode_value};
use base_tasks::Tasks;
use futures::StreamExt as _;
use machinery_registry::resource::WatchEvent;
use machinery_registry::{
    CreateOptions, DeleteOptions, ListOptions, MediaType, Patch, Payload, RequestContext, Resource, UpdateOptions,
};
use machinery_storage::Object;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::bootstrap::{self, Kind, Step};
use super::index::Key;
use super::{Rbac, aggregate};
use crate::admission::late::server_context;

/// How many default objects are written at once: the store commits them together.
const AT_ONCE: usize = 16;
/// Before a watch that failed is opened again.
const AGAIN: Duration = Duration::from_secs(1);

/// The four kinds, served.
pub struct Kinds(BTreeMap<Kind, Arc<dyn Resource>>);

impl Kinds {
    /// Picks them out of everything that is served.
    pub fn of(all: &[Arc<dyn Resource>]) -> Self {
        let find = |kind: Kind| {
            let mine = |resource: &&Arc<dyn Resource>| {
                let def = resource.def();
                def.gvk.group == api::rbac::GROUP && def.plural == kind.plural()
            };
            all.iter().find(mine).map(|resource| (kind, resource.clone()))
        };
        Self(Kind::ALL.into_iter().filter_map(find).collect())
    }
}

/// What is still to be written, and from where to follow.
pub struct Loaded {
    kinds: Kinds,
    revisions: BTreeMap<Kind, String>,
    steps: Vec<(Kind, Value, Step)>,
}

impl Rbac {
    /// Indexes what is stored, completed by the default policy as it is about to be written: the rules are those of a
    /// running cluster before the first request comes.
    pub async fn load(&self, kinds: Kinds) -> Result<Loaded, Status> {
        let mut revisions = BTreeMap::new();
        let mut stored: BTreeMap<(Kind, Key), Value> = BTreeMap::new();
        for (kind, resource) in &kinds.0 {
            let list = resource.list(&context(&**resource, ""), &ListOptions::default()).await?;
            for object in &list.items {
                self.put(*kind, object);
                stored.insert((*kind, key(object)), object.to_value().map_err(Status::internal)?);
            }
            revisions.insert(*kind, list.revision.to_string());
        }
        let mut steps = Vec::new();
        for (kind, wanted) in bootstrap::policy() {
            let at = |field: &str| wanted["metadata"][field].as_str().unwrap_or("");
            let key = Key::new(at("namespace"), at("name"));
            let step = bootstrap::reconcile(stored.get(&(kind, key)), &wanted);
            match &step {
                Step::Keep => continue,
                Step::Create | Step::Replace => self.put_value(kind, &wanted),
                Step::Update(new) => self.put_value(kind, new),
            }
            steps.push((kind, wanted, step));
        }
        aggregate::settle(&mut self.write());
        Ok(Loaded { kinds, revisions, steps })
    }

    /// Follows the kinds under `tasks`, and writes what the default policy lacks.
    pub fn follow(self: &Arc<Self>, tasks: &Tasks, loaded: Loaded) {
        let Loaded { kinds, revisions, steps } = loaded;
        for (kind, resource) in &kinds.0 {
            let (rbac, kind, resource) = (self.clone(), *kind, resource.clone());
            let from = revisions.get(&kind).cloned().unwrap_or_default();
            tasks.spawn(kind.plural(), async move { rbac.follow_kind(kind, &resource, from).await });
        }
        let rbac = self.clone();
        tasks.spawn("bootstrap", async move {
            for kind in Kind::ALL {
                let Some(resource) = kinds.0.get(&kind) else { continue };
                let mut writes = Vec::new();
                for (of, wanted, step) in &steps {
                    if *of == kind {
                        writes.push(write_default(resource, wanted, step));
                    }
                }
                futures::stream::iter(writes).buffer_unordered(AT_ONCE).collect::<()>().await;
            }
            if let Some(resource) = kinds.0.get(&Kind::ClusterRoles) {
                rbac.aggregate(resource).await;
            }
        });
    }

    async fn follow_kind(&self, kind: Kind, resource: &Arc<dyn Resource>, mut from: String) {
        let ctx = context(&**resource, "");
        loop {
            let options = ListOptions { resource_version: from, ..ListOptions::default() };
            match resource.watch(&ctx, &options).await {
                Ok(mut events) => {
                    while let Some(event) = events.next().await {
                        match event {
                            WatchEvent::Added(object) | WatchEvent::Modified(object) => self.put(kind, &object),
                            WatchEvent::Deleted(object) => self.remove(kind, &key(&object)),
                            WatchEvent::Bookmark { .. } => continue,
                            WatchEvent::Error(status) => {
                                tracing::debug!(%status, kind = kind.kind(), "watching again");
                                break;
                            }
                        }
                        if kind == Kind::ClusterRoles {
                            self.aggregate(resource).await;
                        }
                    }
                }
                Err(status) => tracing::warn!(%status, kind = kind.kind(), "watching for authorization failed"),
            }
            tokio::time::sleep(AGAIN).await;
            from = self.relist(kind, resource, &ctx).await;
        }
    }

    /// Replaces what the index has of a kind; answers from where to watch.
    async fn relist(&self, kind: Kind, resource: &Arc<dyn Resource>, ctx: &RequestContext) -> String {
        match resource.list(ctx, &ListOptions::default()).await {
            Ok(list) => {
                let listed: HashSet<Key> = list.items.iter().map(|object| key(object)).collect();
                let known: Vec<Key> = self.keys(kind);
                known.iter().filter(|key| !listed.contains(key)).for_each(|key| self.remove(kind, key));
                list.items.iter().for_each(|object| self.put(kind, object));
                list.revision.to_string()
            }
            Err(status) => {
                tracing::warn!(%status, kind = kind.kind(), "listing for authorization failed");
                String::new()
            }
        }
    }

    /// Writes the rules of aggregating roles that are not what their selectors say.
    async fn aggregate(&self, resource: &Arc<dyn Resource>) {
        let ctx = context(&**resource, "");
        let plan = aggregate::plan(&self.read());
        for (name, rules) in plan {
            let patch = Patch::Merge(json!({ "rules": rules }).to_string().into());
            if let Err(status) = resource.patch(&ctx, &name, patch, UpdateOptions::default()).await
                && status.reason != Reason::NotFound
            {
                tracing::warn!(name, %status, "the rules of an aggregating role could not be written");
            }
        }
    }

    fn keys(&self, kind: Kind) -> Vec<Key> {
        let index = self.read();
        let cluster = matches!(kind, Kind::ClusterRoles | Kind::ClusterRoleBindings);
        let mine = |key: &&Key| key.namespace.is_empty() == cluster;
        match kind {
            Kind::ClusterRoles | Kind::Roles => index.role_keys().filter(mine).cloned().collect(),
            Kind::ClusterRoleBindings | Kind::RoleBindings => index.binding_keys().filter(mine).cloned().collect(),
        }
    }

    fn put(&self, kind: Kind, object: &Object) {
        fn parsed<T: DeserializeOwned>(object: &Object) -> Option<T> {
            let parsed = decode(object.json());
            parsed.inspect_err(|error| tracing::error!(key = &*object.key, %error, "not authorized by")).ok()
        }
        match kind {
            Kind::ClusterRoles | Kind::Roles => {
                let role = parsed(object);
                role.into_iter().for_each(|role| self.write().put_role(role));
            }
            Kind::ClusterRoleBindings | Kind::RoleBindings => {
                let binding = parsed(object);
                binding.into_iter().for_each(|binding| self.write().put_binding(binding));
            }
        }
    }

    /// Of the default policy's own making.
    pub(super) fn put_value(&self, kind: Kind, value: &Value) {
        let parsed = match kind {
            Kind::ClusterRoles | Kind::Roles => decode_value(value).map(|role| self.write().put_role(role)),
            Kind::ClusterRoleBindings | Kind::RoleBindings => {
                decode_value(value).map(|binding| self.write().put_binding(binding))
            }
        };
        if let Err(error) = parsed {
            tracing::error!(%error, kind = kind.kind(), "a default role or binding does not parse");
        }
    }

    fn remove(&self, kind: Kind, key: &Key) {
        match kind {
            Kind::ClusterRoles | Kind::Roles => self.write().remove_role(key),
            Kind::ClusterRoleBindings | Kind::RoleBindings => self.write().remove_binding(key),
        }
    }
}

async fn write_default(resource: &Arc<dyn Resource>, wanted: &Value, step: &Step) {
    let name = wanted["metadata"]["name"].as_str().unwrap_or("");
    let ctx = context(&**resource, wanted["metadata"]["namespace"].as_str().unwrap_or(""));
    let written = match step {
        Step::Keep => Ok(()),
        Step::Create => create(resource, &ctx, wanted).await,
        Step::Update(new) => resource.update(&ctx, name, payload(new), UpdateOptions::default()).await.map(drop),
        Step::Replace => match resource.delete(&ctx, name, DeleteOptions::default()).await {
            Ok(_) => create(resource, &ctx, wanted).await,
            Err(status) => Err(status),
        },
    };
    match written {
        // Another server was first, or a user changed it meanwhile.
        Err(status) if matches!(status.reason, Reason::AlreadyExists | Reason::Conflict) => {}
        Err(status) => tracing::warn!(name, %status, "a default role or binding could not be written"),
        Ok(()) => {}
    }
}

async fn create(resource: &Arc<dyn Resource>, ctx: &RequestContext, wanted: &Value) -> Result<(), Status> {
    resource.create(ctx, payload(wanted), CreateOptions::default()).await.map(drop)
}

fn payload(value: &Value) -> Payload {
    Payload { media: MediaType::Json, bytes: value.to_string().into() }
}

fn key(object: &Object) -> Key {
    Key::new(object.meta.namespace.as_deref().unwrap_or(""), &object.meta.name)
}

fn context(resource: &dyn Resource, namespace: &str) -> RequestContext {
    server_context(resource.def().gvr(), Some(namespace))
}
