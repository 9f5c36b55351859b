//! Gives every namespace its `default` ServiceAccount.

use base_tasks::Tasks;
use k8s_openapi::api::core::v1::ServiceAccount;
use machinery_client::kube::api::{ObjectMeta, PostParams};
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, ObjectKey};

use crate::reconcile::{self, During, is_code};
use crate::world::World;

const NAME: &str = "default";

pub fn start(tasks: &Tasks, client: &Client, world: &World) {
    let queue = reconcile::queue::<String>();
    reconcile::wake(tasks, &world.namespaces, {
        let queue = queue.clone();
        move |change| queue.add(change.key().name.clone())
    });
    reconcile::wake(tasks, &world.service_accounts, {
        let queue = queue.clone();
        move |change| {
            if let Change::Deleted { key, .. } = change
                && key.name == NAME
            {
                queue.add(key.namespace.clone());
            }
        }
    });
    let ready = {
        let world = world.clone();
        async move {
            world.namespaces.synced().await;
            world.service_accounts.synced().await;
        }
    };
    let (client, world) = (client.clone(), world.clone());
    reconcile::run(tasks, &queue, 1, ready, move |namespace| {
        let (client, world) = (client.clone(), world.clone());
        async move {
            let active = world
                .namespaces
                .get(&ObjectKey::new("", namespace.clone()))
                .is_some_and(|found| found.metadata.deletion_timestamp.is_none());
            if !active || world.service_accounts.get(&ObjectKey::new(namespace.clone(), NAME)).is_some() {
                return Ok(None);
            }
            let account = ServiceAccount {
                metadata: ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() },
                ..ServiceAccount::default()
            };
            match Api::<ServiceAccount>::namespaced(client, &namespace).create(&PostParams::default(), &account).await {
                Err(error) if is_code(&error, 409) => Ok(None),
                other => other.map(|_| None).during("making the default ServiceAccount"),
            }
        }
    });
}
