//! ResourceClaims, ResourceClaimTemplates and DeviceClasses.

use std::collections::{BTreeMap, BTreeSet};

use base_meta::field::{Error, Path};
use k8s_openapi::api::resource::v1::{
    DeviceClaim, DeviceClass, DeviceConstraint, DeviceRequest, ResourceClaim, ResourceClaimSpec, ResourceClaimTemplate,
};

use super::{Errors, device, immutable, labels, segments};

const MAX_ALTERNATIVES: usize = 8;

pub fn claim(claim: &ResourceClaim) -> Errors {
    let mut errors = Errors::new();
    spec(&claim.spec, &Path::new("spec"), &mut errors);
    errors
}

/// What was claimed stays; that is all an update is checked for.
pub fn claim_update(new: &ResourceClaim, old: &ResourceClaim) -> Errors {
    let mut errors = Errors::new();
    immutable(&new.spec, &old.spec, &Path::new("spec"), &mut errors);
    errors
}

pub fn template(template: &ResourceClaimTemplate) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    if let Some(metadata) = &template.spec.metadata {
        labels::labels(metadata.labels.as_ref(), &path.child("metadata").child("labels"), &mut errors);
    }
    spec(&template.spec.spec, &path.child("spec"), &mut errors);
    errors
}

pub fn template_update(new: &ResourceClaimTemplate, old: &ResourceClaimTemplate) -> Errors {
    let mut errors = Errors::new();
    immutable(&new.spec, &old.spec, &Path::new("spec"), &mut errors);
    errors
}

pub fn device_class(class: &DeviceClass) -> Errors {
    let mut errors = Errors::new();
    let (path, spec) = (Path::new("spec"), &class.spec);
    device::selectors(spec.selectors.as_deref(), &path.child("selectors"), &mut errors);
    let configs = spec.config.as_deref().unwrap_or_default();
    let at = path.child("config");
    if device::fits(configs, device::MAX_ITEMS, &at, &mut errors) {
        for (index, config) in configs.iter().enumerate() {
            device::opaque(config.opaque.as_ref(), &at.index(index), &mut errors);
        }
    }
    if let Some(name) = spec.extended_resource_name.as_deref().filter(|name| !is_extended(name)) {
        let path = path.child("extendedResourceName");
        errors.push(Error::invalid(&path, name, "must be a valid extended resource name"));
    }
    errors
}

/// A resource of somebody's own domain, which a quota can name too.
fn is_extended(name: &str) -> bool {
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    !native
        && !name.starts_with("requests.")
        && base_meta::names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// The names of a claim's requests, each with those of its alternatives.
pub(super) struct Requests<'a>(BTreeMap<&'a str, BTreeSet<&'a str>>);

impl<'a> Requests<'a> {
    pub(super) fn of(claim: Option<&'a DeviceClaim>) -> Self {
        let requests = claim.iter().flat_map(|claim| claim.requests.iter().flatten());
        let alternatives = |request: &'a DeviceRequest| {
            request.first_available.iter().flatten().map(|alternative| alternative.name.as_str()).collect()
        };
        Self(requests.map(|request| (request.name.as_str(), alternatives(request))).collect())
    }

    /// `request` or `request/alternative`.
    pub(super) fn check(&self, name: &str, path: &Path, errors: &mut Errors) {
        const DETAIL: &str =
            "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() > 2 {
            errors.push(Error::invalid(path, name, DETAIL));
            return;
        }
        parts.iter().for_each(|part| segments::label(part, path, errors));
        let known = match parts[..] {
            [request] => self.0.contains_key(request),
            [request, alternative] => self.0.get(request).is_some_and(|all| all.contains(alternative)),
            _ => false,
        };
        if !known {
            errors.push(Error::invalid(path, name, DETAIL));
        }
    }

    pub(super) fn check_all(&self, list: Option<&[String]>, path: &Path, errors: &mut Errors) {
        let (list, path) = (list.unwrap_or_default(), path.child("requests"));
        if !device::fits(list, device::MAX_ITEMS, &path, errors) {
            return;
        }
        list.iter().enumerate().for_each(|(index, name)| self.check(name, &path.index(index), errors));
        device::unique(list.iter().map(String::as_str), &path, errors);
    }
}

