//! Claims: of volumes how much, by class as well; of devices how many of each class.

use base_meta::quantity::Quantity;
use serde_json::Value;

use super::{Amounts, DEVICES, STORAGE_CLASS, amounts_of, number};

/// More results than this no claim gets: what a request for all devices counts for.
const MOST_DEVICES: i64 = 32;

pub(super) fn volumes(claim: &Value, used: &mut Amounts) {
    used.insert("persistentvolumeclaims".into(), number(1));
    let class = storage_class(claim);
    if !class.is_empty() {
        used.insert(format!("{class}{STORAGE_CLASS}persistentvolumeclaims"), number(1));
    }
    let whole = |amount: &Quantity| Quantity::from_value(amount.value(), amount.format());
    let storage = |pointer| amounts_of(claim.pointer(pointer)).get("storage").map(whole);
    let Some(asked) = storage("/spec/resources/requests") else { return };
    // A claim that shrinks again after a failed growth holds what was allocated.
    let held = storage("/status/allocatedResources").map_or(asked, |allocated| allocated.max(asked));
    used.insert("requests.storage".into(), held);
    if !class.is_empty() {
        used.insert(format!("{class}{STORAGE_CLASS}requests.storage"), held);
    }
}

/// The StorageClass a claim asks for, or nothing. The annotation is from before there was a field.
pub fn storage_class(claim: &Value) -> &str {
    let annotations = claim.pointer("/metadata/annotations");
    let annotation = annotations.and_then(|all| all.get("volume.beta.kubernetes.io/storage-class"));
    annotation.or_else(|| claim.pointer("/spec/storageClassName")).and_then(Value::as_str).unwrap_or("")
}

pub(super) fn devices(claim: &Value, used: &mut Amounts) {
    let count = |request: &Value| match request.get("allocationMode").and_then(Value::as_str) {
        Some("All") => MOST_DEVICES,
        _ => request.get("count").and_then(Value::as_i64).unwrap_or(1),
    };
    let class = |request: &Value| request.get("deviceClassName").and_then(Value::as_str).map(str::to_owned);
    let list = |object: &Value, pointer: &str| object.pointer(pointer).and_then(Value::as_array).cloned();
    for request in list(claim, "/spec/devices/requests").into_iter().flatten() {
        let mut most = Amounts::new();
        let alternatives = list(&request, "/firstAvailable").unwrap_or_default();
        for one in request.get("exactly").into_iter().chain(&alternatives) {
            let Some(class) = class(one) else { continue };
            let slot = most.entry(format!("{class}{DEVICES}")).or_default();
            *slot = (*slot).max(number(count(one)));
        }
        for (name, amount) in most {
            let slot = used.entry(name).or_default();
            *slot = *slot + amount;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::print;
    use super::*;

    #[test]
    fn storage_by_class() {
        let mut used = Amounts::new();
        let claim = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1500m"}}},
            "status": {"allocatedResources": {"storage": "3"}}});
        volumes(&claim, &mut used);
        assert_eq!(
            print(&used),
            "gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/requests.storage=3,\
             persistentvolumeclaims=1,requests.storage=3"
        );
        let mut used = Amounts::new();
        volumes(&json!({}), &mut used);
        assert_eq!(print(&used), "persistentvolumeclaims=1");
    }

    #[test]
    fn devices_by_class() {
        let mut used = Amounts::new();
        devices(
            &json!({"spec": {"devices": {"requests": [
                {"exactly": {"deviceClassName": "a", "count": 2}},
                {"exactly": {"deviceClassName": "b", "allocationMode": "All"}},
                {"firstAvailable": [{"deviceClassName": "a", "count": 1}, {"deviceClassName": "a", "count": 4}, {"deviceClassName": "c"}]},
            ]}}}),
            &mut used,
        );
        assert_eq!(
            print(&used),
            "a.deviceclass.resource.k8s.io/devices=6,b.deviceclass.resource.k8s.io/devices=32,\
             c.deviceclass.resource.k8s.io/devices=1"
        );
    }
}
