//! Publishes whom aggregated API servers are to believe: ConfigMap `extension-apiserver-authentication` of `kube-system`.

use std::collections::BTreeMap;
use std::sync::Arc;

use base_tasks::Tasks;
use k8s_openapi::api::core::v1::ConfigMap;
use machinery_client::informer;
use machinery_client::kube::api::PostParams;
use machinery_client::kube::runtime::watcher::Config;
use machinery_client::kube::{Api, Client};

use crate::reconcile::{self, During, is_code};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";

pub fn start(tasks: &Tasks, client: &Client, wanted: BTreeMap<String, String>) {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let wanted = Arc::new(wanted);
    // What is kept is whether it says the right thing; a user's own keys may stand beside.
    let ours = Config::default().fields(&format!("metadata.name={NAME}"));
    let check = wanted.clone();
    let published = informer(tasks, api.clone(), ours, move |map: ConfigMap| {
        let data = map.data.unwrap_or_default();
        Some(check.iter().all(|(key, value)| data.get(key) == Some(value)))
    });
    let queue = reconcile::queue::<()>();
    reconcile::wake(tasks, &published, {
        let queue = queue.clone();
        move |_| queue.add(())
    });
    queue.add(());
    let ready = published.clone();
    reconcile::run(tasks, &queue, 1, async move { ready.synced().await }, move |()| {
        let (api, wanted, found) = (api.clone(), wanted.clone(), published.list().pop());
        async move {
            let written = match found {
                Some((_, right)) if *right => return Ok(None),
                Some(_) => match api.get(NAME).await {
                    Ok(mut map) => {
                        let pairs = wanted.iter().map(|(key, value)| (key.clone(), value.clone()));
                        map.data.get_or_insert_default().extend(pairs);
                        api.replace(NAME, &PostParams::default(), &map).await
                    }
                    Err(error) => Err(error),
                },
                None => {
                    let mut map = ConfigMap { data: Some((*wanted).clone()), ..ConfigMap::default() };
                    map.metadata.name = Some(NAME.to_owned());
                    api.create(&PostParams::default(), &map).await
                }
            };
            match written {
                // Whoever was first wakes this again.
                Err(error) if is_code(&error, 409) || is_code(&error, 404) => Ok(None),
                other => other.map(|_| None).during("publishing whom aggregated servers are to believe"),
            }
        }
    });
}
