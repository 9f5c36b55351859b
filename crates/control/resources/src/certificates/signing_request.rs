//! CertificateSigningRequests. Who asks is written by the server; what was asked never changes; approval and status
//! each change their own conditions.

use base_meta::{Gvk, field};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy, Verb};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::{age, define};

const COLUMNS: &[Column] = &[
    NAME,
    AGE,
    columns::text("SignerName", "Who is to sign it."),
    columns::text("Requestor", "Who asked."),
    columns::text("RequestedDuration", "How long the certificate is to be valid."),
    columns::text("Condition", "What has become of it."),
];

const APPROVAL: &str = "approval";

fn approves(ctx: &RequestContext) -> bool {
    ctx.subresource.as_deref() == Some(APPROVAL)
}

pub struct SigningRequestStrategy;

impl Strategy for SigningRequestStrategy {
    type Object = CertificateSigningRequest;

    fn def(&self) -> ResourceDef {
        let gvk = Gvk::of("certificates.k8s.io", "v1", "CertificateSigningRequest");
        let approval = define::subresource(APPROVAL, gvk, &[Verb::Get, Verb::Patch, Verb::Update]);
        ResourceDef {
            short_names: &["csr"],
            scope: Scope::Cluster,
            subresources: vec![approval, define::status::<CertificateSigningRequest>()],
            fields: &["spec.signerName"],
            ..define::resource::<CertificateSigningRequest>(
                "certificatesigningrequests",
                "certificatesigningrequest",
                COLUMNS,
            )
        }
    }

    fn changes_status(&self, subresource: &str) -> bool {
        matches!(subresource, "status" | APPROVAL)
    }

    fn prepare_for_create(&self, ctx: &RequestContext, object: &mut CertificateSigningRequest) {
        let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let (user, spec) = (&ctx.user, &mut object.spec);
        (spec.username, spec.uid) = (some(&user.name), some(&user.uid));
        spec.groups = Some(user.groups.clone()).filter(|groups| !groups.is_empty());
        spec.extra = Some(user.extra.clone()).filter(|extra| !extra.is_empty());
    }

    fn prepare_for_update(
        &self,
        _: &RequestContext,
        new: &mut CertificateSigningRequest,
        old: &CertificateSigningRequest,
    ) {
        new.spec.clone_from(&old.spec);
    }

    fn prepare_for_status_update(
        &self,
        ctx: &RequestContext,
        new: &mut CertificateSigningRequest,
        old: &CertificateSigningRequest,
    ) {
        let decides = |kind: &str| matches!(kind, "Approved" | "Denied");
        if approves(ctx) {
            let conditions = new.status.take().and_then(|status| status.conditions);
            new.status.clone_from(&old.status);
            new.status.get_or_insert_default().conditions = conditions;
            // What the signer says is not the approver's to change.
            keep(new, old, |kind| !decides(kind));
        } else {
            // Whether it is approved is not the signer's to say.
            keep(new, old, decides);
        }
        stamp(new, old);
    }

    fn validate_name(&self, _: &str) -> Vec<String> {
        Vec::new()
    }

    fn validate(&self, _: &RequestContext, object: &CertificateSigningRequest) -> Vec<field::Error> {
        api::validation::signing_request::signing_request(object)
    }

    fn validate_update(
        &self,
        _: &RequestContext,
        new: &CertificateSigningRequest,
        old: &CertificateSigningRequest,
    ) -> Vec<field::Error> {
        api::validation::signing_request::update(new, old)
    }

    fn validate_status_update(
        &self,
        ctx: &RequestContext,
        new: &CertificateSigningRequest,
        old: &CertificateSigningRequest,
    ) -> Vec<field::Error> {
        if approves(ctx) {
            return api::validation::signing_request::approval_update(new, old);
        }
        api::validation::signing_request::status_update(new, old)
    }

    fn selectable(&self, object: &CertificateSigningRequest) -> Vec<(&'static str, String)> {
        vec![("spec.signerName", object.spec.signer_name.clone())]
    }

