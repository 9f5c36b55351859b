//! The status of ResourceClaims: what is allocated, and to whom.

use std::collections::BTreeSet;

use base_meta::field::{Error, Path};
use k8s_openapi::api::resource::v1::{
    AllocatedDeviceStatus, AllocationResult, NetworkDeviceData, ResourceClaim, ResourceClaimStatus,
};

use super::resource_claim::Requests;
use super::{Errors, device, immutable, said, segments};

const MAX_RESERVED: usize = 256;
const MAX_CONDITIONS: usize = 8;
const MAX_IPS: usize = 16;
const MAX_INTERFACE: usize = 256;
const MAX_HARDWARE: usize = 128;

pub fn status_update(new: &ResourceClaim, old: &ResourceClaim) -> Errors {
    let mut errors = Errors::new();
    let none = ResourceClaimStatus::default();
    let (status, before) = (new.status.as_ref().unwrap_or(&none), old.status.as_ref().unwrap_or(&none));
    let path = Path::new("status");
    reserved(new, status, before, &path.child("reservedFor"), &mut errors);

    let at = path.child("devices");
    let known: BTreeSet<[&str; 4]> = allocated(status.allocation.as_ref());
    let mut seen = BTreeSet::new();
    for (index, each) in status.devices.iter().flatten().enumerate() {
        let path = at.index(index);
        let id = [each.driver.as_str(), &each.pool, &each.device, said(&each.share_id)];
        device_status(each, known.contains(&id), &path, &mut errors);
        if !seen.insert(id) {
            errors.push(Error::duplicate(&path, id.join("/").trim_end_matches('/')));
        }
    }
    let at = path.child("allocation");
    match (&status.allocation, &before.allocation) {
        (Some(_), Some(_)) => immutable(&status.allocation, &before.allocation, &at, &mut errors),
        (Some(allocation), None) => allocation_result(allocation, new, &at, &mut errors),
        (None, _) => {}
    }
    errors
}

fn reserved(
    claim: &ResourceClaim,
    status: &ResourceClaimStatus,
    before: &ResourceClaimStatus,
    path: &Path,
    errors: &mut Errors,
) {
    let consumers = status.reserved_for.as_deref().unwrap_or_default();
    if device::fits(consumers, MAX_RESERVED, path, errors) {
        for (index, consumer) in consumers.iter().enumerate() {
            let path = path.index(index);
            for (field, value) in [("resource", &consumer.resource), ("name", &consumer.name), ("uid", &consumer.uid)] {
                if value.is_empty() {
                    errors.push(Error::required(&path.child(field), ""));
                }
            }
        }
        device::unique(consumers.iter().map(|consumer| consumer.uid.as_str()), path, errors);
    }
    if consumers.is_empty() {
        return;
    }
    let known = before.reserved_for.as_deref().unwrap_or_default();
    if status.allocation.is_none() {
        errors.push(Error::forbidden(path, "may not be specified when `allocated` is not set"));
    } else if claim.metadata.deletion_timestamp.is_some() && consumers.iter().any(|one| !known.contains(one)) {
        let detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        errors.push(Error::forbidden(path, detail));
    }
}

fn allocated(allocation: Option<&AllocationResult>) -> BTreeSet<[&str; 4]> {
    let devices = allocation.and_then(|allocation| allocation.devices.as_ref());
    let results = devices.into_iter().flat_map(|devices| devices.results.iter().flatten());
    results.map(|one| [one.driver.as_str(), &one.pool, &one.device, said(&one.share_id)]).collect()
}

fn device_status(status: &AllocatedDeviceStatus, known: bool, path: &Path, errors: &mut Errors) {
    segments::driver(&status.driver, &path.child("driver"), errors);
    device::pool_name(&status.pool, &path.child("pool"), errors);
    segments::label(&status.device, &path.child("device"), errors);
    if !known {
        let id = format!("{}/{}/{}", status.driver, status.pool, status.device);
        errors.push(Error::invalid(path, &id, "must be an allocated device in the claim"));
    }
    let conditions = status.conditions.as_deref().unwrap_or_default();
    device::fits(conditions, MAX_CONDITIONS, &path.child("conditions"), errors);
    if let Some(data) = &status.data {
        device::raw(data, &path.child("data"), errors);
    }
    if let Some(data) = &status.network_data {
        network(data, &path.child("networkData"), errors);
    }
}

