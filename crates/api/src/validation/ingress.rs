//! Ingresses and IngressClasses.

use std::net::IpAddr;

use base_meta::field::{Error, Path};
use base_meta::names;
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, Ingress, IngressBackend, IngressClass, IngressClassParametersReference, IngressRule, IngressSpec,
    IngressTLS,
};

use super::{Errors, formats, immutable, said, segments};

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const NO_ADDRESS: &str = "must be a DNS name, not an IP address";

/// What an update may leave unsaid, because older servers did not look at it.
#[derive(Clone, Copy, Default)]
struct Lenient {
    secret_names: bool,
    /// What stands below hosts with a wildcard.
    below_wildcards: bool,
}

impl Lenient {
    fn to(old: &Ingress) -> Self {
        let Some(spec) = &old.spec else { return Self::default() };
        let path = Path::default();
        let judged = |judge: &dyn Fn(&mut Errors)| {
            let mut errors = Errors::new();
            judge(&mut errors);
            errors
        };
        let secret_names = judged(&|errors| spec.tls.iter().flatten().for_each(|tls| secret_name(tls, &path, errors)));
        let wildcards = || spec.rules.iter().flatten().filter(|rule| is_wildcard(rule));
        let below_wildcards = judged(&|errors| wildcards().for_each(|rule| paths(rule, &path, errors)));
        Self { secret_names: !secret_names.is_empty(), below_wildcards: !below_wildcards.is_empty() }
    }
}

pub fn ingress(ingress: &Ingress) -> Errors {
    let mut errors = spec(ingress, Lenient::default());
    let annotation = ingress.metadata.annotations.as_ref().and_then(|all| all.get(CLASS_ANNOTATION));
    let class = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_ref());
    if let (Some(annotation), Some(class)) = (annotation, class)
        && annotation != class
    {
        let path = Path::new("annotations").child(CLASS_ANNOTATION);
        errors.push(Error::invalid(&path, annotation, "must match `ingressClassName` when both are specified"));
    }
    errors
}

pub fn ingress_update(new: &Ingress, old: &Ingress) -> Errors {
    spec(new, Lenient::to(old))
}

pub fn ingress_status(ingress: &Ingress) -> Errors {
    let mut errors = Errors::new();
    let balancer = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let path = Path::new("status").child("loadBalancer").child("ingress");
    for (index, point) in balancer.iter().flat_map(|balancer| balancer.ingress.iter().flatten()).enumerate() {
        let path = path.index(index);
        if let Some(problem) = point.ip.as_deref().filter(|ip| !ip.is_empty()).and_then(formats::ip) {
            errors.push(Error::invalid(&path.child("ip"), said(&point.ip), problem));
        }
        let hostname = said(&point.hostname);
        if !hostname.is_empty() {
            segments::subdomain(hostname, &path.child("hostname"), &mut errors);
            if hostname.parse::<IpAddr>().is_ok() {
                errors.push(Error::invalid(&path.child("hostname"), hostname, NO_ADDRESS));
            }
        }
    }
    errors
}

fn spec(ingress: &Ingress, lenient: Lenient) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    let none = IngressSpec::default();
    let spec = ingress.spec.as_ref().unwrap_or(&none);
    let rules = spec.rules.as_deref().unwrap_or_default();
    if rules.is_empty() && spec.default_backend.is_none() {
        let value = super::json(&spec.rules);
        errors.push(Error::invalid(&path, &value, "either `defaultBackend` or `rules` must be specified"));
    }
    if let Some(default) = &spec.default_backend {
        backend(default, &path.child("defaultBackend"), &mut errors);
    }
    for (index, each) in rules.iter().enumerate() {
        rule(each, lenient, &path.child("rules").index(index), &mut errors);
    }
    for (index, each) in spec.tls.iter().flatten().enumerate() {
        let path = path.child("tls").index(index);
        for (index, host) in each.hosts.iter().flatten().enumerate() {
            host_name(host, &path.child("hosts").index(index), &mut errors);
        }
        if !lenient.secret_names {
            secret_name(each, &path, &mut errors);
        }
    }
    if let Some(class) = &spec.ingress_class_name {
        segments::subdomain(class, &path.child("ingressClassName"), &mut errors);
    }
    errors
}

