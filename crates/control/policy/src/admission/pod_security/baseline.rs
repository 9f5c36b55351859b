//! The baseline checks: nothing that is known to reach the node.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::{items, text};
use super::subject::{Finding, Subject, containers, finding, plural, quoted, setters, values};

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

fn yes(value: Option<&Value>) -> bool {
    value == Some(&Value::Bool(true))
}

/// Of profiles of seccomp and AppArmor alike.
pub(super) fn is_profile(kind: &str) -> bool {
    matches!(kind, "RuntimeDefault" | "Localhost")
}

pub(super) fn app_armor(pod: &Subject<'_>, _: u32) -> Option<Finding> {
    const TYPE: &str = "/appArmorProfile/type";
    let of_pod = values(pod.context(TYPE).into_iter(), is_profile);
    let of_containers = values(pod.containers().filter_map(|one| one.context(TYPE)), is_profile);
    let bad = pod.bad(|one| one.context(TYPE).and_then(Value::as_str).is_some_and(|kind| !is_profile(kind)));
    let allowed = |profile: &str| matches!(profile, "" | "runtime/default") || profile.starts_with("localhost/");
    let mut annotations: Vec<String> = pod
        .annotations()
        .filter(|(key, value)| key.starts_with(APPARMOR) && !allowed(value))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    annotations.sort();
    let mut all: Vec<String> = setters(!of_pod.is_empty(), &bad).into_iter().collect();
    if !annotations.is_empty() {
        all.push(plural("annotation", "annotations", annotations.len()).to_owned());
    }
    let found: Vec<String> = of_pod.union(&of_containers).map(|kind| (*kind).to_owned()).chain(annotations).collect();
    if all.is_empty() {
        return None;
    }
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", found.len());
    finding(reason, format!("{} must not set AppArmor profile type to {}", all.join(" and "), quoted(&found)))
}

pub(super) fn capabilities(pod: &Subject<'_>, _: u32) -> Option<Finding> {
    let (mut bad, mut more) = (Vec::new(), BTreeSet::new());
    for container in pod.containers() {
        let added = items(container.value, "/securityContext/capabilities/add");
        let found = values(added, |one| CAPABILITIES.contains(&one));
        if !found.is_empty() {
            bad.push(container.name);
            more.extend(found);
        }
    }
    let said =
        || format!("{} must not include {} in securityContext.capabilities.add", containers(&bad), quoted(&more));
    if bad.is_empty() { None } else { finding("non-default capabilities", said()) }
}

pub(super) fn host_namespaces(pod: &Subject<'_>, _: u32) -> Option<Finding> {
    let shared: Vec<&str> =
        ["hostIPC", "hostNetwork", "hostPID"].into_iter().filter(|field| yes(pod.spec.get(field))).collect();
    if shared.is_empty() {
        return None;
    }
    finding("host namespaces", shared.iter().map(|field| format!("{field}=true")).collect::<Vec<_>>().join(", "))
}

pub(super) fn host_path_volumes(pod: &Subject<'_>, _: u32) -> Option<Finding> {
    let volumes = items(pod.spec, "/volumes").filter(|volume| volume.get("hostPath").is_some());
    let names: Vec<&str> = volumes.map(|volume| text(volume, "/name")).collect();
    if names.is_empty() {
        return None;
    }
    finding("hostPath volumes", format!("{} {}", plural("volume", "volumes", names.len()), quoted(&names)))
}

pub(super) fn host_ports(pod: &Subject<'_>, _: u32) -> Option<Finding> {
    let (mut bad, mut ports) = (Vec::new(), BTreeSet::new());
    for container in pod.containers() {
        let found: Vec<String> = items(container.value, "/ports")
            .filter_map(|port| port.get("hostPort").and_then(Value::as_i64))
            .filter(|port| *port != 0)
            .map(|port| port.to_string())
            .collect();
        if !found.is_empty() {
            bad.push(container.name);
            ports.extend(found);
        }
    }
    if bad.is_empty() {
        return None;
    }
    let uses = plural("uses", "use", bad.len());
    let noun = plural("hostPort", "hostPorts", ports.len());
    let ports = ports.into_iter().collect::<Vec<_>>().join(", ");
    finding("hostPort", format!("{} {uses} {noun} {ports}", containers(&bad)))
}

pub(super) fn probe_hosts(pod: &Subject<'_>, _: u32) -> Option<Finding> {
    let (mut bad, mut hosts) = (BTreeSet::new(), BTreeSet::new());
    for container in pod.containers() {
        for handler in
            ["/livenessProbe", "/readinessProbe", "/startupProbe", "/lifecycle/postStart", "/lifecycle/preStop"]
        {
            for action in ["httpGet", "tcpSocket"] {
                let host = text(container.value, &format!("{handler}/{action}/host"));
                if !host.is_empty() {
                    bad.insert(container.name);
                    hosts.insert(host);
                }
            }
        }
    }
    if bad.is_empty() {
        return None;
    }
    let bad: Vec<&str> = bad.into_iter().collect();
    let uses = plural("uses", "use", bad.len());
    let noun = plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len());
    finding("probe or lifecycle host", format!("{} {uses} {noun} {}", containers(&bad), quoted(&hosts)))
}

