//! registries.yaml to types. Unknown fields are errors: a misspelt mirror is otherwise found out by its absence.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use regex::Regex;
use serde::Deserialize;

use super::{Address, Auth, Host, Mirror, Registries, RegistriesError, Tls};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    mirrors: Option<BTreeMap<String, Option<RawMirror>>>,
    configs: Option<BTreeMap<String, Option<RawHost>>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawMirror {
    endpoint: Option<Vec<String>>,
    rewrite: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawHost {
    auth: Option<RawAuth>,
    tls: Option<RawTls>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawAuth {
    username: String,
    password: String,
    /// Base64 of `username:password`.
    auth: String,
    identity_token: String,
    /// Not k3s's name, but what people write.
    token: String,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawTls {
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    insecure_skip_verify: bool,
}

pub(super) fn parse(path: &Path, text: &str) -> Result<Registries, RegistriesError> {
    let invalid = |field: String, reason: String| RegistriesError::Invalid { path: path.to_owned(), field, reason };
    // An empty document is no map.
    let file: Option<File> =
        serde_norway::from_str(text).map_err(|source| RegistriesError::Yaml { path: path.to_owned(), source })?;
    let file = file.unwrap_or(File { mirrors: None, configs: None });
    let mut registries = Registries::default();
    for (name, raw) in file.mirrors.unwrap_or_default() {
        let raw = raw.unwrap_or_default();
        let mut mirror = Mirror::default();
        for (position, url) in raw.endpoint.unwrap_or_default().iter().enumerate() {
            let address = Address::parse(url)
                .map_err(|reason| invalid(format!("mirrors.{name}.endpoint[{position}]"), reason))?;
            mirror.endpoints.push(address);
        }
        for (pattern, replacement) in raw.rewrite.unwrap_or_default() {
            let regex = Regex::new(&pattern)
                .map_err(|error| invalid(format!("mirrors.{name}.rewrite[{pattern:?}]"), error.to_string()))?;
            mirror.rewrites.push((regex, replacement));
        }
        registries.mirrors.insert(name, mirror);
    }
    for (name, raw) in file.configs.unwrap_or_default() {
        let raw = raw.unwrap_or_default();
        let auth = auth(raw.auth.unwrap_or_default())
            .map_err(|reason| invalid(format!("configs.{name}.auth.auth"), reason.to_owned()))?;
        let raw = raw.tls.unwrap_or_default();
        if raw.cert_file.is_some() || raw.key_file.is_some() {
            let field = if raw.cert_file.is_some() { "cert_file" } else { "key_file" };
            let reason = "client certificates are not supported".to_owned();
            return Err(invalid(format!("configs.{name}.tls.{field}"), reason));
        }
        let ca = match &raw.ca_file {
            None => None,
            Some(ca) => Some(std::fs::read(ca).map_err(|error| {
                invalid(format!("configs.{name}.tls.ca_file"), format!("read {}: {error}", ca.display()))
            })?),
        };
        registries.hosts.insert(name, Host { auth, tls: Tls { ca, skip_verify: raw.insecure_skip_verify } });
    }
    Ok(registries)
}

fn auth(raw: RawAuth) -> Result<Option<Auth>, &'static str> {
    if !raw.username.is_empty() || !raw.password.is_empty() {
        return Ok(Some(Auth::Basic { username: raw.username, password: raw.password }));
    }
    if !raw.auth.is_empty() {
        let decoded = base64::engine::general_purpose::STANDARD.decode(&raw.auth).map_err(|_| "not base64")?;
        let text = String::from_utf8(decoded).map_err(|_| "not UTF-8 in base64")?;
        let (username, password) = text.split_once(':').ok_or("not username:password in base64")?;
        return Ok(Some(Auth::Basic { username: username.to_owned(), password: password.to_owned() }));
    }
    let token = if raw.token.is_empty() { raw.identity_token } else { raw.token };
    Ok((!token.is_empty()).then_some(Auth::Bearer(token)))
}

impl Address {
    /// A URL, or a bare host, which means HTTPS.
    fn parse(text: &str) -> Result<Self, String> {
        let (plain_http, rest) = match text.split_once("://") {
            None => (false, text),
            Some(("https", rest)) => (false, rest),
            Some(("http", rest)) => (true, rest),
            Some((scheme, _)) => return Err(format!("scheme {scheme:?} is neither http nor https")),
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if host.is_empty() || host.contains(['@', '?', '#', ' ']) {
            return Err(format!("{text:?} is not the URL of a registry"));
        }
        let path = path.trim_matches('/');
        let prefix = match path.strip_prefix("v2") {
            Some("") => "",
            Some(rest) if rest.starts_with('/') => rest.trim_matches('/'),
            _ if path.is_empty() => "",
            _ => return Err(format!("the path of {text:?} does not begin with /v2")),
        };
        Ok(Self { plain_http, host: host.to_owned(), prefix: prefix.to_owned() })
    }
}
