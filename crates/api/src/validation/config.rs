//! ConfigMaps.

use base_meta::field::{Error, Path};
use base_meta::names;
use k8s_openapi::api::core::v1::ConfigMap;

use super::{Errors, formats, json, normal};

/// Upstream's `MaxSecretSize`, of ConfigMaps too: 1 MiB over all values.
pub(super) const MAX_BYTES: usize = 1024 * 1024;

const IMMUTABLE: &str = "field is immutable when `immutable` is set";

pub fn config_map(map: &ConfigMap) -> Errors {
    let mut errors = Errors::new();
    let mut total = 0;
    let binary = map.binary_data.as_ref();
    for (key, value) in map.data.iter().flatten() {
        formats::invalid(&Path::new("data").key(key), key, names::config_map_key(key), &mut errors);
        if binary.is_some_and(|binary| binary.contains_key(key)) {
            let message = "duplicate of key present in binaryData";
            errors.push(Error::invalid(&Path::new("data").key(key), key, message));
        }
        total += value.len();
    }
    for (key, value) in binary.into_iter().flatten() {
        formats::invalid(&Path::new("binaryData").key(key), key, names::config_map_key(key), &mut errors);
        total += value.0.len();
    }
    if total > MAX_BYTES {
        errors.push(Error::too_long(&Path::new(""), MAX_BYTES));
    }
    errors
}

pub fn config_map_update(new: &ConfigMap, old: &ConfigMap) -> Errors {
    let mut errors = Errors::new();
    if old.immutable == Some(true) {
        still_immutable(new.immutable, &mut errors);
        unchanged("data", &new.data, &old.data, &mut errors);
        unchanged("binaryData", &new.binary_data, &old.binary_data, &mut errors);
    }
    errors.extend(config_map(new));
    errors
}

/// Once immutable, always immutable.
pub(super) fn still_immutable(immutable: Option<bool>, errors: &mut Errors) {
    if immutable != Some(true) {
        errors.push(Error::forbidden(&Path::new("immutable"), IMMUTABLE));
    }
}

pub(super) fn unchanged<T: serde::Serialize>(name: &str, new: &T, old: &T, errors: &mut Errors) {
    if normal(json(new)) != normal(json(old)) {
        errors.push(Error::forbidden(&Path::new(name), IMMUTABLE));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{object, printed};
    use super::*;

    #[test]
    fn keys_size_and_duplicates() {
        let found =
            printed(config_map(&object(json!({"data": {"a/b": "x", "twice": "1"}, "binaryData": {"twice": ""}}))));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("data[a/b]: Invalid value: \"a/b\": a valid config key must consist of"));
        assert_eq!(found[1], "data[twice]: Invalid value: \"twice\": duplicate of key present in binaryData");
        let big = object(json!({"data": {"a": "x".repeat(MAX_BYTES + 1)}}));
        assert_eq!(printed(config_map(&big)), ["[]: Too long: may not be more than 1048576 bytes"]);
    }

    #[test]
    fn an_immutable_map_stays() {
        let old: ConfigMap = object(json!({"immutable": true, "data": {"a": "1"}}));
        let new: ConfigMap = object(json!({"data": {"a": "2"}}));
        assert_eq!(
            printed(config_map_update(&new, &old)),
            [
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set",
            ]
        );
        assert!(config_map_update(&old, &old).is_empty());
    }
}
