//! Objects of the API's own machinery that every cluster has: priority classes, priority levels and flow schemas, the
//! service range, a StorageClass, and an APIService per group version. Written at every start, all at once, so that the store groups
//! them in few commits; what is right already costs a read from memory.

use std::sync::Arc;

use api::flowcontrol::{self, AUTOUPDATE};
use base_meta::{Gvr, Reason, Status};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use machinery_registry::{CreateOptions, MediaType, Payload, RequestContext, Resource, UpdateOptions};
use serde_json::{Value, json};

use crate::apiregistration::{MANAGED, priorities};
use crate::define::server_context;

/// What a start does to an object that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    /// Nothing: it is the user's.
    Theirs,
    /// Its spec becomes ours again.
    Ours,
    /// Its spec is ours unless a user has taken it over.
    Suggested,
}

struct Seed {
    gvr: Gvr,
    object: Value,
    /// Written after the object is made: a create clears status.
    status: Option<Value>,
    keep: Keep,
}

impl Seed {
    fn new(group: &'static str, resource: &'static str, keep: Keep, object: Value) -> Self {
        Self { gvr: Gvr::of(group, "v1", resource), object, status: None, keep }
    }

    fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or("")
    }
}

/// `ranges` are where service addresses come from.
pub(crate) async fn write(resources: &[Arc<dyn Resource>], ranges: &[String]) -> Result<(), Status> {
    let mut seeds = flow_control();
    seeds.extend(priority_classes());
    seeds.push(service_range(ranges));
    seeds.push(local_path());
    seeds.extend(api_services(resources));
    let mut writes = FuturesUnordered::new();
    for seed in seeds {
        let resource = resources.iter().find(|resource| resource.def().gvr() == seed.gvr);
        if let Some(resource) = resource {
            writes.push(plant(&**resource, seed));
        }
    }
    while let Some(written) = writes.next().await {
        written?;
    }
    Ok(())
}

async fn plant(resource: &dyn Resource, seed: Seed) -> Result<(), Status> {
    let (ctx, name) = (server_context(seed.gvr.clone(), None), seed.name());
    match resource.get(&ctx, name, "").await {
        Ok(found) => {
            let found: Value = found.to_value().map_err(Status::internal)?;
            let Some(wanted) = kept(&found, &seed) else { return Ok(()) };
            resource.update(&ctx, name, payload(&wanted), UpdateOptions::default()).await.map(drop)
        }
        Err(status) if status.reason == Reason::NotFound => {
            let made = match resource.create(&ctx, payload(&seed.object), CreateOptions::default()).await {
                Ok(made) => made.object,
                // Another API server over the same store was first.
                Err(status) if status.reason == Reason::AlreadyExists => return Ok(()),
                Err(status) => return Err(status),
            };
            let Some(status) = &seed.status else { return Ok(()) };
            let ctx = RequestContext { subresource: Some(Arc::from("status")), ..ctx };
            let mut object: Value = made.to_value().map_err(Status::internal)?;
            object["status"] = status.clone();
            resource.update(&ctx, name, payload(&object), UpdateOptions::default()).await.map(drop)
        }
        Err(status) => Err(status),
    }
}

/// Pure: what the stored object becomes, if it changes.
fn kept(found: &Value, seed: &Seed) -> Option<Value> {
    let ours = match seed.keep {
        Keep::Theirs => false,
        Keep::Ours => true,
        Keep::Suggested => match found["metadata"]["annotations"][AUTOUPDATE].as_str() {
            Some(told) => told == "true",
            // Nobody has said, and nobody has changed it.
            None => found["metadata"]["generation"] == 1,
        },
    };
    if !ours || contains(&found["spec"], &seed.object["spec"]) {
        return None;
    }
    let mut wanted = found.clone();
    wanted["spec"] = seed.object["spec"].clone();
    Some(wanted)
}

/// Whether `stored`, which has its defaults, says all that `wanted` says.
fn contains(stored: &Value, wanted: &Value) -> bool {
    match (stored, wanted) {
        (Value::Object(stored), Value::Object(wanted)) => {
            wanted.iter().all(|(name, value)| contains(stored.get(name).unwrap_or(&Value::Null), value))
        }
        (Value::Array(stored), Value::Array(wanted)) => {
            stored.len() == wanted.len() && stored.iter().zip(wanted).all(|(stored, wanted)| contains(stored, wanted))
        }
        // Go leaves these out.
        (Value::Null, Value::Number(number)) => number.as_i64() == Some(0),
        (Value::Null, Value::String(text)) => text.is_empty(),
        (stored, wanted) => stored == wanted,
    }
}

