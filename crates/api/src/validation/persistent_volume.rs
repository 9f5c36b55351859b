//! Volumes of the cluster: one source each, which never changes.

use base_meta::field::{Error, Path};
use base_meta::names;
use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, NodeSelector, PersistentVolume, PersistentVolumeSpec, VolumeNodeAffinity,
};
use serde_json::{Map, Value};

use super::persistent_volume_claim::{access_modes, attributes_class_kept, class_name, positive, volume_mode};
use super::{Errors, formats, immutable, json, normal, said};

/// What of a volume's spec is no source, by its JSON name.
const NO_SOURCE: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

pub fn persistent_volume(volume: &PersistentVolume) -> Errors {
    let mut errors = Errors::new();
    let empty = PersistentVolumeSpec::default();
    spec(volume.spec.as_ref().unwrap_or(&empty), &Path::new("spec"), &mut errors);
    errors
}

fn spec(spec: &PersistentVolumeSpec, path: &Path, errors: &mut Errors) {
    access_modes(spec.access_modes.as_deref(), "", path, errors, |_| {});
    capacity(spec, &path.child("capacity"), errors);
    let policy = said(&spec.persistent_volume_reclaim_policy);
    let policy_path = path.child("persistentVolumeReclaimPolicy");
    if !matches!(policy, "" | "Delete" | "Recycle" | "Retain") {
        errors.push(Error::not_supported(&policy_path, policy, &["Delete", "Recycle", "Retain"]));
    }
    let placed = spec.node_affinity.as_ref().is_some_and(|affinity| {
        node_affinity(affinity, &path.child("nodeAffinity"), errors);
        affinity.required.is_some()
    });
    sources(spec, placed, path, errors);
    let root = |host_path: &HostPathVolumeSource| host_path.path.split('/').all(|part| matches!(part, "" | "."));
    if policy == "Recycle" && spec.host_path.as_ref().is_some_and(root) {
        errors.push(Error::forbidden(&policy_path, "may not be 'recycle' for a hostPath mount of '/'"));
    }
    class_name(said(&spec.storage_class_name), &path.child("storageClassName"), errors);
    volume_mode(spec.volume_mode.as_deref(), path, errors);
    if let Some(class) = &spec.volume_attributes_class_name {
        let class_path = path.child("volumeAttributesClassName");
        if class.is_empty() {
            errors.push(Error::required(&class_path, "an empty string is disallowed"));
        }
        class_name(class, &class_path, errors);
        if spec.csi.is_none() {
            let message = "has to be specified when using volumeAttributesClassName";
            errors.push(Error::required(&path.child("csi"), message));
        }
    }
}

fn capacity(spec: &PersistentVolumeSpec, path: &Path, errors: &mut Errors) {
    let capacity = spec.capacity.clone().unwrap_or_default();
    if capacity.is_empty() {
        errors.push(Error::required(path, ""));
    }
    if !capacity.contains_key("storage") || capacity.len() > 1 {
        errors.push(Error::not_supported(path, &json(&capacity), &["storage"]));
    }
    for (name, amount) in &capacity {
        positive(&amount.0, &path.key(name), errors);
    }
}

fn source_fields(spec: &PersistentVolumeSpec) -> Map<String, Value> {
    match json(spec) {
        Value::Object(mut fields) => {
            fields.retain(|name, value| !NO_SOURCE.contains(&name.as_str()) && !value.is_null());
            fields
        }
        _ => Map::new(),
    }
}

fn sources(spec: &PersistentVolumeSpec, placed: bool, path: &Path, errors: &mut Errors) {
    let given = source_fields(spec);
    for extra in given.keys().skip(1) {
        errors.push(Error::forbidden(&path.child(extra), "may not specify more than 1 volume type"));
    }
    if given.is_empty() {
        errors.push(Error::required(path, "must specify a volume type"));
    }
    if let Some(host_path) = &spec.host_path {
        let path = path.child("hostPath");
        place(&host_path.path, &path.child("path"), errors);
        let kinds =
            ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
        let kind = said(&host_path.type_);
        if !kinds.contains(&kind) {
            errors.push(Error::not_supported(&path.child("type"), kind, &kinds));
        }
    }
    if let Some(local) = &spec.local {
        place(&local.path, &path.child("local").child("path"), errors);
        if !placed {
            errors.push(Error::required(&path.child("nodeAffinity"), "Local volume requires node affinity"));
        }
    }
    if let Some(nfs) = &spec.nfs {
        let path = path.child("nfs");
        if nfs.server.is_empty() {
            errors.push(Error::required(&path.child("server"), ""));
        }
        if nfs.path.is_empty() {
            errors.push(Error::required(&path.child("path"), ""));
        }
        if !nfs.path.starts_with('/') {
            errors.push(Error::invalid(&path.child("path"), &nfs.path, "must be an absolute path"));
        }
    }
    if let Some(csi) = &spec.csi {
        let path = path.child("csi");
        let driver = path.child("driver");
        if csi.driver.is_empty() {
            errors.push(Error::required(&driver, ""));
        } else if csi.driver.len() > 63 {
            errors.push(Error::too_long(&driver, 63));
        }
        let name = csi.driver.to_lowercase();
        formats::invalid(&driver, &csi.driver, names::dns1123_subdomain(&name), errors);
        if csi.volume_handle.is_empty() {
            errors.push(Error::required(&path.child("volumeHandle"), ""));
        }
    }
}

fn place(place: &str, path: &Path, errors: &mut Errors) {
    if place.is_empty() {
        errors.push(Error::required(path, ""));
    } else if place.split('/').any(|part| part == "..") {
        errors.push(Error::invalid(path, place, "must not contain '..'"));
    }
}