fn spec(spec: &ResourceClaimSpec, path: &Path, errors: &mut Errors) {
    let Some(claim) = &spec.devices else { return };
    let path = path.child("devices");
    let names = Requests::of(Some(claim));
    let (at, requests) = (path.child("requests"), claim.requests.as_deref().unwrap_or_default());
    if device::fits(requests, device::MAX_ITEMS, &at, errors) {
        requests.iter().enumerate().for_each(|(index, each)| request(each, &at.index(index), errors));
        device::unique(requests.iter().map(|request| request.name.as_str()), &at, errors);
    }
    let (at, constraints) = (path.child("constraints"), claim.constraints.as_deref().unwrap_or_default());
    if device::fits(constraints, device::MAX_ITEMS, &at, errors) {
        constraints.iter().enumerate().for_each(|(index, each)| constraint(each, &names, &at.index(index), errors));
    }
    let (at, configs) = (path.child("config"), claim.config.as_deref().unwrap_or_default());
    if device::fits(configs, device::MAX_ITEMS, &at, errors) {
        for (index, config) in configs.iter().enumerate() {
            names.check_all(config.requests.as_deref(), &at.index(index), errors);
            device::opaque(config.opaque.as_ref(), &at.index(index), errors);
        }
    }
}

fn request(request: &DeviceRequest, path: &Path, errors: &mut Errors) {
    segments::label(&request.name, &path.child("name"), errors);
    let alternatives = request.first_available.as_deref().unwrap_or_default();
    match (&request.exactly, alternatives.is_empty()) {
        (None, true) => {
            errors.push(Error::required(path, "exactly one of `exactly` or `firstAvailable` is required"));
        }
        (Some(_), false) => errors.push(Error::invalid(
            path,
            &serde_json::Value::Null,
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        )),
        (Some(exactly), true) => {
            let path = path.child("exactly");
            class_name(&exactly.device_class_name, &path, errors);
            device::selectors(exactly.selectors.as_deref(), &path.child("selectors"), errors);
            amount(exactly.allocation_mode.as_ref(), exactly.count, &path, errors);
            device::tolerations(exactly.tolerations.as_deref(), &path, errors);
        }
        (None, false) => {
            let path = path.child("firstAvailable");
            if !device::fits(alternatives, MAX_ALTERNATIVES, &path, errors) {
                return;
            }
            for (index, each) in alternatives.iter().enumerate() {
                let path = path.index(index);
                segments::label(&each.name, &path.child("name"), errors);
                class_name(&each.device_class_name, &path, errors);
                device::selectors(each.selectors.as_deref(), &path.child("selectors"), errors);
                amount(each.allocation_mode.as_ref(), each.count, &path, errors);
                device::tolerations(each.tolerations.as_deref(), &path, errors);
            }
            device::unique(alternatives.iter().map(|each| each.name.as_str()), &path, errors);
        }
    }
}

fn class_name(name: &str, path: &Path, errors: &mut Errors) {
    let path = path.child("deviceClassName");
    if name.is_empty() {
        errors.push(Error::required(&path, ""));
    } else {
        segments::subdomain(name, &path, errors);
    }
}

fn amount(mode: Option<&String>, count: Option<i64>, path: &Path, errors: &mut Errors) {
    let count = count.unwrap_or(0);
    match mode.map_or("", String::as_str) {
        "All" if count != 0 => errors.push(Error::invalid(
            &path.child("count"),
            count,
            "must not be specified when allocationMode is 'All'",
        )),
        "All" => {}
        "ExactCount" if count <= 0 => {
            errors.push(Error::invalid(&path.child("count"), count, "must be greater than zero"));
        }
        "ExactCount" => {}
        other => errors.push(Error::not_supported(&path.child("allocationMode"), other, &["All", "ExactCount"])),
    }
}