fn host_name(host: &str, path: &Path, errors: &mut Errors) {
    let problems =
        if host.contains('*') { names::wildcard_dns1123_subdomain(host) } else { names::dns1123_subdomain(host) };
    formats::invalid(path, host, problems, errors);
}

fn secret_name(tls: &IngressTLS, path: &Path, errors: &mut Errors) {
    if let Some(secret) = tls.secret_name.as_deref().filter(|name| !name.is_empty()) {
        segments::subdomain(secret, &path.child("secretName"), errors);
    }
}

fn is_wildcard(rule: &IngressRule) -> bool {
    said(&rule.host).contains('*')
}

fn rule(rule: &IngressRule, lenient: Lenient, path: &Path, errors: &mut Errors) {
    let host = said(&rule.host);
    if !host.is_empty() {
        if host.parse::<IpAddr>().is_ok() {
            errors.push(Error::invalid(&path.child("host"), host, NO_ADDRESS));
        }
        host_name(host, &path.child("host"), errors);
    }
    if !(is_wildcard(rule) && lenient.below_wildcards) {
        paths(rule, path, errors);
    }
}

fn paths(rule: &IngressRule, path: &Path, errors: &mut Errors) {
    let Some(http) = &rule.http else { return };
    let paths = path.child("http").child("paths");
    if http.paths.is_empty() {
        errors.push(Error::required(&paths, ""));
    }
    for (index, each) in http.paths.iter().enumerate() {
        http_path(each, &paths.index(index), errors);
    }
}

fn http_path(http: &HTTPIngressPath, path: &Path, errors: &mut Errors) {
    let text = said(&http.path);
    let at = path.child("path");
    match http.path_type.as_str() {
        "" => {
            errors.push(Error::required(&path.child("pathType"), "pathType must be specified"));
            return;
        }
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                errors.push(Error::invalid(&at, text, "must be an absolute path"));
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"].into_iter().filter(|bad| text.contains(bad)) {
                errors.push(Error::invalid(&at, text, format!("must not contain '{bad}'")));
            }
            for bad in ["/..", "/."].into_iter().filter(|bad| text.ends_with(bad)) {
                errors.push(Error::invalid(&at, text, format!("cannot end with '{bad}'")));
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                errors.push(Error::invalid(&at, text, "must be an absolute path"));
            }
        }
        other => errors.push(Error::not_supported(
            &path.child("pathType"),
            other,
            &["Exact", "ImplementationSpecific", "Prefix"],
        )),
    }
    backend(&http.backend, &path.child("backend"), errors);
}

fn backend(backend: &IngressBackend, path: &Path, errors: &mut Errors) {
    let service = match (&backend.resource, &backend.service) {
        (Some(_), Some(_)) => {
            errors.push(Error::invalid(path, "", "cannot set both resource and service backends"));
            return;
        }
        (None, None) => {
            errors.push(Error::invalid(path, "", "resource or service backend is required"));
            return;
        }
        (Some(resource), None) => {
            let path = path.child("resource");
            if let Some(group) = &resource.api_group {
                segments::subdomain(group, &path.child("apiGroup"), errors);
            }
            segments::required_segment(&resource.kind, &path.child("kind"), errors);
            segments::required_segment(&resource.name, &path.child("name"), errors);
            return;
        }
        (None, Some(service)) => service,
    };
    let at = path.child("service");
    if service.name.is_empty() {
        errors.push(Error::required(&at.child("name"), ""));
    } else {
        formats::invalid(&at.child("name"), &service.name, names::dns1123_label(&service.name), errors);
    }
    let port = service.port.clone().unwrap_or_default();
    let (name, number) = (said(&port.name), port.number.unwrap_or(0));
    match (name.is_empty(), number) {
        (true, 0) => errors.push(Error::required(path, "port name or number is required")),
        (true, number) => formats::port_number(number, &at.child("port").child("number"), errors),
        (false, 0) => formats::invalid(&at.child("port").child("name"), name, names::port_name(name), errors),
        (false, _) => errors.push(Error::invalid(path, "", "cannot set both port name & port number")),
    }
}

