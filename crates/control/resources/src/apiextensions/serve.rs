//! The task that follows the definitions: what each makes is served, and its status says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base_meta::{Status, decode};
use base_tasks::Tasks;
use futures::StreamExt as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use machinery_dial::Dialer;
use machinery_registry::resource::WatchEvent;
use machinery_registry::{
    Conversion, Handlers, ListOptions, Registry, Renamed, RequestContext, Resource, Strategy as _, View, migrate,
};
use machinery_storage::Object;

use super::cleanup;
use super::custom::{BadDefinition, CustomStrategy, Version, Versions, Webhook};
use super::definition::{CustomResourceDefinitionStrategy, FINALIZER, storage_version};
use super::plan::{self, Names};
use crate::Load;

/// Before a watch that failed is opened again.
const AGAIN: Duration = Duration::from_secs(1);

/// Takes a group's resources, all of them, in place of those before.
pub type Publish = Box<dyn Fn(&str, Vec<Arc<dyn Resource>>) + Send + Sync>;

/// The definitions, to be served once there is an API server.
pub struct Definitions {
    registry: Arc<Registry<CustomResourceDefinitionStrategy>>,
    load: Load,
    /// Of conversion webhooks.
    dialer: Dialer,
    /// What the built-in kinds are called, by group.
    built_in: BTreeMap<String, Vec<Names>>,
}

