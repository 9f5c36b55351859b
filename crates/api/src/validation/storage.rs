//! StorageClasses and VolumeAttributesClasses.

use std::collections::{BTreeMap, BTreeSet};

use base_meta::field::{Error, Path};
use k8s_openapi::api::core::v1::TopologySelectorTerm;
use k8s_openapi::api::storage::v1::{StorageClass, VolumeAttributesClass};

use super::{Errors, immutable, segments};

const MAX_PARAMETERS: usize = 512;
/// Of keys and values together, in bytes.
const MAX_PARAMETERS_SIZE: usize = 256 * 1024;

type Parameters = BTreeMap<String, String>;

pub fn storage_class(class: &StorageClass) -> Errors {
    let mut errors = Errors::new();
    provisioner(&class.provisioner, &Path::new("provisioner"), &mut errors);
    parameters(class.parameters.as_ref(), true, &mut errors);
    if let Some(policy) = class.reclaim_policy.as_deref().filter(|policy| !matches!(*policy, "" | "Delete" | "Retain"))
    {
        errors.push(Error::not_supported(&Path::new("reclaimPolicy"), policy, &["Delete", "Retain"]));
    }
    let path = Path::new("volumeBindingMode");
    match class.volume_binding_mode.as_deref() {
        None => errors.push(Error::required(&path, "")),
        Some("Immediate" | "WaitForFirstConsumer") => {}
        Some(other) => errors.push(Error::not_supported(&path, other, &["Immediate", "WaitForFirstConsumer"])),
    }
    topologies(class.allowed_topologies.as_deref().unwrap_or_default(), &mut errors);
    errors
}

fn topologies(terms: &[TopologySelectorTerm], errors: &mut Errors) {
    let mut seen: Vec<BTreeMap<&str, BTreeSet<&str>>> = Vec::new();
    for (index, term) in terms.iter().enumerate() {
        let path = Path::new("allowedTopologies").index(index).child("matchLabelExpressions");
        let mut all = BTreeMap::new();
        for (index, expression) in term.match_label_expressions.iter().flatten().enumerate() {
            let path = path.index(index);
            let values: BTreeSet<&str> = expression.values.iter().map(String::as_str).collect();
            if expression.values.is_empty() {
                errors.push(Error::required(&path.child("values"), ""));
            }
            let mut known = BTreeSet::new();
            for (index, value) in expression.values.iter().enumerate().filter(|(_, value)| !known.insert(*value)) {
                errors.push(Error::duplicate(&path.child("values").index(index), value));
            }
            segments::qualified(&expression.key, &path.child("key"), errors);
            if all.insert(expression.key.as_str(), values).is_some() {
                errors.push(Error::duplicate(&path.child("key"), &expression.key));
            }
        }
        if seen.contains(&all) {
            errors.push(Error::duplicate(&path, ""));
        }
        seen.push(all);
    }
}

pub fn storage_class_update(new: &StorageClass, old: &StorageClass) -> Errors {
    let mut errors = Errors::new();
    let mut fixed = |name: &str, changed: bool| {
        if changed {
            errors.push(Error::forbidden(&Path::new(name), format!("updates to {name} are forbidden.")));
        }
    };
    fixed("parameters", changed(new.parameters.as_ref(), old.parameters.as_ref()));
    fixed("provisioner", new.provisioner != old.provisioner);
    fixed("reclaimPolicy", new.reclaim_policy != old.reclaim_policy);
    immutable(&new.volume_binding_mode, &old.volume_binding_mode, &Path::new("volumeBindingMode"), &mut errors);
    errors
}

/// No parameters and an empty map of them are the same once stored.
fn changed(new: Option<&Parameters>, old: Option<&Parameters>) -> bool {
    let none = Parameters::new();
    new.unwrap_or(&none) != old.unwrap_or(&none)
}

fn provisioner(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.push(Error::required(path, ""));
    } else {
        segments::qualified(&name.to_lowercase(), path, errors);
    }
}

