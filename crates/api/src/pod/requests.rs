//! How much of a node a pod takes.

use std::collections::BTreeMap;

use base_meta::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use serde_json::Value;

use super::containers::is_sidecar;

/// Resource name → amount.
pub type Amounts = BTreeMap<String, Quantity>;

/// Parses a list of the API; an amount that does not parse was refused at the door and counts as nothing.
pub fn amounts(list: Option<&BTreeMap<String, Text>>) -> Amounts {
    let parse = |(name, text): (&String, &Text)| text.0.parse().ok().map(|amount| (name.clone(), amount));
    list.into_iter().flatten().filter_map(parse).collect()
}

/// The same of an object that is not decoded.
pub fn amounts_of(list: Option<&Value>) -> Amounts {
    let parse = |(name, text): (&String, &Value)| Some((name.clone(), text.as_str()?.parse().ok()?));
    list.and_then(Value::as_object).into_iter().flatten().filter_map(parse).collect()
}

/// Whether the pod as a whole may say how much it takes of this.
fn of_whole_pods(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// Whether requests or limits are set for the pod as a whole.
pub fn set_for_pod(spec: &PodSpec) -> bool {
    let resources = spec.resources.as_ref();
    let lists = resources.into_iter().flat_map(|all| [all.requests.as_ref(), all.limits.as_ref()]).flatten();
    lists.flat_map(BTreeMap::keys).any(|name| of_whole_pods(name))
}

/// What the scheduler reserves: the containers' sum with sidecars, or what the start of any one init container needs
/// beside the sidecars before it, whichever is more; what is said for the pod as a whole instead; plus the pod's
/// overhead. As upstream's `PodRequests`.
pub fn requests(spec: &PodSpec) -> Amounts {
    let mut sum = total(spec, |container| container.resources.as_ref().and_then(|all| all.requests.as_ref()));
    sum.extend(whole(spec.resources.as_ref().and_then(|all| all.requests.as_ref())));
    add(&mut sum, &amounts(spec.overhead.as_ref()));
    sum
}

/// What the node keeps for a pod whose containers may be on their way from one size to another: of each the most of what
/// its spec asks, what it was given and what it has; without the spec, once the node has said that it never can.
pub fn reserved(pod: &Pod) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::new() };
    let Some(status) = &pod.status else { return requests(spec) };
    let conditions = status.conditions.iter().flatten();
    let refused =
        conditions.clone().any(|one| one.type_ == "PodResizePending" && one.reason.as_deref() == Some("Infeasible"));
    let known = || status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    if known().all(|status| status.resources.is_none()) {
        return requests(spec);
    }
    let mut spec = spec.clone();
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        let Some(status) = known().find(|status| status.name == container.name) else { continue };
        let Some(has) = &status.resources else { continue };
        let resources = container.resources.get_or_insert_default();
        let mut most = if refused { Amounts::new() } else { amounts(resources.requests.as_ref()) };
        raise(&mut most, &amounts(status.allocated_resources.as_ref()));
        raise(&mut most, &amounts(has.requests.as_ref()));
        resources.requests = Some(most.into_iter().map(|(name, amount)| (name, Text(amount.to_string()))).collect());
    }
    requests(&spec)
}

/// The same sum over limits; overhead counts towards a limit that there is.
pub fn limits(spec: &PodSpec) -> Amounts {
    let mut sum = total(spec, |container| container.resources.as_ref().and_then(|all| all.limits.as_ref()));
    sum.extend(whole(spec.resources.as_ref().and_then(|all| all.limits.as_ref())));
    let mut overhead = amounts(spec.overhead.as_ref());
    overhead.retain(|name, _| sum.get(name).is_some_and(|limit| !limit.is_zero()));
    add(&mut sum, &overhead);
    sum
}

fn whole(list: Option<&BTreeMap<String, Text>>) -> Amounts {
    let mut all = amounts(list);
    all.retain(|name, _| of_whole_pods(name));
    all
}

