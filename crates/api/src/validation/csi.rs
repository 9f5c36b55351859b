//! CSIDrivers, CSINodes and CSIStorageCapacities.

use std::collections::BTreeSet;

use base_meta::field::{Error, Path};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSINodeDriver, CSIStorageCapacity, TokenRequest};

use super::{Errors, formats, immutable, labels, resources, segments};

pub fn csi_driver(driver: &CSIDriver) -> Errors {
    let mut errors = Errors::new();
    let (path, spec) = (Path::new("spec"), &driver.spec);
    // The first name is upstream's own misspelling.
    for (name, value) in [
        ("attachedRequired", spec.attach_required),
        ("podInfoOnMount", spec.pod_info_on_mount),
        ("storageCapacity", spec.storage_capacity),
    ] {
        if value.is_none() {
            errors.push(Error::required(&path.child(name), ""));
        }
    }
    let policies = ["File", "None", "ReadWriteOnceWithFSType"];
    if let Some(policy) = spec.fs_group_policy.as_deref().filter(|policy| !policies.contains(policy)) {
        errors.push(Error::not_supported(&path.child("fsGroupPolicy"), policy, &policies));
    }
    tokens(spec.token_requests.as_deref().unwrap_or_default(), &path.child("tokenRequests"), &mut errors);
    for mode in spec.volume_lifecycle_modes.iter().flatten() {
        if !matches!(mode.as_str(), "Persistent" | "Ephemeral") {
            let path = path.child("volumeLifecycleModes");
            errors.push(Error::not_supported(&path, mode, &["Persistent", "Ephemeral"]));
        }
    }
    if spec.se_linux_mount.is_none() {
        errors.push(Error::required(&path.child("seLinuxMount"), ""));
    }
    if let Some(period) = spec.node_allocatable_update_period_seconds.filter(|period| *period < 10) {
        let path = path.child("nodeAllocatableUpdatePeriodSeconds");
        errors.push(Error::invalid(&path, period, "must be greater than or equal to 10 seconds"));
    }
    errors
}

fn tokens(requests: &[TokenRequest], path: &Path, errors: &mut Errors) {
    let mut audiences = BTreeSet::new();
    for (index, request) in requests.iter().enumerate() {
        let path = path.index(index);
        if !audiences.insert(&request.audience) {
            errors.push(Error::duplicate(&path.child("audience"), &request.audience));
            continue;
        }
        let Some(seconds) = request.expiration_seconds else { continue };
        let path = path.child("expirationSeconds");
        if seconds < 600 {
            errors.push(Error::invalid(&path, seconds, "may not specify a duration less than 10 minutes"));
        }
        if seconds > 1 << 32 {
            errors.push(Error::invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds"));
        }
    }
}

pub fn csi_driver_update(new: &CSIDriver, old: &CSIDriver) -> Errors {
    let mut errors = csi_driver(new);
    let path = Path::new("spec");
    immutable(&new.spec.attach_required, &old.spec.attach_required, &path.child("attachedRequired"), &mut errors);
    let (after, before) = (&new.spec.volume_lifecycle_modes, &old.spec.volume_lifecycle_modes);
    immutable(after, before, &path.child("volumeLifecycleModes"), &mut errors);
    errors
}

/// Of a node's id, in characters.
const MAX_NODE_ID: usize = 256;

pub fn csi_node(node: &CSINode) -> Errors {
    let mut errors = Errors::new();
    let mut known = BTreeSet::new();
    let path = Path::new("spec").child("drivers");
    for (index, driver) in node.spec.drivers.iter().enumerate() {
        node_driver(driver, &mut known, &path.index(index), &mut errors);
    }
    errors
}

fn node_driver<'a>(driver: &'a CSINodeDriver, known: &mut BTreeSet<&'a str>, path: &Path, errors: &mut Errors) {
    segments::driver(&driver.name, &path.child("name"), errors);
    let at = path.child("nodeID");
    if driver.node_id.is_empty() {
        errors.push(Error::required(&at, ""));
    }
    if driver.node_id.len() > MAX_NODE_ID {
        errors.push(Error::invalid(&at, &driver.node_id, format!("must be {MAX_NODE_ID} characters or less")));
    }
    let count = driver.allocatable.as_ref().and_then(|allocatable| allocatable.count);
    if let Some(count) = count.filter(|count| *count < 0) {
        errors.push(Error::invalid(&path.child("allocatable").child("count"), count, formats::NOT_NEGATIVE));
    }
    if !known.insert(&driver.name) {
        errors.push(Error::duplicate(&path.child("name"), &driver.name));
    }
    let mut keys = BTreeSet::new();
    for key in driver.topology_keys.iter().flatten() {
        if key.is_empty() {
            errors.push(Error::required(path, ""));
        }
        if !keys.insert(key) {
            errors.push(Error::duplicate(path, key));
        }
        segments::qualified(key, path, errors);
    }
}

