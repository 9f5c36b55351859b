//! Claims on storage: what is asked is fixed once asked, save its size.

use base_meta::field::{Error, Path};
use base_meta::names;
use base_meta::quantity::Quantity;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus};

use super::{Errors, formats, immutable, json, labels, normal, resources, said};

const STORAGE: &str = "storage";
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const RESIZES: &[&str] = &[
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

pub fn persistent_volume_claim(claim: &PersistentVolumeClaim) -> Errors {
    let mut errors = Errors::new();
    let empty = PersistentVolumeClaimSpec::default();
    claim_spec(claim.spec.as_ref().unwrap_or(&empty), &Path::new("spec"), &mut errors);
    errors
}

/// Of a claim, of a template of claims, and (its first rules) of a volume.
pub(super) fn claim_spec(spec: &PersistentVolumeClaimSpec, path: &Path, errors: &mut Errors) {
    access_modes(spec.access_modes.as_deref(), "at least 1 access mode is required", path, errors, |errors| {
        if let Some(selector) = &spec.selector {
            labels::selector(selector, &path.child("selector"), errors);
        }
    });
    let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let storage_path = path.child("resources").key(STORAGE);
    match requests.and_then(|requests| requests.get(STORAGE)) {
        None => errors.push(Error::required(&storage_path, "")),
        Some(amount) => positive(&amount.0, &storage_path, errors),
    }
    class_name(said(&spec.storage_class_name), &path.child("storageClassName"), errors);
    volume_mode(spec.volume_mode.as_deref(), path, errors);
    if let Some(source) = &spec.data_source {
        let path = path.child("dataSource");
        data_source(&source.name, &source.kind, said(&source.api_group), &path, errors);
    }
    if let Some(source) = &spec.data_source_ref {
        let path = path.child("dataSourceRef");
        data_source(&source.name, &source.kind, said(&source.api_group), &path, errors);
        let namespace = said(&source.namespace);
        if !namespace.is_empty() {
            formats::invalid(&path.child("namespace"), namespace, names::dns1123_label(namespace), errors);
        }
    }
    if let (Some(source), Some(reference)) = (&spec.data_source, &spec.data_source_ref) {
        let shown = path.child("dataSource").to_string();
        if !said(&reference.namespace).is_empty() {
            let message = "may not be specified when dataSourceRef.namespace is specified";
            errors.push(Error::invalid(path, &shown, message));
        } else if (&source.api_group, &source.kind, &source.name)
            != (&reference.api_group, &reference.kind, &reference.name)
        {
            errors.push(Error::invalid(path, &shown, "must match dataSourceRef"));
        }
    }
    class_name(said(&spec.volume_attributes_class_name), &path.child("volumeAttributesClassName"), errors);
}

/// `between` is what upstream checks before the single modes.
pub(super) fn access_modes(
    modes: Option<&[String]>,
    none: &str,
    path: &Path,
    errors: &mut Errors,
    between: impl FnOnce(&mut Errors),
) {
    const SUPPORTED: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
    let modes = modes.unwrap_or_default();
    let path = path.child("accessModes");
    if modes.is_empty() {
        errors.push(Error::required(&path, none));
    }
    between(errors);
    for mode in modes.iter().filter(|mode| !SUPPORTED.contains(&mode.as_str())) {
        errors.push(Error::not_supported(&path, mode, SUPPORTED));
    }
    let alone = modes.iter().any(|mode| mode == "ReadWriteOncePod");
    if alone && modes.iter().any(|mode| mode != "ReadWriteOncePod" && SUPPORTED.contains(&mode.as_str())) {
        errors.push(Error::forbidden(&path, "may not use ReadWriteOncePod with other access modes"));
    }
}

pub(super) fn volume_mode(mode: Option<&str>, path: &Path, errors: &mut Errors) {
    if let Some(mode) = mode.filter(|mode| !matches!(*mode, "Block" | "Filesystem")) {
        errors.push(Error::not_supported(&path.child("volumeMode"), mode, &["Block", "Filesystem"]));
    }
}

pub(super) fn class_name(name: &str, path: &Path, errors: &mut Errors) {
    if !name.is_empty() {
        formats::invalid(path, name, names::dns1123_subdomain(name), errors);
    }
}

pub(super) fn positive(text: &str, path: &Path, errors: &mut Errors) {
    match text.parse::<Quantity>() {
        Ok(amount) if amount <= Quantity::ZERO => {
            errors.push(Error::invalid(path, text, "must be greater than zero"));
        }
        Ok(_) => {}
        Err(error) => errors.push(Error::invalid(path, text, error.to_string())),
    }
}

fn data_source(name: &str, kind: &str, group: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    }
    if kind.is_empty() {
        errors.push(Error::required(&path.child("kind"), ""));
    }
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let message = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(Error::invalid(path, kind, message));
    }
    if !group.is_empty() {
        formats::invalid(&path.child("apiGroup"), group, names::dns1123_subdomain(group), errors);
    }
}

