//! Proxies that have authenticated their callers: whoever shows a certificate of the proxies' authority says in headers for whom
//! it asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderMap;
use machinery_apiserver::Authenticator;
use machinery_registry::UserInfo;
use percent_encoding::percent_decode_str;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::CertificateDer;

use crate::authentication::{BadAuthority, subject, verified, verifier};

/// What is believed of a proxy; upstream's `--requestheader-…`.
#[derive(Clone, Debug)]
pub struct RequestHeaderOptions {
    /// The authority of the proxies' certificates, PEM.
    pub authority: Vec<u8>,
    /// Common names of proxies; empty: all that the authority signs.
    pub allowed_names: Vec<String>,
    /// The first that has a value counts.
    pub username_headers: Vec<String>,
    pub uid_headers: Vec<String>,
    /// All values of all of them count.
    pub group_headers: Vec<String>,
    pub extra_headers_prefix: Vec<String>,
}

pub struct RequestHeaders {
    options: RequestHeaderOptions,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl RequestHeaders {
    pub fn new(options: RequestHeaderOptions) -> Result<Self, BadAuthority> {
        let verifier = verifier(&options.authority)?;
        Ok(Self { options, verifier })
    }
}

fn first(headers: &HeaderMap, names: &[String]) -> String {
    let mut values = names.iter().filter_map(|name| headers.get(name)).filter_map(|value| value.to_str().ok());
    values.find(|value| !value.is_empty()).unwrap_or("").to_owned()
}

fn all(headers: &HeaderMap, names: &[String]) -> Vec<String> {
    let values = names.iter().flat_map(|name| headers.get_all(name)).filter_map(|value| value.to_str().ok());
    values.filter(|value| !value.is_empty()).map(str::to_owned).collect()
}

/// By what follows a prefix, lower case and with its percent-escapes decoded.
fn extra(headers: &HeaderMap, prefixes: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for prefix in prefixes {
        for (name, value) in headers {
            let Some(key) = name.as_str().strip_prefix(&prefix.to_ascii_lowercase()) else { continue };
            let key = percent_decode_str(key).decode_utf8().map_or_else(|_| key.to_owned(), |key| key.into_owned());
            if let Ok(value) = value.to_str() {
                extra.entry(key).or_default().push(value.to_owned());
            }
        }
    }
    extra
}

/// Pure: for whom the headers ask.
fn user(options: &RequestHeaderOptions, headers: &HeaderMap) -> Option<UserInfo> {
    let name = first(headers, &options.username_headers);
    (!name.is_empty()).then(|| UserInfo {
        name,
        uid: first(headers, &options.uid_headers),
        groups: all(headers, &options.group_headers),
        extra: extra(headers, &options.extra_headers_prefix),
    })
}

impl Authenticator for RequestHeaders {
    fn vouches(&self, peer: &[CertificateDer<'_>]) -> Option<SystemTime> {
        let until = verified(&*self.verifier, peer)?;
        let (name, _) = subject(peer.first()?)?;
        let allowed = &self.options.allowed_names;
        (allowed.is_empty() || allowed.contains(&name)).then_some(until)
    }

    fn vouched(&self, headers: &HeaderMap) -> Option<Arc<UserInfo>> {
        user(&self.options, headers).map(Arc::new)
    }
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderName, HeaderValue};
    use rcgen::{CertificateParams, DnType, Issuer, KeyPair};

    use super::*;

    fn options(authority: &str, allowed: &[&str]) -> RequestHeaderOptions {
        let list = |text: &str| vec![text.to_owned()];
        RequestHeaderOptions {
            authority: authority.as_bytes().to_vec(),
            allowed_names: allowed.iter().map(|name| (*name).to_owned()).collect(),
            username_headers: vec!["X-Other".into(), "X-Remote-User".into()],
            uid_headers: list("X-Remote-Uid"),
            group_headers: list("X-Remote-Group"),
            extra_headers_prefix: list("X-Remote-Extra-"),
        }
    }

    #[test]
    fn headers_say_for_whom() {
        let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            let mut map = HeaderMap::new();
            for (name, value) in pairs {
                map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            map
        };
        let options = options("", &[]);
        let told = headers(&[
            ("x-remote-user", "jane"),
            ("x-remote-uid", "7"),
            ("x-remote-group", "a"),
            ("x-remote-group", ""),
            ("x-remote-group", "b"),
            ("x-remote-extra-example.com%2fscopes", "x"),
            ("x-remote-extra-%ff", "y"),
        ]);
        let found = user(&options, &told).expect("somebody");
        assert_eq!((found.name.as_str(), found.uid.as_str()), ("jane", "7"));
        assert_eq!(found.groups, ["a", "b"]);
        assert_eq!(found.extra["example.com/scopes"], ["x"]);
        assert_eq!(found.extra["%ff"], ["y"]);
        assert_eq!(user(&options, &headers(&[("x-remote-group", "system:masters")])), None);
        assert_eq!(user(&options, &headers(&[("x-remote-user", "")])), None);
    }

    fn authority(name: &str) -> (Issuer<'static, KeyPair>, String) {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        (Issuer::new(params, key), pem)
    }

    fn client(issuer: &Issuer<'static, KeyPair>, name: &str) -> [CertificateDer<'static>; 1] {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        [params.signed_by(&key, issuer).expect("signed").der().clone()]
    }

    #[test]
    fn only_proxies_are_believed() {
        let (proxies, pem) = authority("proxies");
        let (others, _) = authority("others");
        let any = RequestHeaders::new(options(&pem, &[])).expect("an authority");
        let one = RequestHeaders::new(options(&pem, &["front-proxy-client"])).expect("an authority");
        assert!(any.vouches(&client(&proxies, "x")).is_some_and(|until| until > SystemTime::now()));
        assert!(any.vouches(&client(&others, "front-proxy-client")).is_none());
        assert!(any.vouches(&[]).is_none());
        assert!(one.vouches(&client(&proxies, "front-proxy-client")).is_some());
        assert!(one.vouches(&client(&proxies, "x")).is_none());
        for bad in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(RequestHeaders::new(options(bad, &[])).is_err());
        }
    }
}