pub fn ingress_class(class: &IngressClass) -> Errors {
    const MAX: usize = 250;
    let mut errors = Errors::new();
    let none = Default::default();
    let spec = class.spec.as_ref().unwrap_or(&none);
    let (path, controller) = (Path::new("spec"), said(&spec.controller));
    let at = path.child("controller");
    if controller.is_empty() {
        errors.push(Error::required(&at, ""));
    } else {
        if controller.len() > MAX {
            errors.push(Error::too_long(&at, MAX));
        }
        segments::domain_prefixed_path(controller, &at, &mut errors);
    }
    if let Some(parameters) = &spec.parameters {
        class_parameters(parameters, &path.child("parameters"), &mut errors);
    }
    errors
}

fn class_parameters(parameters: &IngressClassParametersReference, path: &Path, errors: &mut Errors) {
    if let Some(group) = &parameters.api_group {
        segments::subdomain(group, &path.child("apiGroup"), errors);
    }
    segments::required_segment(&parameters.kind, &path.child("kind"), errors);
    segments::required_segment(&parameters.name, &path.child("name"), errors);
    let at = path.child("namespace");
    match (parameters.scope.as_deref(), &parameters.namespace) {
        (None, _) => errors.push(Error::required(&path.child("scope"), "")),
        (Some("Namespace"), None) => {
            errors.push(Error::required(&at, "`parameters.scope` is set to 'Namespace'"));
        }
        (Some("Namespace"), Some(namespace)) => segments::label(namespace, &at, errors),
        (Some("Cluster"), Some(_)) => errors.push(Error::forbidden(&at, "`parameters.scope` is set to 'Cluster'")),
        (Some("Cluster"), None) => {}
        (Some(other), _) => {
            errors.push(Error::not_supported(&path.child("scope"), other, &["Cluster", "Namespace"]));
        }
    }
}

