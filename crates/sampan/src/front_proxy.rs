//! Who speaks for others: this server to aggregated ones, and proxies in front of this server.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use control_policy::RequestHeaderOptions;
use rustls::client::ResolvesClientCert;

use crate::config::RequestHeader;
use crate::pki::Authority;
use crate::renewing::Renewing;

/// The name of this server as a proxy.
const NAME: &str = "front-proxy-client";

pub struct FrontProxy {
    /// What this server shows aggregated ones.
    pub identity: Arc<dyn ResolvesClientCert>,
    /// The proxies that this server believes; `None`: no one.
    pub believed: Option<RequestHeaderOptions>,
    authority_pem: String,
}

impl FrontProxy {
    pub fn open(tls_dir: &Path, options: &RequestHeader) -> Result<Self> {
        let authority = Authority::named(tls_dir, "request-header-ca")?;
        let authority_pem = authority.trust.pem.clone();
        let identity = Renewing::new(move || authority.client(NAME, &[])?.certified(&[]))?;
        let believed = match &options.requestheader_client_ca_file {
            None => None,
            Some(path) => Some(RequestHeaderOptions {
                authority: std::fs::read(path).with_context(|| format!("reading {}", path.display()))?,
                allowed_names: options.requestheader_allowed_names.clone(),
                username_headers: options.requestheader_username_headers.clone(),
                uid_headers: options.requestheader_uid_headers.clone(),
                group_headers: options.requestheader_group_headers.clone(),
                extra_headers_prefix: options.requestheader_extra_headers_prefix.clone(),
            }),
        };
        Ok(Self { identity, believed, authority_pem })
    }

    /// What aggregated servers are told: by which certificates clients and proxies prove themselves, and in which headers proxies
    /// say for whom they ask.
    pub fn trust(&self, client_ca: &str) -> BTreeMap<String, String> {
        let own = |name: &str| vec![name.to_owned()];
        let lists = [
            ("username-headers", own("X-Remote-User")),
            ("uid-headers", own("X-Remote-Uid")),
            ("group-headers", own("X-Remote-Group")),
            ("extra-headers-prefix", own("X-Remote-Extra-")),
            ("allowed-names", own(NAME)),
        ];
        let believed = |key: &str| {
            self.believed.as_ref().map(|believed| match key {
                "username-headers" => &believed.username_headers,
                "uid-headers" => &believed.uid_headers,
                "group-headers" => &believed.group_headers,
                "extra-headers-prefix" => &believed.extra_headers_prefix,
                _ => &believed.allowed_names,
            })
        };
        let mut data = BTreeMap::from([("client-ca-file".to_owned(), client_ca.to_owned())]);
        for (key, mut list) in lists {
            match believed(key) {
                // No name at all: every certificate of those authorities will do.
                Some(others) if others.is_empty() && key == "allowed-names" => list.clear(),
                others => {
                    for other in others.into_iter().flatten() {
                        if !list.contains(other) {
                            list.push(other.clone());
                        }
                    }
                }
            }
            data.insert(format!("requestheader-{key}"), serde_json::json!(list).to_string());
        }
        let mut authorities = self.authority_pem.clone();
        if let Some(believed) = &self.believed {
            authorities.push_str(&String::from_utf8_lossy(&believed.authority));
        }
        data.insert("requestheader-client-ca-file".to_owned(), authorities);
        data
    }

    /// PEM of the authorities whose clients this server listens to beside its own; empty: none.
    pub fn authorities(&self) -> &[u8] {
        self.believed.as_ref().map(|believed| believed.authority.as_slice()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(file: Option<&Path>, names: &[&str]) -> RequestHeader {
        let list = |name: &str| vec![name.to_owned()];
        RequestHeader {
            requestheader_client_ca_file: file.map(Path::to_owned),
            requestheader_allowed_names: names.iter().map(|name| (*name).to_owned()).collect(),
            requestheader_username_headers: list("X-Remote-User"),
            requestheader_uid_headers: list("X-Remote-Uid"),
            requestheader_group_headers: list("X-Other"),
            requestheader_extra_headers_prefix: list("X-Remote-Extra-"),
        }
    }

    #[test]
    fn aggregated_servers_are_told_whom_to_believe() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir_all(dir.path()).expect("made");
        let alone = FrontProxy::open(dir.path(), &options(None, &[])).expect("made");
        let told = alone.trust("CLIENTS");
        assert_eq!(told["client-ca-file"], "CLIENTS");
        assert_eq!(told["requestheader-allowed-names"], r#"["front-proxy-client"]"#);
        assert_eq!(told["requestheader-group-headers"], r#"["X-Remote-Group"]"#);
        assert!(told["requestheader-client-ca-file"].starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(alone.authorities().is_empty() && alone.believed.is_none());

        let other = dir.path().join("proxies.crt");
        std::fs::write(&other, "PROXIES").expect("written");
        let with = |names: &[&str]| {
            let both = FrontProxy::open(dir.path(), &options(Some(&other), names)).expect("opened");
            assert_eq!(both.authorities(), b"PROXIES");
            both.trust("CLIENTS")
        };
        let told = with(&["gate"]);
        assert_eq!(told["requestheader-allowed-names"], r#"["front-proxy-client","gate"]"#);
        assert_eq!(told["requestheader-group-headers"], r#"["X-Remote-Group","X-Other"]"#);
        assert!(told["requestheader-client-ca-file"].ends_with("PROXIES"));
        assert_eq!(with(&[])["requestheader-allowed-names"], "[]");
        let missing = options(Some(Path::new("/nowhere.crt")), &[]);
        assert!(FrontProxy::open(dir.path(), &missing).is_err_and(|error| error.to_string().contains("/nowhere.crt")));
    }
}
