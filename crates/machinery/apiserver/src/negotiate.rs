//! Which form of an answer the client takes, as upstream's `NegotiateMediaTypeOptions` chooses it.

use base_meta::Status;
use http::HeaderMap;
use http::header::ACCEPT;

use crate::protobuf::{self, Part};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

impl Encoding {
    pub(crate) const fn mime(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => protobuf::MEDIA_TYPE,
        }
    }
}

/// What is asked instead of the object itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transform {
    None,
    /// `meta.k8s.io/v1 Table`.
    Table,
    /// `meta.k8s.io/v1 PartialObjectMetadata`, or its list.
    Metadata,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) encoding: Encoding,
    pub(crate) transform: Transform,
}

impl Accepted {
    /// Which part of objects goes out as protobuf; `None` where that is not the encoding.
    pub(crate) fn protobuf(self) -> Option<Part> {
        match (self.encoding, self.transform) {
            (Encoding::Protobuf, Transform::Metadata) => Some(Part::Metadata),
            (Encoding::Protobuf, _) => Some(Part::Whole),
            _ => None,
        }
    }

    pub(crate) const JSON: Self = Self { encoding: Encoding::Json, transform: Transform::None };
}

/// Which answers can be sent as protobuf. A Table never can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Protobuf {
    pub(crate) whole: bool,
    pub(crate) metadata: bool,
}

impl Protobuf {
    pub(crate) const NEVER: Self = Self { whole: false, metadata: false };

    fn can(self, transform: Transform) -> bool {
        match transform {
            Transform::None => self.whole,
            Transform::Metadata => self.metadata,
            Transform::Table => false,
        }
    }

    /// Media types of answers, as messages list them.
    fn supported(self) -> &'static str {
        if self.whole { "application/json, application/yaml, application/vnd.kubernetes.protobuf" } else { SUPPORTED }
    }
}

/// Media types of answers and bodies that have no protobuf, as messages list them.
pub(crate) const SUPPORTED: &str = "application/json, application/yaml";

/// One clause of an `Accept` header.
struct Clause<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    /// Thousandths.
    quality: u32,
}

fn clauses(headers: &HeaderMap) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|clause| !clause.is_empty())
        .map(|clause| {
            let mut parts = clause.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let mut quality = 1000;
            let mut parameters = Vec::new();
            for part in parts {
                let (name, value) = part.split_once('=').unwrap_or((part, ""));
                if name == "q" {
                    let q: f32 = value.parse().unwrap_or(1.0);
                    quality = (q.clamp(0.0, 1.0) * 1000.0) as u32;
                } else {
                    parameters.push((name, value.trim_matches('"')));
                }
            }
            Clause { media, parameters, quality }
        })
        .collect();
    clauses.sort_by_key(|clause| std::cmp::Reverse(clause.quality));
    clauses
}

fn encoding(media: &str) -> Option<Encoding> {
    match media {
        "application/json" | "application/*" | "*/*" => Some(Encoding::Json),
        "application/yaml" => Some(Encoding::Yaml),
        protobuf::MEDIA_TYPE => Some(Encoding::Protobuf),
        _ => None,
    }
}

fn transform(parameters: &[(&str, &str)], list: bool) -> Option<Transform> {
    let value = |name: &str| parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    let known = value("g").is_none_or(|g| g == "meta.k8s.io") && value("v").is_none_or(|v| v == "v1");
    match value("as") {
        None => Some(Transform::None),
        Some("Table") if known => Some(Transform::Table),
        Some("PartialObjectMetadata") if known && !list => Some(Transform::Metadata),
        Some("PartialObjectMetadataList") if known && list => Some(Transform::Metadata),
        Some(_) => None,
    }
}

/// Of an answer that is an object or (`list`) a list; a watch negotiates the form of the objects in its events.
pub(crate) fn object(headers: &HeaderMap, list: bool, protobuf: Protobuf) -> Result<Accepted, Status> {
    if !headers.contains_key(ACCEPT) {
        return Ok(Accepted::JSON);
    }
    clauses(headers)
        .iter()
        .find_map(|clause| {
            let (encoding, transform) = (encoding(clause.media)?, transform(&clause.parameters, list)?);
            let possible = encoding != Encoding::Protobuf || protobuf.can(transform);
            possible.then_some(Accepted { encoding, transform })
        })
        .ok_or_else(|| Status::not_acceptable(protobuf.supported()))
}

/// Of an answer that has no other form than itself: discovery, `Status`, `Scale`.
pub(crate) fn plain(headers: &HeaderMap, protobuf: Protobuf) -> Result<Encoding, Status> {
    if !headers.contains_key(ACCEPT) {
        return Ok(Encoding::Json);
    }
    clauses(headers)
        .iter()
        .filter_map(|clause| encoding(clause.media))
        .find(|encoding| *encoding != Encoding::Protobuf || protobuf.whole)
        .ok_or_else(|| Status::not_acceptable(protobuf.supported()))
}

/// Whether a failure is to be told in protobuf: upstream's rule is that of any other answer.
pub(crate) fn prefers_protobuf(headers: &HeaderMap) -> bool {
    // Asked of every request: most need no parsing.
    let named = |value: &http::HeaderValue| value.to_str().is_ok_and(|value| value.contains(protobuf::MEDIA_TYPE));
    headers.get_all(ACCEPT).iter().any(named)
        && plain(headers, Protobuf { whole: true, metadata: true }) == Ok(Encoding::Protobuf)
}