fn node_affinity(affinity: &VolumeNodeAffinity, path: &Path, errors: &mut Errors) {
    let path = path.child("required");
    match &affinity.required {
        Some(selector) => node_selector(selector, &path, errors),
        None => errors.push(Error::required(&path, "must specify required node constraints")),
    }
}

fn node_selector(selector: &NodeSelector, path: &Path, errors: &mut Errors) {
    let path = path.child("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        errors.push(Error::required(&path, "must have at least one node selector term"));
    }
    for (index, term) in selector.node_selector_terms.iter().enumerate() {
        let path = path.index(index).child("matchExpressions");
        for (index, wanted) in term.match_expressions.iter().flatten().enumerate() {
            let path = path.index(index);
            let count = wanted.values.as_ref().map_or(0, Vec::len);
            let values = path.child("values");
            match (wanted.operator.as_str(), count) {
                ("In" | "NotIn", 0) => {
                    let message = "must be specified when `operator` is 'In' or 'NotIn'";
                    errors.push(Error::required(&values, message));
                }
                ("Exists" | "DoesNotExist", 1..) => {
                    let message = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                    errors.push(Error::forbidden(&values, message));
                }
                ("Gt" | "Lt", 0 | 2..) => {
                    let message = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                    errors.push(Error::required(&values, message));
                }
                ("In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt", _) => {}
                (other, _) => {
                    errors.push(Error::invalid(&path.child("operator"), other, "not a valid selector operator"));
                }
            }
            formats::invalid(&path.child("key"), &wanted.key, names::qualified_name(&wanted.key), errors);
        }
    }
}

pub fn persistent_volume_update(new: &PersistentVolume, old: &PersistentVolume) -> Errors {
    let mut errors = persistent_volume(new);
    let (mut new, old) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
    // This one secret may still be named later.
    if let (Some(new), Some(old)) = (&mut new.csi, &old.csi)
        && old.controller_expand_secret_ref.is_none()
    {
        new.controller_expand_secret_ref = None;
    }
    let source = |spec: &PersistentVolumeSpec| normal(Value::Object(source_fields(spec)));
    let (new_source, old_source) = (source(&new), source(&old));
    if new_source != old_source {
        let mut changed = Vec::new();
        super::pod_update::differences("spec", &new_source, &old_source, &mut changed);
        let message = format!("spec.persistentvolumesource is immutable after creation\n{}", changed.join("\n"));
        errors.push(Error::forbidden(&Path::new("spec").child("persistentvolumesource"), message));
    }
    immutable(&new.volume_mode, &old.volume_mode, &Path::new("volumeMode"), &mut errors);
    if old.node_affinity.is_some() {
        immutable(&new.node_affinity, &old.node_affinity, &Path::new("nodeAffinity"), &mut errors);
    }
    attributes_class_kept(&new.volume_attributes_class_name, &old.volume_attributes_class_name, &mut errors);
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{object, printed, with};
    use super::*;

    fn made(changes: &[(&str, Value)]) -> PersistentVolume {
        let good = json!({"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/data"}}});
        let mut made = object(with(&good, changes));
        crate::defaults::persistent_volume(&mut made);
        made
    }

    #[test]
    fn each_rule_names_its_field() {
        let without = ("/spec/hostPath", Value::Null);
        let table = [
            (vec![("/spec/accessModes", json!([]))], "spec.accessModes: Required value"),
            (
                vec![("/spec/capacity", json!({"storage": "1", "cpu": "1"}))],
                "spec.capacity: Unsupported value: {\"cpu\":\"1\",\"storage\":\"1\"}: supported values: \"storage\"",
            ),
            (
                vec![("/spec/capacity", json!({"storage": "0"}))],
                "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
            ),
            (
                vec![("/spec/persistentVolumeReclaimPolicy", json!("Burn"))],
                "spec.persistentVolumeReclaimPolicy: Unsupported value: \"Burn\": supported values: \"Delete\", \
                 \"Recycle\", \"Retain\"",
            ),
            (vec![without.clone()], "spec: Required value: must specify a volume type"),
            (
                vec![("/spec/nfs", json!({"server": "s", "path": "/x"}))],
                "spec.nfs: Forbidden: may not specify more than 1 volume type",
            ),
            (vec![("/spec/hostPath", json!({"path": ""}))], "spec.hostPath.path: Required value"),
            (
                vec![("/spec/hostPath", json!({"path": "/a/../b"}))],
                "spec.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
            ),
            (
                vec![without.clone(), ("/spec/local", json!({"path": "/x"}))],
                "spec.nodeAffinity: Required value: Local volume requires node affinity",
            ),
            (
                vec![without.clone(), ("/spec/csi", json!({"driver": "d", "volumeHandle": ""}))],
                "spec.csi.volumeHandle: Required value",
            ),
            (
                vec![(
                    "/spec/nodeAffinity",
                    json!({"required": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "k", "operator": "Like"}]}]}}),
                )],
                "spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].operator: Invalid value: \"Like\"",
            ),
        ];
        assert_eq!(printed(persistent_volume(&made(&[]))), Vec::<String>::new());
        for (changes, expected) in table {
            let found = printed(persistent_volume(&made(&changes)));
            assert!(found.len() == 1 && found[0].starts_with(expected), "{changes:?}: {found:?}");
        }
    }

    #[test]
    fn the_source_never_changes() {
        let moved = made(&[("/spec/hostPath", json!({"path": "/other"}))]);
        let found = printed(persistent_volume_update(&moved, &made(&[])));
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with(
                "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n"
            ),
            "{found:?}"
        );
        let bigger = made(&[("/spec/capacity", json!({"storage": "2Gi"}))]);
        assert!(persistent_volume_update(&bigger, &made(&[])).is_empty());
    }
}
