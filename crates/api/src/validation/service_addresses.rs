//! A Service's own addresses and families.

use std::collections::BTreeSet;

use base_meta::field::{Error, Path};
use k8s_openapi::api::core::v1::ServiceSpec;

use super::{Errors, formats, json, said};
use crate::service::{ServiceType, cluster_ip};

pub(super) fn cluster_ips(spec: &ServiceSpec, path: &Path, errors: &mut Errors) {
    if ServiceType::of(spec) == Some(ServiceType::ExternalName) {
        return;
    }
    families(spec, path, errors);
    let list = spec.cluster_ips.as_deref().unwrap_or_default();
    let first = cluster_ip(spec);
    let list_path = path.child("clusterIPs");
    if list.is_empty() {
        if !first.is_empty() && first != "None" {
            errors.push(Error::required(&list_path, ""));
        }
        return;
    }
    if first.is_empty() {
        errors.push(Error::invalid(&list_path, &json(&list), "must be empty when `clusterIP` is not specified"));
    } else if first != list[0] {
        errors.push(Error::invalid(&list_path, &json(&list), "first value must match `clusterIP`"));
    }
    if list[0] == "None" {
        if list.len() > 1 {
            let message = "'None' must be the first and only value";
            errors.push(Error::invalid(&list_path, &json(&list), message));
        }
        return;
    }
    if list.len() > 2 {
        errors.push(Error::invalid(&list_path, &json(&list), "may only hold up to 2 values"));
    }
    for (index, ip) in list.iter().enumerate() {
        if ip == "None" {
            errors.push(Error::invalid(&list_path, &json(&list), "'None' must be the first and only value"));
        } else if let Some(problem) = formats::ip(ip) {
            errors.push(Error::invalid(&list_path.index(index), ip, problem));
        } else if let Some(family) = spec.ip_families.as_ref().and_then(|families| families.get(index))
            && family != if ip.contains(':') { "IPv6" } else { "IPv4" }
        {
            let message = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.push(Error::invalid(&list_path.index(index), ip, message));
        }
    }
    let same_family = |pair: &[String]| pair[0].contains(':') == pair[1].contains(':');
    if list.len() == 2 && same_family(list) {
        let message = "may specify no more than one IP for each IP family";
        errors.push(Error::invalid(&list_path, &json(&list), message));
    }
}

fn families(spec: &ServiceSpec, path: &Path, errors: &mut Errors) {
    let policies = &["PreferDualStack", "RequireDualStack", "SingleStack"];
    let policy = said(&spec.ip_family_policy);
    if !policy.is_empty() && !policies.contains(&policy) {
        errors.push(Error::not_supported(&path.child("ipFamilyPolicy"), policy, policies));
    }
    let mut seen = BTreeSet::new();
    for (index, family) in spec.ip_families.iter().flatten().enumerate() {
        let path = path.child("ipFamilies").index(index);
        if !matches!(family.as_str(), "IPv4" | "IPv6") {
            errors.push(Error::not_supported(&path, family, &["IPv4", "IPv6"]));
        }
        if !seen.insert(family) {
            errors.push(Error::duplicate(&path, family));
        }
    }
}
