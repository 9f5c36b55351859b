//! What an evicted pod is told, in upstream's words. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use base_meta::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::rank::{Candidate, PodUsage};
use super::signal::{Observations, Resource, Threshold};

/// Why and how a pod has to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    pub reason: &'static str,
    pub message: String,
    /// Annotations of its Event, where there is one.
    pub event: Option<BTreeMap<String, String>>,
    /// What its containers have to end; `None`: what they ask for.
    pub grace: Option<Duration>,
    /// For the node's sake, which its status says by a condition.
    pub disrupted: bool,
}

const REASON: &str = "Evicted";
/// Upstream's, of an eviction that cannot wait.
pub const AT_ONCE: Duration = Duration::from_secs(1);

impl Ending {
    /// For what the pod itself has done.
    pub fn of_own_doing(message: String) -> Self {
        Self { reason: REASON, message, event: Some(BTreeMap::new()), grace: Some(AT_ONCE), disrupted: false }
    }
}

/// For `threshold`; `met` are all that are.
pub fn eviction(
    candidate: &Candidate,
    threshold: &Threshold,
    met: &[Threshold],
    observed: &Observations,
    max_grace: Option<Duration>,
) -> Ending {
    let resource = threshold.signal.resource();
    let mut message = format!("The node was low on resource: {}. ", resource.name());
    let of_resource = met.iter().find(|one| one.signal.resource() == resource);
    if let Some((one, seen)) = of_resource.and_then(|one| Some((one, observed.get(&one.signal)?))) {
        let (least, left) = (resource.quantity(one.value.of(seen.capacity)), resource.quantity(seen.available));
        message.push_str(&format!("Threshold quantity: {least}, available: {left}. "));
    }
    let mut annotations = BTreeMap::new();
    if let Some(usage) = &candidate.usage {
        blame(&candidate.pod, usage, resource, &mut message, &mut annotations);
    }
    let grace = match threshold.grace {
        None => Some(AT_ONCE),
        Some(_) => {
            max_grace.map(|most| candidate.pod.spec.as_ref().map_or(most, |spec| most.min(crate::plan::grace(spec))))
        }
    };
    Ending { reason: REASON, message, event: Some(annotations), grace, disrupted: true }
}

/// Who has taken more than was asked for.
fn blame(
    pod: &Pod,
    usage: &PodUsage,
    resource: Resource,
    message: &mut String,
    annotations: &mut BTreeMap<String, String>,
) {
    let Some(spec) = &pod.spec else { return };
    let name = resource.name();
    let whole = spec.resources.as_ref().and_then(|all| amount(all.requests.as_ref(), name));
    if let Some(asked) = whole.filter(|_| resource == Resource::Memory) {
        let pod = pod.metadata.name.clone().unwrap_or_default();
        let used = resource.quantity(usage.memory);
        message
            .push_str(&format!("Pod {pod} was using {used}, request is {asked}, has larger consumption of {name}. "));
        annotations.insert("offending_pod".into(), pod);
        annotations.insert("offending_pod_usage".into(), used.to_string());
    }
    let (mut names, mut amounts) = (Vec::new(), Vec::new());
    for used in &usage.containers {
        // Ephemeral containers ask for nothing and are not blamed.
        let Some(container) = declared(spec, &used.name) else { continue };
        let bytes = match resource {
            Resource::Memory => Some(used.memory),
            Resource::Storage => used.disk,
            Resource::Inodes | Resource::Pids => None,
        };
        let requests = container.resources.as_ref().and_then(|all| all.requests.as_ref());
        let asked = amount(requests, name).unwrap_or_default();
        let Some(quantity) = bytes.map(|bytes| resource.quantity(bytes)).filter(|used| *used > asked) else { continue };
        message.push_str(&format!(
            "Container {} was using {quantity}, request is {asked}, has larger consumption of {name}. ",
            used.name
        ));
        names.push(used.name.clone());
        amounts.push(quantity.to_string());
    }
    annotations.insert("offending_containers".into(), names.join(","));
    annotations.insert("offending_containers_usage".into(), amounts.join(","));
    annotations.insert("starved_resource".into(), name.into());
}