pub(super) fn privileged(pod: &Subject<'_>, _: u32) -> Option<Finding> {
    let bad = pod.bad(|one| yes(one.context("/privileged")));
    let said = || format!("{} must not set securityContext.privileged=true", containers(&bad));
    if bad.is_empty() { None } else { finding("privileged", said()) }
}

pub(super) fn proc_mount(pod: &Subject<'_>, version: u32) -> Option<Finding> {
    if version >= 35 && pod.own_users() { None } else { masked_proc(pod, version) }
}

pub(super) fn masked_proc(pod: &Subject<'_>, _: u32) -> Option<Finding> {
    let masked = |kind: &str| kind == "Default";
    let bad = pod.bad(|one| one.context("/procMount").and_then(Value::as_str).is_some_and(|kind| !masked(kind)));
    let kinds = values(pod.containers().filter_map(|one| one.context("/procMount")), masked);
    let said = || format!("{} must not set securityContext.procMount to {}", containers(&bad), quoted(&kinds));
    if bad.is_empty() { None } else { finding("procMount", said()) }
}

pub(super) fn se_linux(pod: &Subject<'_>, version: u32) -> Option<Finding> {
    let allowed = |kind: &str| {
        matches!(kind, "" | "container_t" | "container_init_t" | "container_kvm_t")
            || (version >= 31 && kind == "container_engine_t")
    };
    let set = |options: &Value, field: &str| !text(options, field).is_empty();
    let wrong = |options: &Value| !allowed(text(options, "/type")) || set(options, "/user") || set(options, "/role");
    const OPTIONS: &str = "/seLinuxOptions";
    let bad = pod.bad(|one| one.context(OPTIONS).is_some_and(wrong));
    let who = setters(pod.context(OPTIONS).is_some_and(wrong), &bad)?;
    let all: Vec<&Value> =
        pod.context(OPTIONS).into_iter().chain(pod.containers().filter_map(|one| one.context(OPTIONS))).collect();
    let kinds = values(all.iter().filter_map(|options| options.get("type")), allowed);
    let mut said = Vec::new();
    if !kinds.is_empty() {
        said.push(format!("{} {}", plural("type", "types", kinds.len()), quoted(&kinds)));
    }
    for field in ["user", "role"] {
        if all.iter().any(|options| set(options, &format!("/{field}"))) {
            said.push(format!("{field} may not be set"));
        }
    }
    finding("seLinuxOptions", format!("{who} set forbidden securityContext.seLinuxOptions: {}", said.join("; ")))
}

pub(super) fn seccomp(pod: &Subject<'_>, version: u32) -> Option<Finding> {
    if version < 19 { seccomp_annotations(pod) } else { set_seccomp(pod) }
}

fn seccomp_annotations(pod: &Subject<'_>) -> Option<Finding> {
    let allowed =
        |profile: &str| matches!(profile, "runtime/default" | "docker/default") || profile.starts_with("localhost/");
    let names: Vec<String> = pod.containers().map(|one| format!("{SECCOMP_CONTAINER}{}", one.name)).collect();
    let found: BTreeSet<String> = pod
        .annotations()
        .filter(|(key, value)| (*key == SECCOMP_POD || names.iter().any(|name| name == key)) && !allowed(value))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    if found.is_empty() {
        return None;
    }
    let noun = plural("annotation", "annotations", found.len());
    finding("seccompProfile", format!("forbidden {noun} {}", found.into_iter().collect::<Vec<_>>().join(", ")))
}

/// What is said of profiles is allowed.
pub(super) fn set_seccomp(pod: &Subject<'_>) -> Option<Finding> {
    const TYPE: &str = "/seccompProfile/type";
    let wrong = |value: &Value| !value.as_str().is_some_and(is_profile);
    let bad = pod.bad(|one| one.context(TYPE).is_some_and(wrong));
    let who = setters(pod.context(TYPE).is_some_and(wrong), &bad)?;
    let all = pod.context(TYPE).into_iter().chain(pod.containers().filter_map(|one| one.context(TYPE)));
    let kinds = values(all, is_profile);
    finding("seccompProfile", format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(&kinds)))
}

pub(super) fn sysctls(pod: &Subject<'_>, version: u32) -> Option<Finding> {
    let allowed = |name: &str| api::sysctl::SAFE.iter().any(|(known, since)| *known == name && version >= *since);
    let all = items(pod.spec, "/securityContext/sysctls").map(|sysctl| text(sysctl, "/name"));
    let found: Vec<&str> = all.filter(|name| !allowed(name)).collect();
    if found.is_empty() { None } else { finding("forbidden sysctls", found.join(", ")) }
}

pub(super) fn windows_host_process(pod: &Subject<'_>, _: u32) -> Option<Finding> {
    const FIELD: &str = "/windowsOptions/hostProcess";
    let who = setters(yes(pod.context(FIELD)), &pod.bad(|one| yes(one.context(FIELD))))?;
    finding("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
}