/// What a driver said of itself when it registered stays until it goes; how much it can attach may change.
pub fn csi_node_update(new: &CSINode, old: &CSINode) -> Errors {
    let mut errors = csi_node(new);
    for before in &old.spec.drivers {
        for after in new.spec.drivers.iter().filter(|after| after.name == before.name) {
            let (mut after, mut before) = (after.clone(), before.clone());
            (after.allocatable, before.allocatable) = (None, None);
            immutable(&after, &before, &Path::new("spec").child("drivers"), &mut errors);
        }
    }
    errors
}

pub fn csi_storage_capacity(capacity: &CSIStorageCapacity) -> Errors {
    let mut errors = Errors::new();
    if let Some(topology) = &capacity.node_topology {
        labels::selector(topology, &Path::new("nodeTopology"), &mut errors);
    }
    segments::subdomain(&capacity.storage_class_name, &Path::new("storageClassName"), &mut errors);
    if let Some(amount) = &capacity.capacity {
        resources::quantity(&amount.0, &Path::new("capacity"), &mut errors);
    }
    errors
}

pub fn csi_storage_capacity_update(new: &CSIStorageCapacity, old: &CSIStorageCapacity) -> Errors {
    let mut errors = Errors::new();
    immutable(&new.node_topology, &old.node_topology, &Path::new("nodeTopology"), &mut errors);
    immutable(&new.storage_class_name, &old.storage_class_name, &Path::new("storageClassName"), &mut errors);
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    fn driver(changes: &[(&str, Value)]) -> CSIDriver {
        let mut driver = object(with(&json!({"spec": {"tokenRequests": [{"audience": "a"}]}}), changes));
        crate::defaults::csi_driver(&mut driver);
        driver
    }

    #[test]
    fn drivers() {
        let table = [
            (
                "/spec/fsGroupPolicy",
                json!("X"),
                "spec.fsGroupPolicy: Unsupported value: \"X\": supported values: \"File\"",
            ),
            ("/spec/volumeLifecycleModes", json!(["X"]), "spec.volumeLifecycleModes: Unsupported value: \"X\""),
            (
                "/spec/tokenRequests/1",
                json!({"audience": "a"}),
                "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
            ),
            (
                "/spec/tokenRequests/0/expirationSeconds",
                json!(10),
                "spec.tokenRequests[0].expirationSeconds: Invalid value: 10: may not specify a duration less than",
            ),
            (
                "/spec/nodeAllocatableUpdatePeriodSeconds",
                json!(9),
                "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds",
            ),
        ];
        assert!(csi_driver(&driver(&[])).is_empty());
        for (pointer, value, expected) in table {
            let found = printed(csi_driver(&driver(&[(pointer, value)])));
            assert!(found.len() == 1 && found[0].starts_with(expected), "{pointer}: {found:?}");
        }
        let detached = driver(&[("/spec/attachRequired", json!(false))]);
        assert_eq!(
            printed(csi_driver_update(&detached, &driver(&[]))),
            ["spec.attachedRequired: Invalid value: false: field is immutable"]
        );
    }

    #[test]
    fn nodes() {
        let node = |drivers: Value| -> CSINode { object(json!({"spec": {"drivers": drivers}})) };
        let good = node(json!([{"name": "a.example", "nodeID": "1", "topologyKeys": ["zone"]}]));
        assert!(csi_node(&good).is_empty());
        let bad = node(json!([{"name": "A_", "nodeID": "", "allocatable": {"count": -1}, "topologyKeys": ["a", "a"]}]));
        let found = printed(csi_node(&bad));
        for field in ["drivers[0].name", "drivers[0].nodeID", "drivers[0].allocatable.count", "drivers[0]: Duplicate"] {
            assert!(found.iter().any(|error| error.starts_with(&format!("spec.{field}"))), "{field}: {found:?}");
        }
        let more =
            node(json!([{"name": "a.example", "nodeID": "1", "topologyKeys": ["zone"], "allocatable": {"count": 1}}]));
        assert!(csi_node_update(&more, &good).is_empty());
        let other = node(json!([{"name": "a.example", "nodeID": "2", "topologyKeys": ["zone"]}]));
        assert_eq!(csi_node_update(&other, &good).len(), 1);
    }

    #[test]
    fn capacities() {
        let good: CSIStorageCapacity = object(json!({"storageClassName": "a", "capacity": "1Gi"}));
        assert!(csi_storage_capacity(&good).is_empty());
        let bad: CSIStorageCapacity = object(json!({"storageClassName": "A", "capacity": "-1"}));
        assert_eq!(csi_storage_capacity(&bad).len(), 2);
        assert_eq!(csi_storage_capacity_update(&bad, &good).len(), 1);
    }
}
