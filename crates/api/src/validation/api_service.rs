//! APIServices.

use base_meta::field::{Error, Path};
use base_meta::names;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

use super::{Errors, formats, said, segments};

pub fn api_service(object: &APIService) -> Errors {
    let mut errors = Errors::new();
    let none = Default::default();
    let (path, spec) = (Path::new("spec"), object.spec.as_ref().unwrap_or(&none));
    let (name, group, version) = (said(&object.metadata.name), said(&spec.group), said(&spec.version));
    let required = format!("{version}.{group}");
    if !name.is_empty() && name != required && segments::path_segment(name).is_empty() {
        let detail = format!("must be `spec.version+\".\"+spec.group`: {required:?}");
        errors.push(Error::invalid(&Path::new("metadata").child("name"), name, detail));
    }
    if group.is_empty() && version != "v1" {
        let detail = "only v1 may have an empty group and it better be legacy kube";
        errors.push(Error::required(&path.child("group"), detail));
    }
    if !group.is_empty() {
        segments::subdomain(group, &path.child("group"), &mut errors);
    }
    formats::invalid(&path.child("version"), version, names::dns1035_label(version), &mut errors);
    for (field, value, max) in [
        ("groupPriorityMinimum", spec.group_priority_minimum, 20_000),
        ("versionPriority", spec.version_priority, 1000),
    ] {
        if value <= 0 || value > max {
            let detail = format!("must be positive and less than {max}");
            errors.push(Error::invalid(&path.child(field), value, detail));
        }
    }
    let bundle = spec.ca_bundle.as_ref().map_or(0, |bytes| bytes.0.len());
    let insecure = spec.insecure_skip_tls_verify == Some(true);
    let skip = path.child("insecureSkipTLSVerify");
    let Some(service) = &spec.service else {
        if bundle > 0 {
            let detail = "local APIServices may not have a caBundle";
            errors.push(Error::invalid(&path.child("caBundle"), &format!("{bundle} bytes"), detail));
        }
        if insecure {
            errors.push(Error::invalid(&skip, true, "local APIServices may not have insecureSkipTLSVerify"));
        }
        return errors;
    };
    let path = path.child("service");
    for (field, value) in [("namespace", &service.namespace), ("name", &service.name)] {
        if said(value).is_empty() {
            errors.push(Error::required(&path.child(field), ""));
        }
    }
    let port = service.port.unwrap_or(0);
    let problems = names::port_number(port.into());
    if !problems.is_empty() {
        let detail = format!("port is not valid: {}", problems.join(","));
        errors.push(Error::invalid(&path.child("port"), port, detail));
    }
    if insecure && bundle > 0 {
        errors.push(Error::invalid(&skip, true, "may not be true if caBundle is present"));
    }
    errors
}

pub fn api_service_status(object: &APIService) -> Errors {
    let mut errors = Errors::new();
    let conditions = object.status.iter().flat_map(|status| status.conditions.iter().flatten());
    for (index, condition) in conditions.enumerate() {
        if !matches!(condition.status.as_str(), "True" | "False" | "Unknown") {
            let path = Path::new("status").child("conditions").index(index).child("status");
            errors.push(Error::not_supported(&path, &condition.status, &["False", "True", "Unknown"]));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{object, printed, with};
    use super::*;

    #[test]
    fn each_rule_names_its_field() {
        let base = json!({"metadata": {"name": "v1.a.example"}, "spec": {"group": "a.example", "version": "v1",
            "groupPriorityMinimum": 100, "versionPriority": 10,
            "service": {"namespace": "n", "name": "s", "port": 443}, "caBundle": "AAAA"}});
        let table = [
            (
                "/metadata/name",
                json!("x"),
                "metadata.name: Invalid value: \"x\": must be `spec.version+\".\"+spec.group`: \"v1.a.example\"",
            ),
            ("/spec/groupPriorityMinimum", json!(0), "spec.groupPriorityMinimum: Invalid value: 0: must be positive"),
            (
                "/spec/versionPriority",
                json!(1001),
                "spec.versionPriority: Invalid value: 1001: must be positive and less",
            ),
            ("/spec/service/name", json!(""), "spec.service.name: Required value"),
            ("/spec/service/port", json!(0), "spec.service.port: Invalid value: 0: port is not valid: must be between"),
            ("/spec/insecureSkipTLSVerify", json!(true), "spec.insecureSkipTLSVerify: Invalid value: true: may not be"),
            ("/spec/service", json!(null), "spec.caBundle: Invalid value: \"3 bytes\": local APIServices may not have"),
        ];
        assert_eq!(printed(api_service(&object(base.clone()))), [""; 0]);
        for (pointer, value, expected) in table {
            let found = printed(api_service(&object(with(&base, &[(pointer, value)]))));
            assert!(found.len() == 1 && found[0].starts_with(expected), "{pointer}: {found:?}");
        }
        let status: APIService = object(json!({"status": {"conditions": [{"type": "Available", "status": "X"}]}}));
        assert_eq!(api_service_status(&status).len(), 1);
    }
}