fn declared<'a>(spec: &'a PodSpec, name: &str) -> Option<&'a Container> {
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|container| container.name == name)
}

fn amount(
    list: Option<&BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>,
    name: &str,
) -> Option<Quantity> {
    list?.get(name).and_then(crate::container::resources::parse)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::eviction::options::EvictionPolicy;
    use crate::eviction::rank::ContainerUsage;
    use crate::eviction::signal::{Observation, Signal};

    fn told(policy: (&str, &str), spec: Value, used: &[(&str, u64)], max: Option<u64>) -> Ending {
        let graces = "memory.available=1s".parse().unwrap();
        let (hard, soft) = (policy.0.parse().unwrap(), policy.1.parse().unwrap());
        let met = EvictionPolicy::thresholds(&hard, (&soft, &graces), &Default::default()).unwrap();
        let seen = Observation { available: 50 << 20, capacity: 1 << 30 };
        let observed = Signal::ALL.map(|signal| (signal, seen)).into_iter().collect();
        let containers = used.iter().map(|(name, memory)| ContainerUsage {
            name: (*name).to_owned(),
            memory: *memory,
            disk: Some(*memory),
        });
        let usage = PodUsage { memory: 9 << 20, containers: containers.collect(), ..PodUsage::default() };
        let pod = serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap();
        let candidate = Candidate { pod: Arc::new(pod), usage: Some(usage) };
        eviction(&candidate, &met[0], &met, &observed, max.map(Duration::from_secs))
    }

    #[test]
    fn the_containers_that_took_more_than_they_asked_for_are_named() {
        let spec = json!({"containers": [
            {"name": "a", "resources": {"requests": {"memory": "1Mi"}}},
            {"name": "b", "resources": {"requests": {"memory": "1Gi"}}},
            {"name": "c"},
        ]});
        let used = [("a", 2 << 20), ("b", 2 << 20), ("c", 4096), ("debugger", 1 << 30)];
        let told = told(("memory.available<100Mi", ""), spec, &used, None);
        assert_eq!(
            told.message,
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Container a was using 2Mi, \
             request is 1Mi, has larger consumption of memory. Container c was using 4Ki, request is 0, has larger \
             consumption of memory. "
        );
        assert_eq!(told.event.as_ref().unwrap()["offending_containers"], "a,c");
        assert_eq!(told.event.as_ref().unwrap()["offending_containers_usage"], "2Mi,4Ki");
        assert_eq!(told.event.as_ref().unwrap()["starved_resource"], "memory");
        assert_eq!((told.grace, told.disrupted), (Some(AT_ONCE), true));
    }

    #[test]
    fn a_pod_that_asks_as_a_whole_is_named_as_one() {
        let spec = json!({"containers": [], "resources": {"requests": {"memory": "8Mi"}}});
        let told = told(("memory.available<10%", ""), spec, &[], None);
        assert!(told.message.ends_with("Pod web was using 9Mi, request is 8Mi, has larger consumption of memory. "));
        assert_eq!(told.event.as_ref().unwrap()["offending_pod"], "web");
    }

    #[test]
    fn a_soft_threshold_leaves_time() {
        let spec = || json!({"containers": [], "terminationGracePeriodSeconds": 20});
        let grace = |max| told(("", "memory.available<1Gi"), spec(), &[], max).grace.map(|grace| grace.as_secs());
        assert_eq!((grace(None), grace(Some(5)), grace(Some(60))), (None, Some(5), Some(20)));
    }

    #[test]
    fn other_resources_have_their_own_words() {
        let spec = || json!({"containers": [{"name": "a"}]});
        let told = |hard| told((hard, ""), spec(), &[("a", 4096)], None).message;
        assert_eq!(
            told("nodefs.available<10%"),
            "The node was low on resource: ephemeral-storage. Threshold quantity: 107374182, available: 50Mi. Container a \
             was using 4Ki, request is 0, has larger consumption of ephemeral-storage. "
        );
        assert_eq!(
            told("pid.available<100"),
            "The node was low on resource: pids. Threshold quantity: 100, available: 52428800. "
        );
    }
}
