//! Keeps a Service's EndpointSlices and Endpoints in step with the pods behind it.

mod backends;
mod hints;
mod legacy;
mod slices;

use std::sync::Arc;

use base_tasks::Tasks;
use futures::future::{join, join_all};
use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use machinery_client::kube::api::{DeleteParams, PostParams};
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, ObjectKey};

pub(crate) use self::backends::Family;
pub(crate) use self::slices::{MANAGED_BY, SERVICE_NAME, Write, same_ports};
use crate::reconcile::{self, Again, During, Error, is_code};
use crate::world::{PodFacts, World};

struct Controller {
    client: Client,
    world: World,
}

pub fn start(tasks: &Tasks, client: &Client, world: &World) {
    let queue = reconcile::queue::<ObjectKey>();
    reconcile::wake(tasks, &world.services, {
        let queue = queue.clone();
        move |change| queue.add(change.key().clone())
    });
    reconcile::wake(tasks, &world.pods, {
        let (queue, services) = (queue.clone(), world.services.clone());
        move |change| {
            let (old, new) = match change {
                Change::Applied { old, new, .. } => (old.as_deref(), Some(&**new)),
                Change::Deleted { old, .. } => (Some(&**old), None),
            };
            let selected = |selector: &base_meta::selector::LabelSelector, pod: Option<&PodFacts>| {
                pod.is_some_and(|pod| selector.matches(|key| pod.labels.get(key).map(String::as_str)))
            };
            let behind = services.select(|key, service| {
                key.namespace == change.key().namespace
                    && backends::selector(service)
                        .is_some_and(|selector| selected(&selector, old) || selected(&selector, new))
            });
            for (key, _) in behind {
                queue.add(key);
            }
        }
    });
    // Endpoints carry their node's zone. Zones change so seldom that looking at every Service is cheap enough.
    reconcile::wake(tasks, &world.nodes, {
        let (queue, services) = (queue.clone(), world.services.clone());
        move |change| {
            let moved = match change {
                Change::Applied { old, new, .. } => old.as_ref().and_then(|old| old.zone.as_ref()) != new.zone.as_ref(),
                Change::Deleted { old, .. } => old.zone.is_some(),
            };
            if moved {
                services.list().into_iter().for_each(|(key, _)| queue.add(key));
            }
        }
    });
    // What we wrote may be changed or deleted by others.
    reconcile::wake(tasks, &world.slices, {
        let queue = queue.clone();
        move |change| {
            let (Change::Applied { new: slice, .. } | Change::Deleted { old: slice, .. }) = change;
            if let Some(service) = made_for(slice) {
                queue.add(ObjectKey::new(change.key().namespace.clone(), service));
            }
        }
    });
    // Those of a name that no Service has are their maker's business.
    reconcile::wake(tasks, &world.endpoints, {
        let (queue, services) = (queue.clone(), world.services.clone());
        move |change| {
            let (Change::Applied { new: endpoints, .. } | Change::Deleted { old: endpoints, .. }) = change;
            if legacy::is_ours(endpoints) || services.get(change.key()).is_some() {
                queue.add(change.key().clone());
            }
        }
    });
    let controller = Arc::new(Controller { client: client.clone(), world: world.clone() });
    let ready = {
        let world = world.clone();
        async move {
            world.services.synced().await;
            world.pods.synced().await;
            world.slices.synced().await;
            world.endpoints.synced().await;
            world.nodes.synced().await;
        }
    };
    reconcile::run(tasks, &queue, 4, ready, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.reconcile(key).await }
    });
}

/// The Service this controller made a slice for.
fn made_for(slice: &EndpointSlice) -> Option<String> {
    let labels = slice.metadata.labels.as_ref()?;
    (labels.get(slices::MANAGED_BY).map(String::as_str) == Some(slices::CONTROLLER))
        .then(|| labels.get(slices::SERVICE_NAME).cloned())
        .flatten()
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<Again, Error> {
        // The slices of a deleted Service go with it, by their owner reference; its Endpoints by name.
        let Some(service) = self.world.services.get(&key) else {
            return self.delete_endpoints(&key).await;
        };
        if backends::selector(&service).is_none() || service.metadata.deletion_timestamp.is_some() {
            return Ok(None); // hand-made endpoints stay as they are
        }
        let families = Family::of(&service);
        let backends = backends::backends(&service, self.world.pods_in(&key.namespace), |node| {
            self.world.nodes.get(&ObjectKey::new("", node))?.zone.clone()
        });
        let existing = self
            .world
            .slices
            .select(|at, slice| at.namespace == key.namespace && made_for(slice).as_deref() == Some(&key.name));
        let existing: Vec<&EndpointSlice> = existing.iter().map(|(_, slice)| &**slice).collect();
        let slices = slices::plan(&service, &families, &backends, &existing);
        let present = self.world.endpoints.get(&key);
        let first = families.first();
        let endpoints = first.and_then(|first| legacy::plan(&service, *first, &backends, present.as_deref()));
        // At once: an address that is to go leaves both in one commit's time.
        let slices =
            join_all(slices.into_iter().map(|write| write_slice(&self.client, &self.world, &key.namespace, write)));
        let endpoints = async {
            match endpoints {
                Some(wanted) => self.write_endpoints(&key, wanted, present.is_some()).await,
                None => Ok(()),
            }
        };
        let (slices, endpoints) = join(slices, endpoints).await;
        slices.into_iter().chain([endpoints]).collect::<Result<(), Error>>()?;
        Ok(None)
    }

    async fn write_endpoints(&self, key: &ObjectKey, wanted: Endpoints, exists: bool) -> Result<(), Error> {
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), &key.namespace);
        let params = PostParams::default();
        let written = if exists {
            api.replace(&key.name, &params, &wanted).await.during("changing Endpoints")?
        } else {
            api.create(&params, &wanted).await.during("making Endpoints")?
        };
        self.world.endpoints.caught_up(&written.metadata.resource_version.unwrap_or_default()).await?;
        Ok(())
    }

    async fn delete_endpoints(&self, key: &ObjectKey) -> Result<Again, Error> {
        if self.world.endpoints.get(key).is_none() {
            return Ok(None);
        }
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), &key.namespace);
        match api.delete(&key.name, &DeleteParams::default()).await {
            Err(error) if !is_code(&error, 404) => Err(error).during("deleting the Endpoints of a deleted Service"),
            _ => Ok(None),
        }
    }
}

/// Writes a slice and waits until the informer shows it.
pub(crate) async fn write_slice(client: &Client, world: &World, namespace: &str, write: Write) -> Result<(), Error> {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let params = PostParams::default();
    let written = match write {
        Write::Create(slice) => api.create(&params, &slice).await.during("making an EndpointSlice")?,
        Write::Update(slice) => {
            let name = slice.metadata.name.clone().unwrap_or_default();
            api.replace(&name, &params, &slice).await.during("changing an EndpointSlice")?
        }
        Write::Delete(name) => {
            return match api.delete(&name, &DeleteParams::default()).await {
                Err(error) if !is_code(&error, 404) => Err(error).during("deleting an EndpointSlice"),
                _ => Ok(()),
            };
        }
    };
    world.slices.caught_up(&written.metadata.resource_version.unwrap_or_default()).await?;
    Ok(())
}
