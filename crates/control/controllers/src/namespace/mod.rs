//! Empties a namespace that is being deleted, then lets it go.

use base_tasks::Tasks;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use machinery_client::kube::api::{Api, DeleteParams, DynamicObject, ListParams, PartialObjectMeta};
use machinery_client::kube::core::ApiResource;
use machinery_client::kube::discovery::{Discovery, Scope, verbs};
use machinery_client::kube::{Client, ResourceExt};
use serde_json::Value;
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
    let silent = silent(client).await?;
    let discovery = Discovery::new(client.clone()).run_aggregated().await;
    let discovery = discovery.during("discovering what a namespace may hold")?;
    let mut remaining = 0;
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if silent.contains(&resource.api_version)
                || capabilities.scope != Scope::Namespaced
                || !capabilities.supports_operation(verbs::DELETE_COLLECTION)
            {
                continue;
            }
            remaining += delete_all(client, &name, &resource).await?;
        }
    }
    if !silent.is_empty() {
        // What is there cannot be seen, so it may not be left behind either.
        tell(client, namespace, &silent).await?;
        return Ok(Some(AGAIN));
    }
    if remaining > 0 {
        return Ok(Some(AGAIN));
    }
    finalize(client, namespace).await
}

/// Group versions of aggregated servers that do not answer.
async fn silent(client: &Client) -> Result<Vec<String>, Error> {
    const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let request = http::Request::get("/apis").header("accept", AGGREGATED).body(Vec::new()).unwrap_or_default();
    let document: Value = client.request(request).await.during("asking which servers answer")?;
    Ok(stale(&document))
}

/// Pure: of aggregated discovery, what is marked stale.
fn stale(document: &Value) -> Vec<String> {
    let groups = document["items"].as_array().into_iter().flatten();
    let versions = groups.flat_map(|group| {
        let name = group["metadata"]["name"].as_str().unwrap_or("");
        let versions = group["versions"].as_array().into_iter().flatten();
        let stale = versions.filter(|version| version["freshness"] == "Stale");
        stale.map(move |version| format!("{name}/{}", version["version"].as_str().unwrap_or("")))
    });
    versions.collect()
}

/// Says in the namespace's status why it stays.
async fn tell(client: &Client, namespace: &Namespace, silent: &[String]) -> Result<(), Error> {
    let each: Vec<String> = silent.iter().map(|gv| format!("{gv}: stale GroupVersion discovery: {gv}")).collect();
    let message = format!(
        "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: {}",
        silent.len(),
        each.join(", ")
    );
    let kind = "NamespaceDeletionDiscoveryFailure";
    let mut namespace = namespace.clone();
    let conditions = namespace.status.get_or_insert_default().conditions.get_or_insert_default();
    let said = conditions.iter().find(|condition| condition.type_ == kind);
    if said.is_some_and(|said| said.status == "True" && said.message.as_deref() == Some(&message)) {
        return Ok(());
    }
    conditions.retain(|condition| condition.type_ != kind);
    conditions.push(NamespaceCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some("DiscoveryFailed".to_owned()),
        message: Some(message),
        last_transition_time: Some(Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default())),
    });
    let name = namespace.name_any();
    let request = http::Request::put(format!("/api/v1/namespaces/{name}/status"))
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&namespace).unwrap_or_default())
        .unwrap_or_default();
    match client.request::<Value>(request).await {
        Err(error) if is_code(&error, 404) || is_code(&error, 409) => Ok(()),
        other => other.map(drop).during("saying why a namespace stays"),
    }
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
    match client.request::<Value>(request).await {
        Err(error) if is_code(&error, 404) => Ok(None),
        other => other.map(|_| None).during("finalizing a namespace"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_servers_that_do_not_answer_are_stale() {
        let version = |version: &str, freshness: &str| json!({"version": version, "freshness": freshness});
        let document = json!({"items": [
            {"metadata": {"name": "apps"}, "versions": [version("v1", "Current")]},
            {"metadata": {"name": "a.example"}, "versions": [version("v2", "Current"), version("v1", "Stale")]}]});
        assert_eq!(stale(&document), ["a.example/v1"]);
        assert!(stale(&json!({"items": [{}, 7]})).is_empty() && stale(&Value::Null).is_empty());
    }
}
