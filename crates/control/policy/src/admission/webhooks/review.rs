//! `AdmissionReview`: what a webhook is asked, and what it may answer.

use base_meta::{Gvk, Gvr};
use k8s_openapi::ByteString;
use machinery_registry::UserInfo;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::matching::Request;
use super::super::shown::{Shown, with_owners};
use super::hook::{Flavour, ReviewVersion};

const KIND: &str = "AdmissionReview";

fn kind(gvk: &Gvk) -> Value {
    json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind})
}

fn resource(gvr: &Gvr) -> Value {
    json!({"group": gvr.group, "version": gvr.version, "resource": gvr.resource})
}

fn user(user: &UserInfo) -> Value {
    let mut value = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        value["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        value["extra"] = json!(user.extra);
    }
    value
}

/// The request as the webhook is shown it.
pub(super) fn request(speaks: ReviewVersion, uid: &str, request: &Request<'_>, shown: &Shown<'_>) -> Value {
    let attributes = request.attributes;
    let own = request.requested();
    let mut review = json!({
        "uid": uid,
        "kind": kind(&shown.version.gvk),
        "resource": resource(&shown.version.gvr),
        "requestKind": kind(&own.gvk),
        "requestResource": resource(&own.gvr),
        "operation": attributes.operation.as_str(),
        "userInfo": user(&attributes.ctx.user),
        "object": shown.object().map(|object| with_owners(object, attributes.owners.object)),
        "oldObject": shown.old().map(|old| with_owners(old, attributes.owners.old)),
        "dryRun": attributes.dry_run,
        "options": attributes.options.to_value(),
    });
    let mut put = |name: &str, text: &str| {
        if !text.is_empty() {
            review[name] = text.into();
        }
    };
    let subresource = attributes.ctx.subresource.as_deref().unwrap_or_default();
    put("subResource", subresource);
    put("requestSubResource", subresource);
    put("name", attributes.name);
    put("namespace", request.namespace);
    json!({"kind": KIND, "apiVersion": speaks.api_version(), "request": review})
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Review {
    api_version: String,
    kind: String,
    response: Option<Response>,
}

/// What is believed of an answer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Response {
    uid: String,
    pub(super) allowed: bool,
    /// A `Status`, to a refusal.
    #[serde(rename = "status")]
    pub(super) result: Value,
    patch: Option<ByteString>,
    pub(super) patch_type: Option<String>,
    pub(super) warnings: Option<Vec<String>>,
    pub(super) audit_annotations: Option<std::collections::BTreeMap<String, String>>,
}

impl Response {
    /// Empty where there is none.
    pub(super) fn patch(&self) -> &[u8] {
        self.patch.as_ref().map_or(&[], |patch| &patch.0)
    }
}

/// As Go prints a GroupVersionKind.
fn printed(api_version: &str, kind: &str) -> String {
    let gvk = Gvk::parse(api_version, kind);
    gvk.map_or_else(|| format!("{api_version}, Kind={kind}"), |gvk| gvk.to_string())
}

/// Refuses, in upstream's words, what does not answer the review `uid`.
pub(super) fn verify(body: &[u8], speaks: ReviewVersion, flavour: Flavour, uid: &str) -> Result<Response, String> {
    let review: Review = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let response = review.response.ok_or("webhook response was absent")?;
    let has_patch = !response.patch().is_empty();
    if speaks == ReviewVersion::V1Beta1 {
        let patch_type = (has_patch && flavour == Flavour::Mutating).then(|| JSON_PATCH.to_owned());
        return Ok(Response { patch_type, ..response });
    }
    if response.uid != uid {
        return Err(format!("expected response.uid={uid:?}, got {:?}", response.uid));
    }
    if review.api_version != speaks.api_version() || review.kind != KIND {
        let (expected, got) = (printed(speaks.api_version(), KIND), printed(&review.api_version, &review.kind));
        return Err(format!("expected webhook response of {expected}, got {got}"));
    }
    match (flavour, has_patch, response.patch_type.as_deref()) {
        (Flavour::Mutating, true, None) => Err("webhook returned response.patch but not response.patchType".into()),
        (Flavour::Mutating, false, Some(_)) => Err("webhook returned response.patchType but not response.patch".into()),
        (Flavour::Mutating, _, Some("")) => Err("webhook returned invalid response.patchType of \"\"".into()),
        (Flavour::Validating, true, _) => Err("validating webhook may not return response.patch".into()),
        (Flavour::Validating, _, Some(_)) => Err("validating webhook may not return response.patchType".into()),
        _ => Ok(response),
    }
}

