//! How many pods the controllers of some pods want.

use std::collections::BTreeMap;

use machinery_client::kube::api::{ApiResource, DynamicObject};
use machinery_client::kube::core::GroupVersionKind;
use machinery_client::kube::discovery::pinned_kind;
use machinery_client::kube::{Api, Client};

use machinery_client::ObjectKey;

use crate::reconcile::{During, Error, is_code};
use crate::world::{Owner, PodFacts, World, controller_of};

pub enum Wanted {
    Pods {
        wanted: i32,
        unmanaged: bool,
    },
    /// Of a pod's controller it cannot be said.
    Unknown(String),
}

pub async fn wanted(client: &Client, world: &World, pods: &[&PodFacts]) -> Result<Wanted, Error> {
    // By uid of the controller.
    let mut scales: BTreeMap<String, i32> = BTreeMap::new();
    let mut unmanaged = false;
    for pod in pods {
        let Some(owner) = &pod.controller else {
            unmanaged = true;
            continue;
        };
        if scales.contains_key(&owner.uid) {
            continue;
        }
        let found = match replica_set(world, &pod.key.namespace, owner) {
            Some(found) => Some(found),
            None => subresource(client, &pod.key.namespace, owner).await?,
        };
        let Some((uid, scale)) = found else {
            return Ok(Wanted::Unknown(format!("found no controllers for pod {:?}", pod.key.name)));
        };
        scales.insert(uid, scale);
    }
    Ok(Wanted::Pods { wanted: scales.values().sum(), unmanaged })
}

/// Of a ReplicaSet; of a Deployment, where that has made it.
fn replica_set(world: &World, namespace: &str, owner: &Owner) -> Option<(String, i32)> {
    let set = world.replica_sets.get(&ObjectKey::new(namespace, owner.name.clone()))?;
    if owner.kind != "ReplicaSet" || set.metadata.uid.as_deref() != Some(&owner.uid) {
        return None;
    }
    let own = || Some((owner.uid.clone(), set.spec.as_ref()?.replicas.unwrap_or(1)));
    let Some(above) = controller_of(&set.metadata).filter(|above| above.kind == "Deployment") else { return own() };
    let deployment = world.deployments.get(&ObjectKey::new(namespace, above.name))?;
    if deployment.metadata.uid.as_deref() != Some(&above.uid) {
        return own();
    }
    Some((above.uid, deployment.spec.as_ref()?.replicas.unwrap_or(1)))
}

/// Of any kind that has a scale.
async fn subresource(client: &Client, namespace: &str, owner: &Owner) -> Result<Option<(String, i32)>, Error> {
    let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
    let kind = GroupVersionKind::gvk(group, version, &owner.kind);
    let resource: ApiResource = match pinned_kind(client, &kind).await {
        Ok((resource, _)) => resource,
        Err(error) if is_code(&error, 404) => return Ok(None),
        Err(machinery_client::kube::Error::Discovery(_)) => return Ok(None),
        Err(error) => return Err(error).during("looking up the kind of a pod's controller"),
    };
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
    match api.get_scale(&owner.name).await {
        Ok(scale) if scale.metadata.uid.as_deref() == Some(&owner.uid) => {
            Ok(Some((owner.uid.clone(), scale.spec.and_then(|spec| spec.replicas).unwrap_or(0))))
        }
        Ok(_) => Ok(None),
        Err(error) if is_code(&error, 404) => Ok(None),
        Err(error) => Err(error).during("reading the scale of a pod's controller"),
    }
}
