//! Recounts what quotas have in use: when a quota comes or changes, and when an object it counts goes or weighs less.
//! What is created is charged by the API server as it is; so is what grows.
//!
//! The count must not miss an object that is charged and not stored yet. The API server lets a write of a quota's
//! status wait for such writes: the quota is read, a dry run of that write awaited, the objects listed, and the status
//! written over the version that was read. Whatever is charged in between makes the last step a conflict, and it is all
//! done again. So it is written also where it seems right already: a write that changes nothing is not stored, and only
//! it tells that what was read and what was listed were of one moment.

mod plan;

use api::quota::Kind;
use base_tasks::{Tasks, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceQuota;
use machinery_client::kube::runtime::watcher::Config;
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, Informer, ObjectKey, informer};
use serde_json::Value;

use self::plan::Found;
use crate::gc::{Seen, What};
use crate::reconcile::{self, Again, During, Error, is_code};
use crate::world::World;

/// Which kinds a quota constrains: all that has to be known of it to tell whom a change concerns.
type Kinds = Vec<Kind>;

/// To be told of every object that changes or goes.
pub fn start(tasks: &Tasks, client: &Client, world: &World) -> impl Fn(&Seen<'_>) + Send + Sync + 'static {
    let quotas = informer(tasks, Api::all(client.clone()), Config::default(), |quota: ResourceQuota| {
        let quota = serde_json::to_value(&quota).unwrap_or_default();
        Some(Constrained { kinds: plan::kinds(&quota).into_iter().collect(), settled: settled(&quota) })
    });
    let queue = reconcile::queue::<ObjectKey>();
    reconcile::wake(tasks, &quotas, {
        let queue = queue.clone();
        move |change| {
            if let Change::Applied { key, old, new } = change
                // What is charged changes nothing here.
                && (!new.settled || old.as_ref().is_none_or(|old| old.kinds != new.kinds))
            {
                queue.add(key.clone());
            }
        }
    });
    reconcile::wake(tasks, &world.pods, {
        let wake = wake(&queue, &quotas);
        move |change| {
            if let Change::Applied { key, old: Some(old), new } = change
                && new.terminal()
                && !old.terminal()
            {
                wake(Some(&key.namespace), "", "pods");
            }
        }
    });
    let (client, ready) = (client.clone(), {
        let quotas = quotas.clone();
        async move { quotas.synced().await }
    });
    reconcile::run(tasks, &queue, 2, ready, move |key| {
        let client = client.clone();
        async move { recount(&client, &key).await }
    });
    let wake = wake(&queue, &quotas);
    move |seen| {
        // Of these, a change can make less of them as well.
        let weighed = seen.group.is_empty() && matches!(seen.resource, "services" | "persistentvolumeclaims");
        match seen.what {
            What::Gone { namespace } => wake(Some(namespace), seen.group, seen.resource),
            What::Changed { namespace } if weighed => wake(Some(namespace), seen.group, seen.resource),
            What::Changed { .. } => {}
            What::Listed => wake(None, seen.group, seen.resource),
        }
    }
}

struct Constrained {
    kinds: Kinds,
    /// Its status says something of everything it constrains.
    settled: bool,
}

fn settled(quota: &Value) -> bool {
    let part = |pointer| quota.pointer(pointer).and_then(Value::as_object);
    let hard = part("/spec/hard");
    hard == part("/status/hard")
        && hard.into_iter().flatten().all(|(name, _)| part("/status/used").is_some_and(|used| used.contains_key(name)))
}

/// Queues the quotas that constrain a kind, of a namespace or of all.
fn wake(
    queue: &WorkQueue<ObjectKey>,
    quotas: &Informer<Constrained>,
) -> impl Fn(Option<&str>, &str, &str) + Send + Sync + 'static + use<> {
    let (queue, quotas) = (queue.clone(), quotas.clone());
    move |namespace, group, resource| {
        let constrains = |kind: &Kind| kind.group == group && kind.resource == resource;
        let here = |key: &ObjectKey| namespace.is_none_or(|namespace| key.namespace == namespace);
        for (key, _) in quotas.select(|key, quota| here(key) && quota.kinds.iter().any(constrains)) {
            queue.add(key);
        }
    }
}

async fn recount(client: &Client, key: &ObjectKey) -> Result<Again, Error> {
    let path = format!("/api/v1/namespaces/{}/resourcequotas/{}", key.namespace, key.name);
    let quota = match get(client, &path).await {
        Err(error) if is_code(&error, 404) => return Ok(None),
        other => other.during("reading a quota")?,
    };
    match put(client, &format!("{path}/status?dryRun=All"), &quota).await {
        Err(error) if is_code(&error, 404) => return Ok(None),
        other => other.during("waiting for what is charged to be stored")?,
    };
    let mut found = Vec::new();
    for kind in plan::kinds(&quota) {
        match look(client, &key.namespace, &kind).await {
            Ok(objects) => found.push((kind, objects)),
            // It is not served, or not any more.
            Err(error) if is_code(&error, 404) => {}
            Err(error) => return Err(error).during("counting what a namespace has"),
        }
    }
    let status = plan::status(&quota, &found, Timestamp::now());
    let mut quota = quota;
    quota["status"] = status;
    match put(client, &format!("{path}/status"), &quota).await {
        Err(error) if is_code(&error, 404) => Ok(None),
        other => other.map(|_| None).during("writing what a quota has in use"),
    }
}

async fn look(client: &Client, namespace: &str, kind: &Kind) -> Result<Found, machinery_client::kube::Error> {
    let Kind { group, resource } = kind;
    let prefix = if group.is_empty() {
        "/api/v1".to_owned()
    } else {
        let served = get(client, &format!("/apis/{group}")).await?;
        let version = served.pointer("/preferredVersion/version").and_then(Value::as_str).unwrap_or("v1");
        format!("/apis/{group}/{version}")
    };
    let path = format!("{prefix}/namespaces/{namespace}/{resource}");
    let items = |list: &mut Value| match list.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    if kind.is_measured() {
        return Ok(Found::Objects(items(&mut get(client, &path).await?)));
    }
    // One object, and how many more there are.
    let mut list = get(client, &format!("{path}?limit=1")).await?;
    let more = list.pointer("/metadata/remainingItemCount").and_then(Value::as_u64).unwrap_or(0);
    Ok(Found::Count(items(&mut list).len() as u64 + more))
}

async fn get(client: &Client, path: &str) -> Result<Value, machinery_client::kube::Error> {
    client.request(http::Request::get(path).body(Vec::new()).unwrap_or_default()).await
}

async fn put(client: &Client, path: &str, object: &Value) -> Result<Value, machinery_client::kube::Error> {
    let request = http::Request::put(path).header("content-type", "application/json");
    client.request(request.body(object.to_string().into_bytes()).unwrap_or_default()).await
}
