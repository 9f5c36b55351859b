//! Where images come from: k3s's registries.yaml, parsed to types, and the endpoints it yields for a name.

mod endpoints;
mod parse;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use regex::Regex;

pub(crate) use endpoints::Endpoint;

/// Mirrors and per-registry settings. The default is what an absent file means: every registry by its own name.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    /// By registry name; `*` is for those not named.
    mirrors: BTreeMap<String, Mirror>,
    /// By host of the endpoint.
    hosts: BTreeMap<String, Host>,
}

#[derive(Clone, Debug, Default)]
struct Mirror {
    /// Tried in order, before the registry itself.
    endpoints: Vec<Address>,
    /// Applied to the repository at the mirrors; the first that matches.
    rewrites: Vec<(Regex, String)>,
}

#[derive(Clone, Debug, Default)]
struct Host {
    auth: Option<Auth>,
    tls: Tls,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    /// PEM, beside the host's own certificate authorities.
    pub ca: Option<Vec<u8>>,
    pub skip_verify: bool,
}

/// An endpoint's URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    plain_http: bool,
    /// With the port if one is given.
    host: String,
    /// Put before the repository.
    prefix: String,
}

/// How to log in to a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Auth {
    Basic { username: String, password: String },
    Bearer(String),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { username, .. } => f.debug_struct("Basic").field("username", username).finish_non_exhaustive(),
            Self::Bearer(_) => f.debug_struct("Bearer").finish_non_exhaustive(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    #[error("read registry configuration {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("parse registry configuration {}", path.display())]
    Yaml { path: PathBuf, source: serde_norway::Error },
    #[error("registry configuration {}: {field}: {reason}", path.display())]
    Invalid { path: PathBuf, field: String, reason: String },
}

impl Registries {
    /// Reads registries.yaml; an absent file is the default. Files it names are read too.
    pub fn load(path: &Path) -> Result<Self, RegistriesError> {
        match std::fs::read_to_string(path) {
            Ok(text) => parse::parse(path, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(RegistriesError::Read { path: path.to_owned(), source }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
