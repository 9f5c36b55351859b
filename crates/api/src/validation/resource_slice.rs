//! ResourceSlices.

use std::collections::BTreeMap;

use base_meta::field::{Error, Path};
use base_meta::names;
use k8s_openapi::api::resource::v1::{
    Counter, Device, DeviceAttribute, DeviceTaint, ResourcePool, ResourceSlice, ResourceSliceSpec,
};

use super::{Errors, device, formats, immutable, said, segments};

const MAX_DEVICES: usize = 128;
/// Where devices have taints or consume counters.
const MAX_RICH_DEVICES: usize = 64;
const MAX_FACTS: usize = 32;
const MAX_TAINTS: usize = 16;
const MAX_VALUE: usize = 64;
const MAX_COUNTER_SETS: usize = 8;
const MAX_COUNTERS: usize = 32;
const MAX_CONSUMPTIONS: usize = 2;

const ONE_NODE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
const ONE_DEVICE_NODE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";

pub fn slice(slice: &ResourceSlice) -> Errors {
    let mut errors = Errors::new();
    spec(&slice.spec, &Path::new("spec"), &mut errors);
    errors
}

pub fn slice_update(new: &ResourceSlice, old: &ResourceSlice) -> Errors {
    let mut errors = slice(new);
    let (path, new, old) = (Path::new("spec"), &new.spec, &old.spec);
    immutable(&new.pool.name, &old.pool.name, &path.child("pool").child("name"), &mut errors);
    immutable(&new.driver, &old.driver, &path.child("driver"), &mut errors);
    immutable(&new.node_name, &old.node_name, &path.child("nodeName"), &mut errors);
    errors
}

fn spec(spec: &ResourceSliceSpec, path: &Path, errors: &mut Errors) {
    segments::driver(&spec.driver, &path.child("driver"), errors);
    pool(&spec.pool, &path.child("pool"), errors);
    nodes(spec, path, errors);
    if spec.shared_counters.is_some() && spec.devices.is_some() {
        errors.push(Error::invalid(path, "", "only one of `sharedCounters` or `devices` is allowed"));
    }
    let devices = spec.devices.as_deref().unwrap_or_default();
    let given = |list: usize| list > 0;
    let rich = devices.iter().any(|device| {
        given(device.taints.as_ref().map_or(0, Vec::len))
            || given(device.consumes_counters.as_ref().map_or(0, Vec::len))
    });
    let at = path.child("devices");
    if device::fits(devices, if rich { MAX_RICH_DEVICES } else { MAX_DEVICES }, &at, errors) {
        let own_nodes = spec.per_device_node_selection == Some(true);
        devices.iter().enumerate().for_each(|(index, each)| self::device(each, own_nodes, &at.index(index), errors));
        device::unique(devices.iter().map(|device| device.name.as_str()), &at, errors);
    }
    let (sets, at) = (spec.shared_counters.as_deref().unwrap_or_default(), path.child("sharedCounters"));
    if device::fits(sets, MAX_COUNTER_SETS, &at, errors) {
        for (index, set) in sets.iter().enumerate() {
            counters(("name", &set.name), &set.counters, &at.index(index), errors);
        }
        device::unique(sets.iter().map(|set| set.name.as_str()), &at, errors);
    }
}

fn pool(pool: &ResourcePool, path: &Path, errors: &mut Errors) {
    device::pool_name(&pool.name, &path.child("name"), errors);
    if pool.resource_slice_count <= 0 {
        let path = path.child("resourceSliceCount");
        errors.push(Error::invalid(&path, pool.resource_slice_count, "must be greater than zero"));
    }
    if pool.generation < 0 {
        let path = path.child("generation");
        errors.push(Error::invalid(&path, pool.generation, "must be greater than or equal to zero"));
    }
}

fn nodes(spec: &ResourceSliceSpec, path: &Path, errors: &mut Errors) {
    let mut set = Vec::new();
    match spec.node_name.as_deref() {
        None => {}
        Some("") => {
            let detail = "must be either unset or set to a non-empty string";
            errors.push(Error::invalid(&path.child("nodeName"), "", detail));
        }
        Some(name) => {
            set.push("`nodeName`");
            segments::subdomain(name, &path.child("nodeName"), errors);
        }
    }
    if let Some(selector) = &spec.node_selector {
        set.push("`nodeSelector`");
        if selector.node_selector_terms.len() != 1 {
            let path = path.child("nodeSelector").child("nodeSelectorTerms");
            let terms = super::json(&selector.node_selector_terms);
            errors.push(Error::invalid(&path, &terms, "must have exactly one node selector term"));
        }
    }
    for (field, quoted, flag) in [
        ("allNodes", "`allNodes`", spec.all_nodes),
        ("perDeviceNodeSelection", "`perDeviceNodeSelection`", spec.per_device_node_selection),
    ] {
        match flag {
            Some(true) => set.push(quoted),
            Some(false) => {
                errors.push(Error::invalid(&path.child(field), false, "must be either unset or set to true"));
            }
            None => {}
        }
    }
    match set.len() {
        0 => errors.push(Error::required(path, ONE_NODE)),
        1 => {}
        _ => {
            let value = format!("{{{}}}", set.join(", "));
            errors.push(Error::invalid(path, &value, format!("{ONE_NODE}, but multiple fields are set")));
        }
    }
}

