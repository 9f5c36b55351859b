//! Resource names and amounts.

use std::collections::BTreeMap;

use base_meta::field::{Error, Path};
use base_meta::names;
use base_meta::quantity::Quantity;
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::{Errors, formats};

const CPU: &str = "cpu";
const HUGE_PAGES: &str = "hugepages-";

/// Of one container.
pub(super) fn requirements(requirements: &ResourceRequirements, path: &Path, errors: &mut Errors) {
    let limits = requirements.limits.as_ref();
    let requests = requirements.requests.as_ref();
    let limits_path = &path.child("limits");
    amounts(limits, limits_path, errors);
    amounts(requests, &path.child("requests"), errors);
    for (name, request) in requests.into_iter().flatten() {
        let limit = limits.and_then(|limits| limits.get(name));
        let path = path.child("requests");
        match limit {
            Some(limit) => {
                let (Ok(asked), Ok(most)) = (request.0.parse::<Quantity>(), limit.0.parse::<Quantity>()) else {
                    continue;
                };
                if !may_overcommit(name) && asked != most {
                    errors.push(Error::invalid(
                        &path,
                        &request.0,
                        format!("must be equal to {name} limit of {}", limit.0),
                    ));
                } else if asked > most {
                    errors.push(Error::invalid(
                        &path,
                        &request.0,
                        format!("must be less than or equal to {name} limit of {}", limit.0),
                    ));
                }
            }
            None if !may_overcommit(name) => {
                errors.push(Error::required(limits_path, "Limit must be set for non overcommitable resources"));
            }
            None => {}
        }
    }
}

/// Node capacity: amounts that parse and are not negative, whatever their names.
pub(super) fn quantities(list: Option<&BTreeMap<String, Text>>, path: &Path, errors: &mut Errors) {
    for (name, amount) in list.into_iter().flatten() {
        quantity(&amount.0, &path.key(name), errors);
    }
}

fn amounts(list: Option<&BTreeMap<String, Text>>, path: &Path, errors: &mut Errors) {
    for (name, amount) in list.into_iter().flatten() {
        let path = path.key(name);
        self::name(name, true, &path, errors);
        quantity(&amount.0, &path, errors);
    }
}

pub(super) fn quantity(text: &str, path: &Path, errors: &mut Errors) {
    match text.parse::<Quantity>() {
        Ok(amount) if amount.is_negative() => errors.push(Error::invalid(path, text, formats::NOT_NEGATIVE)),
        Ok(_) => {}
        Err(error) => errors.push(Error::invalid(path, text, error.to_string())),
    }
}

/// `of_containers`: only what a container may ask for.
pub(super) fn name(name: &str, of_containers: bool, path: &Path, errors: &mut Errors) {
    formats::invalid(path, name, names::qualified_name(name), errors);
    if name.contains('/') {
        return;
    }
    if !is_standard(name) {
        errors.push(Error::invalid(path, name, "must be a standard resource type or fully qualified"));
    }
    let asked = matches!(name, CPU | "memory" | "ephemeral-storage") || name.starts_with(HUGE_PAGES);
    if of_containers && !asked {
        errors.push(Error::invalid(path, name, "must be a standard resource for containers"));
    }
}

/// Every name without a prefix that upstream knows, for containers, claims and quotas.
pub(super) fn is_standard(name: &str) -> bool {
    const STANDARD: &[&str] = &[
        CPU,
        "memory",
        "ephemeral-storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
        "requests.cpu",
        "requests.memory",
        "requests.ephemeral-storage",
        "requests.storage",
        "storage",
        "pods",
        "resourcequotas",
        "services",
        "services.loadbalancers",
        "services.nodeports",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
    ];
    STANDARD.contains(&name) || name.starts_with(HUGE_PAGES) || name.starts_with("requests.hugepages-")
}

/// cpu, memory and the like; huge pages and extended resources are given out whole.
pub(super) fn may_overcommit(name: &str) -> bool {
    !name.starts_with(HUGE_PAGES) && (!name.contains('/') || name.contains("kubernetes.io/"))
}
