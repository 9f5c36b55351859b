//! Environment variables and where their values come from.

use base_meta::field::{Error, Path};
use base_meta::names;
use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVarSource, FileKeySelector, ObjectFieldSelector};

use super::container::{Pod, relative_path};
use super::{Errors, formats, said};

/// Pod fields that a variable may hold, sorted; besides labels and annotations by key.
const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

pub(super) fn env(container: &Container, pod: &Pod<'_>, path: &Path, errors: &mut Errors) {
    for (index, variable) in container.env.iter().flatten().enumerate() {
        let path = path.child("env").index(index);
        if variable.name.is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
        } else {
            formats::invalid(&path.child("name"), &variable.name, names::relaxed_env_var_name(&variable.name), errors);
        }
        if let Some(source) = &variable.value_from {
            value_from(source, pod, said(&variable.value), &path.child("valueFrom"), errors);
        }
    }
    for (index, source) in container.env_from.iter().flatten().enumerate() {
        env_from(source, &path.child("envFrom").index(index), errors);
    }
}

fn value_from(source: &EnvVarSource, pod: &Pod<'_>, value: &str, path: &Path, errors: &mut Errors) {
    let mut sources = 0;
    if let Some(reference) = &source.field_ref {
        sources += 1;
        field_ref(reference, &path.child("fieldRef"), errors);
    }
    if let Some(reference) = &source.resource_field_ref {
        sources += 1;
        let path = path.child("resourceFieldRef");
        if reference.resource.is_empty() {
            errors.push(Error::required(&path.child("resource"), ""));
        } else if !RESOURCES.contains(&reference.resource.as_str()) && !reference.resource.contains("hugepages-") {
            errors.push(Error::not_supported(&path.child("resource"), &reference.resource, RESOURCES));
        }
    }
    if let Some(reference) = &source.config_map_key_ref {
        sources += 1;
        key_ref(&reference.name, &reference.key, &path.child("configMapKeyRef"), errors);
    }
    if let Some(reference) = &source.secret_key_ref {
        sources += 1;
        key_ref(&reference.name, &reference.key, &path.child("secretKeyRef"), errors);
    }
    if let Some(reference) = &source.file_key_ref {
        sources += 1;
        file_key_ref(reference, pod, &path.child("fileKeyRef"), errors);
    }
    let problem = match sources {
        0 => "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        _ if !value.is_empty() => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.push(Error::invalid(path, "", problem));
}

fn field_ref(reference: &ObjectFieldSelector, path: &Path, errors: &mut Errors) {
    if said(&reference.api_version).is_empty() {
        errors.push(Error::required(&path.child("apiVersion"), ""));
        return;
    }
    if reference.field_path.is_empty() {
        errors.push(Error::required(&path.child("fieldPath"), ""));
        return;
    }
    let path = path.child("fieldPath");
    let field = reference.field_path.as_str();
    if let Some((map, key)) = subscript(field) {
        match map {
            "metadata.annotations" => {
                formats::invalid(&path, key, names::qualified_name(&key.to_lowercase()), errors);
            }
            "metadata.labels" => formats::invalid(&path, key, names::qualified_name(key), errors),
            _ => errors.push(Error::invalid(&path, field, "does not support subscript")),
        }
    } else if !FIELDS.contains(&field) {
        errors.push(Error::not_supported(&path, field, FIELDS));
    }
}

/// `metadata.labels['app']` → (`metadata.labels`, `app`).
pub fn subscript(field: &str) -> Option<(&str, &str)> {
    field.strip_suffix("']")?.split_once("['")
}

fn key_ref(name: &str, key: &str, path: &Path, errors: &mut Errors) {
    formats::invalid(&path.child("name"), name, names::dns1123_subdomain(name), errors);
    if key.is_empty() {
        errors.push(Error::required(&path.child("key"), ""));
    } else {
        formats::invalid(&path.child("key"), key, names::config_map_key(key), errors);
    }
}

fn file_key_ref(reference: &FileKeySelector, pod: &Pod<'_>, path: &Path, errors: &mut Errors) {
    let FileKeySelector { key, path: file, volume_name, .. } = reference;
    if key.is_empty() {
        errors.push(Error::required(&path.child("key"), ""));
    } else {
        formats::invalid(&path.child("key"), key, names::relaxed_env_var_name(key), errors);
    }
    if file.is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
    } else {
        relative_path(file, &path.child("path"), errors);
    }
    let path = path.child("volumeName");
    match pod.volumes.get(volume_name.as_str()) {
        _ if volume_name.is_empty() => errors.push(Error::required(&path, "")),
        None => errors.push(Error::not_found(&path, volume_name)),
        Some(volume) if volume.empty_dir.is_none() => {
            errors.push(Error::invalid(&path, volume_name, "referenced volume must be of type emptyDir"));
        }
        Some(_) => {}
    }
}

fn env_from(source: &EnvFromSource, path: &Path, errors: &mut Errors) {
    if let Some(prefix) = source.prefix.as_deref().filter(|prefix| !prefix.is_empty()) {
        formats::invalid(&path.child("prefix"), prefix, names::relaxed_env_var_name(prefix), errors);
    }
    let mut sources = 0;
    let references = [
        ("configMapRef", source.config_map_ref.as_ref().map(|reference| reference.name.as_str())),
        ("secretRef", source.secret_ref.as_ref().map(|reference| reference.name.as_str())),
    ];
    for (field, name) in references {
        if let Some(name) = name {
            sources += 1;
            formats::invalid(&path.child(field).child("name"), name, names::dns1123_subdomain(name), errors);
        }
    }
    let problem = match sources {
        0 => "must specify one of: `configMapRef` or `secretRef`",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.push(Error::invalid(path, "", problem));
}
