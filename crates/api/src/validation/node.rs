//! Nodes.

use std::collections::BTreeSet;

use base_meta::field::{Error, Path};
use base_meta::names;
use k8s_openapi::api::core::v1::Node;

use super::{Errors, formats, resources, said};

pub fn node(node: &Node) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    if let Some(spec) = &node.spec {
        let mut seen = BTreeSet::new();
        for (index, taint) in spec.taints.iter().flatten().enumerate() {
            let path = path.child("taints").index(index);
            formats::invalid(&path.child("key"), &taint.key, names::qualified_name(&taint.key), &mut errors);
            let value = said(&taint.value);
            formats::invalid(&path.child("value"), value, names::label_value(value), &mut errors);
            match taint.effect.as_str() {
                "" => errors.push(Error::required(&path.child("effect"), "")),
                "NoSchedule" | "PreferNoSchedule" | "NoExecute" => {}
                other => {
                    let effects = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
                    errors.push(Error::not_supported(&path.child("effect"), other, effects));
                }
            }
            if !seen.insert((&taint.key, &taint.effect)) {
                errors.push(Error::duplicate(&path, &super::json(taint)));
            }
        }
        for (index, range) in spec.pod_cidrs.iter().flatten().enumerate() {
            if let Some(problem) = formats::cidr(range) {
                errors.push(Error::invalid(&path.child("podCIDRs").index(index), range, problem));
            }
        }
    }
    status(node, &mut errors);
    errors
}

fn status(node: &Node, errors: &mut Errors) {
    let Some(status) = &node.status else { return };
    let path = Path::new("status");
    resources::quantities(status.capacity.as_ref(), &path.child("capacity"), errors);
    resources::quantities(status.allocatable.as_ref(), &path.child("allocatable"), errors);
    let mut seen = BTreeSet::new();
    for (index, address) in status.addresses.iter().flatten().enumerate() {
        if !seen.insert((&address.type_, &address.address)) {
            errors.push(Error::duplicate(&path.child("addresses").index(index), &super::json(address)));
        }
    }
}

/// The pod range and provider id are set once.
pub fn node_update(new: &Node, old: &Node) -> Errors {
    let mut errors = node(new);
    let path = Path::new("spec");
    let ranges = |node: &Node| node.spec.as_ref().and_then(|spec| spec.pod_cidrs.clone()).unwrap_or_default();
    if !ranges(old).is_empty() && ranges(new) != ranges(old) {
        errors.push(Error::forbidden(
            &path.child("podCIDRs"),
            "node updates may not change podCIDR except from \"\" to valid",
        ));
    }
    let provider = |node: &Node| node.spec.as_ref().and_then(|spec| spec.provider_id.clone()).unwrap_or_default();
    if !provider(old).is_empty() && provider(new) != provider(old) {
        errors.push(Error::forbidden(
            &path.child("providerID"),
            "node updates may not change providerID except from \"\" to valid",
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{object, printed};
    use super::*;

    #[test]
    fn taints_ranges_and_amounts() {
        let bad = object(json!({"spec": {"podCIDRs": ["10.0.0.0"], "taints": [
            {"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule"}, {"key": "b", "effect": "Never"},
            {"key": "c", "effect": ""}]}, "status": {"capacity": {"cpu": "-1", "pods": "110"}}}));
        let found = printed(node(&bad));
        assert_eq!(
            found,
            [
                "spec.taints[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"a\"}",
                "spec.taints[2].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \
                 \"PreferNoSchedule\", \"NoExecute\"",
                "spec.taints[3].effect: Required value",
                "spec.podCIDRs[0]: Invalid value: \"10.0.0.0\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or \
                 2001:db8::/64)",
                "status.capacity[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
            ]
        );
    }

    #[test]
    fn the_pod_range_is_set_once() {
        let none: Node = object(json!({"spec": {}}));
        let one: Node = object(json!({"spec": {"podCIDR": "10.42.0.0/24", "podCIDRs": ["10.42.0.0/24"]}}));
        assert!(node_update(&one, &none).is_empty());
        assert_eq!(
            printed(node_update(&none, &one)),
            ["spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid"]
        );
    }
}
