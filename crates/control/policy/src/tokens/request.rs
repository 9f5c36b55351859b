//! `serviceaccounts/token`: signs a token for a service account, bound to a pod, a Secret or a node if asked.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use base_meta::field::{Error, Path};
use base_meta::{Gvk, Gvr, Reason, Status, decode};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use machinery_registry::{Body, RequestContext, SubresourceHandler};

use super::authenticator::now;
use super::claims::{Bound, Claims, Reference, subject};
use super::keys::Keys;
use super::node;
use crate::admission::Lookups;
use crate::authorization::node::name_of;

const HOUR: i64 = 3600;
/// What kubelets ask for. Such a token holds a year, so that clients which read it once go on working; the answer
/// says an hour, so that it is replaced within that.
const REPLACED: i64 = 3607;
const YEAR: u64 = 365 * 24 * 3600;
const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;

pub struct TokenRequests {
    keys: Arc<Keys>,
    lookups: Arc<Lookups>,
}

impl TokenRequests {
    pub fn new(keys: Arc<Keys>, lookups: Arc<Lookups>) -> Self {
        Self { keys, lookups }
    }

    async fn serve(&self, ctx: &RequestContext, name: &str, mut request: TokenRequest) -> Result<TokenRequest, Status> {
        let namespace = ctx.namespace.as_deref().unwrap_or("");
        fits(&request, namespace, name)?;
        let account = self.lookups.service_accounts.find(ctx, Some(namespace), name).await?;
        let account = account.ok_or_else(|| Status::not_found(&Gvr::of("", "v1", "serviceaccounts"), name))?;
        let spec = request.spec.get_or_insert_default();
        let audiences = spec.audiences.get_or_insert_default();
        if audiences.is_empty() {
            audiences.push(self.keys.issuer().to_owned());
        }
        let (audiences, asked) = (audiences.clone(), spec.bound_object_ref.clone());
        let seconds = *spec.expiration_seconds.get_or_insert(HOUR);
        valid(seconds)?;
        let mut bound = Bound {
            namespace: namespace.to_owned(),
            serviceaccount: Reference { name: name.to_owned(), uid: account.meta.uid.to_string() },
            ..Bound::default()
        };
        let pod = self.bind(ctx, name, asked.as_ref(), &mut bound).await?;
        if let Some(node) = name_of(&ctx.user) {
            node::restrict(node, name, &request, pod.as_ref())?;
        }
        let now = now();
        let told = now + u64::try_from(seconds).unwrap_or(0);
        let ours = audiences == [self.keys.issuer()];
        let expires = if seconds == REPLACED && bound.pod.is_some() && ours {
            bound.warnafter = Some(told);
            now + YEAR
        } else {
            told
        };
        let claims = Claims {
            aud: audiences,
            exp: Some(expires),
            iat: Some(now),
            iss: self.keys.issuer().to_owned(),
            jti: uuid()?,
            bound: Some(bound),
            nbf: Some(now),
            sub: subject(namespace, name),
            ..Claims::default()
        };
        let token = self.keys.sign(&claims).map_err(Status::internal)?;
        request.metadata.name = Some(name.to_owned());
        request.metadata.namespace = Some(namespace.to_owned());
        request.status = Some(TokenRequestStatus { expiration_timestamp: Some(time(told)?), token: Some(token) });
        Ok(request)
    }

