//! Requests for certificates: those that nodes may have are approved, approved ones are signed by the cluster's authority, and
//! all are forgotten after their time. Upstream's csrapproving, csrsigning and csrcleaner in one.
//!
//! ```text
//!  request ─▶ recognized? ─ SubjectAccessReview of who asks ─▶ Approved     (or kubectl certificate approve)
//!                                                                 │
//!                              its signer's rules ─▶ Failed       ▼
//!                                                 └▶ Authority ─▶ status.certificate ─▶ an hour later: deleted
//! ```

mod plan;

use std::sync::Arc;
use std::time::Duration;

use api::signing_request::Asked;
use base_tasks::Tasks;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use machinery_client::kube::api::{DeleteParams, PostParams, Preconditions};
use machinery_client::kube::runtime::watcher::Config;
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, ObjectKey, informer};
use serde_json::{Value, json};

use crate::reconcile::{self, Again, During, Error, is_code};
use plan::{Recognized, Signing};

/// The cluster's authority, as far as requests for certificates are concerned.
pub trait Authority: Send + Sync + 'static {
    /// A certificate, in PEM, of the subject, key and names that `asked` has, for these usages, which holds for `duration`.
    fn sign(
        &self,
        asked: &Asked,
        usages: &[String],
        duration: Duration,
    ) -> Result<String, Box<dyn std::error::Error + Send + Sync>>;
}

pub fn start(tasks: &Tasks, client: &Client, authority: Arc<dyn Authority>) {
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let requests = informer(tasks, api.clone(), Config::default(), Some);
    let queue = reconcile::queue::<ObjectKey>();
    reconcile::wake(tasks, &requests, {
        let queue = queue.clone();
        move |change| {
            if let Change::Applied { key, .. } = change {
                queue.add(key.clone());
            }
        }
    });
    let (client, ready) = (client.clone(), requests.clone());
    reconcile::run(tasks, &queue, 1, async move { ready.synced().await }, move |key| {
        let (client, api, authority, request) = (client.clone(), api.clone(), authority.clone(), requests.get(&key));
        async move {
            match request {
                Some(request) => settle(&client, &api, &*authority, (*request).clone()).await,
                None => Ok(None),
            }
        }
    });
}

async fn settle(
    client: &Client,
    api: &Api<CertificateSigningRequest>,
    authority: &dyn Authority,
    mut request: CertificateSigningRequest,
) -> Result<Again, Error> {
    let name = request.metadata.name.clone().unwrap_or_default();
    if let Some(at) = plan::forgotten(&request) {
        let left = at.duration_since(Timestamp::now());
        if !left.is_positive() {
            let uid = request.metadata.uid.clone();
            let params = DeleteParams::default().preconditions(Preconditions { uid, resource_version: None });
            return gone(api.delete(&name, &params).await.map(drop)).during("forgetting a request for a certificate");
        }
    }
    for recognized in plan::recognized(&request) {
        if may(client, &request, recognized).await? {
            add(&mut request, "Approved", "AutoApproved", recognized.message);
            let written = write(api, "approval", &name, &request).await;
            return gone(written).during("approving a request for a certificate");
        }
    }
    if let Some((node, asked)) = plan::serves(&request)
        && plan::names_only(&asked, &node, &addresses(client, &node).await?)
    {
        add(&mut request, "Approved", "AutoApproved", plan::SERVING);
        let written = write(api, "approval", &name, &request).await;
        return gone(written).during("approving a request for a certificate");
    }
    match plan::signing(&request) {
        Signing::Not => {}
        Signing::Refuse(why) => {
            tracing::info!(name, why, "a request for a certificate is not signed");
            add(&mut request, "Failed", "SignerValidationFailure", &why);
            let written = write(api, "status", &name, &request).await;
            return gone(written).during("refusing a certificate");
        }
        Signing::Sign(asked) => {
            let usages = request.spec.usages.as_deref().unwrap_or_default();
            match authority.sign(&asked, usages, plan::duration(&request)) {
                Ok(pem) => {
                    request.status.get_or_insert_default().certificate = Some(ByteString(pem.into_bytes()));
                    let written = write(api, "status", &name, &request).await;
                    return gone(written).during("issuing a certificate");
                }
                // Only another request could mend it.
                Err(error) => {
                    tracing::warn!(name, error = &*error as &dyn std::error::Error, "a certificate cannot be signed")
                }
            }
        }
    }
    let left = plan::forgotten(&request).map(|at| at.duration_since(Timestamp::now()));
    Ok(left.map(|left| left.try_into().unwrap_or_default()))
}

/// The write comes back as an event; what is no longer there needs none.
fn gone(written: machinery_client::kube::Result<()>) -> machinery_client::kube::Result<Again> {
    match written {
        Err(error) if is_code(&error, 404) => Ok(None),
        other => other.map(|()| None),
    }
}

async fn write(
    api: &Api<CertificateSigningRequest>,
    subresource: &str,
    name: &str,
    request: &CertificateSigningRequest,
) -> machinery_client::kube::Result<()> {
    api.replace_subresource(subresource, name, &PostParams::default(), request).await.map(drop)
}

fn add(request: &mut CertificateSigningRequest, kind: &str, reason: &str, message: &str) {
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH);
    let conditions = request.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.push(CertificateSigningRequestCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(Time(now)),
        ..CertificateSigningRequestCondition::default()
    });
}

/// By what a node says that it is reached.
async fn addresses(client: &Client, node: &str) -> Result<Vec<String>, Error> {
    let node = Api::<Node>::all(client.clone()).get_opt(node).await.during("reading a node")?;
    let addresses = node.and_then(|node| node.status?.addresses).unwrap_or_default();
    Ok(addresses.into_iter().map(|address| address.address).collect())
}

/// Whether who asks holds the permission that would approve it.
async fn may(client: &Client, request: &CertificateSigningRequest, asked: Recognized) -> Result<bool, Error> {
    let spec = &request.spec;
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
        "user": spec.username, "uid": spec.uid, "groups": spec.groups, "extra": spec.extra,
        "resourceAttributes": {"group": "certificates.k8s.io", "resource": "certificatesigningrequests",
            "verb": "create", "subresource": asked.subresource}}});
    let call = http::Request::post("/apis/authorization.k8s.io/v1/subjectaccessreviews")
        .header("content-type", "application/json")
        .body(review.to_string().into_bytes())
        .unwrap_or_default();
    let answer: Value = client.request(call).await.during("asking who may have a certificate")?;
    Ok(answer["status"]["allowed"] == true)
}
