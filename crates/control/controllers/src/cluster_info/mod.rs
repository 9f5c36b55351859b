//! ConfigMap `cluster-info` of `kube-public`: where the API is, signed by every bootstrap token that may sign, so that who has a
//! token knows whom to believe. Upstream's BootstrapSigner; kubeadm makes the ConfigMap there, here it is made, too.
//! Nobody reads it without credentials: anonymous requests reach health checks alone.

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::bootstrap_token as token;
use base_tasks::Tasks;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use machinery_client::informer;
use machinery_client::kube::api::{ApiResource, DynamicObject, PostParams};
use machinery_client::kube::core::GroupVersionKind;
use machinery_client::kube::runtime::watcher::Config;
use machinery_client::kube::{Api, Client};

use crate::reconcile::{self, During, is_code};
use plan::Signer;

const NAMESPACE: &str = "kube-public";
const NAME: &str = "cluster-info";

/// `address` is the API's, host and port.
pub fn start(tasks: &Tasks, client: &Client, address: &str, ca_pem: &str) {
    let kubeconfig: Arc<str> = plan::kubeconfig(address, ca_pem).into();
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let ours = Config::default().fields(&format!("metadata.name={NAME}"));
    let published = informer(tasks, api.clone(), ours, |map: ConfigMap| Some(map.data.unwrap_or_default()));

    let secrets = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Secret"));
    let secrets: Api<DynamicObject> = Api::namespaced_with(client.clone(), token::NAMESPACE, &secrets);
    let ours = Config::default().fields(&format!("type={}", token::SECRET_TYPE));
    let signers = informer(tasks, secrets, ours, |secret: DynamicObject| {
        plan::signer(secret.metadata.name.as_deref().unwrap_or_default(), &secret.data, Timestamp::now())
    });

    let queue = reconcile::queue::<()>();
    let woken = queue.clone();
    reconcile::wake(tasks, &published, move |_| woken.add(()));
    let woken = queue.clone();
    reconcile::wake(tasks, &signers, move |_| woken.add(()));
    queue.add(());
    let ready = (published.clone(), signers.clone());
    let ready = async move {
        ready.0.synced().await;
        ready.1.synced().await;
    };
    reconcile::run(tasks, &queue, 1, ready, move |()| {
        let (api, kubeconfig) = (api.clone(), kubeconfig.clone());
        let found = published.list().pop().map(|(_, data)| data);
        let mut signers: Vec<Signer> = signers.list().into_iter().map(|(_, signer)| (*signer).clone()).collect();
        signers.sort_by(|a, b| a.id.cmp(&b.id));
        async move {
            let stored = found.as_deref().cloned().unwrap_or_default();
            let data = match plan::wanted(&stored, &kubeconfig, &signers) {
                Ok(data) if found.is_some() && data == stored => return Ok(None),
                Ok(data) => data,
                Err(error) => {
                    tracing::error!(%error, "signing {NAME} failed");
                    return Ok(None);
                }
            };
            match publish(&api, found.is_some(), data).await {
                // Whoever was first wakes this again.
                Err(error) if is_code(&error, 409) || is_code(&error, 404) => Ok(None),
                other => other.map(|()| None).during("publishing cluster-info"),
            }
        }
    });
}

async fn publish(
    api: &Api<ConfigMap>,
    exists: bool,
    data: BTreeMap<String, String>,
) -> machinery_client::kube::Result<()> {
    if exists {
        let mut map = api.get(NAME).await?;
        map.data = Some(data);
        return api.replace(NAME, &PostParams::default(), &map).await.map(drop);
    }
    let mut map = ConfigMap { data: Some(data), ..ConfigMap::default() };
    map.metadata.name = Some(NAME.to_owned());
    api.create(&PostParams::default(), &map).await.map(drop)
}
