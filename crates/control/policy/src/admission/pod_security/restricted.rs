//! The restricted checks: what hardening asks for is said in the pod.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::{items, text};
use super::baseline::{is_profile, set_seccomp};
use super::subject::{Finding, Subject, containers, finding, plural, quoted, setters};

const VOLUMES: [&str; 8] =
    ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];

pub(super) fn privilege_escalation(pod: &Subject<'_>, version: u32) -> Option<Finding> {
    if version >= 25 && pod.windows() {
        return None;
    }
    let bad = pod.bad(|one| one.context("/allowPrivilegeEscalation") != Some(&Value::Bool(false)));
    let said = || format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&bad));
    if bad.is_empty() { None } else { finding("allowPrivilegeEscalation != false", said()) }
}

pub(super) fn capabilities(pod: &Subject<'_>, version: u32) -> Option<Finding> {
    if version >= 25 && pod.windows() {
        return None;
    }
    let has = |list: &str, value: &Value, wanted: &dyn Fn(&str) -> bool| {
        items(value, &format!("/securityContext/capabilities/{list}")).filter_map(Value::as_str).any(wanted)
    };
    let other = |one: &str| one != "NET_BIND_SERVICE";
    let keeping = pod.bad(|one| !has("drop", one.value, &|dropped| dropped == "ALL"));
    let adding = pod.bad(|one| has("add", one.value, &other));
    let mut said = Vec::new();
    if !keeping.is_empty() {
        said.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keeping)));
    }
    if !adding.is_empty() {
        let added: BTreeSet<&str> = pod
            .containers()
            .flat_map(|one| items(one.value, "/securityContext/capabilities/add"))
            .filter_map(Value::as_str)
            .filter(|one| other(one))
            .collect();
        let who = containers(&adding);
        said.push(format!("{who} must not include {} in securityContext.capabilities.add", quoted(&added)));
    }
    if said.is_empty() { None } else { finding("unrestricted capabilities", said.join("; ")) }
}

pub(super) fn volumes(pod: &Subject<'_>, _: u32) -> Option<Finding> {
    let (mut names, mut kinds) = (Vec::new(), BTreeSet::new());
    for volume in items(pod.spec, "/volumes") {
        let source = volume.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        let source: Vec<&str> = source.filter(|name| *name != "name").collect();
        if !source.iter().any(|kind| VOLUMES.contains(kind)) {
            names.push(text(volume, "/name"));
            kinds.insert(source.first().copied().unwrap_or("unknown"));
        }
    }
    if names.is_empty() {
        return None;
    }
    let noun = plural("volume", "volumes", names.len());
    let uses = plural("uses", "use", names.len());
    let types = plural("restricted volume type", "restricted volume types", kinds.len());
    finding("restricted volume types", format!("{noun} {} {uses} {types} {}", quoted(&names), quoted(&kinds)))
}

pub(super) fn non_root(pod: &Subject<'_>, _: u32) -> Option<Finding> {
    const REASON: &str = "runAsNonRoot != true";
    const FIELD: &str = "/runAsNonRoot";
    if pod.own_users() {
        return None;
    }
    let (no, yes) = (Value::Bool(false), Value::Bool(true));
    let of_pod = pod.context(FIELD);
    if let Some(who) = setters(of_pod == Some(&no), &pod.bad(|one| one.context(FIELD) == Some(&no))) {
        return finding(REASON, format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    let silent = pod.bad(|one| one.context(FIELD).is_none() && of_pod != Some(&yes));
    let said = || format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&silent));
    if silent.is_empty() { None } else { finding(REASON, said()) }
}

pub(super) fn user(pod: &Subject<'_>, _: u32) -> Option<Finding> {
    if pod.own_users() {
        return None;
    }
    let root = |value: Option<&Value>| value.and_then(Value::as_i64) == Some(0);
    let who = setters(root(pod.context("/runAsUser")), &pod.bad(|one| root(one.context("/runAsUser"))))?;
    finding("runAsUser=0", format!("{who} must not set runAsUser=0"))
}

pub(super) fn seccomp(pod: &Subject<'_>, version: u32) -> Option<Finding> {
    const TYPE: &str = "/seccompProfile/type";
    if version >= 25 && pod.windows() {
        return None;
    }
    if let Some(found) = set_seccomp(pod) {
        return Some(found);
    }
    let set = pod.context(TYPE).and_then(Value::as_str).is_some_and(is_profile);
    let silent = pod.bad(|one| !set && one.context("/seccompProfile").is_none());
    let said = || {
        let who = containers(&silent);
        format!("pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"")
    };
    if silent.is_empty() { None } else { finding("seccompProfile", said()) }
}