fn parameters(parameters: Option<&Parameters>, may_be_empty: bool, errors: &mut Errors) {
    let path = Path::new("parameters");
    let count = parameters.map_or(0, BTreeMap::len);
    if count > MAX_PARAMETERS {
        errors.push(Error::too_long(&path, MAX_PARAMETERS));
        return;
    }
    let mut size = 0;
    for (key, value) in parameters.into_iter().flatten() {
        if key.is_empty() {
            errors.push(Error::invalid(&path, key, "field can not be empty."));
        }
        size += key.len() + value.len();
    }
    if size > MAX_PARAMETERS_SIZE {
        errors.push(Error::too_long(&path, MAX_PARAMETERS_SIZE));
    }
    if !may_be_empty && count == 0 {
        errors.push(Error::required(&path, "must contain at least one key/value pair"));
    }
}

pub fn volume_attributes_class(class: &VolumeAttributesClass) -> Errors {
    let mut errors = Errors::new();
    provisioner(&class.driver_name, &Path::new("driverName"), &mut errors);
    parameters(class.parameters.as_ref(), false, &mut errors);
    errors
}

pub fn volume_attributes_class_update(new: &VolumeAttributesClass, old: &VolumeAttributesClass) -> Errors {
    let mut errors = Errors::new();
    if new.driver_name != old.driver_name {
        errors.push(Error::forbidden(&Path::new("driverName"), "updates to driverName are forbidden."));
    }
    if changed(new.parameters.as_ref(), old.parameters.as_ref()) {
        errors.push(Error::forbidden(&Path::new("parameters"), "updates to parameters are forbidden."));
    }
    errors.extend(volume_attributes_class(new));
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    fn class(changes: &[(&str, Value)]) -> StorageClass {
        let mut class = object(with(
            &json!({"provisioner": "example.com/disk", "allowedTopologies": [
            {"matchLabelExpressions": [{"key": "zone", "values": ["a"]}]}]}),
            changes,
        ));
        crate::defaults::storage_class(&mut class);
        class
    }

    #[test]
    fn each_rule_names_its_field() {
        let expressions = "/allowedTopologies/0/matchLabelExpressions";
        let table = [
            ("/provisioner", json!(""), "provisioner: Required value"),
            ("/provisioner", json!("a b"), "provisioner: Invalid value: \"a b\""),
            ("/parameters", json!({"": "x"}), "parameters: Invalid value: \"\": field can not be empty."),
            ("/reclaimPolicy", json!("X"), "reclaimPolicy: Unsupported value: \"X\": supported values: \"Delete\""),
            ("/volumeBindingMode", json!("X"), "volumeBindingMode: Unsupported value: \"X\""),
            (
                &format!("{expressions}/0/values"),
                json!([]),
                "allowedTopologies[0].matchLabelExpressions[0].values: Required value",
            ),
            (
                &format!("{expressions}/0/values"),
                json!(["a", "a"]),
                "allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: \"a\"",
            ),
            (
                "/allowedTopologies/1",
                json!({"matchLabelExpressions": [{"key": "zone", "values": ["a"]}]}),
                "allowedTopologies[1].matchLabelExpressions: Duplicate value: \"\"",
            ),
        ];
        assert!(storage_class(&class(&[])).is_empty());
        for (pointer, value, expected) in table {
            let found = printed(storage_class(&class(&[(pointer, value)])));
            assert!(found.len() == 1 && found[0].starts_with(expected), "{pointer}: {found:?}");
        }
    }

    #[test]
    fn what_a_class_is_stays() {
        let changed = class(&[
            ("/provisioner", json!("b")),
            ("/parameters", json!({"a": "b"})),
            ("/reclaimPolicy", json!("Retain")),
            ("/volumeBindingMode", json!("WaitForFirstConsumer")),
        ]);
        assert_eq!(
            printed(storage_class_update(&changed, &class(&[]))),
            [
                "parameters: Forbidden: updates to parameters are forbidden.",
                "provisioner: Forbidden: updates to provisioner are forbidden.",
                "reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden.",
                "volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable",
            ]
        );
        let attributes = |parameters: Value| -> VolumeAttributesClass {
            object(json!({"driverName": "a.example", "parameters": parameters}))
        };
        let good = attributes(json!({"iops": "1"}));
        assert!(volume_attributes_class(&good).is_empty());
        assert_eq!(
            printed(volume_attributes_class_update(&attributes(json!({})), &good)),
            [
                "parameters: Forbidden: updates to parameters are forbidden.",
                "parameters: Required value: must contain at least one key/value pair",
            ]
        );
    }
}