fn device(device: &Device, own_nodes: bool, path: &Path, errors: &mut Errors) {
    segments::label(&device.name, &path.child("name"), errors);
    let facts = device.attributes.as_ref().map_or(0, BTreeMap::len) + device.capacity.as_ref().map_or(0, BTreeMap::len);
    if facts > MAX_FACTS {
        let detail = format!("the total number of attributes and capacities must not exceed {MAX_FACTS}");
        errors.push(Error::invalid(path, i64::try_from(facts).unwrap_or(i64::MAX), detail));
    }
    for (name, value) in device.attributes.iter().flatten() {
        let path = path.child("attributes").key(name);
        device::qualified_name(name, &path, errors);
        attribute(value, &path, errors);
    }
    for (name, value) in device.capacity.iter().flatten() {
        let path = path.child("capacity").key(name);
        device::qualified_name(name, &path, errors);
        if value.request_policy.is_some() && device.allow_multiple_allocations != Some(true) {
            errors.push(Error::forbidden(&path.child("requestPolicy"), "allowMultipleAllocations must be true"));
        }
    }
    let (taints, at) = (device.taints.as_deref().unwrap_or_default(), path.child("taints"));
    if device::fits(taints, MAX_TAINTS, &at, errors) {
        taints.iter().enumerate().for_each(|(index, each)| taint(each, &at.index(index), errors));
    }
    let (uses, at) = (device.consumes_counters.as_deref().unwrap_or_default(), path.child("consumesCounters"));
    if device::fits(uses, MAX_CONSUMPTIONS, &at, errors) {
        for (index, each) in uses.iter().enumerate() {
            counters(("counterSet", &each.counter_set), &each.counters, &at.index(index), errors);
        }
        device::unique(uses.iter().map(|each| each.counter_set.as_str()), &at, errors);
    }
    device_nodes(device, own_nodes, path, errors);
    let (conditions, failures) = (&device.binding_conditions, &device.binding_failure_conditions);
    device::binding_conditions(conditions.as_deref(), failures.as_deref(), path, errors);
}

fn device_nodes(device: &Device, own_nodes: bool, path: &Path, errors: &mut Errors) {
    if !own_nodes {
        if device.node_name.is_some() || device.node_selector.is_some() || device.all_nodes.is_some() {
            let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
            errors.push(Error::invalid(path, &serde_json::Value::Null, detail));
        }
        return;
    }
    let mut set = Vec::new();
    match device.node_name.as_deref() {
        None => {}
        Some("") => errors.push(Error::invalid(&path.child("nodeName"), "", "must not be empty")),
        Some(name) => {
            set.push("`nodeName`");
            segments::subdomain(name, &path.child("nodeName"), errors);
        }
    }
    if device.node_selector.is_some() {
        set.push("`nodeSelector`");
    }
    match device.all_nodes {
        Some(true) => set.push("`allNodes`"),
        Some(false) => {
            errors.push(Error::invalid(&path.child("allNodes"), false, "must be either unset or set to true"));
        }
        None => {}
    }
    match set.len() {
        0 => errors.push(Error::required(path, ONE_DEVICE_NODE)),
        1 => {}
        _ => errors.push(Error::invalid(path, &format!("{{{}}}", set.join(", ")), ONE_DEVICE_NODE)),
    }
}

fn counters(named: (&str, &str), counters: &BTreeMap<String, Counter>, path: &Path, errors: &mut Errors) {
    let (field, name) = named;
    if name.is_empty() {
        errors.push(Error::required(&path.child(field), ""));
    } else {
        segments::label(name, &path.child(field), errors);
    }
    let path = path.child("counters");
    if counters.is_empty() {
        errors.push(Error::required(&path, ""));
    } else if device::fits(&counters.keys().collect::<Vec<_>>(), MAX_COUNTERS, &path, errors) {
        counters.keys().for_each(|name| segments::label(name, &path.key(name), errors));
    }
}

