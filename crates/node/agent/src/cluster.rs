//! What the agent asks of the API server, behind a trait so that workers are tested without one.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use base_tasks::Tasks;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec, TokenRequestStatus};
use k8s_openapi::api::core::v1::{
    ConfigMap, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use machinery_client::{EventKind, Informer, ObjectKey, Recorder, Regarding, informer};
use serde_json::{Value, json};

use crate::env::ServiceLinks;
use crate::followed::{Followed, Following, Source};
use crate::restart::{Role, role};
use crate::static_pods::{hash, is_static, mirrored};

#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("{operation} {kind} {key}")]
    Request { operation: &'static str, kind: &'static str, key: ObjectKey, source: Box<kube::Error> },
}

/// An Event about a pod.
pub struct Report<'a> {
    pub container: Option<&'a str>,
    pub kind: EventKind,
    pub reason: &'a str,
    pub message: &'a str,
}

/// Who calls, as the API server knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(default)]
pub struct Identity {
    #[serde(rename = "username")]
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// Applies a JSON merge patch to the pod's status; answers the version that shows it. A pod that is gone (or another
    /// of that name) is no error, and has none.
    async fn patch_status(&self, pod: &Pod, status: serde_json::Value) -> Result<Option<u64>, ClusterError>;
    /// Deletes that very pod at once. Gone already is no error.
    async fn delete(&self, pod: &Pod) -> Result<(), ClusterError>;
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, ClusterError>;
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, ClusterError>;
    async fn claim(&self, namespace: &str, name: &str) -> Result<Option<PersistentVolumeClaim>, ClusterError>;
    async fn volume(&self, name: &str) -> Result<Option<PersistentVolume>, ClusterError>;
    /// Applies a JSON merge patch to a claim's status.
    async fn patch_claim(&self, key: &ObjectKey, status: serde_json::Value) -> Result<(), ClusterError>;
    async fn csi_driver(&self, name: &str) -> Result<Option<CSIDriver>, ClusterError>;
    async fn volume_attachment(&self, name: &str) -> Result<Option<VolumeAttachment>, ClusterError>;
    /// This node's name and labels.
    async fn node(&self) -> Result<(String, BTreeMap<String, String>), ClusterError>;
    /// Tells when the object changes from now on.
    async fn follow(&self, source: &Source) -> Following;
    /// A token of a service account.
    async fn token(
        &self,
        namespace: &str,
        account: &str,
        request: &TokenRequest,
    ) -> Result<TokenRequestStatus, ClusterError>;
    /// Whose bearer token that is; `None` where the API server knows nobody by it.
    async fn authenticate(&self, token: &str) -> Result<Option<Identity>, ClusterError>;
    /// Whether they may do that to a part of this node's object.
    async fn allows(&self, user: &Identity, verb: &str, part: &str) -> Result<bool, ClusterError>;
    /// The services of a namespace that have a cluster address, by name, with `default/kubernetes` as well.
    async fn services(&self, namespace: &str) -> Vec<ServiceLinks>;
    fn report(&self, pod: &Pod, report: &Report<'_>) {
        self.report_annotated(pod, report, BTreeMap::new());
    }
    /// With annotations for programs that read it.
    fn report_annotated(&self, pod: &Pod, report: &Report<'_>, annotations: BTreeMap<String, String>);
    /// An Event about this node.
    fn report_node(&self, kind: EventKind, reason: &str, message: &str);
}

/// A token of the pod's account that ends with this very pod. No audience: the API server's; no time: its default.
pub async fn bound_token(
    cluster: &dyn Cluster,
    pod: &Pod,
    audience: Option<&str>,
    expiration_seconds: Option<i64>,
) -> Result<TokenRequestStatus, ClusterError> {
    let meta = &pod.metadata;
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
    let bound = BoundObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
    };
    let spec = TokenRequestSpec {
        audiences: audience.filter(|audience| !audience.is_empty()).map(|audience| vec![audience.to_owned()]),
        expiration_seconds,
        bound_object_ref: Some(bound),
    };
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    cluster.token(meta.namespace.as_deref().unwrap_or_default(), account, &request).await
}

/// The API server through the client.
pub struct ApiServer {
    client: kube::Client,
    node_name: String,
    recorder: Recorder,
    services: Informer<ServiceLinks>,
    followed: Followed,
}

