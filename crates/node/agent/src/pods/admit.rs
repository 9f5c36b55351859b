//! Whether this node takes a pod at all, asked once, before anything is made of it. The scheduler has asked most of it
//! already, but not of pods that name their node themselves, and not of this very node.
//!
//! A pod that is refused has failed: whoever made it makes another. What started under an earlier agent is not asked
//! again. Reasons and messages are the kubelet's.

use std::borrow::Cow;
use std::collections::BTreeMap;

use api::node_selector::NodeSelection;
use api::sysctl::{self, Namespace};
use api::taint;
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::config::UnsafeSysctls;
use crate::eviction::{Pressure, Pressures, is_critical};
use crate::pods::capacity::{Shortage, asked};
use crate::pods::worker::Worker;
use crate::seams::chain;
use crate::shutdown::REFUSED;
use crate::state::SandboxState;

const OS: &str = "linux";
const OS_LABEL: &str = "kubernetes.io/os";

#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    reason: Cow<'static, str>,
    message: String,
}

impl Refusal {
    fn new(reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Option<Self> {
        Some(Self { reason: reason.into(), message: message.into() })
    }
}

/// By what the spec alone says.
fn by_spec(spec: &PodSpec, allowed: &UnsafeSysctls) -> Option<Refusal> {
    let selected = spec.node_selector.as_ref().and_then(|labels| labels.get(OS_LABEL));
    if selected.is_some_and(|os| os != OS) {
        return Refusal::new(
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        );
    }
    if spec.os.as_ref().is_some_and(|os| os.name != OS) {
        return Refusal::new("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS");
    }
    let sysctls = spec.security_context.as_ref().and_then(|security| security.sysctls.as_ref());
    let names = sysctls.into_iter().flatten().map(|sysctl| sysctl::with_dots(&sysctl.name));
    let why = names.into_iter().find_map(|name| forbidden(spec, allowed, &name).map(|why| (name, why)));
    why.and_then(|(name, why)| Refusal::new("SysctlForbidden", format!("forbidden sysctl: {name:?} {why}")))
}

fn forbidden(spec: &PodSpec, allowed: &UnsafeSysctls, name: &str) -> Option<&'static str> {
    let safe = sysctl::SAFE.iter().any(|(known, _)| *known == name);
    match sysctl::namespace_of(name) {
        None => Some("not allowlisted"),
        _ if !safe && !allowed.has(name) => Some("not allowlisted"),
        Some(Namespace::Network) if spec.host_network == Some(true) => Some("not allowed with host net enabled"),
        Some(Namespace::Ipc) if spec.host_ipc == Some(true) => Some("not allowed with host ipc enabled"),
        Some(_) => None,
    }
}

/// By what the node is short of: of memory alone, who asks for some, or tolerates it, is taken all the same.
fn by_pressure(pod: &Pod, spec: &PodSpec, pressures: &Pressures) -> Option<Refusal> {
    let tolerates = || {
        let taint = taint::of(taint::MEMORY_PRESSURE, taint::NO_SCHEDULE);
        taint::toleration(spec.tolerations.as_deref().unwrap_or_default(), &taint).is_some()
    };
    let of_memory_alone = pressures.iter().eq([&Pressure::Memory]);
    let bears = of_memory_alone && (api::pod::qos_class(spec) != "BestEffort" || tolerates());
    if pressures.is_empty() || bears || is_critical(pod) {
        return None;
    }
    let names: Vec<&str> = pressures.iter().map(|pressure| pressure.condition()).collect();
    Refusal::new("Evicted", format!("The node had condition: [{}]. ", names.join(" ")))
}

/// By the labels of the node, where the pod asks for any.
fn by_node(selection: &NodeSelection, name: &str, labels: &BTreeMap<String, String>) -> Option<Refusal> {
    if selection.matches(name, labels) {
        return None;
    }
    Refusal::new("NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector")
}

impl Worker {
    fn no_room(&self) -> Option<Refusal> {
        let short = self.machine.capacity.take(self.uid(), &asked(self.spec()?)).err()?;
        let (Shortage::Ever { resource, .. } | Shortage::Now { resource, .. }) = &short;
        Refusal::new(format!("OutOf{resource}"), short.to_string())
    }

