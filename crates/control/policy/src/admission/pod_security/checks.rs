//! Which checks a level has in which version. In the order of upstream's names: the findings are told in it.

use super::levels::{Level, Standard, Version};
use super::subject::{Finding, Subject};
use super::{baseline, restricted};

/// This release's. A later version is judged as this one.
const NEWEST: u32 = 36;

struct Check {
    /// The minor version that brought it.
    since: u32,
    run: fn(&Subject<'_>, u32) -> Option<Finding>,
    /// From which version on the restricted level has a stricter one in its place.
    replaced: Option<u32>,
}

const fn check(since: u32, run: fn(&Subject<'_>, u32) -> Option<Finding>, replaced: Option<u32>) -> Check {
    Check { since, run, replaced }
}

const BASELINE: &[Check] = &[
    check(0, baseline::app_armor, None),
    check(0, baseline::capabilities, Some(22)),
    check(0, baseline::host_namespaces, None),
    check(0, baseline::host_path_volumes, Some(0)),
    check(0, baseline::host_ports, None),
    check(34, baseline::probe_hosts, None),
    check(0, baseline::privileged, None),
    check(0, baseline::proc_mount, None),
    check(0, baseline::se_linux, None),
    check(0, baseline::seccomp, Some(19)),
    check(0, baseline::sysctls, None),
    check(0, baseline::windows_host_process, None),
];

const RESTRICTED: &[Check] = &[
    check(8, restricted::privilege_escalation, None),
    check(22, restricted::capabilities, None),
    check(35, baseline::masked_proc, None),
    check(0, restricted::volumes, None),
    check(0, restricted::non_root, None),
    check(23, restricted::user, None),
    check(19, restricted::seccomp, None),
];

pub(super) fn findings(standard: Standard, pod: &Subject<'_>) -> Vec<Finding> {
    let version = match standard.version {
        Version::Minor(minor) => minor.min(NEWEST),
        Version::Latest => NEWEST,
    };
    let strict = standard.level == Level::Restricted;
    let baseline = BASELINE.iter().filter(|check| !strict || check.replaced.is_none_or(|since| version < since));
    let checks: Vec<&Check> = match standard.level {
        Level::Privileged => Vec::new(),
        Level::Baseline => baseline.collect(),
        Level::Restricted => baseline.chain(RESTRICTED).collect(),
    };
    checks.into_iter().filter(|check| version >= check.since).filter_map(|check| (check.run)(pod, version)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said(level: Level, version: Version, spec: Value) -> String {
        let metadata = json!({"annotations": {"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}});
        let quiet = json!({});
        let metadata = if spec.get("annotated").is_some() { &metadata } else { &quiet };
        let found = findings(Standard { level, version }, &Subject { metadata, spec: &spec });
        found.iter().map(|one| format!("{} ({})", one.reason, one.detail)).collect::<Vec<_>>().join(", ")
    }

    fn baseline(spec: Value) -> String {
        said(Level::Baseline, Version::Latest, spec)
    }

    fn one(context: Value) -> Value {
        json!({"containers": [{"name": "c", "securityContext": context}]})
    }

    #[test]
    fn what_baseline_forbids() {
        let table = [
            (json!({"containers": [{"name": "c"}]}), ""),
            (json!({"hostNetwork": true, "hostPID": true}), "host namespaces (hostNetwork=true, hostPID=true)"),
            (
                one(json!({"privileged": true})),
                "privileged (container \"c\" must not set securityContext.privileged=true)",
            ),
            (
                one(json!({"capabilities": {"add": ["CHOWN", "NET_RAW", "BPF"]}})),
                "non-default capabilities (container \"c\" must not include \"BPF\", \"NET_RAW\" in \
                 securityContext.capabilities.add)",
            ),
            (json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}), "hostPath volumes (volume \"v\")"),
            (
                json!({"containers": [{"name": "a", "ports": [{"hostPort": 80}, {"hostPort": 0}]}],
                    "initContainers": [{"name": "i", "ports": [{"hostPort": 443}]}]}),
                "hostPort (containers \"i\", \"a\" use hostPorts 443, 80)",
            ),
            (
                json!({"containers": [{"name": "c", "livenessProbe": {"httpGet": {"host": "x"}}}]}),
                "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"x\")",
            ),
            (
                one(json!({"procMount": "Unmasked"})),
                "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
            ),
            (
                json!({"securityContext": {"seLinuxOptions": {"type": "x", "user": "u"}}}),
                "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"x\"; user may not be set)",
            ),
            (
                one(json!({"seccompProfile": {"type": "Unconfined"}})),
                "seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
            ),
            (
                json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}, {"name": "kernel.msgmax"}]}}),
                "forbidden sysctls (kernel.msgmax)",
            ),
            (
                one(json!({"windowsOptions": {"hostProcess": true}})),
                "hostProcess (container \"c\" must not set securityContext.windowsOptions.hostProcess=true)",
            ),
            (
                one(json!({"appArmorProfile": {"type": "Unconfined"}})),
                "forbidden AppArmor profile (container \"c\" must not set AppArmor profile type to \"Unconfined\")",
            ),
            (
                json!({"annotated": 1}),
                "forbidden AppArmor profile (annotation must not set AppArmor profile type to \
                 \"container.apparmor.security.beta.kubernetes.io/c=\\\"unconfined\\\"\")",
            ),
        ];
        for (spec, expected) in table {
            assert_eq!(baseline(spec.clone()), expected, "{spec}");
        }
    }

    #[test]
    fn what_restricted_asks_for() {
        let strict = |spec| said(Level::Restricted, Version::Latest, spec);
        let plain = json!({"containers": [{"name": "nginx"}]});
        assert_eq!(
            strict(plain.clone()),
            "allowPrivilegeEscalation != false (container \"nginx\" must set \
             securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"nginx\" must set \
             securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"nginx\" must set \
             securityContext.runAsNonRoot=true), seccompProfile (pod or container \"nginx\" must set \
             securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        );
        assert_eq!(
            said(Level::Restricted, Version::Minor(7), plain),
            "runAsNonRoot != true (pod or container \"nginx\" must set securityContext.runAsNonRoot=true)"
        );
        let hardened = json!({"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "securityContext": {"allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}],
            "volumes": [{"name": "t", "projected": {}}]});
        assert_eq!(strict(hardened.clone()), "");
        let change = |pointer: &str, value: Value| {
            let mut spec = hardened.clone();
            *spec.pointer_mut(pointer).expect("there") = value;
            strict(spec)
        };
        assert_eq!(
            change("/volumes/0", json!({"name": "v", "hostPath": {}})),
            "restricted volume types (volume \"v\" uses restricted volume type \"hostPath\")"
        );
        assert_eq!(
            change("/securityContext/runAsNonRoot", json!(false)),
            "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)"
        );
        assert_eq!(
            change("/containers/0/securityContext/capabilities/add", json!(["CHOWN"])),
            "unrestricted capabilities (container \"c\" must not include \"CHOWN\" in securityContext.capabilities.add)"
        );
        assert_eq!(
            change(
                "/securityContext",
                json!({"runAsUser": 0, "runAsNonRoot": true, "seccompProfile": {"type": "Localhost"}})
            ),
            "runAsUser=0 (pod must not set runAsUser=0)"
        );
    }

    #[test]
    fn versions_and_exceptions() {
        let old = |minor, name: &str| {
            said(Level::Baseline, Version::Minor(minor), json!({"securityContext": {"sysctls": [{"name": name}]}}))
        };
        assert_eq!(old(28, "net.ipv4.tcp_fin_timeout"), "forbidden sysctls (net.ipv4.tcp_fin_timeout)");
        assert_eq!(old(29, "net.ipv4.tcp_fin_timeout"), "");
        assert_eq!(old(9999, "net.ipv4.tcp_rmem"), "");
        let own =
            json!({"hostUsers": false, "containers": [{"name": "c", "securityContext": {"procMount": "Unmasked"}}]});
        assert_eq!(baseline(own.clone()), "");
        assert!(said(Level::Baseline, Version::Minor(34), own).starts_with("procMount"));
        assert_eq!(said(Level::Privileged, Version::Latest, json!({"hostPID": true})), "");
    }
}