impl ApiServer {
    pub fn new(tasks: &Tasks, client: kube::Client, node_name: &str) -> Self {
        let recorder = Recorder::new(tasks, client.clone(), "kubelet", Some(node_name.to_owned()));
        let services = informer(tasks, Api::<Service>::all(client.clone()), Default::default(), ServiceLinks::of);
        let followed = Followed::new(tasks, client.clone());
        Self { client, node_name: node_name.to_owned(), recorder, services, followed }
    }
}

impl ApiServer {
    /// The status of what is asked and answered, never stored.
    async fn review(&self, kind: &'static str, path: &str, review: &Value) -> Result<Value, ClusterError> {
        let failed = |source| ClusterError::Request {
            operation: "ask for",
            kind,
            key: ObjectKey::default(),
            source: Box::new(source),
        };
        let request = http::Request::post(path).header(http::header::CONTENT_TYPE, "application/json");
        let request =
            request.body(review.to_string().into_bytes()).map_err(|error| failed(kube::Error::HttpError(error)))?;
        let mut answer: Value = self.client.request(request).await.map_err(failed)?;
        Ok(answer["status"].take())
    }
}

fn missing_is_none<T>(result: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match result {
        Ok(object) => Ok(Some(object)),
        // Conflict: the uid precondition, so that very object is gone too.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
        Err(error) => Err(error),
    }
}

fn unread(kind: &'static str, key: ObjectKey) -> impl FnOnce(kube::Error) -> ClusterError {
    move |source| ClusterError::Request { operation: "get", kind, key, source: Box::new(source) }
}

/// resourceVersions of one API server are ordered integers.
pub fn version(pod: &Pod) -> Option<u64> {
    pod.metadata.resource_version.as_deref()?.parse().ok()
}

fn key(pod: &Pod) -> ObjectKey {
    ObjectKey::of(pod)
}

#[async_trait]
impl Cluster for ApiServer {
    async fn patch_status(&self, pod: &Pod, status: serde_json::Value) -> Result<Option<u64>, ClusterError> {
        let key = key(pod);
        let api = Api::<Pod>::namespaced(self.client.clone(), &key.namespace);
        let mut uid = pod.metadata.uid.clone();
        if is_static(pod) {
            // Shown by another object; without one, nobody is told, until there is.
            let shown = api.get_opt(&key.name).await.map_err(unread("pod", key.clone()))?;
            let shown = shown.filter(|shown| mirrored(shown).is_some() && mirrored(shown) == hash(pod));
            let Some(shown) = shown else { return Ok(None) };
            uid = shown.metadata.uid;
        }
        let patch = serde_json::json!({ "metadata": { "uid": uid }, "status": status });
        let result = api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        match missing_is_none(result) {
            Ok(pod) => Ok(pod.as_ref().and_then(version)),
            Err(source) => {
                Err(ClusterError::Request { operation: "patch status of", kind: "pod", key, source: Box::new(source) })
            }
        }
    }

