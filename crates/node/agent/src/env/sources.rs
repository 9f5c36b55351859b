//! ConfigMaps, Secrets and files of volumes that a pod names, read before a container is made.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, EnvFromSource};

use crate::cluster::{Cluster, ClusterError};
use crate::env::{EnvError, file};
use crate::volumes::Made;

type Data = BTreeMap<String, Vec<u8>>;

/// Contents by object name, within one namespace. `None`: the object does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    pub config_maps: BTreeMap<String, Option<Data>>,
    pub secrets: BTreeMap<String, Option<Data>>,
    /// By volume and path in it.
    pub(super) files: BTreeMap<(String, String), Result<String, EnvError>>,
}

impl Sources {
    /// Reads what the container's environment refers to.
    pub async fn of_environment(
        container: &Container,
        namespace: &str,
        volumes: &BTreeMap<String, Made>,
        cluster: &dyn Cluster,
    ) -> Result<Self, ClusterError> {
        let (mut config_maps, mut secrets, mut files) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        for from in container.env_from.iter().flatten() {
            config_maps.extend(from.config_map_ref.iter().map(|source| source.name.clone()));
            secrets.extend(from.secret_ref.iter().map(|source| source.name.clone()));
        }
        for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
            config_maps.extend(source.config_map_key_ref.iter().map(|key| key.name.clone()));
            secrets.extend(source.secret_key_ref.iter().map(|key| key.name.clone()));
            if let Some(key) = &source.file_key_ref {
                let volume = volumes.get(&key.volume_name).ok_or_else(|| EnvError::NoVolume(key.volume_name.clone()));
                let text = volume.and_then(|volume| file::read(&volume.root, &key.path));
                files.insert((key.volume_name.clone(), key.path.clone()), text);
            }
        }
        Ok(Self { files, ..Self::read(config_maps, secrets, namespace, cluster).await? })
    }

    pub async fn read(
        config_maps: BTreeSet<String>,
        secrets: BTreeSet<String>,
        namespace: &str,
        cluster: &dyn Cluster,
    ) -> Result<Self, ClusterError> {
        let mut sources = Self::default();
        for name in config_maps {
            let data = cluster.config_map(namespace, &name).await?.map(|object| {
                let text = object.data.unwrap_or_default().into_iter().map(|(key, text)| (key, text.into_bytes()));
                let binary = object.binary_data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, bytes.0));
                text.chain(binary).collect()
            });
            sources.config_maps.insert(name, data);
        }
        for name in secrets {
            let data = cluster
                .secret(namespace, &name)
                .await?
                .map(|object| object.data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, bytes.0)).collect());
            sources.secrets.insert(name, data);
        }
        Ok(sources)
    }

    pub fn config_map(&self, name: &str) -> Result<&Data, EnvError> {
        found(&self.config_maps, "configmap", name)
    }

    pub fn secret(&self, name: &str) -> Result<&Data, EnvError> {
        found(&self.secrets, "secret", name)
    }

    pub(super) fn all(&self, from: &EnvFromSource) -> Result<Vec<(String, String)>, EnvError> {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let (data, optional) = if let Some(source) = &from.config_map_ref {
            (self.config_map(&source.name), source.optional == Some(true))
        } else if let Some(source) = &from.secret_ref {
            (self.secret(&source.name), source.optional == Some(true))
        } else {
            return Ok(Vec::new());
        };
        match data {
            Ok(data) => Ok(data.iter().map(|(key, value)| (format!("{prefix}{key}"), text(value))).collect()),
            Err(_) if optional => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn config_map_key(
        &self,
        name: &str,
        key: &str,
        optional: bool,
        namespace: &str,
    ) -> Result<Option<String>, EnvError> {
        pick(self.config_map(name), "ConfigMap", name, key, optional, namespace)
    }

    pub(super) fn secret_key(
        &self,
        name: &str,
        key: &str,
        optional: bool,
        namespace: &str,
    ) -> Result<Option<String>, EnvError> {
        pick(self.secret(name), "Secret", name, key, optional, namespace)
    }

    /// A file that cannot be read is a failure even where its keys are optional, and an empty value is none, as upstream has it.
    pub(super) fn file_key(
        &self,
        volume: &str,
        path: &str,
        key: &str,
        optional: bool,
    ) -> Result<Option<String>, EnvError> {
        let text = match self.files.get(&(volume.to_owned(), path.to_owned())) {
            Some(Ok(text)) => text,
            Some(Err(error)) => return Err(error.clone()),
            None => return Err(EnvError::NoVolume(volume.to_owned())),
        };
        match file::find(text, key)? {
            "" if optional => Ok(None),
            "" => Err(EnvError::NotInFile { key: key.to_owned(), path: path.to_owned() }),
            value => Ok(Some(value.to_owned())),
        }
    }
}

fn found<'a>(
    objects: &'a BTreeMap<String, Option<Data>>,
    kind: &'static str,
    name: &str,
) -> Result<&'a Data, EnvError> {
    objects.get(name).and_then(Option::as_ref).ok_or_else(|| EnvError::NotFound { kind, name: name.to_owned() })
}

fn pick(
    data: Result<&Data, EnvError>,
    kind: &'static str,
    name: &str,
    key: &str,
    optional: bool,
    namespace: &str,
) -> Result<Option<String>, EnvError> {
    let value = data.and_then(|data| {
        data.get(key).ok_or_else(|| EnvError::NoKey {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            key: key.to_owned(),
        })
    });
    match value {
        Ok(value) => Ok(Some(text(value))),
        Err(_) if optional => Ok(None),
        Err(error) => Err(error),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
