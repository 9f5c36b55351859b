//! What the kinds of `resource.k8s.io` share: names, selectors, configurations, tolerations. Expressions are checked
//! for their size alone: they are compiled where they are evaluated.

use std::collections::BTreeSet;

use base_meta::field::{Error, Path};
use base_meta::names;
use k8s_openapi::api::resource::v1::{DeviceSelector, DeviceToleration, OpaqueDeviceConfiguration};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::Value;

use super::{Errors, formats, said, segments};

/// Of requests, constraints, configurations, selectors and results.
pub(super) const MAX_ITEMS: usize = 32;
/// Of an expression, in bytes.
const MAX_EXPRESSION: usize = 10 * 1024;
/// Of parameters as JSON, in bytes.
pub(super) const MAX_PARAMETERS: usize = 10 * 1024;
const MAX_POOL_NAME: usize = 253;
const MAX_ID: usize = 32;
const MAX_BINDING_CONDITIONS: usize = 4;

/// Whether the list is short enough to be looked at.
pub(super) fn fits<T>(list: &[T], max: usize, path: &Path, errors: &mut Errors) -> bool {
    let fits = list.len() <= max;
    if !fits {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        errors.push(Error::too_many(path, number(list.len()), number(max)));
    }
    fits
}

/// Names each item that repeats the key of one before it.
pub(super) fn unique<'a>(keys: impl Iterator<Item = &'a str>, path: &Path, errors: &mut Errors) {
    let mut known = BTreeSet::new();
    for (index, key) in keys.enumerate() {
        if !known.insert(key) {
            errors.push(Error::duplicate(&path.index(index), key));
        }
    }
}

pub(super) fn pool_name(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    if name.len() > MAX_POOL_NAME {
        errors.push(Error::too_long(path, MAX_POOL_NAME));
    }
    name.split('/').for_each(|part| segments::subdomain(part, path, errors));
}

/// `[domain/]identifier`.
pub(super) fn qualified_name(name: &str, path: &Path, errors: &mut Errors) {
    let identifier = |id: &str, errors: &mut Errors| {
        if id.len() > MAX_ID {
            errors.push(Error::too_long(path, MAX_ID));
        }
        formats::invalid(path, id, names::c_identifier(id), errors);
    };
    match name.split('/').collect::<Vec<_>>()[..] {
        [id] => identifier(id, errors),
        [domain, id] => {
            if domain.is_empty() {
                errors.push(Error::invalid(path, "", "the domain must not be empty"));
            } else {
                segments::driver(domain, path, errors);
            }
            if id.is_empty() {
                errors.push(Error::invalid(path, "", "the name must not be empty"));
            } else {
                identifier(id, errors);
            }
        }
        _ => {}
    }
}

pub(super) fn fully_qualified_name(name: &str, path: &Path, errors: &mut Errors) {
    qualified_name(name, path, errors);
    if !name.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        errors.push(Error::invalid(path, name, detail));
    }
}

pub(super) fn selectors(list: Option<&[DeviceSelector]>, path: &Path, errors: &mut Errors) {
    let list = list.unwrap_or_default();
    if !fits(list, MAX_ITEMS, path, errors) {
        return;
    }
    for (index, selector) in list.iter().enumerate() {
        let path = path.index(index).child("cel");
        match &selector.cel {
            None => errors.push(Error::required(&path, "")),
            Some(cel) if cel.expression.is_empty() => errors.push(Error::required(&path.child("expression"), "")),
            Some(cel) if cel.expression.len() > MAX_EXPRESSION => {
                errors.push(Error::too_long(&path.child("expression"), MAX_EXPRESSION));
            }
            Some(_) => {}
        }
    }
}

pub(super) fn opaque(config: Option<&OpaqueDeviceConfiguration>, path: &Path, errors: &mut Errors) {
    let path = path.child("opaque");
    let Some(config) = config else {
        errors.push(Error::required(&path, ""));
        return;
    };
    segments::driver(&config.driver, &path.child("driver"), errors);
    raw(&config.parameters, &path.child("parameters"), errors);
}

/// An object of a driver's own kind.
pub(super) fn raw(extension: &RawExtension, path: &Path, errors: &mut Errors) {
    match &extension.0 {
        Value::Null => errors.push(Error::required(path, "")),
        Value::Object(_) if extension.0.to_string().len() > MAX_PARAMETERS => {
            errors.push(Error::too_long(path, MAX_PARAMETERS));
        }
        Value::Object(_) => {}
        _ => errors.push(Error::invalid(path, "<value omitted>", "must be a valid JSON object")),
    }
}

pub(super) fn binding_conditions(
    conditions: Option<&[String]>,
    failures: Option<&[String]>,
    path: &Path,
    errors: &mut Errors,
) {
    for (field, list) in [("bindingConditions", conditions), ("bindingFailureConditions", failures)] {
        let (path, list) = (path.child(field), list.unwrap_or_default());
        if fits(list, MAX_BINDING_CONDITIONS, &path, errors) {
            for (index, name) in list.iter().enumerate() {
                segments::qualified(name, &path.index(index), errors);
            }
        }
    }
}

const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];

pub(super) fn taint_effect(effect: &str, path: &Path, errors: &mut Errors) {
    if !EFFECTS.contains(&effect) {
        errors.push(Error::not_supported(path, effect, EFFECTS));
    }
}

pub(super) fn tolerations(list: Option<&[DeviceToleration]>, path: &Path, errors: &mut Errors) {
    for (index, toleration) in list.into_iter().flatten().enumerate() {
        let path = path.child("tolerations").index(index);
        let (key, value, effect) = (said(&toleration.key), said(&toleration.value), said(&toleration.effect));
        if !key.is_empty() {
            segments::qualified(key, &path.child("key"), errors);
        }
        match said(&toleration.operator) {
            "Exists" if !value.is_empty() => {
                errors.push(Error::invalid(&path.child("value"), value, "must be empty for operator `Exists`"));
            }
            "Exists" => {}
            "Equal" => formats::invalid(&path.child("value"), value, names::label_value(value), errors),
            "" => errors.push(Error::required(&path.child("operator"), "")),
            other => errors.push(Error::not_supported(&path.child("operator"), other, &["Equal", "Exists"])),
        }
        if !effect.is_empty() {
            taint_effect(effect, &path.child("effect"), errors);
        }
    }
}