    /// Fails a pod that this node does not take.
    pub(super) async fn admit(&mut self) {
        let started = self.pod.status.as_ref().is_some_and(|status| status.start_time.is_some());
        if self.state.terminal.is_some() {
            return;
        }
        let Some(spec) = self.spec() else { return };
        if started || !matches!(self.state.sandbox, SandboxState::Absent) {
            self.machine.capacity.settle(self.uid(), asked(spec));
            return;
        }
        let pressures = self.machine.pressures.borrow().clone();
        let going_down = *self.machine.shutting_down.borrow();
        let mut refusal = going_down.then_some(REFUSED).and_then(|(reason, message)| Refusal::new(reason, message));
        refusal = refusal.or_else(|| by_pressure(&self.pod, spec, &pressures));
        refusal = refusal.or_else(|| by_spec(spec, &self.machine.config.unsafe_sysctls));
        let selection = NodeSelection::of(spec);
        if refusal.is_none() && selection != NodeSelection::default() {
            refusal = match self.machine.cluster.node().await {
                Ok((name, labels)) => by_node(&selection, &name, &labels),
                Err(error) => {
                    tracing::warn!(pod = %self.state.full_name, error = %chain(&error), "a pod is taken without a look at the node's labels");
                    None
                }
            };
        }
        let refusal = refusal.or_else(|| self.no_room());
        if let Some(Refusal { reason, message }) = refusal {
            self.reject(&reason, &message);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn refused(spec: Value, allowed: &[&str]) -> Option<(String, String)> {
        let mut whole = json!({"containers": []});
        for (field, value) in spec.as_object().expect("fields") {
            whole[field] = value.clone();
        }
        let spec: PodSpec = serde_json::from_value(whole).expect("a spec");
        let allowed = allowed.iter().map(|pattern| pattern.parse().expect("a pattern")).collect();
        by_spec(&spec, &allowed).map(|refusal| (refusal.reason.into_owned(), refusal.message))
    }

    fn sysctl(name: &str) -> Value {
        json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}, {"name": name, "value": "1"}]}})
    }

    #[test]
    fn settings_that_reach_further_than_the_pod_are_asked_for_by_name() {
        let said = |name: &str, allowed: &[&str]| {
            refused(sysctl(name), allowed).map(|(reason, message)| {
                assert_eq!(reason, "SysctlForbidden");
                message
            })
        };
        let not = |name: &str| Some(format!("forbidden sysctl: {name:?} not allowlisted"));
        assert_eq!(said("net.ipv4.ip_unprivileged_port_start", &[]), None);
        assert_eq!(said("kernel.msgmax", &[]), not("kernel.msgmax"));
        assert_eq!(said("kernel/msgmax", &[]), not("kernel.msgmax"));
        assert_eq!(said("kernel.msgmax", &["kernel.msg*"]), None);
        assert_eq!(said("net.core.somaxconn", &["kernel.msg*", "net.core.somaxconn"]), None);
        assert_eq!(said("net.core.somaxconn2", &["net.core.somaxconn"]), not("net.core.somaxconn2"));
        assert_eq!(said("vm.swappiness", &["*"]), not("vm.swappiness"), "it is the host's");
        let mut shared = sysctl("kernel.shm_rmid_forced");
        shared["hostIPC"] = json!(true);
        assert_eq!(
            refused(shared.clone(), &[]).expect("refused").1,
            "forbidden sysctl: \"kernel.shm_rmid_forced\" not allowed with host ipc enabled"
        );
        shared["hostNetwork"] = json!(true);
        assert_eq!(
            refused(shared, &[]).expect("refused").1,
            "forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host net enabled"
        );
    }

    #[test]
    fn pods_of_another_system_are_refused() {
        assert_eq!(refused(json!({"os": {"name": "windows"}}), &[]).expect("refused").0, "PodOSNotSupported");
        let selecting = json!({"nodeSelector": {"kubernetes.io/os": "windows"}});
        assert_eq!(refused(selecting, &[]).expect("refused").0, "PodOSSelectorNodeLabelDoesNotMatch");
        assert_eq!(refused(json!({"os": {"name": "linux"}, "nodeSelector": {"kubernetes.io/os": "linux"}}), &[]), None);
    }

    #[test]
    fn a_node_that_is_short_takes_only_what_it_must_or_what_bears_it() {
        let refused = |pod: Value, pressures: &[Pressure]| {
            let pod: Pod = serde_json::from_value(pod).expect("a pod");
            let spec = pod.spec.clone().expect("a spec");
            by_pressure(&pod, &spec, &pressures.iter().copied().collect()).map(|refusal| refusal.message)
        };
        let best_effort = || json!({"spec": {"containers": [{"name": "a"}]}});
        let burstable =
            || json!({"spec": {"containers": [{"name": "a", "resources": {"requests": {"memory": "1Mi"}}}]}});
        let with = |field: &str, value: Value| {
            let mut pod = best_effort();
            pod["spec"][field] = value;
            pod
        };
        let tolerates = |what: &str| {
            let key = format!("node.kubernetes.io/{what}-pressure");
            with("tolerations", json!([{"key": key, "operator": "Exists"}]))
        };
        let (memory, disk) = ([Pressure::Memory], [Pressure::Disk]);
        assert_eq!(refused(best_effort(), &[]), None);
        assert_eq!(refused(best_effort(), &memory).expect("refused"), "The node had condition: [MemoryPressure]. ");
        assert_eq!(refused(burstable(), &memory), None);
        assert_eq!(refused(tolerates("memory"), &memory), None);
        assert!(refused(tolerates("disk"), &memory).is_some());
        let both = [Pressure::Disk, Pressure::Memory];
        assert_eq!(
            refused(burstable(), &both).expect("refused"),
            "The node had condition: [MemoryPressure DiskPressure]. "
        );
        assert!(refused(tolerates("disk"), &disk).is_some());
        assert_eq!(refused(with("priority", json!(2_000_000_000)), &disk), None);
    }

    #[test]
    fn the_node_has_the_labels_that_are_asked_for() {
        let labels = BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]);
        let asks = |disk: &str| {
            let spec = json!({"containers": [], "nodeSelector": {"disk": disk}});
            NodeSelection::of(&serde_json::from_value(spec).expect("a spec"))
        };
        assert_eq!(by_node(&asks("ssd"), "n1", &labels), None);
        assert_eq!(by_node(&asks("hdd"), "n1", &labels).expect("refused").reason, "NodeAffinity");
    }
}
