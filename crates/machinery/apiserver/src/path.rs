//! What a request's method and path ask for, as upstream's `RequestInfoFactory` reads them.

use std::borrow::Cow;

use base_meta::Status;
use http::Method;
use percent_encoding::percent_decode_str;

use crate::query::Query;

/// A request for a resource; all parts are still unverified names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResourcePath<'a> {
    /// The verb that authorization sees.
    pub(crate) verb: &'static str,
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) resource: &'a str,
    /// Of the path only; see [`Self::authorized_name`].
    pub(crate) name: &'a str,
    pub(crate) subresource: &'a str,
    /// What follows the subresource (`proxy` takes a path).
    pub(crate) rest: bool,
    /// `metadata.name=` of the field selector of a list or watch, which authorization treats as the name.
    pub(crate) selected_name: Option<String>,
    /// The deprecated `/watch/` prefix was used.
    pub(crate) watch_prefix: bool,
}

impl ResourcePath<'_> {
    pub(crate) fn authorized_name(&self) -> &str {
        if self.name.is_empty() { self.selected_name.as_deref().unwrap_or_default() } else { self.name }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    Resource(ResourcePath<'a>),
    /// Health, discovery, OpenAPI, …; the verb is the lower-case method.
    Other {
        verb: &'static str,
    },
}

/// The path with its percent-escapes decoded; borrowed when it has none.
pub(crate) fn decode(path: &str) -> Result<Cow<'_, str>, Status> {
    percent_decode_str(path).decode_utf8().map_err(|_| Status::bad_request("the request path is not valid UTF-8"))
}

const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

pub(crate) fn parse<'a>(method: &Method, path: &'a str, query: &Query<'_>) -> Result<Target<'a>, Status> {
    let other = Target::Other { verb: lower_case(method) };
    let mut parts = path.trim_matches('/').split('/');
    let group = match parts.next() {
        Some("api") => "",
        Some("apis") => match parts.next() {
            Some(group) => group,
            None => return Ok(other),
        },
        _ => return Ok(other),
    };
    let (Some(version), Some(mut first)) = (parts.next(), parts.next()) else {
        return Ok(other);
    };
    let watch_prefix = first == "watch";
    if watch_prefix {
        first = parts.next().ok_or_else(|| {
            Status::bad_request("unable to determine kind and namespace from url: no kind follows watch")
        })?;
    }

    let mut rest: [&str; 4] = [""; 4];
    let mut length = 0;
    for part in parts {
        if part.is_empty() {
            return Err(Status::no_such_path());
        }
        if length < rest.len() {
            rest[length] = part;
        }
        length += 1;
    }
    let [second, third, fourth, fifth] = rest;

    // `namespaces/x/pods/…` names a resource inside; `namespaces/x` and `namespaces/x/status` name the namespace.
    let (namespace, resource, name, subresource, taken) = if first == "namespaces" && length > 0 {
        if length > 1 && !NAMESPACE_SUBRESOURCES.contains(&third) {
            (second, third, fourth, fifth, 4)
        } else {
            (second, first, second, third, 2)
        }
    } else {
        ("", first, second, third, 2)
    };

    let verb = match *method {
        _ if watch_prefix => "watch",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if name.is_empty() => "deletecollection",
        Method::DELETE => "delete",
        Method::GET | Method::HEAD if !name.is_empty() => "get",
        Method::GET | Method::HEAD if query.flag("watch") => "watch",
        Method::GET | Method::HEAD => "list",
        _ => "",
    };
    let selected_name = if matches!(verb, "list" | "watch") && name.is_empty() { query.selected_name() } else { None };
    Ok(Target::Resource(ResourcePath {
        verb,
        group,
        version,
        namespace,
        resource,
        name,
        subresource,
        rest: length > taken,
        selected_name,
        watch_prefix,
    }))
}

fn lower_case(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn resource<'a>(method: &Method, path: &'a str, query: &str) -> ResourcePath<'a> {
        match parse(method, path, &Query::parse(query).unwrap()).unwrap() {
            Target::Resource(resource) => resource,
            Target::Other { .. } => panic!("{path} is no resource"),
        }
    }

    #[test]
    fn reads_what_upstream_reads() {
        // method, path, query → verb, group, version, namespace, resource, name, subresource
        let table = [
            ("GET", "/api/v1/pods", "", "list||v1||pods||"),
            ("GET", "/api/v1/pods", "watch=true", "watch||v1||pods||"),
            ("GET", "/api/v1/watch/pods", "", "watch||v1||pods||"),
            ("GET", "/api/v1/watch/namespaces/a/pods/b", "", "watch||v1|a|pods|b|"),
            ("GET", "/api/v1/namespaces", "", "list||v1||namespaces||"),
            ("GET", "/api/v1/namespaces/a", "", "get||v1|a|namespaces|a|"),
            ("PUT", "/api/v1/namespaces/a/finalize", "", "update||v1|a|namespaces|a|finalize"),
            ("PATCH", "/api/v1/namespaces/a/status", "", "patch||v1|a|namespaces|a|status"),
            ("POST", "/api/v1/namespaces/a/pods", "", "create||v1|a|pods||"),
            ("DELETE", "/api/v1/namespaces/a/pods", "", "deletecollection||v1|a|pods||"),
            ("DELETE", "/api/v1/namespaces/a/pods/b", "", "delete||v1|a|pods|b|"),
            ("POST", "/api/v1/namespaces/a/pods/b/exec", "", "create||v1|a|pods|b|exec"),
            ("GET", "/apis/apps/v1/namespaces/a/deployments/b/scale", "", "get|apps|v1|a|deployments|b|scale"),
            ("GET", "/apis/apps/v1/deployments/", "", "list|apps|v1||deployments||"),
            ("GET", "/api/v1/nodes/n/status", "", "get||v1||nodes|n|status"),
        ];
        for (method, path, query, expected) in table {
            let r = resource(&method.parse().unwrap(), path, query);
            let found = [r.verb, r.group, r.version, r.namespace, r.resource, r.name, r.subresource].join("|");
            assert_eq!(found, expected, "{method} {path}?{query}");
            assert!(!r.rest, "{path}");
        }
    }

    #[test]
    fn a_field_selector_names_the_object_to_authorization() {
        let r = resource(&Method::GET, "/api/v1/secrets", "fieldSelector=metadata.name%3Dtoken&watch=1");
        assert_eq!((r.verb, r.name, r.authorized_name()), ("watch", "", "token"));
        let r = resource(&Method::GET, "/api/v1/secrets", "fieldSelector=metadata.name!%3Dtoken");
        assert_eq!((r.verb, r.authorized_name()), ("list", ""));
    }

    #[test]
    fn short_and_foreign_paths_are_no_resources() {
        for path in ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz", "/version/x/y/z"] {
            let target = parse(&Method::GET, path, &Query::default()).unwrap();
            assert_eq!(target, Target::Other { verb: "get" }, "{path}");
        }
    }

    #[test]
    fn broken_paths_are_refused() {
        assert_eq!(parse(&Method::GET, "/api/v1/watch", &Query::default()).unwrap_err().code, 400);
        assert_eq!(parse(&Method::GET, "/api/v1/pods//log", &Query::default()).unwrap_err().code, 404);
        assert_eq!(decode("/api/%ff").unwrap_err().code, 400);
        assert!(resource(&Method::GET, "/api/v1/namespaces/a/pods/b/proxy/x", "").rest);
    }
}