    /// Fills in what the token is bound to; answers with the pod, if it is one.
    async fn bind(
        &self,
        ctx: &RequestContext,
        account: &str,
        asked: Option<&BoundObjectReference>,
        bound: &mut Bound,
    ) -> Result<Option<Pod>, Status> {
        let Some(asked) = asked else { return Ok(None) };
        let said = |text: &Option<String>| text.clone().unwrap_or_default();
        let (api_version, kind, name) = (said(&asked.api_version), said(&asked.kind), said(&asked.name));
        let (late, namespace, resource) = match (api_version.as_str(), kind.as_str()) {
            ("v1", "Pod") => (&self.lookups.pods, Some(bound.namespace.as_str()), "pods"),
            ("v1", "Secret") => (&self.lookups.secrets, Some(bound.namespace.as_str()), "secrets"),
            ("v1", "Node") => (&self.lookups.nodes, None, "nodes"),
            _ => {
                let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
                return Err(Status::bad_request(format!(
                    "cannot bind token to object of type {group}/{version}, Kind={kind}"
                )));
            }
        };
        let found = late.find(ctx, namespace, &name).await?;
        let found = found.ok_or_else(|| Status::not_found(&Gvr::of("", "v1", resource), &name))?;
        let uid = said(&asked.uid);
        if !uid.is_empty() && uid != *found.meta.uid {
            return Err(Status::conflict(
                &Gvr { group: "".into(), version: "v1".into(), resource: kind.into() },
                &name,
                &format!(
                    "the UID in the bound object reference ({uid}) does not match the UID in record. \
                     The object might have been deleted and then recreated"
                ),
            ));
        }
        let reference = Some(Reference { name, uid: found.meta.uid.to_string() });
        match resource {
            "secrets" => bound.secret = reference,
            "nodes" => bound.node = reference,
            _ => {
                let pod = api::decoders::pod(found.json()).map_err(Status::internal)?;
                let spec = pod.spec.as_ref();
                if spec.and_then(|spec| spec.service_account_name.as_deref()) != Some(account) {
                    return Err(Status::bad_request(format!(
                        "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                    )));
                }
                if let Some(node) = spec.and_then(|spec| spec.node_name.as_deref()).filter(|node| !node.is_empty()) {
                    let object = self.lookups.nodes.find(ctx, None, node).await?;
                    let uid = object.map(|object| object.meta.uid.to_string()).unwrap_or_default();
                    bound.node = Some(Reference { name: node.to_owned(), uid });
                }
                bound.pod = reference;
                return Ok(Some(pod));
            }
        }
        Ok(None)
    }
}

fn fits(request: &TokenRequest, namespace: &str, name: &str) -> Result<(), Status> {
    let said = |text: &Option<String>| text.clone().unwrap_or_default();
    if !matches!(said(&request.metadata.name).as_str(), said if said.is_empty() || said == name) {
        return Err(Status::bad_request("name in URL does not match name in TokenRequest object"));
    }
    if !matches!(said(&request.metadata.namespace).as_str(), said if said.is_empty() || said == namespace) {
        return Err(Status::bad_request("namespace in URL does not match namespace in TokenRequest object"));
    }
    Ok(())
}

fn valid(seconds: i64) -> Result<(), Status> {
    let problem = match seconds {
        ..SHORTEST => "may not specify a duration less than 10 minutes",
        SHORTEST..=LONGEST => return Ok(()),
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    let path = Path::new("spec").child("expirationSeconds");
    let gvk = Gvk::of("authentication.k8s.io", "v1", "TokenRequest");
    Err(Status::invalid(&gvk, "", &[Error::invalid(&path, seconds, problem)]))
}

fn time(seconds: u64) -> Result<Time, Status> {
    Timestamp::try_from(UNIX_EPOCH + Duration::from_secs(seconds)).map(Time).map_err(Status::internal)
}

/// A version 4 UUID.
fn uuid() -> Result<String, Status> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| Status::internal(format!("no random numbers: {error}")))?;
    let bits = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}

#[async_trait::async_trait]
impl SubresourceHandler for TokenRequests {
    async fn handle(&self, ctx: &RequestContext, name: &str, request: Request<Body>) -> Result<Response<Body>, Status> {
        let body = request.into_body().collect().await.map_err(|error| Status::bad_request(error.to_string()))?;
        let asked: TokenRequest = decode(&body.to_bytes())
            .map_err(|error| Status::bad_request(format!("the body does not decode: {error}")))?;
        let answer = self.serve(ctx, name, asked).await?;
        let json = serde_json::to_vec(&answer).map_err(Status::internal)?;
        let body = http_body_util::Full::new(json.into()).map_err(|never| match never {}).boxed_unsync();
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::CREATED;
        let json = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert(http::header::CONTENT_TYPE, json);
        Ok(response)
    }
}

/// Whether a failure means that what was asked for is not there.
pub(super) fn is_missing(status: &Status) -> bool {
    status.reason == Reason::NotFound
}
