//! Endpoints that somebody writes by hand, for a Service without a selector, said again as EndpointSlices: consumers
//! read only those.

mod plan;

use std::sync::Arc;

use base_tasks::Tasks;
use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use machinery_client::kube::Client;
use machinery_client::{Change, EventKind, ObjectKey, Recorder, Regarding};

use crate::endpoints::{MANAGED_BY, SERVICE_NAME, Write, write_slice};
use crate::reconcile::{self, Again, Error};
use crate::world::World;

struct Controller {
    client: Client,
    world: World,
    recorder: Recorder,
}

pub fn start(tasks: &Tasks, client: &Client, world: &World) {
    let queue = reconcile::queue::<ObjectKey>();
    reconcile::wake(tasks, &world.endpoints, {
        let queue = queue.clone();
        move |change| queue.add(change.key().clone())
    });
    // A Service may come after its Endpoints, and may gain or lose its selector.
    reconcile::wake(tasks, &world.services, {
        let queue = queue.clone();
        move |change| queue.add(change.key().clone())
    });
    reconcile::wake(tasks, &world.slices, {
        let queue = queue.clone();
        move |change| {
            let (Change::Applied { new: slice, .. } | Change::Deleted { old: slice, .. }) = change;
            if let Some(name) = made_for(slice) {
                queue.add(ObjectKey::new(change.key().namespace.clone(), name));
            }
        }
    });
    let recorder = Recorder::new(tasks, client.clone(), "endpoint-slice-mirroring-controller", None);
    let controller = Arc::new(Controller { client: client.clone(), world: world.clone(), recorder });
    let ready = {
        let world = world.clone();
        async move {
            world.services.synced().await;
            world.slices.synced().await;
            world.endpoints.synced().await;
        }
    };
    reconcile::run(tasks, &queue, 2, ready, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.reconcile(key).await }
    });
}

/// The Endpoints this controller made a slice for.
fn made_for(slice: &EndpointSlice) -> Option<&str> {
    let labels = slice.metadata.labels.as_ref()?;
    let ours = labels.get(MANAGED_BY).is_some_and(|by| by == plan::CONTROLLER);
    labels.get(SERVICE_NAME).filter(|_| ours).map(String::as_str)
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<Again, Error> {
        let existing = self
            .world
            .slices
            .select(|at, slice| at.namespace == key.namespace && made_for(slice) == Some(key.name.as_str()));
        let existing: Vec<&EndpointSlice> = existing.iter().map(|(_, slice)| &**slice).collect();
        let service = self.world.services.get(&key);
        let endpoints = self.world.endpoints.get(&key);
        let writes = match endpoints.filter(|endpoints| plan::wanted(endpoints, service.as_deref())) {
            Some(endpoints) => {
                let mirror = plan::plan(&endpoints, &existing);
                self.say_what_is_missing(&endpoints, &mirror);
                mirror.writes
            }
            None => {
                let names = existing.iter().filter_map(|slice| slice.metadata.name.clone());
                names.map(Write::Delete).collect()
            }
        };
        for write in writes {
            write_slice(&self.client, &self.world, &key.namespace, write).await?;
        }
        Ok(None)
    }

    fn say_what_is_missing(&self, endpoints: &Endpoints, mirror: &plan::Mirror) {
        // A plan that writes nothing was told of before.
        if mirror.writes.is_empty() {
            return;
        }
        let regarding = Regarding {
            api_version: "v1".into(),
            kind: "Endpoints".into(),
            namespace: endpoints.metadata.namespace.clone().unwrap_or_default(),
            name: endpoints.metadata.name.clone().unwrap_or_default(),
            uid: endpoints.metadata.uid.clone().unwrap_or_default(),
            field_path: None,
        };
        let warn = |reason, message: String| self.recorder.event(&regarding, EventKind::Warning, reason, &message);
        if mirror.invalid > 0 {
            let count = mirror.invalid;
            warn("InvalidIPAddress", format!("Skipped {count} invalid IP addresses when mirroring to EndpointSlices"));
        }
        if mirror.skipped > 0 {
            warn(
                "TooManyAddressesToMirror",
                format!(
                    "A max of {} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped",
                    plan::PER_SUBSET,
                    mirror.skipped + mirror.invalid
                ),
            );
        }
    }
}
