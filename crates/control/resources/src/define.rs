//! How a kind's row in the table of resources is written: what nearly all of them share, said once.

use std::sync::Arc;

use base_meta::{Gvk, Gvr, Status, decode, names};
use jiff::Timestamp;
use k8s_openapi::Resource as _;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, SubresourceDef, UserInfo, Verb};

/// A namespaced resource with every verb and nothing else; the caller changes what differs.
pub(crate) fn resource<K>(plural: &'static str, singular: &'static str, columns: &'static [Column]) -> ResourceDef
where
    K: k8s_openapi::Resource,
{
    let gvk = Gvk::of(K::GROUP, K::VERSION, K::KIND);
    let schema = api::schema::by_gvk(&gvk).expect("the schema table has every built-in kind: a test looks each one up");
    ResourceDef {
        gvk,
        plural: plural.into(),
        singular: singular.into(),
        short_names: &[],
        categories: &[],
        scope: Scope::Namespaced,
        verbs: Verb::ALL,
        subresources: Vec::new(),
        columns,
        fields: &[],
        answers_deleted: false,
        deprecation: None,
        published: None,
        stored_as: None,
        schema,
    }
}

pub(crate) const READ_AND_CHANGE: &[Verb] = &[Verb::Get, Verb::Patch, Verb::Update];

/// Every method that a proxy passes on.
pub(crate) const PROXY: &[Verb] = &[Verb::Create, Verb::Delete, Verb::Get, Verb::Patch, Verb::Update];

pub(crate) fn status<K: k8s_openapi::Resource>() -> SubresourceDef {
    SubresourceDef { name: "status", gvk: Gvk::of(K::GROUP, K::VERSION, K::KIND), verbs: READ_AND_CHANGE }
}

pub(crate) fn scale() -> SubresourceDef {
    SubresourceDef { name: "scale", gvk: Gvk::of(Scale::GROUP, Scale::VERSION, Scale::KIND), verbs: READ_AND_CHANGE }
}

pub(crate) fn subresource(name: &'static str, gvk: Gvk, verbs: &'static [Verb]) -> SubresourceDef {
    SubresourceDef { name, gvk, verbs }
}

/// The server acting for itself.
pub(crate) fn server_context(gvr: Gvr, namespace: Option<&str>) -> RequestContext {
    let user = UserInfo {
        name: "system:apiserver".to_owned(),
        groups: vec!["system:masters".to_owned(), "system:authenticated".to_owned()],
        ..UserInfo::default()
    };
    RequestContext {
        user: Arc::new(user),
        gvr,
        subresource: None,
        namespace: namespace.map(Arc::from),
        warnings: Default::default(),
    }
}

/// Whole seconds, as everything in metadata and most of status.
pub(crate) fn now() -> Time {
    Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// An earlier delete said what becomes of the dependents.
pub(crate) fn has_propagation(metadata: &ObjectMeta) -> bool {
    let finalizers = metadata.finalizers.as_deref().unwrap_or_default();
    finalizers.iter().any(|finalizer| matches!(finalizer.as_str(), "orphan" | "foregroundDeletion"))
}

/// Pods are named after some objects, and a pod's name is its hostname.
pub(crate) fn recommend_label(ctx: &RequestContext, metadata: &ObjectMeta) {
    let problems = names::dns1123_label(metadata.name.as_deref().unwrap_or(""));
    if !problems.is_empty() {
        ctx.warnings.add(format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS \
             label is recommended: [{}]",
            problems.join(" ")
        ));
    }
}

/// `dryRun=All` in the query of a handler's request.
pub(crate) fn is_dry_run(request: &http::Request<machinery_registry::Body>) -> bool {
    request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "dryRun=All"))
}

/// The body of a handler's request as JSON.
pub(crate) async fn body<T: serde::de::DeserializeOwned>(
    request: http::Request<machinery_registry::Body>,
) -> Result<T, Status> {
    use http_body_util::BodyExt as _;
    let bytes = request.into_body().collect().await.map_err(|error| Status::bad_request(error.to_string()))?.to_bytes();
    decode(&bytes).map_err(|error| Status::bad_request(format!("the body does not decode: {error}")))
}

/// A handler's answer as JSON.
pub(crate) fn answer(
    code: http::StatusCode,
    value: &impl serde::Serialize,
) -> Result<http::Response<machinery_registry::Body>, Status> {
    use http_body_util::BodyExt as _;
    let bytes = serde_json::to_vec(value).map_err(Status::internal)?;
    let body = http_body_util::Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync();
    let mut response = http::Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Ok(response)
}
