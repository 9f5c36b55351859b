//! Where a server is, as users write it: the `clientConfig` of webhooks, and what an `APIService` says.

use http::Uri;
use k8s_openapi::ByteString;
use serde::Deserialize;

use crate::Error;

/// `service` or `url`, and whom to believe there.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConfig {
    pub url: Option<String>,
    pub service: Option<ServiceReference>,
    /// PEM. Empty: the authorities that this host believes.
    pub ca_bundle: Option<ByteString>,
    /// Of `APIService` alone.
    #[serde(rename = "insecureSkipTLSVerify")]
    pub insecure_skip_tls_verify: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ServiceReference {
    pub namespace: String,
    pub name: String,
    pub path: Option<String>,
    /// Default 443.
    pub port: Option<u16>,
}

/// What to connect to; addresses are looked up later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Service { namespace: String, name: String, port: u16 },
    Host { host: String, port: u16 },
}

/// A target and how it is spoken of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) target: Target,
    /// `Host:` and the URL's.
    pub(crate) authority: String,
    /// Begins with a slash; of a URL with its query.
    pub(crate) path: String,
}

const HTTPS: u16 = 443;

impl ClientConfig {
    pub(crate) fn place(&self) -> Result<Place, Error> {
        match (&self.service, &self.url) {
            (Some(service), _) => Ok(service.place()),
            (None, Some(url)) => of_url(url),
            (None, None) => Err(Error::Nowhere),
        }
    }
}

impl ServiceReference {
    fn place(&self) -> Place {
        let Self { namespace, name, path, port } = self;
        let port = port.unwrap_or(HTTPS);
        let path = path.as_deref().unwrap_or_default();
        Place {
            target: Target::Service { namespace: namespace.clone(), name: name.clone(), port },
            authority: format!("{name}.{namespace}.svc:{port}"),
            path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
        }
    }
}

fn of_url(text: &str) -> Result<Place, Error> {
    let bad = || Error::Url(text.to_owned());
    let url: Uri = text.parse().map_err(|_| bad())?;
    let (Some("https"), Some(authority)) = (url.scheme_str(), url.authority()) else { return Err(bad()) };
    let host = authority.host().trim_matches(['[', ']']);
    if host.is_empty() {
        return Err(bad());
    }
    Ok(Place {
        target: Target::Host { host: host.to_owned(), port: authority.port_u16().unwrap_or(HTTPS) },
        authority: authority.to_string(),
        path: url.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
    })
}

impl Target {
    /// The name that the server's certificate must have.
    pub(crate) fn server_name(&self) -> String {
        match self {
            Self::Service { namespace, name, .. } => format!("{name}.{namespace}.svc"),
            Self::Host { host, .. } => host.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(json: serde_json::Value) -> Result<Place, Error> {
        serde_json::from_value::<ClientConfig>(json).expect("a configuration").place()
    }

    #[test]
    fn services_and_urls() {
        let service = serde_json::json!({"service": {"namespace": "a", "name": "b", "path": "/x", "port": 8443}, "caBundle": "AAAA"});
        let Place { target, authority, path } = place(service).expect("a place");
        assert_eq!(target.server_name(), "b.a.svc");
        assert_eq!(target, Target::Service { namespace: "a".into(), name: "b".into(), port: 8443 });
        assert_eq!((authority.as_str(), path.as_str()), ("b.a.svc:8443", "/x"));
        let bare = place(serde_json::json!({"service": {"namespace": "a", "name": "b"}})).expect("a place");
        assert_eq!((bare.authority.as_str(), bare.path.as_str()), ("b.a.svc:443", "/"));

        let url = place(serde_json::json!({"url": "https://[::1]:8443/x?y=z"})).expect("a place");
        assert_eq!(url.target, Target::Host { host: "::1".into(), port: 8443 });
        assert_eq!((url.authority.as_str(), url.path.as_str()), ("[::1]:8443", "/x?y=z"));
        let bare = place(serde_json::json!({"url": "https://example.com"})).expect("a place");
        assert_eq!((bare.target.server_name().as_str(), bare.path.as_str()), ("example.com", "/"));
    }

    #[test]
    fn neither_and_no_https_are_refused() {
        assert!(matches!(place(serde_json::json!({})), Err(Error::Nowhere)));
        for url in ["http://example.com", "example.com", "https://", "https:///x", "\u{0}"] {
            assert!(matches!(place(serde_json::json!({"url": url})), Err(Error::Url(_))), "{url}");
        }
    }
}
