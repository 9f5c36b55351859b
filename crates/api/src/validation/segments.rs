//! Names made of several parts: a segment of a URL's path, a domain with a path, a driver, a service behind a URL.

use base_meta::field::{Error, Path};
use base_meta::names;

use super::{Errors, formats};

/// A segment of a URL's path.
pub fn path_segment(name: &str) -> Vec<String> {
    if name == "." || name == ".." {
        return vec![format!("may not be '{name}'")];
    }
    ['/', '%'].into_iter().filter(|bad| name.contains(*bad)).map(|bad| format!("may not contain '{bad}'")).collect()
}

/// A segment that must be there.
pub(super) fn required_segment(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.push(Error::required(path, ""));
    } else {
        formats::invalid(path, name, path_segment(name), errors);
    }
}

/// A name whose prefix, if it has one, is a domain.
pub(super) fn qualified(name: &str, path: &Path, errors: &mut Errors) {
    formats::invalid(path, name, names::qualified_name(name), errors);
}

pub(super) fn subdomain(name: &str, path: &Path, errors: &mut Errors) {
    formats::invalid(path, name, names::dns1123_subdomain(name), errors);
}

pub(super) fn label(name: &str, path: &Path, errors: &mut Errors) {
    formats::invalid(path, name, names::dns1123_label(name), errors);
}

/// `acme.io/foo`.
pub(super) fn domain_prefixed_path(text: &str, path: &Path, errors: &mut Errors) {
    let Some((host, rest)) = text.split_once('/').filter(|(host, rest)| !host.is_empty() && !rest.is_empty()) else {
        errors.push(Error::invalid(path, text, "must be a domain-prefixed path (such as \"acme.io/foo\")"));
        return;
    };
    subdomain(host, path, errors);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    if !rest.bytes().all(allowed) {
        let detail = r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')";
        errors.push(Error::invalid(path, rest, detail));
    }
}

/// A domain of at least three labels.
pub(super) fn fully_qualified(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let problems = names::dns1123_subdomain(name);
    if !problems.is_empty() {
        errors.push(Error::invalid(path, name, problems.join(",")));
    } else if name.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        errors.push(Error::invalid(path, name, detail));
    }
}

/// What a CSI driver or a device driver is called.
pub(super) fn driver(name: &str, path: &Path, errors: &mut Errors) {
    const MAX: usize = 63;
    if name.is_empty() {
        errors.push(Error::required(path, ""));
    }
    if name.len() > MAX {
        errors.push(Error::too_long(path, MAX));
    }
    formats::invalid(path, name, names::dns1123_subdomain(&name.to_lowercase()), errors);
}

/// `https://host[/path]` of something outside the cluster.
pub(super) fn webhook_url(url: &str, path: &Path, errors: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (before, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (before, query) = before.split_once('?').unwrap_or((before, ""));
    let (scheme, rest) = before.split_once("://").unwrap_or(("", before));
    let authority = if scheme.is_empty() { "" } else { rest.split('/').next().unwrap_or("") };
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    if scheme != "https" {
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        errors.push(Error::invalid(path, scheme, detail));
    }
    if host.is_empty() {
        errors.push(Error::invalid(path, host, format!("host must be specified{FORM}")));
    }
    if let Some(user) = user {
        errors.push(Error::invalid(path, user, "user information is not permitted in the URL"));
    }
    if !fragment.is_empty() {
        errors.push(Error::invalid(path, fragment, "fragments are not permitted in the URL"));
    }
    if !query.is_empty() {
        errors.push(Error::invalid(path, query, "query parameters are not permitted in the URL"));
    }
}

/// A service that answers webhooks.
pub(super) struct HookService<'a> {
    pub name: &'a str,
    pub namespace: &'a str,
    pub path: Option<&'a str>,
    pub port: i32,
}

pub(super) fn webhook_service(service: &HookService<'_>, path: &Path, errors: &mut Errors) {
    if service.name.is_empty() {
        errors.push(Error::required(&path.child("name"), "service name is required"));
    }
    if service.namespace.is_empty() {
        errors.push(Error::required(&path.child("namespace"), "service namespace is required"));
    }
    let problems = names::port_number(service.port.into());
    if !problems.is_empty() {
        let detail = format!("port is not valid: {}", problems.join(","));
        errors.push(Error::invalid(&path.child("port"), service.port, detail));
    }
    let url = match service.path {
        None | Some("" | "/") => return,
        Some(url) => url,
    };
    let path = path.child("path");
    if url == "//" {
        errors.push(Error::invalid(&path, url, "segment[0] may not be empty"));
        return;
    }
    if !url.starts_with('/') {
        errors.push(Error::invalid(&path, url, "must start with a '/'"));
    }
    let steps = url.strip_prefix('/').unwrap_or(url);
    for (index, step) in steps.strip_suffix('/').unwrap_or(steps).split('/').enumerate() {
        if step.is_empty() {
            errors.push(Error::invalid(&path, url, format!("segment[{index}] may not be empty")));
            continue;
        }
        for problem in names::dns1123_subdomain(step) {
            errors.push(Error::invalid(&path, url, format!("segment[{index}]: {problem}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::printed;
    use super::*;

    fn found(check: impl Fn(&Path, &mut Errors)) -> Vec<String> {
        let mut errors = Errors::new();
        check(&Path::new("f"), &mut errors);
        printed(errors)
    }

    #[test]
    fn urls_and_services() {
        assert!(found(|path, errors| webhook_url("https://a.example:8443/x", path, errors)).is_empty());
        for (url, expected) in [
            ("http://a/x", "f: Invalid value: \"http\": 'https' is the only allowed URL scheme"),
            ("https:///x", "f: Invalid value: \"\": host must be specified"),
            ("https://u@a", "f: Invalid value: \"u\": user information is not permitted in the URL"),
            ("https://a?b", "f: Invalid value: \"b\": query parameters are not permitted in the URL"),
            ("https://a#b", "f: Invalid value: \"b\": fragments are not permitted in the URL"),
        ] {
            let errors = found(|path, errors| webhook_url(url, path, errors));
            assert!(errors.len() == 1 && errors[0].starts_with(expected), "{url}: {errors:?}");
        }
        let service = |path: Option<&'static str>, port| HookService { name: "a", namespace: "b", path, port };
        assert!(found(|path, errors| webhook_service(&service(Some("/x/y/"), 443), path, errors)).is_empty());
        let errors = found(|path, errors| webhook_service(&service(Some("x//Y"), 0), path, errors));
        assert_eq!(errors.len(), 4, "{errors:?}");
    }

    #[test]
    fn names_of_parts() {
        assert!(found(|path, errors| domain_prefixed_path("acme.io/foo", path, errors)).is_empty());
        assert_eq!(found(|path, errors| domain_prefixed_path("foo", path, errors)).len(), 1);
        assert!(found(|path, errors| fully_qualified("a.b.c", path, errors)).is_empty());
        for bad in ["", "a.b", "A.b.c"] {
            assert_eq!(found(|path, errors| fully_qualified(bad, path, errors)).len(), 1, "{bad}");
        }
        assert_eq!(path_segment("a/b%"), ["may not contain '/'", "may not contain '%'"]);
        assert_eq!(found(|path, errors| driver("", path, errors))[0], "f: Required value");
    }
}
