//! Gives every namespace the certificate of the cluster's authority (ConfigMap `kube-root-ca.crt`) and, after it, its
//! `default` ServiceAccount: a pod that is admitted can mount both.

use base_tasks::Tasks;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use machinery_client::kube::api::{ObjectMeta, PostParams};
use machinery_client::kube::runtime::watcher;
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, ObjectKey, informer};

use crate::reconcile::{self, During, Error, is_code};
use crate::world::World;

const NAME: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";
const KEY: &str = "ca.crt";

pub fn start(tasks: &Tasks, client: &Client, world: &World, ca_pem: &str) {
    let ours = watcher::Config::default().fields(&format!("metadata.name={ROOT_CA}"));
    // What is kept of each is whether it says the right thing.
    let wanted = ca_pem.to_owned();
    let published = informer(tasks, Api::<ConfigMap>::all(client.clone()), ours, move |map: ConfigMap| {
        Some(map.data.is_some_and(|data| data.len() == 1 && data.get(KEY) == Some(&wanted)))
    });
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
    reconcile::wake(tasks, &published, {
        let queue = queue.clone();
        move |change| {
            if !matches!(change, Change::Applied { new, .. } if **new) {
                queue.add(change.key().namespace.clone());
            }
        }
    });
    let ready = {
        let (world, published) = (world.clone(), published.clone());
        async move {
            published.synced().await;
            world.namespaces.synced().await;
            world.service_accounts.synced().await;
        }
    };
    let (client, world, ca_pem) = (client.clone(), world.clone(), ca_pem.to_owned());
    reconcile::run(tasks, &queue, 1, ready, move |namespace| {
        let (client, world, published, ca_pem) = (client.clone(), world.clone(), published.clone(), ca_pem.clone());
        async move {
            let active = world
                .namespaces
                .get(&ObjectKey::new("", namespace.clone()))
                .is_some_and(|found| found.metadata.deletion_timestamp.is_none());
            if !active {
                return Ok(None);
            }
            let right = published.get(&ObjectKey::new(namespace.clone(), ROOT_CA));
            if right.as_deref() != Some(&true) {
                publish(&client, &namespace, &ca_pem, right.is_some()).await?;
            }
            if world.service_accounts.get(&ObjectKey::new(namespace.clone(), NAME)).is_some() {
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

async fn publish(client: &Client, namespace: &str, ca_pem: &str, there: bool) -> Result<(), Error> {
    let note = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as \
                the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of \
                Kubernetes clusters.";
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(ROOT_CA.into()),
            annotations: Some([("kubernetes.io/description".to_owned(), note.to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some([(KEY.to_owned(), ca_pem.to_owned())].into()),
        ..ConfigMap::default()
    };
    let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let params = PostParams::default();
    let written = if there { api.replace(ROOT_CA, &params, &map).await } else { api.create(&params, &map).await };
    match written {
        Err(error) if is_code(&error, 409) => Ok(()),
        other => other.map(drop).during("publishing the cluster's authority"),
    }
}