fn network(data: &NetworkDeviceData, path: &Path, errors: &mut Errors) {
    for (field, value, max) in [
        ("interfaceName", &data.interface_name, MAX_INTERFACE),
        ("hardwareAddress", &data.hardware_address, MAX_HARDWARE),
    ] {
        if said(value).len() > max {
            errors.push(Error::too_long(&path.child(field), max));
        }
    }
    let (ips, path) = (data.ips.as_deref().unwrap_or_default(), path.child("ips"));
    if device::fits(ips, MAX_IPS, &path, errors) {
        for (index, ip) in ips.iter().enumerate() {
            if let Some(problem) = super::formats::cidr(ip) {
                errors.push(Error::invalid(&path.index(index), ip, problem));
            }
        }
        device::unique(ips.iter().map(String::as_str), &path, errors);
    }
}

fn allocation_result(allocation: &AllocationResult, claim: &ResourceClaim, path: &Path, errors: &mut Errors) {
    let names = Requests::of(claim.spec.devices.as_ref());
    let Some(devices) = &allocation.devices else { return };
    let path = path.child("devices");
    let (at, results) = (path.child("results"), devices.results.as_deref().unwrap_or_default());
    if device::fits(results, device::MAX_ITEMS, &at, errors) {
        for (index, result) in results.iter().enumerate() {
            let path = at.index(index);
            names.check(&result.request, &path.child("request"), errors);
            segments::driver(&result.driver, &path.child("driver"), errors);
            device::pool_name(&result.pool, &path.child("pool"), errors);
            segments::label(&result.device, &path.child("device"), errors);
            let (conditions, failures) = (&result.binding_conditions, &result.binding_failure_conditions);
            device::binding_conditions(conditions.as_deref(), failures.as_deref(), &path, errors);
        }
    }
    let (at, configs) = (path.child("config"), devices.config.as_deref().unwrap_or_default());
    if device::fits(configs, 2 * device::MAX_ITEMS, &at, errors) {
        for (index, config) in configs.iter().enumerate() {
            let path = at.index(index);
            let source = path.child("source");
            match config.source.as_str() {
                "" => errors.push(Error::required(&source, "")),
                "FromClass" | "FromClaim" => {}
                other => errors.push(Error::not_supported(&source, other, &["FromClaim", "FromClass"])),
            }
            names.check_all(config.requests.as_deref(), &path, errors);
            device::opaque(config.opaque.as_ref(), &path, errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed};
    use super::*;

    fn made(status: Value) -> ResourceClaim {
        object(json!({"spec": {"devices": {"requests": [{"name": "gpu"}]}}, "status": status}))
    }

    #[test]
    fn each_rule_names_its_field() {
        let allocation = |device: &str| json!({"devices": {"results": [{"request": "gpu", "driver": "a.example", "pool": "p", "device": device}]}});
        let consumer = json!({"resource": "pods", "name": "p", "uid": "1"});
        let good = json!({"allocation": allocation("d"), "reservedFor": [consumer],
            "devices": [{"driver": "a.example", "pool": "p", "device": "d", "networkData": {"ips": ["10.0.0.1/24"]}}]});
        let empty = made(json!({}));
        assert_eq!(printed(status_update(&made(good.clone()), &empty)), [""; 0]);
        let table = [
            (json!({"reservedFor": [consumer]}), "status.reservedFor: Forbidden: may not be specified when"),
            (
                json!({"allocation": allocation("d"), "reservedFor": [consumer, consumer]}),
                "status.reservedFor[1]: Duplicate value: \"1\"",
            ),
            (
                json!({"allocation": allocation("D")}),
                "status.allocation.devices.results[0].device: Invalid value: \"D\"",
            ),
            (
                json!({"devices": [{"driver": "a.example", "pool": "p", "device": "d"}]}),
                "status.devices[0]: Invalid value: \"a.example/p/d\": must be an allocated device in the claim",
            ),
            (
                json!({"allocation": {"devices": {"config": [{"source": "X", "opaque": {"driver": "a.b", "parameters": {}}}]}}}),
                "status.allocation.devices.config[0].source: Unsupported value: \"X\"",
            ),
        ];
        for (status, expected) in table {
            let found = printed(status_update(&made(status.clone()), &empty));
            assert!(found.len() == 1 && found[0].starts_with(expected), "{status}: {found:?}");
        }
        let found = printed(status_update(&made(json!({"allocation": allocation("e")})), &made(good)));
        assert!(found.len() == 1 && found[0].ends_with("field is immutable"), "{found:?}");
    }
}