pub fn persistent_volume_claim_update(new: &PersistentVolumeClaim, old: &PersistentVolumeClaim) -> Errors {
    let mut errors = persistent_volume_claim(new);
    let path = Path::new("spec");
    let (new_spec, old_spec) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
    let annotation = |claim: &PersistentVolumeClaim| {
        claim.metadata.annotations.as_ref().and_then(|all| all.get(CLASS_ANNOTATION)).cloned()
    };
    let (new_class, old_class) = (annotation(new), annotation(old));

    // With every changeable field put back, nothing may differ.
    let mut munged = new_spec.clone();
    let mut before = old_spec.clone();
    if said(&before.volume_name).is_empty() {
        before.volume_name.clone_from(&munged.volume_name);
    }
    let named = old_spec.storage_class_name.is_none() && new_spec.storage_class_name.is_some();
    let same = |class: &Option<String>| class.is_none() || *class == new_spec.storage_class_name;
    if named && old_class.is_some() && same(&old_class) && (new_class.is_none() || new_class == old_class) {
        munged.storage_class_name = None;
    } else {
        if new_class != old_class {
            let path = Path::new("metadata").child("annotations").key(CLASS_ANNOTATION);
            errors.push(Error::invalid(&path, new_class.as_deref().unwrap_or(""), "field is immutable"));
        }
        if named && same(&old_class) {
            munged.storage_class_name = None;
        }
    }
    let storage = |spec: &PersistentVolumeClaimSpec| {
        spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get(STORAGE)).cloned()
    };
    let bound = new.status.as_ref().is_some_and(|status| said(&status.phase) == "Bound");
    if bound
        && let Some(requests) = munged.resources.as_mut().and_then(|resources| resources.requests.as_mut())
        && let Some(size) = storage(&old_spec)
    {
        requests.insert(STORAGE.to_owned(), size);
    }
    munged.volume_attributes_class_name.clone_from(&before.volume_attributes_class_name);
    let (munged, before) = (normal(json(&munged)), normal(json(&before)));
    if munged != before {
        let mut changed = Vec::new();
        super::pod_update::differences("spec", &munged, &before, &mut changed);
        let message = "spec is immutable after creation except resources.requests and volumeAttributesClassName for \
                       bound claims";
        errors.push(Error::forbidden(&path, format!("{message}\n{}", changed.join("\n"))));
    }

    let amount = |text: Option<k8s_openapi::apimachinery::pkg::api::resource::Quantity>| {
        text.and_then(|text| text.0.parse::<Quantity>().ok()).unwrap_or(Quantity::ZERO)
    };
    let capacity = old.status.as_ref().and_then(|status| status.capacity.as_ref()?.get(STORAGE).cloned());
    let (new_size, old_size) = (amount(storage(&new_spec)), amount(storage(&old_spec)));
    if new_size < old_size && new_size <= amount(capacity) {
        let path = path.child("resources").child("requests").child(STORAGE);
        errors.push(Error::forbidden(&path, "field can not be less than status.capacity"));
    }
    immutable(&new_spec.volume_mode, &old_spec.volume_mode, &Path::new("volumeMode"), &mut errors);
    attributes_class_kept(&new_spec.volume_attributes_class_name, &old_spec.volume_attributes_class_name, &mut errors);
    errors
}

/// Once named, it may be replaced but not taken away.
pub(super) fn attributes_class_kept(new: &Option<String>, old: &Option<String>, errors: &mut Errors) {
    let problem = match (old, new.as_deref()) {
        (Some(_), None) => "update from non-nil value to nil is forbidden",
        (Some(old), Some("")) if !old.is_empty() => "update from non-nil value to an empty string is forbidden",
        _ => return,
    };
    errors.push(Error::forbidden(&Path::new("spec").child("volumeAttributesClassName"), problem));
}

pub fn persistent_volume_claim_status_update(new: &PersistentVolumeClaim) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("status");
    let empty = PersistentVolumeClaimStatus::default();
    let status = new.status.as_ref().unwrap_or(&empty);
    if new.spec.as_ref().and_then(|spec| spec.access_modes.as_ref()).is_none_or(Vec::is_empty) {
        errors.push(Error::required(&Path::new("Spec").child("accessModes"), ""));
    }
    resources::quantities(status.capacity.as_ref(), &path.child("capacity"), &mut errors);
    let resize = path.child("allocatedResourceStatus");
    for (key, value) in status.allocated_resource_statuses.iter().flatten() {
        resource_key(key, &resize, &mut errors);
        if !RESIZES.contains(&value.as_str()) {
            errors.push(Error::not_supported(&resize, key, RESIZES));
        }
    }
    let allocated = path.child("allocatedResources");
    for (key, amount) in status.allocated_resources.iter().flatten() {
        if resource_key(key, &allocated, &mut errors) {
            resources::quantity(&amount.0, &allocated.key(key), &mut errors);
        }
    }
    errors
}