fn attribute(attribute: &DeviceAttribute, path: &Path, errors: &mut Errors) {
    if said(&attribute.string).len() > MAX_VALUE {
        errors.push(Error::too_long(&path.child("string"), MAX_VALUE));
    }
    if let Some(version) = &attribute.version {
        let path = path.child("version");
        if !is_semantic_version(version) {
            errors.push(Error::invalid(&path, version, "must be a string compatible with semver.org spec 2.0.0"));
        }
        if version.len() > MAX_VALUE {
            errors.push(Error::too_long(&path, MAX_VALUE));
        }
    }
    let given = [
        attribute.bool.is_some(),
        attribute.int.is_some(),
        attribute.string.is_some(),
        attribute.version.is_some(),
        attribute.bools.is_some(),
        attribute.ints.is_some(),
        attribute.strings.is_some(),
        attribute.versions.is_some(),
    ];
    match given.into_iter().filter(|given| *given).count() {
        0 => errors.push(Error::invalid(path, "", "exactly one value must be specified")),
        1 => {}
        _ => errors.push(Error::invalid(path, &super::json(attribute), "exactly one value must be specified")),
    }
}

/// `1.2.3-rc.1+build`.
fn is_semantic_version(text: &str) -> bool {
    let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
    let (core, pre) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
    let number = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) && (part == "0" || !part.starts_with('0'))
    };
    let word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let pre_part = |part: &str| word(part) && (number(part) || !part.bytes().all(|byte| byte.is_ascii_digit()));
    core.split('.').count() == 3
        && core.split('.').all(number)
        && pre.is_none_or(|pre| pre.split('.').all(pre_part))
        && build.is_none_or(|build| build.split('.').all(word))
}

fn taint(taint: &DeviceTaint, path: &Path, errors: &mut Errors) {
    segments::qualified(&taint.key, &path.child("key"), errors);
    let value = said(&taint.value);
    formats::invalid(&path.child("value"), value, names::label_value(value), errors);
    if taint.effect.is_empty() {
        errors.push(Error::required(&path.child("effect"), ""));
    } else {
        device::taint_effect(&taint.effect, &path.child("effect"), errors);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    fn made(changes: &[(&str, Value)]) -> ResourceSlice {
        let base = json!({"spec": {"driver": "a.example", "nodeName": "n",
            "pool": {"name": "p", "resourceSliceCount": 1, "generation": 1}, "devices": [{"name": "d",
                "attributes": {"model": {"string": "x"}}, "capacity": {"memory": {"value": "1Gi"}},
                "taints": [{"key": "a", "effect": "NoSchedule"}]}]}});
        object(with(&base, changes))
    }

    #[test]
    fn each_rule_names_its_field() {
        let table = [
            ("driver", json!(""), "driver: Required value"),
            ("pool/name", json!("A"), "pool.name: Invalid value: \"A\""),
            ("pool/resourceSliceCount", json!(0), "pool.resourceSliceCount: Invalid value: 0: must be greater than"),
            ("nodeName", Value::Null, "spec: Required value: exactly one of `nodeName`, `nodeSelector`"),
            ("allNodes", json!(true), "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of"),
            ("allNodes", json!(false), "allNodes: Invalid value: false: must be either unset or set to true"),
            ("sharedCounters", json!([]), "spec: Invalid value: \"\": only one of `sharedCounters` or `devices`"),
            ("devices/1", json!({"name": "d"}), "devices[1]: Duplicate value: \"d\""),
            ("devices/0/name", json!("D"), "devices[0].name: Invalid value: \"D\""),
            ("devices/0/attributes/a-b", json!({"int": 1}), "devices[0].attributes[a-b]: Invalid value: \"a-b\""),
            ("devices/0/attributes/model", json!({}), "devices[0].attributes[model]: Invalid value: \"\": exactly one"),
            (
                "devices/0/attributes/model",
                json!({"version": "1.2"}),
                "devices[0].attributes[model].version: Invalid value: \"1.2\": must be a string compatible with semver",
            ),
            ("devices/0/taints/0/effect", json!("X"), "devices[0].taints[0].effect: Unsupported value: \"X\""),
            ("devices/0/nodeName", json!("n"), "devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and"),
        ];
        assert_eq!(printed(slice(&made(&[]))), [""; 0]);
        for (pointer, value, expected) in table {
            let found = printed(slice(&made(&[(&format!("/spec/{pointer}"), value)])));
            let expected = if expected.starts_with("spec:") { expected.to_owned() } else { format!("spec.{expected}") };
            assert!(found.iter().any(|error| error.starts_with(&expected)), "{pointer}: {found:?}");
        }
        let moved = made(&[("/spec/nodeName", json!("m")), ("/spec/driver", json!("b.example"))]);
        assert_eq!(slice_update(&moved, &made(&[])).len(), 2);
        for (text, good) in
            [("1.2.3", true), ("1.2.3-rc.1+b.1", true), ("01.2.3", false), ("1.2.3-01", false), ("1.2.3-", false)]
        {
            assert_eq!(is_semantic_version(text), good, "{text}");
        }
    }
}
