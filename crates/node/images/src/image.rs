//! An image on this node, and the part of an image's configuration that running it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How an image came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// By the operator's hand; it may stand in when the registry is unreachable. Stays so when the same image is pulled.
    Imported,
    Pulled,
}

/// An image on this node, ready to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Digest of its configuration, `sha256:…`.
    pub id: String,
    /// `registry/repository@digest` of the manifests it was pulled by.
    pub repo_digests: Vec<String>,
    /// Complete names; empty once every name moved on to another image.
    pub references: Vec<String>,
    /// Bytes as they came: compressed layers of a pull, those of the archive of an import.
    pub size: u64,
    pub origin: Origin,
    pub config: ImageConfig,
    /// Lower directories of an overlay, topmost first.
    pub layers: Vec<PathBuf>,
}

/// What the image says about how to run it. Fields that the image leaves out are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    pub working_dir: String,
    /// `uid`, `uid:gid`, `name` or `name:group`.
    pub user: String,
    /// As the image writes it: `SIGQUIT`, `QUIT` or `3`.
    pub stop_signal: Option<String>,
    /// `80/tcp`.
    pub exposed_ports: BTreeSet<String>,
    pub labels: BTreeMap<String, String>,
}

/// The configuration blob: OCI's and Docker's have these fields in common. Builders write `null` for absent ones.
#[derive(Deserialize)]
pub(crate) struct ConfigFile {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    config: Option<RawConfig>,
    pub rootfs: RootFs,
}

#[derive(Deserialize)]
pub(crate) struct RootFs {
    /// Digests of the uncompressed layers, bottom first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    labels: Option<BTreeMap<String, String>>,
}

impl ConfigFile {
    pub fn run_config(&mut self) -> ImageConfig {
        let raw = self.config.take().unwrap_or_default();
        ImageConfig {
            entrypoint: raw.entrypoint.unwrap_or_default(),
            cmd: raw.cmd.unwrap_or_default(),
            env: raw.env.unwrap_or_default(),
            working_dir: raw.working_dir.unwrap_or_default(),
            user: raw.user.unwrap_or_default(),
            stop_signal: raw.stop_signal.filter(|signal| !signal.is_empty()),
            exposed_ports: raw.exposed_ports.unwrap_or_default().into_keys().collect(),
            labels: raw.labels.unwrap_or_default(),
        }
    }
}

fn null_is_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// The machine's architecture in the words of image indexes.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "riscv64" => "riscv64",
        other => other,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_absent_fields_are_empty() {
        let text = r#"{"config":{"Env":null,"Cmd":["x"],"StopSignal":"","ExposedPorts":{"80/tcp":{}}},
                       "rootfs":{"type":"layers","diff_ids":null}}"#;
        let mut file: ConfigFile = serde_json::from_str(text).unwrap();
        let config = file.run_config();
        assert_eq!(config.cmd, ["x"]);
        assert_eq!(config.stop_signal, None);
        assert!(config.exposed_ports.contains("80/tcp"));
        assert!(config.env.is_empty() && file.rootfs.diff_ids.is_empty());
    }

    #[test]
    fn a_configuration_without_layers_is_an_error() {
        assert!(serde_json::from_str::<ConfigFile>("{}").is_err());
    }
}