fn total<'a>(spec: &'a PodSpec, list: impl Fn(&'a Container) -> Option<&'a BTreeMap<String, Text>>) -> Amounts {
    let mut running = Amounts::new();
    for container in &spec.containers {
        add(&mut running, &amounts(list(container)));
    }
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let own = amounts(list(container));
        if is_sidecar(container) {
            add(&mut running, &own);
            add(&mut sidecars, &own);
            raise(&mut starting, &sidecars);
        } else {
            let mut together = sidecars.clone();
            add(&mut together, &own);
            raise(&mut starting, &together);
        }
    }
    raise(&mut running, &starting);
    running
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let slot = sum.entry(name.clone()).or_default();
        *slot = *slot + *amount;
    }
}

fn raise(floor: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let slot = floor.entry(name.clone()).or_insert(*amount);
        *slot = (*slot).max(*amount);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn cpu(spec: Value) -> i64 {
        let spec: PodSpec = serde_json::from_value(spec).expect("a pod spec");
        requests(&spec).get("cpu").map_or(0, |amount| amount.milli_value())
    }

    fn asks(cpu: &str) -> Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn the_larger_of_running_and_starting() {
        assert_eq!(cpu(json!({"containers": [asks("100m"), asks("1")]})), 1100);
        assert_eq!(cpu(json!({"containers": [asks("100m")], "initContainers": [asks("2"), asks("1")]})), 2000);
        let mut sidecar = asks("500m");
        sidecar["restartPolicy"] = json!("Always");
        let with_sidecar = json!({"containers": [asks("100m")], "initContainers": [asks("3"), sidecar, asks("1")]});
        assert_eq!(cpu(with_sidecar), 3000);
        assert_eq!(cpu(json!({"containers": [asks("100m")], "initContainers": [sidecar, asks("1")]})), 1500);
        assert_eq!(cpu(json!({"containers": [asks("1")], "overhead": {"cpu": "250m"}})), 1250);
        assert_eq!(cpu(json!({"containers": [{"name": "c"}]})), 0);
        let whole =
            json!({"containers": [asks("1")], "resources": {"requests": {"cpu": "3"}}, "overhead": {"cpu": "1"}});
        assert_eq!(cpu(whole), 4000);
    }

    #[test]
    fn a_pod_between_two_sizes_keeps_the_larger() {
        let reserved = |has: &str, given: &str, condition: Value| {
            let status =
                json!({"name": "c", "allocatedResources": {"cpu": given}, "resources": {"requests": {"cpu": has}}});
            let pod = json!({"spec": {"containers": [asks("2")]}, "status": {"containerStatuses": [status], "conditions": [condition]}});
            reserved(&serde_json::from_value(pod).expect("a pod"))["cpu"].milli_value()
        };
        let none = json!({"type": "Ready", "status": "True"});
        assert_eq!(reserved("1", "1", none.clone()), 2000);
        assert_eq!(reserved("3", "2", none.clone()), 3000);
        assert_eq!(reserved("1", "2500m", none), 2500);
        let pending = |reason: &str| json!({"type": "PodResizePending", "status": "True", "reason": reason});
        assert_eq!(reserved("1", "1", pending("Deferred")), 2000);
        assert_eq!(reserved("1", "1", pending("Infeasible")), 1000);
    }

    #[test]
    fn overhead_makes_no_limit() {
        let spec: PodSpec = serde_json::from_value(json!({"overhead": {"cpu": "1", "memory": "1Mi"},
            "containers": [{"name": "c", "resources": {"limits": {"cpu": "2"}}}]}))
        .expect("a pod spec");
        assert_eq!(limits(&spec), amounts_of(Some(&json!({"cpu": "3"}))));
        assert!(!set_for_pod(&spec));
        assert_eq!(amounts_of(Some(&json!({"cpu": "x", "memory": 1}))), Amounts::new());
    }
}
