//! Whom to ask for other names, as the ConfigMap `kube-system/sampan-dns` says: the shape that kube-dns had.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use hickory_proto::rr::Name;

/// Where the ConfigMap is.
pub const NAMESPACE: &str = "kube-system";
pub const NAME: &str = "sampan-dns";
const STUB_DOMAINS: &str = "stubDomains";
const UPSTREAM: &str = "upstreamNameservers";
const PORT: u16 = 53;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Names below a domain go to these servers, the longest domain wins.
    pub stubs: Vec<(Name, Vec<SocketAddr>)>,
    /// All other names; the host's resolvers where nothing is said.
    pub upstream: Option<Vec<SocketAddr>>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{key} is not the JSON it should be")]
    Json {
        key: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("{key}: {text:?} is not an address with or without a port")]
    Server { key: &'static str, text: String },
    #[error("{key}: {text:?} is not a domain")]
    Domain { key: &'static str, text: String },
    #[error("{key}: no servers are given")]
    None { key: &'static str },
}

impl Settings {
    /// Absent keys and empty texts say nothing.
    pub fn parse(data: &BTreeMap<String, String>) -> Result<Self, Error> {
        let text = |key| data.get(key).map(|text| text.trim()).filter(|text| !text.is_empty());
        let json = |key| move |source| Error::Json { key, source };
        let stubs: BTreeMap<String, Vec<String>> = match text(STUB_DOMAINS) {
            Some(text) => serde_json::from_str(text).map_err(json(STUB_DOMAINS))?,
            None => BTreeMap::new(),
        };
        let mut stubs = stubs
            .into_iter()
            .map(|(domain, all)| Ok((parse_domain(&domain)?, servers(STUB_DOMAINS, &all)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        stubs.sort_by_key(|(domain, _)| std::cmp::Reverse(domain.num_labels()));
        let upstream = match text(UPSTREAM) {
            Some(text) => {
                let all: Vec<String> = serde_json::from_str(text).map_err(json(UPSTREAM))?;
                Some(servers(UPSTREAM, &all)?)
            }
            None => None,
        };
        Ok(Self { stubs, upstream })
    }
}

fn parse_domain(text: &str) -> Result<Name, Error> {
    let name = Name::from_ascii(format!("{}.", text.trim_matches('.'))).ok();
    let name = name.filter(|name| !name.is_root() && !text.is_empty());
    name.ok_or_else(|| Error::Domain { key: STUB_DOMAINS, text: text.to_owned() })
}

fn servers(key: &'static str, texts: &[String]) -> Result<Vec<SocketAddr>, Error> {
    if texts.is_empty() {
        return Err(Error::None { key });
    }
    let server = |text: &String| {
        let bare = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
        bare.or_else(|_| text.parse()).map_err(|_| Error::Server { key, text: text.clone() })
    };
    texts.iter().map(server).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(data: &[(&str, &str)]) -> Result<Settings, Error> {
        Settings::parse(&data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn domains_and_servers_are_read_with_and_without_ports() {
        let stubs = r#"{"test": ["192.0.2.1"], "corp.Test.": ["192.0.2.2:5300", "2001:db8::1", "[2001:db8::2]:54"]}"#;
        let settings = parse(&[(STUB_DOMAINS, stubs), (UPSTREAM, r#"["192.0.2.9"]"#)]).expect("valid");
        let [(corp, servers), (test, _)] = &settings.stubs[..] else { panic!("{settings:?}") };
        assert_eq!((corp.to_ascii().as_str(), test.to_ascii().as_str()), ("corp.Test.", "test."));
        let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.2:5300", "[2001:db8::1]:53", "[2001:db8::2]:54"]);
        assert_eq!(settings.upstream, Some(vec!["192.0.2.9:53".parse().expect("an address")]));
        assert_eq!(parse(&[]).expect("valid"), Settings::default());
        assert_eq!(parse(&[(STUB_DOMAINS, " ")]).expect("valid"), Settings::default());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (key, value, want) in [
            (STUB_DOMAINS, "[]", "stubDomains is not the JSON it should be"),
            (STUB_DOMAINS, r#"{"": ["192.0.2.1"]}"#, r#"stubDomains: "" is not a domain"#),
            (STUB_DOMAINS, r#"{"a..b": ["192.0.2.1"]}"#, r#"stubDomains: "a..b" is not a domain"#),
            (STUB_DOMAINS, r#"{"a": []}"#, "stubDomains: no servers are given"),
            (UPSTREAM, r#"{"a": 1}"#, "upstreamNameservers is not the JSON it should be"),
            (
                UPSTREAM,
                r#"["dns.test"]"#,
                r#"upstreamNameservers: "dns.test" is not an address with or without a port"#,
            ),
            (UPSTREAM, "[]", "upstreamNameservers: no servers are given"),
        ] {
            assert_eq!(parse(&[(key, value)]).expect_err(value).to_string(), want);
        }
    }
}