fn flow_control() -> Vec<Seed> {
    const GROUP: &str = "flowcontrol.apiserver.k8s.io";
    let seed = |resource: &'static str, kind: &str, keep: Keep, name: &str, spec: Value| {
        Seed::new(
            GROUP,
            resource,
            keep,
            json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind,
                "metadata": {"name": name, "annotations": {AUTOUPDATE: "true"}}, "spec": spec}),
        )
    };
    let level = |keep: Keep| {
        move |(name, spec)| seed("prioritylevelconfigurations", "PriorityLevelConfiguration", keep, name, spec)
    };
    let schema = |keep: Keep| {
        move |(name, spec): (&'static str, Value)| {
            let level = spec["priorityLevelConfiguration"]["name"].as_str().unwrap_or("").to_owned();
            let message = format!(
                "This FlowSchema references the PriorityLevelConfiguration object named {level:?} and it exists"
            );
            let condition = json!({"type": "Dangling", "status": "False", "reason": "Found", "message": message,
                "lastTransitionTime": now()});
            let mut made = seed("flowschemas", "FlowSchema", keep, name, spec);
            made.status = Some(json!({"conditions": [condition]}));
            made
        }
    };
    let mut all: Vec<Seed> = flowcontrol::mandatory_levels().into_iter().map(level(Keep::Ours)).collect();
    all.extend(flowcontrol::suggested_levels().into_iter().map(level(Keep::Suggested)));
    all.extend(flowcontrol::mandatory_schemas().into_iter().map(schema(Keep::Ours)));
    all.extend(flowcontrol::suggested_schemas().into_iter().map(schema(Keep::Suggested)));
    all
}

fn priority_classes() -> impl Iterator<Item = Seed> {
    api::validation::priority_class::SYSTEM.into_iter().map(|(name, value, description)| {
        let object = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name}, "value": value, "description": description});
        Seed::new("scheduling.k8s.io", "priorityclasses", Keep::Theirs, object)
    })
}

/// The class of claims that name none: directories on the node of their first pod.
fn local_path() -> Seed {
    let object = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": "local-path", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": api::volume::LOCAL_PATH, "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer"});
    Seed::new("storage.k8s.io", "storageclasses", Keep::Theirs, object)
}

fn service_range(ranges: &[String]) -> Seed {
    let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"}, "spec": {"cidrs": ranges}});
    let mut seed = Seed::new("networking.k8s.io", "servicecidrs", Keep::Theirs, object);
    seed.status = Some(json!({"conditions": [{"type": "Ready", "status": "True", "reason": "",
        "message": "Kubernetes default Service CIDR is ready", "lastTransitionTime": now()}]}));
    seed
}

fn api_services(resources: &[Arc<dyn Resource>]) -> Vec<Seed> {
    let mut all: Vec<(String, String)> = resources
        .iter()
        .map(|resource| &resource.def().gvk)
        .map(|gvk| (gvk.group.to_string(), gvk.version.to_string()))
        // A group that has its APIService from elsewhere, or none, has no priority.
        .filter(|(group, version)| priorities::of(group, version).is_some())
        .collect();
    // Their kinds are questions: nothing is stored, and no registry serves them.
    all.extend(["authentication.k8s.io", "authorization.k8s.io"].map(|group| (group.to_owned(), "v1".to_owned())));
    all.sort();
    all.dedup();
    let seed = |(group, version): &(String, String)| {
        let (group_priority, version_priority) = priorities::of(group, version)?;
        let object = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": format!("{version}.{group}"),
                "labels": {MANAGED: "onstart"}},
            "spec": {"group": group, "version": version, "groupPriorityMinimum": group_priority,
                "versionPriority": version_priority}});
        Some(Seed::new("apiregistration.k8s.io", "apiservices", Keep::Ours, object))
    };
    all.iter().filter_map(seed).collect()
}