pub fn ingress_class_update(new: &IngressClass, old: &IngressClass) -> Errors {
    let mut errors = Errors::new();
    let controller = |class: &IngressClass| class.spec.as_ref().and_then(|spec| spec.controller.clone());
    immutable(&controller(new), &controller(old), &Path::new("spec").child("controller"), &mut errors);
    errors.extend(ingress_class(new));
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    fn base() -> Value {
        json!({"metadata": {}, "spec": {"ingressClassName": "c", "tls": [{"hosts": ["*.a.example"], "secretName": "s"}],
            "rules": [{"host": "a.example", "http": {"paths": [{"path": "/", "pathType": "Prefix",
                "backend": {"service": {"name": "1web", "port": {"number": 80}}}}]}}]}})
    }

    #[test]
    fn each_rule_names_its_field() {
        let path = "/spec/rules/0/http/paths/0";
        let table = [
            ("/spec/rules", json!([]), "spec: Invalid value: []: either `defaultBackend` or `rules` must be specified"),
            (
                "/spec/rules/0/host",
                json!("10.0.0.1"),
                "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name",
            ),
            ("/spec/rules/0/host", json!("A"), "spec.rules[0].host: Invalid value: \"A\": a lowercase RFC 1123"),
            ("/spec/rules/0/http/paths", json!([]), "spec.rules[0].http.paths: Required value"),
            ("/spec/tls/0/hosts/0", json!("*"), "spec.tls[0].hosts[0]: Invalid value: \"*\": a wildcard DNS-1123"),
            ("/spec/tls/0/secretName", json!("A"), "spec.tls[0].secretName: Invalid value: \"A\""),
            ("/spec/ingressClassName", json!("A"), "spec.ingressClassName: Invalid value: \"A\""),
            ("path", json!("x"), ".path: Invalid value: \"x\": must be an absolute path"),
            ("path", json!("/a//b"), ".path: Invalid value: \"/a//b\": must not contain '//'"),
            ("path", json!("/a/."), ".path: Invalid value: \"/a/.\": cannot end with '/.'"),
            ("pathType", json!("x"), ".pathType: Unsupported value: \"x\": supported values: \"Exact\", "),
            ("pathType", Value::Null, ".pathType: Required value: pathType must be specified"),
            ("backend", json!({}), ".backend: Invalid value: \"\": resource or service backend is required"),
            ("backend", json!({"service": {"name": "a"}}), ".backend: Required value: port name or number is required"),
            ("backend", json!({"service": {"port": {"number": 1}}}), ".backend.service.name: Required value"),
            (
                "backend",
                json!({"service": {"name": "a", "port": {"number": 1, "name": "b"}}}),
                ".backend: Invalid value: \"\": cannot set both port name & port number",
            ),
            ("backend", json!({"resource": {"name": "a"}}), ".backend.resource.kind: Required value"),
        ];
        assert!(ingress(&object(base())).is_empty());
        for (pointer, value, expected) in table {
            let (pointer, expected) = match pointer.strip_prefix('/') {
                Some(_) => (pointer.to_owned(), expected.to_owned()),
                None => (format!("{path}/{pointer}"), format!("spec.rules[0].http.paths[0]{expected}")),
            };
            let found = printed(ingress(&object(with(&base(), &[(&pointer, value)]))));
            assert!(found.iter().any(|error| error.starts_with(&expected)), "{pointer}: {found:?}");
        }
        let annotated = with(&base(), &[("/metadata/annotations", json!({CLASS_ANNOTATION: "d"}))]);
        assert_eq!(printed(ingress(&object(annotated.clone()))).len(), 1);
        assert!(ingress_update(&object(annotated.clone()), &object(annotated)).is_empty());
    }

    #[test]
    fn an_update_need_not_mend_what_older_servers_let_in() {
        let (secret, path) = ("/spec/tls/0/secretName", "/spec/rules/0/http/paths/0/path");
        let wildcard = ("/spec/rules/0/host", json!("*.a.example"));
        let good: Ingress = object(base());
        for changes in [vec![(secret, json!("not a name"))], vec![wildcard, (path, json!("not a path"))]] {
            let odd: Ingress = object(with(&base(), &changes));
            assert_eq!(printed(ingress(&odd)).len(), 1, "{changes:?}");
            assert_eq!(printed(ingress_update(&odd, &good)).len(), 1, "{changes:?}");
            assert_eq!(printed(ingress_update(&odd, &odd)), [""; 0], "{changes:?}");
        }
        // Below a host without a wildcard, paths have always been looked at.
        let odd: Ingress = object(with(&base(), &[(path, json!("not a path"))]));
        assert_eq!(printed(ingress_update(&odd, &odd)).len(), 1);
    }

    #[test]
    fn status_and_classes() {
        let status: Ingress =
            object(json!({"status": {"loadBalancer": {"ingress": [{"ip": "x"}, {"hostname": "A"}]}}}));
        assert_eq!(ingress_status(&status).len(), 2);
        let class = |spec: Value| -> IngressClass { object(json!({"spec": spec})) };
        assert!(ingress_class(&class(json!({"controller": "a.example/b"}))).is_empty());
        for (spec, expected) in [
            (json!({}), "spec.controller: Required value"),
            (json!({"controller": "a"}), "spec.controller: Invalid value: \"a\": must be a domain-prefixed path"),
            (
                json!({"controller": "a.b/c", "parameters": {"kind": "K", "name": "n"}}),
                "spec.parameters.scope: Required value",
            ),
            (
                json!({"controller": "a.b/c", "parameters": {"kind": "K", "name": "n", "scope": "Namespace"}}),
                "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
            ),
        ] {
            let found = printed(ingress_class(&class(spec.clone())));
            assert!(found.len() == 1 && found[0].starts_with(expected), "{spec}: {found:?}");
        }
        let (new, old) = (class(json!({"controller": "a.b/c"})), class(json!({"controller": "a.b/d"})));
        assert_eq!(
            printed(ingress_class_update(&new, &old)),
            ["spec.controller: Invalid value: \"a.b/c\": field is immutable"]
        );
    }
}
