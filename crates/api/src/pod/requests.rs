//! How much of a node a pod takes.

use std::collections::BTreeMap;

use base_meta::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::containers::is_sidecar;

/// Resource name → amount.
pub type Amounts = BTreeMap<String, Quantity>;

/// Parses a list of the API; an amount that does not parse was refused at the door and counts as nothing.
pub fn amounts(list: Option<&BTreeMap<String, Text>>) -> Amounts {
    let parse = |(name, text): (&String, &Text)| text.0.parse().ok().map(|amount| (name.clone(), amount));
    list.into_iter().flatten().filter_map(parse).collect()
}

/// What the scheduler reserves: the containers' sum with sidecars, or what the start of any one init container needs
/// beside the sidecars before it, whichever is more; plus the pod's overhead. As upstream's `PodRequests`.
pub fn requests(spec: &PodSpec) -> Amounts {
    total(spec, |container| container.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
}

/// The same sum over limits.
pub fn limits(spec: &PodSpec) -> Amounts {
    total(spec, |container| container.resources.as_ref().and_then(|resources| resources.limits.as_ref()))
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
    add(&mut running, &amounts(spec.overhead.as_ref()));
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
    }
}
