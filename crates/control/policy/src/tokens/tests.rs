//! Tokens from request to caller.

use std::sync::Arc;

use base_meta::{Gvr, Status};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::{BodyExt as _, Full};
use machinery_registry::{RequestContext, SubresourceHandler as _, UserInfo};
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::{Value, json};

use super::*;
use crate::admission::Lookups;
use crate::admission::testing::fill;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Over a world of these objects: plural, namespace, name, object.
pub(crate) fn tokens(objects: &[(&str, &str, &str, Value)]) -> (TokenRequests, Arc<ServiceAccountTokens>) {
    let key = KeyPair::generate().expect("a key");
    let keys = Keys::new(&key.serialize_der(), key.public_key_raw(), &key.subject_public_key_info(), ISSUER.into());
    let keys = Arc::new(keys.expect("usable"));
    let lookups = Arc::new(Lookups::default());
    fill(&lookups, objects);
    (TokenRequests::new(keys.clone(), lookups.clone()), Arc::new(ServiceAccountTokens::new(keys, lookups)))
}

fn world() -> Vec<(&'static str, &'static str, &'static str, Value)> {
    let pod = |node: &str| {
        json!({"metadata": {"name": "p", "uid": "pod-1"},
        "spec": {"containers": [], "serviceAccountName": "default", "nodeName": node}})
    };
    vec![
        ("serviceaccounts", "a", "default", json!({"metadata": {"name": "default", "uid": "sa-1"}})),
        ("serviceaccounts", "a", "other", json!({"metadata": {"name": "other", "uid": "sa-2"}})),
        ("pods", "a", "p", pod("n1")),
        ("nodes", "", "n1", json!({"metadata": {"name": "n1", "uid": "node-1"}})),
    ]
}

async fn request(requests: &TokenRequests, user: &str, account: &str, body: Value) -> Result<Value, Status> {
    let groups = if user.starts_with("system:node:") { vec!["system:nodes".to_owned()] } else { Vec::new() };
    let ctx = RequestContext {
        user: Arc::new(UserInfo { name: user.into(), groups, ..UserInfo::default() }),
        gvr: Gvr::of("", "v1", "serviceaccounts"),
        subresource: Some("token".into()),
        namespace: Some("a".into()),
        warnings: Default::default(),
    };
    let body = Full::new(body.to_string().into()).map_err(|never| match never {}).boxed_unsync();
    let answer = requests.handle(&ctx, account, http::Request::new(body)).await?;
    assert_eq!(answer.status(), 201);
    let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
    Ok(serde_json::from_slice(&bytes).expect("json"))
}

fn bound(uid: &str) -> Value {
    json!({"spec": {"expirationSeconds": 3607,
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid}}})
}

#[tokio::test]
async fn a_pods_token_says_who_it_is() {
    let (requests, tokens) = tokens(&world());
    let answer = request(&requests, "admin", "default", bound("pod-1")).await.expect("signed");
    assert_eq!(answer["spec"]["audiences"], json!([ISSUER]));
    let token = answer["status"]["token"].as_str().expect("a token");
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).expect("three parts")).expect("base64");
    let claims: Value = serde_json::from_slice(&claims).expect("json");
    assert_eq!(claims["sub"], "system:serviceaccount:a:default");
    assert_eq!(claims["kubernetes.io"]["pod"], json!({"name": "p", "uid": "pod-1"}));
    assert_eq!(claims["kubernetes.io"]["node"], json!({"name": "n1", "uid": "node-1"}));
    assert_eq!(claims["kubernetes.io"]["serviceaccount"], json!({"name": "default", "uid": "sa-1"}));
    for _ in 0..2 {
        let (user, audiences) = tokens.verify(token, &[]).await.expect("proved");
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("system:serviceaccount:a:default", "sa-1"));
        assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]);
        assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
        assert_eq!(user.extra["authentication.kubernetes.io/node-name"], ["n1"]);
        assert!(user.extra["authentication.kubernetes.io/credential-id"][0].starts_with("JTI="));
        assert_eq!(audiences, [ISSUER]);
    }
    let error = tokens.verify(token, &["vault".to_owned()]).await.expect_err("for the API server alone");
    assert!(error.to_string().contains("vault"), "{error}");
    let (head, _) = token.rsplit_once('.').expect("a signature");
    assert!(tokens.verify(&format!("{head}.AAAA"), &[]).await.is_err());
    assert!(tokens.verify("nonsense", &[]).await.is_err());
}

#[tokio::test]
async fn a_token_dies_with_what_it_is_bound_to() {
    let key = KeyPair::generate().expect("a key");
    let keys = Keys::new(&key.serialize_der(), key.public_key_raw(), &key.subject_public_key_info(), ISSUER.into());
    let keys = Arc::new(keys.expect("usable"));
    let (full, without) = (Arc::new(Lookups::default()), Arc::new(Lookups::default()));
    fill(&full, &world());
    let mut fewer = world();
    fewer.retain(|(plural, ..)| *plural != "pods");
    fill(&without, &fewer);
    let requests = TokenRequests::new(keys.clone(), full.clone());
    let answer = request(&requests, "admin", "default", bound("pod-1")).await.expect("signed");
    let token = answer["status"]["token"].as_str().expect("a token");
    assert!(ServiceAccountTokens::new(keys.clone(), full).verify(token, &[]).await.is_ok());
    let error = ServiceAccountTokens::new(keys, without).verify(token, &[]).await.expect_err("its pod is gone");
    assert_eq!(error.to_string(), "service account token has been invalidated");
}

#[tokio::test]
async fn what_is_refused() {
    let (requests, _) = tokens(&world());
    let node = "system:node:n1";
    let table = [
        ("admin", "nobody", json!({}), 404, "serviceaccounts \"nobody\" not found"),
        (
            "admin",
            "default",
            json!({"metadata": {"name": "x"}}),
            400,
            "name in URL does not match name in TokenRequest object",
        ),
        (
            "admin",
            "default",
            json!({"spec": {"expirationSeconds": 10}}),
            422,
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 10: may not specify a duration less than 10 minutes",
        ),
        (
            "admin",
            "other",
            bound("pod-1"),
            400,
            "cannot bind token for serviceaccount \"other\" to pod running with different serviceaccount name.",
        ),
        (
            "admin",
            "default",
            bound("pod-2"),
            409,
            "Operation cannot be fulfilled on Pod \"p\": the UID in the bound object reference (pod-2) does not match the UID in record. The object might have been deleted and then recreated",
        ),
        (
            node,
            "default",
            json!({}),
            403,
            "serviceaccounts \"default\" is forbidden: node requested token not bound to a pod",
        ),
        (
            "system:node:n2",
            "default",
            bound("pod-1"),
            403,
            "serviceaccounts \"default\" is forbidden: node requested token bound to a pod scheduled on a different node",
        ),
    ];
    for (user, account, body, code, message) in table {
        let status = request(&requests, user, account, body.clone()).await.expect_err("refused");
        assert_eq!((status.code, status.message.as_str()), (code, message), "{user} {account} {body}");
    }
    assert!(request(&requests, node, "default", bound("pod-1")).await.is_ok());
}