/// One definition's kind.
pub(super) struct Kind {
    pub(super) registry: Arc<Registry<CustomStrategy>>,
    resources: Vec<Arc<dyn Resource>>,
    /// What it was made from.
    made_of: CustomResourceDefinition,
    terminating: Arc<AtomicBool>,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("making its kind")]
    Definition(#[from] BadDefinition),
    #[error("loading its objects")]
    Load(#[from] machinery_storage::Error),
    #[error("bringing its objects to the stored version: {0}")]
    Migrate(Status),
    #[error("writing its status: {0}")]
    Write(Status),
}

impl Definitions {
    pub(crate) fn new(
        registry: Arc<Registry<CustomResourceDefinitionStrategy>>,
        load: Load,
        dialer: Dialer,
        all: &[Arc<dyn Resource>],
    ) -> Self {
        let mut built_in: BTreeMap<String, Vec<Names>> = BTreeMap::new();
        for def in all.iter().map(|resource| resource.def()) {
            let short = def.short_names.iter().map(|name| (*name).to_owned());
            let kind = def.gvk.kind.to_string();
            built_in.entry(def.gvk.group.to_string()).or_default().push(Names {
                resources: [def.plural.to_string(), def.singular.to_string()].into_iter().chain(short).collect(),
                kinds: vec![format!("{kind}List"), kind],
            });
        }
        Self { registry, load, dialer, built_in }
    }

    /// Serves all that are stored, then follows changes under `tasks`.
    pub async fn start(self, publish: Publish, tasks: &Tasks) -> Result<(), Status> {
        let mut server = Server {
            registry: self.registry,
            load: self.load,
            dialer: self.dialer,
            built_in: self.built_in,
            publish,
            tasks: tasks.child("cleanup"),
            known: BTreeMap::new(),
            kinds: BTreeMap::new(),
            cleaning: BTreeSet::new(),
        };
        let from = server.relist().await?;
        tasks.spawn("definitions", async move { server.follow(from).await });
        Ok(())
    }
}

struct Server {
    registry: Arc<Registry<CustomResourceDefinitionStrategy>>,
    load: Load,
    dialer: Dialer,
    built_in: BTreeMap<String, Vec<Names>>,
    publish: Publish,
    tasks: Tasks,
    known: BTreeMap<String, CustomResourceDefinition>,
    kinds: BTreeMap<String, Kind>,
    /// Definitions whose objects are being deleted.
    cleaning: BTreeSet<String>,
}

pub(super) fn context(resource: &dyn Resource, namespace: Option<&str>) -> RequestContext {
    RequestContext {
        user: Arc::default(),
        gvr: resource.def().gvr(),
        subresource: None,
        namespace: namespace.map(Into::into),
        warnings: Default::default(),
    }
}

fn parsed(object: &Object) -> Option<CustomResourceDefinition> {
    let parsed = decode(object.json());
    let mut parsed: CustomResourceDefinition =
        parsed.inspect_err(|error| tracing::error!(key = &*object.key, %error, "a definition does not decode")).ok()?;
    CustomResourceDefinitionStrategy.default(&mut parsed);
    Some(parsed)
}

fn name_of(object: &CustomResourceDefinition) -> String {
    object.metadata.name.clone().unwrap_or_default()
}

impl Server {
    async fn follow(mut self, mut from: String) {
        let ctx = context(&*self.registry, None);
        loop {
            let options = ListOptions { resource_version: from, ..ListOptions::default() };
            match self.registry.watch(&ctx, &options).await {
                Ok(mut events) => {
                    while let Some(event) = events.next().await {
                        match event {
                            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                                let Some(object) = parsed(&object) else { continue };
                                self.changed(object).await;
                            }
                            WatchEvent::Deleted(object) => {
                                let Some(object) = parsed(&object) else { continue };
                                self.deleted(&object).await;
                            }
                            WatchEvent::Bookmark { .. } => {}
                            WatchEvent::Error(status) => {
                                tracing::debug!(%status, "watching the definitions again");
                                break;
                            }
                        }
                    }
                }
                Err(status) => tracing::warn!(%status, "watching the definitions failed"),
            }
            tokio::time::sleep(AGAIN).await;
            from = match self.relist().await {
                Ok(from) => from,
                Err(status) => {
                    tracing::warn!(%status, "listing the definitions failed");
                    String::new()
                }
            };
        }
    }

    /// Brings everything to what is stored; answers from where to watch.
    async fn relist(&mut self) -> Result<String, Status> {
        let list = self.registry.list(&context(&*self.registry, None), &ListOptions::default()).await?;
        let stored: Vec<CustomResourceDefinition> = list.items.iter().filter_map(|object| parsed(object)).collect();
        let names: BTreeSet<String> = stored.iter().map(name_of).collect();
        let gone: Vec<_> = self.known.values().filter(|known| !names.contains(&name_of(known))).cloned().collect();
        for object in gone {
            self.deleted(&object).await;
        }
        self.known.extend(stored.iter().map(|object| (name_of(object), object.clone())));
        for object in stored {
            self.changed(object).await;
        }
        Ok(list.revision.to_string())
    }

    async fn changed(&mut self, object: CustomResourceDefinition) {
        let name = name_of(&object);
        self.known.insert(name.clone(), object.clone());
        if let Err(error) = self.settle(&name, object).await {
            tracing::error!(name, error = &error as &dyn std::error::Error, "a definition is not served");
        }
    }

    async fn deleted(&mut self, object: &CustomResourceDefinition) {
        let name = name_of(object);
        self.known.remove(&name);
        self.cleaning.remove(&name);
        if let Some(kind) = self.kinds.remove(&name) {
            self.publish(&object.spec.group);
            kind.registry.core().stop();
        }
        // Who waited for its names may have them now.
        let waiting = self.known.values().filter(|other| other.spec.group == object.spec.group);
        let waiting: Vec<_> = waiting.filter(|other| !plan::is_true(other, "NamesAccepted")).cloned().collect();
        for other in waiting {
            self.changed(other).await;
        }
    }

    async fn settle(&mut self, name: &str, object: CustomResourceDefinition) -> Result<(), Error> {
        let wanted = plan::settled(&object, &self.taken(name, &object.spec.group));
        if plan::is_true(&wanted, "Established") {
            self.serve(name, &wanted).await?;
        }
        if object.metadata.deletion_timestamp.is_some() {
            self.clean(name, &object);
            return Ok(());
        }
        if wanted.status != object.status {
            let ctx = context(&*self.registry, None);
            let write = self.registry.update_with(&ctx, name, |stored| {
                // A newer one is settled by its own event.
                if stored.metadata.uid == wanted.metadata.uid && stored.spec == wanted.spec {
                    let stored_versions = stored.status.take().and_then(|status| status.stored_versions);
                    stored.status = wanted.status.clone();
                    stored.status.get_or_insert_default().stored_versions = stored_versions;
                }
                Ok(())
            });
            match write.await {
                Err(status) if status.code != 404 => return Err(Error::Write(status)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The names of the group that are not this definition's to have.
    fn taken(&self, name: &str, group: &str) -> Vec<Names> {
        let accepted = |object: &CustomResourceDefinition| {
            object.status.as_ref().and_then(|status| status.accepted_names.as_ref()).map(Names::of)
        };
        let others = self.known.iter().filter(|(other, object)| *other != name && object.spec.group == group);
        let others = others.filter_map(|(_, object)| accepted(object));
        self.built_in.get(group).into_iter().flatten().cloned().chain(others).collect()
    }

    async fn serve(&mut self, name: &str, object: &CustomResourceDefinition) -> Result<(), Error> {
        let accepted =
            |object: &CustomResourceDefinition| object.status.as_ref().and_then(|status| status.accepted_names.clone());
        if let Some(kind) = self.kinds.get(name) {
            let made = &kind.made_of;
            if made.metadata.uid == object.metadata.uid
                && made.spec == object.spec
                && accepted(made) == accepted(object)
            {
                return Ok(());
            }
        }
        let terminating = Arc::new(AtomicBool::new(false));
        let mut stored = None;
        let mut others = Vec::new();
        for version in &object.spec.versions {
            if !version.storage && !version.served {
                continue;
            }
            let made = Arc::new(Version::new(object, version)?);
            if version.storage {
                stored = Some((made, version.served));
            } else {
                others.push(made);
            }
        }
        let (version, served) = stored.ok_or(BadDefinition::NoStorage)?;
        let between = self.conversion(object);
        self.migrate(name, object, &version, &*between).await?;
        let strategy = CustomStrategy { version, terminating: terminating.clone() };
        let (storage, admission) = (self.load.storage.clone(), self.load.admission.clone());
        let registry = Registry::start(strategy, storage, admission, Handlers::new()).await?;
        let mut resources: Vec<Arc<dyn Resource>> = Vec::new();
        if served {
            resources.push(registry.clone());
        }
        for version in others {
            let conversion = Arc::new(Versions { shown: version.clone(), between: between.clone() });
            resources.push(View::new(registry.core().clone(), version.def().clone(), Some(version), conversion));
        }
        let kind = Kind { registry, resources, made_of: object.clone(), terminating };
        let before = self.kinds.insert(name.to_owned(), kind);
        self.publish(&object.spec.group);
        if let Some(before) = before {
            before.registry.core().stop();
        }
        Ok(())
    }

    fn conversion(&self, object: &CustomResourceDefinition) -> Arc<dyn Conversion> {
        match &object.spec.conversion {
            Some(conversion) if conversion.strategy == "Webhook" => {
                let spec = &object.spec;
                let version = storage_version(object).unwrap_or_default();
                let kind = format!("{}/{version}, Kind={}", spec.group, spec.names.kind);
                Arc::new(Webhook::new(kind, conversion.webhook.as_ref(), &self.dialer))
            }
            _ => Arc::new(Renamed),
        }
    }

    /// What was stored in another version than the one of now is brought to it, while nobody writes.
    async fn migrate(
        &mut self,
        name: &str,
        object: &CustomResourceDefinition,
        version: &Version,
        between: &dyn Conversion,
    ) -> Result<(), Error> {
        let stored = object.status.as_ref().and_then(|status| status.stored_versions.as_ref());
        if stored.is_none_or(|stored| stored.len() < 2) {
            return Ok(());
        }
        if self.kinds.get(name).is_some_and(|kind| storage_version(&kind.made_of) != storage_version(object))
            && let Some(kind) = self.kinds.remove(name)
        {
            self.publish(&object.spec.group);
            kind.registry.core().stop();
        }
        migrate(&*self.load.storage, version.def(), between).await.map(drop).map_err(Error::Migrate)
    }

    fn publish(&self, group: &str) {
        let kinds = self.kinds.values().filter(|kind| kind.made_of.spec.group == group);
        (self.publish)(group, kinds.flat_map(|kind| kind.resources.iter().cloned()).collect());
    }

    /// Its objects go first; the task that sees to that lets the definition go.
    fn clean(&mut self, name: &str, object: &CustomResourceDefinition) {
        let held = object.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
        if !held || !self.cleaning.insert(name.to_owned()) {
            return;
        }
        let kind = self.kinds.get(name).map(|kind| {
            kind.terminating.store(true, Ordering::Release);
            kind.registry.clone()
        });
        let (definitions, name) = (self.registry.clone(), name.to_owned());
        self.tasks.spawn("objects", async move { cleanup::run(&definitions, &name, kind).await });
    }
}
