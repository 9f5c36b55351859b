//! A pod as the checks look at it, and how their findings are worded.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::{items, text};

pub(super) struct Subject<'a> {
    pub(super) metadata: &'a Value,
    pub(super) spec: &'a Value,
}

pub(super) struct Container<'a> {
    pub(super) name: &'a str,
    pub(super) value: &'a Value,
}

impl<'a> Container<'a> {
    /// Of its security context.
    pub(super) fn context(&self, pointer: &str) -> Option<&'a Value> {
        self.value.get("securityContext").and_then(|context| context.pointer(pointer)).filter(|value| !value.is_null())
    }
}

impl<'a> Subject<'a> {
    pub(super) fn containers(&self) -> impl Iterator<Item = Container<'a>> {
        let spec = self.spec;
        ["/initContainers", "/containers", "/ephemeralContainers"]
            .into_iter()
            .flat_map(move |list| items(spec, list))
            .map(|value| Container { name: text(value, "/name"), value })
    }

    /// Names of the containers that are bad.
    pub(super) fn bad(&self, bad: impl Fn(&Container<'a>) -> bool) -> Vec<&'a str> {
        self.containers().filter(|container| bad(container)).map(|container| container.name).collect()
    }

    /// Of the pod's security context.
    pub(super) fn context(&self, pointer: &str) -> Option<&'a Value> {
        let context = self.spec.get("securityContext").and_then(|context| context.pointer(pointer));
        context.filter(|value| !value.is_null())
    }

    pub(super) fn windows(&self) -> bool {
        text(self.spec, "/os/name") == "windows"
    }

    /// Its root is nobody on the node.
    pub(super) fn own_users(&self) -> bool {
        self.spec.get("hostUsers") == Some(&Value::Bool(false))
    }

    pub(super) fn annotations(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let all = self.metadata.get("annotations").and_then(Value::as_object).into_iter().flatten();
        all.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
    }
}

/// Why a pod is not allowed: what for, and where in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) reason: String,
    pub(super) detail: String,
}

pub(super) fn finding(reason: &str, detail: String) -> Option<Finding> {
    Some(Finding { reason: reason.to_owned(), detail })
}

pub(super) fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

pub(super) fn quoted<T: AsRef<str>>(all: impl IntoIterator<Item = T>) -> String {
    all.into_iter().map(|one| format!("{:?}", one.as_ref())).collect::<Vec<_>>().join(", ")
}

/// `container "a"`, `containers "a", "b"`.
pub(super) fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// Who set what is forbidden: the pod, its containers, or both.
pub(super) fn setters(pod: bool, names: &[&str]) -> Option<String> {
    let mut all = Vec::new();
    if pod {
        all.push("pod".to_owned());
    }
    if !names.is_empty() {
        all.push(containers(names));
    }
    (!all.is_empty()).then(|| all.join(" and "))
}

/// The texts that are not allowed, each once and sorted.
pub(super) fn values<'a>(all: impl Iterator<Item = &'a Value>, allowed: impl Fn(&str) -> bool) -> BTreeSet<&'a str> {
    all.filter_map(Value::as_str).filter(|one| !allowed(one)).collect()
}