/// The first of these media types, or of what stands for JSON, that the client asks for; `None`: JSON.
pub(crate) fn one_of(headers: &HeaderMap, others: &[&'static str]) -> Result<Option<&'static str>, Status> {
    if !headers.contains_key(ACCEPT) {
        return Ok(None);
    }
    clauses(headers)
        .iter()
        .find_map(|clause| match others.iter().find(|other| **other == clause.media) {
            Some(other) => Some(Some(*other)),
            None => encoding(clause.media).filter(|encoding| *encoding != Encoding::Protobuf).map(|_| None),
        })
        .ok_or_else(|| Status::not_acceptable(SUPPORTED))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Discovery {
    Legacy(Encoding),
    /// `apidiscovery.k8s.io/v2 APIGroupDiscoveryList`, always as JSON.
    Aggregated,
}

pub(crate) fn discovery(headers: &HeaderMap) -> Result<Discovery, Status> {
    if !headers.contains_key(ACCEPT) {
        return Ok(Discovery::Legacy(Encoding::Json));
    }
    clauses(headers)
        .iter()
        .find_map(|clause| {
            let value = |name: &str| clause.parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
            let encoding = encoding(clause.media).filter(|encoding| *encoding != Encoding::Protobuf)?;
            match (value("as"), value("g"), value("v")) {
                (None, _, _) => Some(Discovery::Legacy(encoding)),
                (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2"))
                    if encoding == Encoding::Json =>
                {
                    Some(Discovery::Aggregated)
                }
                _ => None,
            }
        })
        .ok_or_else(|| Status::not_acceptable(SUPPORTED))
}

/// Whether the client takes gzip.
pub(crate) fn gzip(headers: &HeaderMap) -> bool {
    headers.get_all(http::header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').any(|coding| {
            let (name, rest) = coding.split_once(';').unwrap_or((coding, ""));
            let refused = rest.trim().strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()) == Some(0.0);
            name.trim() == "gzip" && !refused
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(accept: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        headers
    }

    #[test]
    fn answers_take_the_first_form_both_sides_know() {
        use Transform::{Metadata, None as Whole, Table};
        let json = |transform| Ok((Encoding::Json, transform));
        let yaml = |transform| Ok((Encoding::Yaml, transform));
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        // Accept, of a list?, expected
        type Row<'a> = (&'a str, bool, Result<(Encoding, Transform), u16>);
        let table: [Row<'_>; 16] = [
            ("application/json", false, json(Whole)),
            ("*/*", false, json(Whole)),
            ("application/*", false, json(Whole)),
            ("application/yaml", false, yaml(Whole)),
            ("application/vnd.kubernetes.protobuf,application/json", true, json(Whole)),
            ("application/vnd.kubernetes.protobuf", true, Err(406)),
            ("application/cbor", false, Err(406)),
            ("text/html", false, Err(406)),
            (kubectl, true, json(Table)),
            ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", true, Err(406)),
            ("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", true, json(Whole)),
            ("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", false, json(Metadata)),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", true, json(Metadata)),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", false, Err(406)),
            ("application/json;q=0.5,application/yaml", false, yaml(Whole)),
            ("application/json;stream=watch", true, json(Whole)),
        ];
        for (accept, list, expected) in table {
            let found = object(&headers(accept), list, Protobuf::NEVER);
            let found = found.map(|a| (a.encoding, a.transform)).map_err(|status| status.code);
            assert_eq!(found, expected, "{accept} list={list}");
        }
        assert_eq!(object(&HeaderMap::new(), true, Protobuf::NEVER).unwrap(), Accepted::JSON);
    }

    #[test]
    fn protobuf_is_for_what_has_it() {
        let all = Protobuf { whole: true, metadata: true };
        let found =
            |accept: &str, protobuf| object(&headers(accept), false, protobuf).map(|a| (a.encoding, a.transform));
        let go = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(found(go, all), Ok((Encoding::Protobuf, Transform::None)));
        assert_eq!(found(go, Protobuf::NEVER), Ok((Encoding::Json, Transform::None)));
        let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        assert_eq!(found(metadata, Protobuf { whole: false, metadata: true }).unwrap().1, Transform::Metadata);
        let table = "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1";
        let refused = found(table, all).unwrap_err();
        assert_eq!(refused.code, 406);
        assert!(refused.message.ends_with("application/yaml, application/vnd.kubernetes.protobuf"), "{refused}");
        assert!(prefers_protobuf(&headers(go)) && !prefers_protobuf(&headers("application/json, */*")));
    }

    #[test]
    fn discovery_prefers_what_the_client_puts_first() {
        let kubectl = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(discovery(&headers(kubectl)).unwrap(), Discovery::Aggregated);
        let older = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(discovery(&headers(older)).unwrap(), Discovery::Legacy(Encoding::Json));
        let protobuf = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
        assert_eq!(discovery(&headers(protobuf)).unwrap_err().code, 406);
    }

    #[test]
    fn gzip_is_offered_and_refused() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::ACCEPT_ENCODING, value.parse().unwrap());
            gzip(&headers)
        };
        assert!(with("gzip") && with("br, gzip;q=0.5"));
        assert!(!with("br") && !with("gzip;q=0"));
        assert!(!gzip(&HeaderMap::new()));
    }
}