pub(super) const JSON_PATCH: &str = "JSONPatch";

#[cfg(test)]
mod tests {
    use super::*;

    fn verified(flavour: Flavour, response: Value) -> Result<Response, String> {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        verify(review.to_string().as_bytes(), ReviewVersion::V1, flavour, "u")
    }

    #[test]
    fn answers_are_checked() {
        use Flavour::{Mutating, Validating};
        let patch = "W10="; // []
        let table = [
            (Mutating, json!({"uid": "u", "allowed": true}), Ok(())),
            (Mutating, json!({"uid": "u", "allowed": true, "patch": patch, "patchType": "JSONPatch"}), Ok(())),
            (Validating, json!({"uid": "u"}), Ok(())),
            (Validating, Value::Null, Err("webhook response was absent")),
            (Validating, json!({"uid": "other"}), Err("expected response.uid=\"u\", got \"other\"")),
            (Validating, json!({}), Err("expected response.uid=\"u\", got \"\"")),
            (
                Mutating,
                json!({"uid": "u", "patch": patch}),
                Err("webhook returned response.patch but not response.patchType"),
            ),
            (
                Mutating,
                json!({"uid": "u", "patchType": "JSONPatch"}),
                Err("webhook returned response.patchType but not response.patch"),
            ),
            (
                Mutating,
                json!({"uid": "u", "patch": patch, "patchType": ""}),
                Err("webhook returned invalid response.patchType of \"\""),
            ),
            (Validating, json!({"uid": "u", "patch": patch}), Err("validating webhook may not return response.patch")),
            (
                Validating,
                json!({"uid": "u", "patchType": "JSONPatch"}),
                Err("validating webhook may not return response.patchType"),
            ),
        ];
        for (flavour, response, expected) in table {
            let found = verified(flavour, response.clone()).map(drop);
            assert_eq!(found, expected.map_err(str::to_owned), "{flavour:?} {response}");
        }
    }

    #[test]
    fn answers_of_another_kind_are_refused() {
        let ask = |body: Value| verify(body.to_string().as_bytes(), ReviewVersion::V1, Flavour::Validating, "u");
        let wanted = "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got";
        for (api_version, kind) in [("admission.k8s.io/v2", KIND), ("admission.k8s.io/v1", "Other"), ("", "")] {
            let refused = ask(json!({"apiVersion": api_version, "kind": kind, "response": {"uid": "u"}}));
            assert!(refused.expect_err("another kind").starts_with(wanted));
        }
        for body in [&b""[..], b"no json", b"[]", b"{\"response\": 1}", b"{\"response\": {\"patch\": \"%\"}}"] {
            assert!(verify(body, ReviewVersion::V1, Flavour::Mutating, "u").is_err());
        }
    }

    #[test]
    fn the_older_review_is_not_looked_at_so_closely() {
        let body = json!({"response": {"allowed": true, "patch": "W10="}}).to_string();
        let found = verify(body.as_bytes(), ReviewVersion::V1Beta1, Flavour::Mutating, "u").expect("accepted");
        assert_eq!(found.patch_type.as_deref(), Some(JSON_PATCH));
        assert_eq!(found.patch(), b"[]");
    }
}