    async fn delete(&self, pod: &Pod) -> Result<(), ClusterError> {
        if is_static(pod) {
            return Ok(()); // what shows it goes with its file
        }
        let key = key(pod);
        let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams::default().grace_period(0).preconditions(preconditions);
        let api = Api::<Pod>::namespaced(self.client.clone(), &key.namespace);
        match missing_is_none(api.delete(&key.name, &params).await) {
            Ok(_) => Ok(()),
            Err(source) => {
                Err(ClusterError::Request { operation: "delete", kind: "pod", key, source: Box::new(source) })
            }
        }
    }

    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, ClusterError> {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
        api.get_opt(name).await.map_err(unread("configmap", ObjectKey::new(namespace, name)))
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, ClusterError> {
        let api = Api::<Secret>::namespaced(self.client.clone(), namespace);
        api.get_opt(name).await.map_err(unread("secret", ObjectKey::new(namespace, name)))
    }

    async fn claim(&self, namespace: &str, name: &str) -> Result<Option<PersistentVolumeClaim>, ClusterError> {
        let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), namespace);
        api.get_opt(name).await.map_err(unread("persistentvolumeclaim", ObjectKey::new(namespace, name)))
    }

    async fn volume(&self, name: &str) -> Result<Option<PersistentVolume>, ClusterError> {
        let api = Api::<PersistentVolume>::all(self.client.clone());
        api.get_opt(name).await.map_err(unread("persistentvolume", ObjectKey::new("", name)))
    }

    async fn patch_claim(&self, key: &ObjectKey, status: serde_json::Value) -> Result<(), ClusterError> {
        let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &key.namespace);
        let patch = Patch::Merge(serde_json::json!({ "status": status }));
        let (operation, kind) = ("patch status of", "persistentvolumeclaim");
        match api.patch_status(&key.name, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(source) => Err(ClusterError::Request { operation, kind, key: key.clone(), source: Box::new(source) }),
        }
    }

    async fn csi_driver(&self, name: &str) -> Result<Option<CSIDriver>, ClusterError> {
        let api = Api::<CSIDriver>::all(self.client.clone());
        api.get_opt(name).await.map_err(unread("csidriver", ObjectKey::new("", name)))
    }

    async fn volume_attachment(&self, name: &str) -> Result<Option<VolumeAttachment>, ClusterError> {
        let api = Api::<VolumeAttachment>::all(self.client.clone());
        api.get_opt(name).await.map_err(unread("volumeattachment", ObjectKey::new("", name)))
    }

    async fn node(&self) -> Result<(String, BTreeMap<String, String>), ClusterError> {
        let api = Api::<Node>::all(self.client.clone());
        let node = api.get(&self.node_name).await.map_err(unread("node", ObjectKey::new("", &*self.node_name)))?;
        Ok((self.node_name.clone(), node.metadata.labels.unwrap_or_default()))
    }

    async fn follow(&self, source: &Source) -> Following {
        self.followed.follow(source).await
    }

    async fn token(
        &self,
        namespace: &str,
        account: &str,
        request: &TokenRequest,
    ) -> Result<TokenRequestStatus, ClusterError> {
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), namespace);
        let failed = |source| ClusterError::Request {
            operation: "request a token of",
            kind: "serviceaccount",
            key: ObjectKey::new(namespace, account),
            source: Box::new(source),
        };
        let answer: TokenRequest =
            api.create_subresource("token", account, &PostParams::default(), request).await.map_err(failed)?;
        Ok(answer.status.unwrap_or_default())
    }

    async fn authenticate(&self, token: &str) -> Result<Option<Identity>, ClusterError> {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
        let status = self.review("tokenreview", "/apis/authentication.k8s.io/v1/tokenreviews", &review).await?;
        if status["authenticated"] != true {
            return Ok(None);
        }
        Ok(serde_json::from_value(status["user"].clone()).ok())
    }

    async fn allows(&self, user: &Identity, verb: &str, part: &str) -> Result<bool, ClusterError> {
        let what =
            json!({"resource": "nodes", "subresource": part, "name": self.node_name, "verb": verb, "version": "v1"});
        let spec = json!({"user": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra,
            "resourceAttributes": what});
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        Ok(self.review("subjectaccessreview", path, &review).await?["allowed"] == true)
    }

    async fn services(&self, namespace: &str) -> Vec<ServiceLinks> {
        self.services.synced().await;
        let mut links: BTreeMap<String, Arc<ServiceLinks>> = BTreeMap::new();
        let master = ObjectKey::new("default", "kubernetes");
        if let Some(master) = self.services.get(&master) {
            links.insert(master.name.clone(), master);
        }
        // A pod's own namespace wins over the master service.
        for (key, service) in self.services.list() {
            if key.namespace == namespace {
                links.insert(key.name, service);
            }
        }
        links.into_values().map(|link| (*link).clone()).collect()
    }

    fn report_annotated(&self, pod: &Pod, report: &Report<'_>, annotations: BTreeMap<String, String>) {
        let key = key(pod);
        let field_path = report.container.map(|name| {
            let role = pod.spec.as_ref().map_or(Role::App, |spec| role(spec, name));
            format!("spec.{}{{{name}}}", role.list())
        });
        let regarding = Regarding {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: key.namespace,
            name: key.name,
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            field_path,
        };
        self.recorder.annotated(&regarding, report.kind, (report.reason, report.message), annotations);
    }

    fn report_node(&self, kind: EventKind, reason: &str, message: &str) {
        let regarding = Regarding {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: self.node_name.clone(),
            // As upstream's kubelet, which does not know another one: `kubectl describe` looks for it.
            uid: self.node_name.clone(),
            ..Regarding::default()
        };
        self.recorder.event(&regarding, kind, reason, message);
    }
}
