//! CertificateSigningRequests.

use std::collections::BTreeSet;

use base_meta::field::{Error, Path};
use base_meta::names;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use x509_parser::prelude::{FromDer as _, Pem, X509Certificate};

use super::Errors;
use crate::signing_request::Asked;

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
/// In seconds.
const MIN_DURATION: i32 = 600;

pub fn signing_request(request: &CertificateSigningRequest) -> Errors {
    let mut errors = spec(request);
    conditions(request, &mut errors);
    certificate(request, &mut errors);
    errors
}

fn spec(request: &CertificateSigningRequest) -> Errors {
    let mut errors = Errors::new();
    let (path, spec) = (Path::new("spec"), &request.spec);
    if let Err(problem) = Asked::parse(&spec.request.0) {
        errors.push(Error::invalid(&path.child("request"), &super::json(&spec.request), problem.to_string()));
    }
    let (usages, at) = (spec.usages.as_deref().unwrap_or_default(), path.child("usages"));
    if usages.is_empty() {
        errors.push(Error::required(&at, "usages must be provided"));
    }
    for (index, usage) in usages.iter().enumerate().filter(|(_, usage)| !USAGES.contains(&usage.as_str())) {
        errors.push(Error::not_supported(&at.index(index), usage, USAGES));
    }
    let mut known = BTreeSet::new();
    for (index, usage) in usages.iter().enumerate().filter(|(_, usage)| !known.insert(*usage)) {
        errors.push(Error::duplicate(&at.index(index), usage));
    }
    let at = path.child("signerName");
    if spec.signer_name == "kubernetes.io/legacy-unknown" {
        let detail = "the legacy signerName is not allowed via this API version";
        errors.push(Error::invalid(&at, &spec.signer_name, detail));
    } else {
        signer_name(&spec.signer_name, &at, &mut errors);
    }
    if let Some(seconds) = spec.expiration_seconds.filter(|seconds| *seconds < MIN_DURATION) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(Error::invalid(&path.child("expirationSeconds"), seconds, detail));
    }
    errors
}

/// `example.com/signer-name`.
fn signer_name(name: &str, path: &Path, errors: &mut Errors) {
    const MAX_DOMAIN: usize = 253;
    const MAX_PATH: usize = 253 + 63 + 1;
    if name.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let [domain, rest] = name.split('/').collect::<Vec<_>>()[..] else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(Error::invalid(path, name, detail));
        return;
    };
    let mut labels = |whole: &str, check: fn(&str) -> Vec<String>| {
        for label in whole.split('.') {
            for problem in check(label) {
                errors.push(Error::invalid(path, whole, format!("validating label {label:?}: {problem}")));
            }
        }
    };
    labels(domain, names::dns1123_label);
    labels(rest, names::dns1123_subdomain);
    if domain.len() > MAX_DOMAIN {
        errors.push(Error::too_long(path, MAX_DOMAIN));
    }
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(Error::invalid(path, domain, detail));
    }
    if rest.len() > MAX_PATH {
        errors.push(Error::too_long(path, MAX_PATH));
    }
}

