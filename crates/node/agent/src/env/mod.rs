//! A container's environment: image, services, envFrom, env, with `$(VAR)` expansion. Pure once its sources are read.

mod expand;
mod fields;
mod file;
mod services;
mod sources;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, Pod};

pub use expand::expand;
pub use fields::resource;
pub use services::ServiceLinks;
pub use sources::Sources;

/// Why a container's configuration cannot be made; `Display` is what upstream shows as the waiting message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    #[error("{kind} {name:?} not found")]
    NotFound { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey { kind: &'static str, namespace: String, name: String, key: String },
    #[error("unsupported fieldPath: {0}")]
    FieldPath(String),
    #[error("unsupported container resource : {0}")]
    Resource(String),
    #[error("container {0} not found")]
    Container(String),
    #[error("couldn't parse env file")]
    File,
    #[error("cannot find the volume {0:?} referenced by FileKeyRef")]
    NoVolume(String),
    #[error("environment variable key {key:?} not found in file {path:?}")]
    NotInFile { key: String, path: String },
}

/// The pod as its containers may see it.
pub struct PodView<'a> {
    pub pod: &'a Pod,
    pub node_name: &'a str,
    pub host_ips: &'a [IpAddr],
    pub pod_ips: &'a [IpAddr],
    pub services: &'a [ServiceLinks],
    /// The node's allocatable CPU (milli) and memory (bytes), for limits that are not set.
    pub allocatable: (i64, i64),
}

impl PodView<'_> {
    pub(crate) fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }
}

/// The variables in their final order, each name once. `image` holds the image's own `NAME=value`.
pub fn environment(
    container: &Container,
    image: &[String],
    view: &PodView<'_>,
    sources: &Sources,
) -> Result<Vec<(String, String)>, EnvError> {
    let spec = view.pod.spec.as_ref();
    let links = spec.and_then(|spec| spec.enable_service_links).unwrap_or(true);
    let services: BTreeMap<_, _> = services::variables(view.services, links).into_iter().collect();
    let mut values = Ordered::default();
    for from in container.env_from.iter().flatten() {
        for (name, value) in sources.all(from)? {
            values.set(name, value);
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(variable, container, view, sources, &values, &services)? {
            values.set(variable.name.clone(), value);
        }
    }
    let mut result = Ordered::default();
    for entry in image {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        result.set(name.to_owned(), value.to_owned());
    }
    for (name, value) in services {
        result.set(name, value);
    }
    for (name, value) in values.0 {
        result.set(name, value);
    }
    Ok(result.0)
}

/// `None` leaves the variable out (an optional source that is missing).
fn value(
    variable: &EnvVar,
    container: &Container,
    view: &PodView<'_>,
    sources: &Sources,
    earlier: &Ordered,
    services: &BTreeMap<String, String>,
) -> Result<Option<String>, EnvError> {
    let Some(EnvVarSource { field_ref, resource_field_ref, config_map_key_ref, secret_key_ref, file_key_ref }) =
        &variable.value_from
    else {
        let raw = variable.value.as_deref().unwrap_or_default();
        return Ok(Some(expand(raw, |name| earlier.get(name).or_else(|| services.get(name).map(String::as_str)))));
    };
    if let Some(field) = field_ref {
        return fields::field(&field.field_path, view).map(Some);
    }
    if let Some(resource) = resource_field_ref {
        return fields::resource(resource, Some(container), view.pod, view.allocatable).map(Some);
    }
    if let Some(key) = config_map_key_ref {
        return sources.config_map_key(&key.name, &key.key, key.optional == Some(true), view.namespace());
    }
    if let Some(key) = secret_key_ref {
        return sources.secret_key(&key.name, &key.key, key.optional == Some(true), view.namespace());
    }
    if let Some(key) = file_key_ref {
        return sources.file_key(&key.volume_name, &key.path, &key.key, key.optional == Some(true));
    }
    Ok(Some(String::new()))
}

/// Variables in the order of their first setting; a later value wins.
#[derive(Default)]
struct Ordered(Vec<(String, String)>);

impl Ordered {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: String, value: String) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => self.0.push((name, value)),
        }
    }
}