fn now() -> String {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

fn payload(value: &Value) -> Payload {
    Payload { media: MediaType::Json, bytes: value.to_string().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_keep_what_they_took_over() {
        let seed =
            |keep| Seed::new("g", "r", keep, json!({"metadata": {"name": "a"}, "spec": {"x": 1, "y": [{"z": 0}]}}));
        let found = |told: Option<&str>, generation: i64, x: i64| {
            let annotations = told.map_or(json!({}), |told| json!({AUTOUPDATE: told}));
            json!({"metadata": {"annotations": annotations, "generation": generation}, "spec": {"x": x, "y": [{}], "d": 1}})
        };
        let table = [
            (Keep::Theirs, found(None, 1, 2), false),
            (Keep::Ours, found(Some("false"), 9, 2), true),
            (Keep::Ours, found(None, 1, 1), false),
            (Keep::Suggested, found(Some("true"), 9, 2), true),
            (Keep::Suggested, found(Some("false"), 1, 2), false),
            (Keep::Suggested, found(None, 1, 2), true),
            (Keep::Suggested, found(None, 2, 2), false),
        ];
        for (keep, found, changes) in table {
            let wanted = kept(&found, &seed(keep));
            assert_eq!(wanted.is_some(), changes, "{keep:?} {found}");
            assert!(wanted.is_none_or(|wanted| wanted["spec"]["x"] == 1));
        }
    }

    async fn started() -> crate::Resources {
        let storage = Arc::new(machinery_storage::embedded::Embedded::in_memory().await.expect("a store"));
        crate::tests::started(storage, "10.43.0.0/16").await
    }

    async fn all(resources: &crate::Resources, plural: &str) -> Vec<(String, Value, u64)> {
        let resources = resources.all();
        let resource = resources.iter().find(|resource| resource.def().plural == plural).expect("the kind is served");
        let list =
            resource.list(&server_context(resource.def().gvr(), None), &Default::default()).await.expect("a list");
        let one = |object: &Arc<machinery_storage::Object>| {
            let value: Value = object.to_value().expect("JSON");
            (value["metadata"]["name"].as_str().unwrap_or("").to_owned(), value, object.revision.0)
        };
        list.items.iter().map(one).collect()
    }

    #[tokio::test]
    async fn every_cluster_has_them_and_a_second_start_writes_nothing() {
        let resources = started().await;
        let mut before = Vec::new();
        for start in 0..2 {
            write(&resources.all(), &["10.43.0.0/16".to_owned()]).await.expect("written");
            let mut found = Vec::new();
            for (plural, count) in [
                ("prioritylevelconfigurations", 8),
                ("flowschemas", 13),
                ("priorityclasses", 2),
                ("servicecidrs", 1),
                ("storageclasses", 1),
            ] {
                let listed = all(&resources, plural).await;
                assert_eq!(listed.len(), count, "{plural}");
                found.extend(listed);
            }
            found.extend(all(&resources, "apiservices").await);
            if start == 1 {
                assert_eq!(found, before);
            }
            before = found;
        }
        let named = |name: &str| &before.iter().find(|(found, ..)| found == name).expect("there").1;
        assert_eq!(named("v1.")["spec"]["groupPriorityMinimum"], 18_000);
        assert_eq!(named("v1.apps")["status"]["conditions"][0]["reason"], "Local");
        assert_eq!(named("kubernetes")["status"]["conditions"][0]["type"], "Ready");
        assert_eq!(named("system-nodes")["status"]["conditions"][0]["status"], "False");
    }

    #[tokio::test]
    async fn what_is_mandatory_is_mended() {
        let resources = started().await;
        write(&resources.all(), &["10.43.0.0/16".to_owned()]).await.expect("written");
        let list = resources.all();
        let levels =
            list.iter().find(|resource| resource.def().plural == "prioritylevelconfigurations").expect("served");
        let ctx = server_context(levels.def().gvr(), None);
        let stored = levels.get(&ctx, "workload-low", "").await.expect("there");
        let mut changed: Value = stored.to_value().expect("JSON");
        changed["spec"]["limited"]["nominalConcurrencyShares"] = json!(7);
        let shares = |value: &Value| value["spec"]["limited"]["nominalConcurrencyShares"].as_i64();
        for (told, expected) in [("false", 7), ("true", 100)] {
            changed["metadata"]["annotations"][AUTOUPDATE] = json!(told);
            changed["metadata"]["resourceVersion"] = Value::Null;
            let current: Value = levels.get(&ctx, "workload-low", "").await.expect("there").to_value().expect("JSON");
            changed["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"].clone();
            levels.update(&ctx, "workload-low", payload(&changed), UpdateOptions::default()).await.expect("changed");
            write(&list, &["10.43.0.0/16".to_owned()]).await.expect("written");
            let kept: Value = levels.get(&ctx, "workload-low", "").await.expect("there").to_value().expect("JSON");
            assert_eq!(shares(&kept), Some(expected), "{told}");
        }
    }
}