fn list(request: &CertificateSigningRequest) -> &[CertificateSigningRequestCondition] {
    request.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

fn conditions(request: &CertificateSigningRequest, errors: &mut Errors) {
    let mut known = BTreeSet::new();
    for (index, condition) in list(request).iter().enumerate() {
        let path = Path::new("status").child("conditions").index(index);
        let (kind, at) = (condition.type_.as_str(), path.child("type"));
        if kind.is_empty() {
            errors.push(Error::required(&at, ""));
        }
        let decided = matches!(kind, "Approved" | "Denied" | "Failed");
        let allowed: &[&str] = if decided { &["True"] } else { &["False", "True", "Unknown"] };
        match condition.status.as_str() {
            "" => errors.push(Error::required(&path.child("status"), "")),
            status if !allowed.contains(&status) => {
                errors.push(Error::not_supported(&path.child("status"), status, allowed));
            }
            _ => {}
        }
        let against = match kind {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if known.contains(against) {
            errors.push(Error::invalid(&at, kind, "Approved and Denied conditions are mutually exclusive"));
        }
        if !known.insert(kind) {
            errors.push(Error::duplicate(&at, kind));
        }
    }
}

fn certificate(request: &CertificateSigningRequest, errors: &mut Errors) {
    let bytes = request.status.as_ref().and_then(|status| status.certificate.as_ref());
    let Some(bytes) = bytes.filter(|bytes| !bytes.0.is_empty()) else { return };
    if let Some(problem) = bad_certificate(&bytes.0) {
        let path = Path::new("status").child("certificate");
        errors.push(Error::invalid(&path, "<certificate data>", problem));
    }
}

/// A chain in PEM and nothing else in its blocks.
fn bad_certificate(pem: &[u8]) -> Option<&'static str> {
    let mut found = false;
    for block in Pem::iter_from_buffer(pem) {
        let Ok(block) = block else { break };
        if block.label != "CERTIFICATE" {
            return Some("only CERTIFICATE PEM blocks are allowed");
        }
        if X509Certificate::from_der(&block.contents).is_err() {
            return Some("found CERTIFICATE PEM block containing invalid data");
        }
        found = true;
    }
    (!found).then_some("must contain at least one CERTIFICATE PEM block")
}

/// Neither the decision nor the certificate is changed by an update of the object itself.
pub fn update(new: &CertificateSigningRequest, old: &CertificateSigningRequest) -> Errors {
    let mut errors = spec(new);
    lasting(new, old, &mut errors);
    errors
}

/// By the signer: may issue the certificate, once.
pub fn status_update(new: &CertificateSigningRequest, old: &CertificateSigningRequest) -> Errors {
    let mut errors = Errors::new();
    let issued = |request: &CertificateSigningRequest| {
        request.status.as_ref().and_then(|status| status.certificate.clone()).filter(|bytes| !bytes.0.is_empty())
    };
    conditions(new, &mut errors);
    lasting(new, old, &mut errors);
    match (issued(new), issued(old)) {
        (after, Some(before)) if after.as_ref() != Some(&before) => {
            let path = Path::new("status").child("certificate");
            errors.push(Error::forbidden(&path, "updates may not modify existing certificate content"));
        }
        (Some(_), None) => certificate(new, &mut errors),
        _ => {}
    }
    errors
}

pub fn approval_update(new: &CertificateSigningRequest, old: &CertificateSigningRequest) -> Errors {
    let mut errors = Errors::new();
    conditions(new, &mut errors);
    lasting(new, old, &mut errors);
    errors
}

/// What was decided is not taken back.
fn lasting(new: &CertificateSigningRequest, old: &CertificateSigningRequest, errors: &mut Errors) {
    let count = |request, kind: &str| list(request).iter().filter(|condition| condition.type_ == kind).count();
    for kind in ["Approved", "Denied", "Failed"] {
        if count(new, kind) < count(old, kind) {
            let path = Path::new("status").child("conditions");
            errors.push(Error::forbidden(&path, format!("updates may not remove a condition of type {kind:?}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    fn made(changes: &[(&str, Value)]) -> CertificateSigningRequest {
        let base = json!({"spec": {"request": "", "signerName": "a.example/b", "usages": ["client auth"]},
            "status": {"conditions": []}});
        object(with(&base, changes))
    }

    #[test]
    fn each_rule_names_its_field() {
        let request = "spec.request: Invalid value: \"\": PEM block type must be CERTIFICATE REQUEST";
        assert_eq!(printed(signing_request(&made(&[]))), [request]);
        let table = [
            ("/spec/usages", json!([]), "spec.usages: Required value: usages must be provided"),
            ("/spec/usages", json!(["x"]), "spec.usages[0]: Unsupported value: \"x\": supported values: \"any\""),
            ("/spec/usages/1", json!("client auth"), "spec.usages[1]: Duplicate value: \"client auth\""),
            ("/spec/signerName", json!(""), "spec.signerName: Required value"),
            ("/spec/signerName", json!("a"), "spec.signerName: Invalid value: \"a\": must be a fully qualified domain"),
            ("/spec/signerName", json!("a/b"), "spec.signerName: Invalid value: \"a\": should be a domain with at"),
            ("/spec/signerName", json!("kubernetes.io/legacy-unknown"), "spec.signerName: Invalid value: \"kubernetes"),
            ("/spec/expirationSeconds", json!(599), "spec.expirationSeconds: Invalid value: 599: may not specify a"),
            ("/status/conditions", json!([{"type": "A"}]), "status.conditions[0].status: Required value"),
            (
                "/status/conditions",
                json!([{"type": "Approved", "status": "False"}]),
                "status.conditions[0].status: Unsupported value: \"False\": supported values: \"True\"",
            ),
            (
                "/status/conditions",
                json!([{"type": "Approved", "status": "True"}, {"type": "Denied", "status": "True"}]),
                "status.conditions[1].type: Invalid value: \"Denied\": Approved and Denied conditions are mutually",
            ),
            (
                "/status/certificate",
                json!("eA=="),
                "status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE",
            ),
        ];
        for (pointer, value, expected) in table {
            let found = printed(signing_request(&made(&[(pointer, value)])));
            assert!(found.len() == 2 && found[0] == request && found[1].starts_with(expected), "{pointer}: {found:?}");
        }
    }

    #[test]
    fn what_was_decided_stays() {
        let approved = made(&[("/status/conditions", json!([{"type": "Approved", "status": "True"}]))]);
        let found = "status.conditions: Forbidden: updates may not remove a condition of type \"Approved\"";
        for errors in [status_update(&made(&[]), &approved), approval_update(&made(&[]), &approved)] {
            assert_eq!(printed(errors), [found]);
        }
        let issued = made(&[("/status/certificate", json!("eA=="))]);
        assert_eq!(
            printed(status_update(&made(&[]), &issued)),
            ["status.certificate: Forbidden: updates may not modify existing certificate content"]
        );
        assert_eq!(status_update(&issued, &made(&[])).len(), 1, "a certificate is looked at when it is issued");
    }
}
