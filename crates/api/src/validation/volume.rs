//! Volumes: a name each, one source each, and what the sources of this release need.

use std::collections::BTreeMap;

use base_meta::field::{Error, Path};
use base_meta::names;
use k8s_openapi::api::core::v1::{KeyToPath, Volume};
use serde_json::Value;

use super::container::relative_path;
use super::{Errors, formats, json, resources, said};

/// Answers with those that containers may refer to.
pub(super) fn volumes<'a>(list: &'a [Volume], path: &Path, errors: &mut Errors) -> BTreeMap<&'a str, &'a Volume> {
    let mut names = BTreeMap::new();
    for (index, volume) in list.iter().enumerate() {
        let path = path.index(index);
        let before = errors.len();
        source(volume, &path, errors);
        if volume.name.is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
        } else {
            formats::invalid(&path.child("name"), &volume.name, names::dns1123_label(&volume.name), errors);
        }
        if names.contains_key(volume.name.as_str()) {
            errors.push(Error::duplicate(&path.child("name"), &volume.name));
        }
        if errors.len() == before {
            names.insert(volume.name.as_str(), volume);
        }
    }
    names
}

fn source(volume: &Volume, path: &Path, errors: &mut Errors) {
    let given: Vec<String> = match json(volume) {
        Value::Object(fields) => fields.into_iter().map(|(name, _)| name).filter(|name| name != "name").collect(),
        _ => Vec::new(),
    };
    if given.is_empty() {
        errors.push(Error::required(path, "must specify a volume type"));
    }
    for extra in given.iter().skip(1) {
        errors.push(Error::forbidden(&path.child(extra), "may not specify more than 1 volume type"));
    }
    if let Some(empty_dir) = &volume.empty_dir
        && let Some(limit) = &empty_dir.size_limit
    {
        resources::quantity(&limit.0, &path.child("emptyDir").child("sizeLimit"), errors);
    }
    if let Some(host_path) = &volume.host_path {
        let path = path.child("hostPath").child("path");
        if host_path.path.is_empty() {
            errors.push(Error::required(&path, ""));
        } else if host_path.path.split('/').any(|part| part == "..") {
            errors.push(Error::invalid(&path, &host_path.path, "must not contain '..'"));
        }
    }
    if let Some(secret) = &volume.secret {
        let path = path.child("secret");
        if said(&secret.secret_name).is_empty() {
            errors.push(Error::required(&path.child("secretName"), ""));
        }
        mode(secret.default_mode, &path.child("defaultMode"), errors);
        items(secret.items.as_deref(), &path, errors);
    }
    if let Some(config_map) = &volume.config_map {
        let path = path.child("configMap");
        if config_map.name.is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
        }
        mode(config_map.default_mode, &path.child("defaultMode"), errors);
        items(config_map.items.as_deref(), &path, errors);
    }
    if let Some(claim) = &volume.persistent_volume_claim
        && claim.claim_name.is_empty()
    {
        errors.push(Error::required(&path.child("persistentVolumeClaim").child("claimName"), ""));
    }
    if let Some(projected) = &volume.projected {
        mode(projected.default_mode, &path.child("projected").child("defaultMode"), errors);
    }
}

fn mode(mode: Option<i32>, path: &Path, errors: &mut Errors) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        errors.push(Error::invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive"));
    }
}

fn items(list: Option<&[KeyToPath]>, path: &Path, errors: &mut Errors) {
    for (index, item) in list.into_iter().flatten().enumerate() {
        let path = path.child("items").index(index);
        if item.key.is_empty() {
            errors.push(Error::required(&path.child("key"), ""));
        }
        if item.path.is_empty() {
            errors.push(Error::required(&path.child("path"), ""));
        }
        relative_path(&item.path, &path.child("path"), errors);
        mode(item.mode, &path.child("mode"), errors);
    }
}
