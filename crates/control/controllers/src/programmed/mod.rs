//! How far the data planes of all nodes are. Each node says on its own Lease which revision of the EndpointSlices its
//! kernel follows; the lowest of them is published in one Lease that all agents watch, so that a pod is told to stop only
//! when no node sends to it any more. Controllers read it here, for pods that have just become ready.

mod pending;
mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;

use base_tasks::Tasks;
use k8s_openapi::api::coordination::v1::Lease;
use machinery_client::kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, ObjectKey};
use serde_json::json;
use tokio::sync::watch;

use self::plan::{Plane, Planes};
use crate::nodes::{LEASES, REVISION, Readiness};
use crate::reconcile::{self, During, Error, is_code};
use crate::world::World;

pub use pending::Programmed;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "sampan-programmed";
/// On the published Lease: how many nodes are awaited.
const AWAITED: &str = "sampan.io/awaited";

pub fn start(tasks: &Tasks, client: &Client, world: &World) -> Programmed {
    let planes = Arc::new(watch::Sender::new(Planes::default()));
    let queue = reconcile::queue::<()>();
    reconcile::wake(tasks, &world.node_leases, {
        let queue = queue.clone();
        // A renewal says nothing new.
        move |change| match change {
            Change::Applied { old: Some(old), new, .. } if old.revision == new.revision => {}
            _ => queue.add(()),
        }
    });
    reconcile::wake(tasks, &world.nodes, {
        let queue = queue.clone();
        move |_| queue.add(())
    });
    let ready = {
        let (nodes, leases) = (world.nodes.clone(), world.node_leases.clone());
        async move {
            nodes.synced().await;
            leases.synced().await;
        }
    };
    let programmed = Programmed::new(tasks, planes.subscribe(), world);
    let (client, world) = (client.clone(), world.clone());
    let published = Arc::new(std::sync::Mutex::new(None));
    reconcile::run(tasks, &queue, 1, ready, move |()| {
        let now = survey(&world);
        planes.send_if_modified(|planes| std::mem::replace(planes, now) != now);
        let (client, published) = (client.clone(), Arc::clone(&published));
        async move {
            let last = || published.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let before = *last();
            if before != Some(now) {
                publish(&client, now, before).await?;
                *last() = Some(now);
            }
            Ok(None)
        }
    });
    programmed
}

fn survey(world: &World) -> Planes {
    let ready = world.nodes.select(|_, node| node.readiness() == Readiness::Ready).into_iter();
    let plane = |(key, _): (ObjectKey, _)| {
        let revision = world.node_leases.get(&ObjectKey::new(LEASES, key.name)).and_then(|lease| lease.revision);
        Plane { revision }
    };
    Planes::of(&ready.map(plane).collect::<Vec<_>>())
}

/// A cluster that has only ever had one node has no such Lease.
async fn publish(client: &Client, planes: Planes, before: Option<Planes>) -> Result<(), Error> {
    let (awaited, revision) = match planes {
        Planes::Alone => (1, None),
        Planes::Several { nodes, minimum } => (nodes, minimum.map(|minimum| minimum.to_string())),
    };
    let api = Api::<Lease>::namespaced(client.clone(), NAMESPACE);
    let annotations = json!({ AWAITED: awaited.to_string(), REVISION: revision });
    let patch = json!({ "metadata": { "annotations": annotations } });
    match api.patch(NAME, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(error) if is_code(&error, 404) => {}
        other => return other.map(drop).during("publishing what all data planes follow"),
    }
    if planes == Planes::Alone && before.is_none() {
        return Ok(());
    }
    let mut annotations = BTreeMap::from([(AWAITED.to_owned(), awaited.to_string())]);
    annotations.extend(revision.map(|revision| (REVISION.to_owned(), revision)));
    let metadata = ObjectMeta { name: Some(NAME.into()), annotations: Some(annotations), ..ObjectMeta::default() };
    let lease = Lease { metadata, ..Lease::default() };
    api.create(&PostParams::default(), &lease).await.map(drop).during("publishing what all data planes follow")
}