/// Of Kubernetes' own resources a claim knows but one.
fn resource_key(key: &str, path: &Path, errors: &mut Errors) -> bool {
    let problems = names::qualified_name(key);
    let native = !key.contains('/') || key.contains("kubernetes.io/");
    let known = !native || key == STORAGE;
    if problems.is_empty() && !known {
        errors.push(Error::not_supported(path, key, &[STORAGE]));
    }
    let valid = problems.is_empty() && known;
    formats::invalid(path, key, problems, errors);
    valid
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    fn made(changes: &[(&str, Value)]) -> PersistentVolumeClaim {
        let good = json!({"metadata": {"name": "c", "annotations": {}}, "spec": {"accessModes": ["ReadWriteOnce"],
            "storageClassName": "fast", "resources": {"requests": {"storage": "2Gi"}}}, "status": {}});
        let mut made = object(with(&good, changes));
        crate::defaults::persistent_volume_claim(&mut made);
        made
    }

    #[test]
    fn each_rule_names_its_field() {
        let table = [
            ("/spec/accessModes", json!([]), "spec.accessModes: Required value: at least 1 access mode is required"),
            (
                "/spec/accessModes",
                json!(["Any"]),
                "spec.accessModes: Unsupported value: \"Any\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \
                 \"ReadWriteOnce\", \"ReadWriteOncePod\"",
            ),
            (
                "/spec/accessModes",
                json!(["ReadWriteOncePod", "ReadWriteOnce"]),
                "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
            ),
            ("/spec/resources", json!({}), "spec.resources[storage]: Required value"),
            (
                "/spec/resources/requests",
                json!({"storage": "0"}),
                "spec.resources[storage]: Invalid value: \"0\": must be greater than zero",
            ),
            ("/spec/storageClassName", json!("A_B"), "spec.storageClassName: Invalid value: \"A_B\": a lowercase RFC"),
            (
                "/spec/volumeMode",
                json!("Tape"),
                "spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"",
            ),
            (
                "/spec/dataSource",
                json!({"kind": "Pod", "name": "p"}),
                "spec.dataSource: Invalid value: \"Pod\": must be 'PersistentVolumeClaim' when referencing",
            ),
        ];
        assert_eq!(printed(persistent_volume_claim(&made(&[]))), Vec::<String>::new());
        for (pointer, value, expected) in table {
            let found = printed(persistent_volume_claim(&made(&[(pointer, value.clone())])));
            assert!(found.len() == 1 && found[0].starts_with(expected), "{pointer} = {value}: {found:?}");
        }
    }

    #[test]
    fn only_a_bound_claim_grows() {
        let bigger = ("/spec/resources/requests", json!({"storage": "3Gi"}));
        let bound = ("/status", json!({"phase": "Bound", "capacity": {"storage": "2Gi"}}));
        let refused = printed(persistent_volume_claim_update(&made(std::slice::from_ref(&bigger)), &made(&[])));
        assert!(refused[0].starts_with("spec: Forbidden: spec is immutable after creation except"), "{refused:?}");
        let old = made(std::slice::from_ref(&bound));
        assert!(persistent_volume_claim_update(&made(&[bigger, bound.clone()]), &old).is_empty());
        let smaller = made(&[("/spec/resources/requests", json!({"storage": "1Gi"})), bound]);
        assert_eq!(
            printed(persistent_volume_claim_update(&smaller, &old)),
            ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]
        );
    }

    #[test]
    fn a_volume_and_a_missing_class_are_named_once() {
        let bare = made(&[("/spec/storageClassName", Value::Null)]);
        assert!(persistent_volume_claim_update(&made(&[]), &bare).is_empty());
        let placed = made(&[("/spec/volumeName", json!("v"))]);
        assert!(persistent_volume_claim_update(&placed, &made(&[])).is_empty());
        assert_eq!(persistent_volume_claim_update(&made(&[]), &placed).len(), 1);
    }

    #[test]
    fn a_status_counts_storage_only() {
        let new = made(&[(
            "/status",
            json!({"allocatedResources": {"cpu": "1"}, "capacity": {"storage": "-1"},
            "allocatedResourceStatuses": {"storage": "Growing"}}),
        )]);
        let found = printed(persistent_volume_claim_status_update(&new));
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(
            found[2]
                .starts_with("status.allocatedResources: Unsupported value: \"cpu\": supported values: \"storage\"")
        );
    }
}
