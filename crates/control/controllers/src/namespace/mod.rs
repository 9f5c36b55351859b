//! Empties a namespace that is being deleted, then lets it go.

use base_tasks::Tasks;
use k8s_openapi::api::core::v1::Namespace;
use machinery_client::kube::api::{Api, DeleteParams, DynamicObject, ListParams, PartialObjectMeta};
use machinery_client::kube::core::ApiResource;
use machinery_client::kube::discovery::{Discovery, Scope, verbs};
use machinery_client::kube::{Client, ResourceExt};
use std::time::Duration;

use crate::reconcile::{self, Again, During, Error, is_code};
use crate::world::World;

/// What a finalizer of some object may take is unknown: the namespace is looked at again after this time, as
/// nothing tells this controller that an arbitrary kind's last object has gone.
const AGAIN: Duration = Duration::from_secs(1);

pub fn start(tasks: &Tasks, client: &Client, world: &World) {
    let queue = reconcile::queue::<String>();
    reconcile::wake(tasks, &world.namespaces, {
        let queue = queue.clone();
        move |change| queue.add(change.key().name.clone())
    });
    // Pods are what most often outlives its deletion; their going wakes their namespace.
    reconcile::wake(tasks, &world.pods, {
        let (queue, namespaces) = (queue.clone(), world.namespaces.clone());
        move |change| {
            if let machinery_client::Change::Deleted { key, .. } = change
                && namespaces
                    .get(&machinery_client::ObjectKey::new("", key.namespace.clone()))
                    .is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some())
            {
                queue.add(key.namespace.clone());
            }
        }
    });
    let ready = {
        let world = world.clone();
        async move { world.namespaces.synced().await }
    };
    let (client, world) = (client.clone(), world.clone());
    reconcile::run(tasks, &queue, 2, ready, move |name| {
        let (client, world) = (client.clone(), world.clone());
        async move {
            let Some(namespace) = world.namespaces.get(&machinery_client::ObjectKey::new("", name.clone())) else {
                return Ok(None);
            };
            if namespace.metadata.deletion_timestamp.is_none() {
                return Ok(None);
            }
            empty(&client, &namespace).await
        }
    });
}

async fn empty(client: &Client, namespace: &Namespace) -> Result<Again, Error> {
    let name = namespace.name_any();
    let discovery = Discovery::new(client.clone()).run().await.during("discovering what a namespace may hold")?;
    let mut remaining = 0;
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if capabilities.scope != Scope::Namespaced || !capabilities.supports_operation(verbs::DELETE_COLLECTION) {
                continue;
            }
            remaining += delete_all(client, &name, &resource).await?;
        }
    }
    if remaining > 0 {
        return Ok(Some(AGAIN));
    }
    finalize(client, namespace).await
}

/// Deletes every object of a kind; returns how many are still there.
async fn delete_all(client: &Client, namespace: &str, resource: &ApiResource) -> Result<usize, Error> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
    let count = async || -> Result<usize, Error> {
        let list: machinery_client::kube::api::ObjectList<PartialObjectMeta<DynamicObject>> =
            api.list_metadata(&ListParams::default()).await.during("listing what a namespace holds")?;
        Ok(list.items.len())
    };
    if count().await? == 0 {
        return Ok(0);
    }
    api.delete_collection(&DeleteParams::background(), &ListParams::default())
        .await
        .during("deleting what a namespace holds")?;
    count().await
}

/// Removes the `kubernetes` finalizer of the spec; the API then removes the namespace.
async fn finalize(client: &Client, namespace: &Namespace) -> Result<Again, Error> {
    let mut namespace = namespace.clone();
    let name = namespace.name_any();
    let spec = namespace.spec.get_or_insert_default();
    let finalizers = spec.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == "kubernetes") {
        return Ok(None);
    }
    finalizers.retain(|finalizer| finalizer != "kubernetes");
    let body = serde_json::to_vec(&namespace).unwrap_or_default();
    let request = http::Request::put(format!("/api/v1/namespaces/{name}/finalize"))
        .header("content-type", "application/json")
        .body(body)
        .unwrap_or_default();
    match client.request::<serde_json::Value>(request).await {
        Err(error) if is_code(&error, 404) => Ok(None),
        other => other.map(|_| None).during("finalizing a namespace"),
    }
}