fn constraint(constraint: &DeviceConstraint, names: &Requests<'_>, path: &Path, errors: &mut Errors) {
    names.check_all(constraint.requests.as_deref(), path, errors);
    match (&constraint.match_attribute, &constraint.distinct_attribute) {
        (Some(name), _) => device::fully_qualified_name(name, &path.child("matchAttribute"), errors),
        (None, Some(name)) => device::fully_qualified_name(name, &path.child("distinctAttribute"), errors),
        (None, None) => errors.push(Error::required(
            path,
            r#"exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set"#,
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    fn made(changes: &[(&str, Value)]) -> ResourceClaim {
        let base = json!({"spec": {"devices": {
            "requests": [
                {"name": "gpu", "exactly": {"deviceClassName": "gpu.example",
                    "selectors": [{"cel": {"expression": "true"}}], "tolerations": [{"key": "a", "value": "b"}]}},
                {"name": "any", "firstAvailable": [{"name": "big", "deviceClassName": "gpu.example"}]}],
            "constraints": [{"requests": ["gpu", "any/big"], "matchAttribute": "a.example/b"}],
            "config": [{"requests": ["gpu"], "opaque": {"driver": "a.example", "parameters": {"kind": "X"}}}]}}});
        let mut made = object(with(&base, changes));
        crate::defaults::resource_claim(&mut made);
        made
    }

    #[test]
    fn each_rule_names_its_field() {
        let table = [
            ("requests/0/name", json!("A"), "requests[0].name: Invalid value: \"A\""),
            ("requests/1/name", json!("gpu"), "requests[1]: Duplicate value: \"gpu\""),
            ("requests/0/exactly", Value::Null, "requests[0]: Required value: exactly one of `exactly` or"),
            ("requests/0/firstAvailable", json!([{}]), "requests[0]: Invalid value: null: exactly one of `exactly`"),
            ("requests/0/exactly/deviceClassName", json!(""), "requests[0].exactly.deviceClassName: Required value"),
            ("requests/0/exactly/count", json!(-1), "requests[0].exactly.count: Invalid value: -1: must be greater"),
            ("requests/0/exactly/allocationMode", json!("X"), "requests[0].exactly.allocationMode: Unsupported value"),
            ("requests/0/exactly/selectors/0", json!({}), "requests[0].exactly.selectors[0].cel: Required value"),
            (
                "requests/0/exactly/selectors",
                json!(vec![json!({"cel": {"expression": "true"}}); 33]),
                "requests[0].exactly.selectors: Too many: 33: must have at most 32 items",
            ),
            (
                "requests/0/exactly/tolerations/0/operator",
                json!("Exists"),
                "requests[0].exactly.tolerations[0].value: Invalid value: \"b\": must be empty for operator `Exists`",
            ),
            ("constraints/0/requests/0", json!("x"), "constraints[0].requests[0]: Invalid value: \"x\": must be the"),
            ("constraints/0/requests/0", json!("any/x"), "constraints[0].requests[0]: Invalid value: \"any/x\""),
            (
                "constraints/0/matchAttribute",
                json!("b"),
                "constraints[0].matchAttribute: Invalid value: \"b\": a fully",
            ),
            ("constraints/0/matchAttribute", Value::Null, "constraints[0]: Required value: exactly one of"),
            ("config/0/opaque", Value::Null, "config[0].opaque: Required value"),
            ("config/0/opaque/parameters", json!(1), "config[0].opaque.parameters: Invalid value: \"<value omitted>\""),
        ];
        assert_eq!(printed(claim(&made(&[]))), [""; 0]);
        for (pointer, value, expected) in table {
            let found = printed(claim(&made(&[(&format!("/spec/devices/{pointer}"), value)])));
            let expected = format!("spec.devices.{expected}");
            assert!(found.iter().any(|error| error.starts_with(&expected)), "{pointer}: {found:?}");
        }
        let found = printed(claim_update(&made(&[("/spec/devices", json!({}))]), &made(&[])));
        assert!(found.len() == 1 && found[0].starts_with("spec: Invalid value"), "{found:?}");
    }

    #[test]
    fn templates_and_classes() {
        let bad: ResourceClaimTemplate = object(json!({"spec": {"metadata": {"labels": {"a b": ""}},
            "spec": {"devices": {"requests": [{"name": "a"}]}}}}));
        let found = printed(template(&bad));
        assert!(found[0].starts_with("spec.metadata.labels") && found[1].starts_with("spec.spec.devices.requests[0]"));
        let class: DeviceClass = object(json!({"spec": {"extendedResourceName": "cpu", "config": [{}]}}));
        assert_eq!(
            printed(device_class(&class)),
            [
                "spec.config[0].opaque: Required value",
                "spec.extendedResourceName: Invalid value: \"cpu\": must be a valid extended resource name",
            ]
        );
    }
}