    fn row(&self, object: &CertificateSigningRequest) -> Vec<Value> {
        let duration =
            object.spec.expiration_seconds.map(|seconds| age::human(SignedDuration::from_secs(seconds.into())));
        vec![
            columns::name(&object.metadata),
            columns::age(&object.metadata),
            json!(columns::or_none(Some(&object.spec.signer_name))),
            json!(object.spec.username.as_deref().unwrap_or("")),
            json!(columns::or_none(duration.as_deref())),
            json!(condition(object)),
        ]
    }
}

fn condition(request: &CertificateSigningRequest) -> String {
    let status = request.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let has = |kind: &str| conditions.iter().any(|condition| condition.type_ == kind);
    let decided = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    };
    let issued = status.and_then(|status| status.certificate.as_ref()).is_some_and(|bytes| !bytes.0.is_empty());
    let failed = if has("Failed") { ",Failed" } else { "" };
    format!("{decided}{failed}{}", if issued { ",Issued" } else { "" })
}

/// Conditions of some types are as they were, whatever the new object says of them.
fn keep(new: &mut CertificateSigningRequest, old: &CertificateSigningRequest, kept: impl Fn(&str) -> bool) {
    let old: Vec<_> = old.status.iter().flat_map(|status| status.conditions.iter().flatten()).collect();
    let mut same: Vec<CertificateSigningRequestCondition> =
        old.into_iter().filter(|condition| kept(&condition.type_)).cloned().collect();
    let conditions = new.status.get_or_insert_default().conditions.get_or_insert_default();
    // In place where the new object has them, so that their order stays the client's.
    conditions.retain_mut(|condition| {
        if !kept(&condition.type_) {
            return true;
        }
        match same.iter().position(|known| known.type_ == condition.type_) {
            Some(at) => {
                *condition = same.remove(at);
                true
            }
            None => false,
        }
    });
    same.append(conditions);
    *conditions = same;
}

/// Times that the client left out.
fn stamp(new: &mut CertificateSigningRequest, old: &CertificateSigningRequest) {
    let now = Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH));
    let old: Vec<_> = old.status.iter().flat_map(|status| status.conditions.iter().flatten()).collect();
    for condition in new.status.iter_mut().flat_map(|status| status.conditions.iter_mut().flatten()) {
        let before = old.iter().find(|known| known.type_ == condition.type_);
        if condition.last_update_time.is_none() {
            condition.last_update_time = Some(now.clone());
        }
        if condition.last_transition_time.is_none() {
            let same = before.filter(|before| before.status == condition.status);
            condition.last_transition_time =
                same.and_then(|before| before.last_transition_time.clone()).or_else(|| Some(now.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(conditions: Value) -> CertificateSigningRequest {
        serde_json::from_value(json!({"spec": {}, "status": {"conditions": conditions}})).expect("a request")
    }

    #[test]
    fn conditions_read_as_upstreams() {
        assert_eq!(condition(&made(json!([]))), "Pending");
        let both = made(json!([{"type": "Approved", "status": "True"}, {"type": "Failed", "status": "True"}]));
        assert_eq!(condition(&both), "Approved,Failed");
        assert_eq!(condition(&made(json!([{"type": "Denied"}, {"type": "Approved"}]))), "Denied");
    }

    #[test]
    fn a_signer_neither_approves_nor_withdraws() {
        let approved = made(json!([{"type": "Approved", "status": "True", "reason": "kept"}]));
        let mut new = made(json!([{"type": "Failed", "status": "True"}]));
        keep(&mut new, &approved, |kind| kind == "Approved");
        assert_eq!(condition(&new), "Approved,Failed");
        let mut new = made(json!([{"type": "Approved", "status": "True"}]));
        keep(&mut new, &made(json!([])), |kind| kind == "Approved");
        assert_eq!(condition(&new), "Pending");
        let mut new = made(json!([{"type": "Failed", "status": "True"}]));
        stamp(&mut new, &approved);
        let conditions = new.status.and_then(|status| status.conditions).expect("conditions");
        assert!(conditions[0].last_update_time.is_some() && conditions[0].last_transition_time.is_some());
    }
}
