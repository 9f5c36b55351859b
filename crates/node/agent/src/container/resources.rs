//! Requests and limits to cgroup values, with upstream's formulas.

use std::collections::BTreeMap;

use api::pod::containers::{all, is_sidecar};
use api::pod::requests::{self, Amounts};
use base_meta::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::seams::Resources;

const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
const QUOTA_PERIOD: i64 = 100_000;
const MIN_QUOTA: i64 = 1_000;
/// Scores of who goes last, and first, when memory runs out.
const LAST: i32 = -997;
const FIRST: i32 = 1000;

/// What of the node bounds its pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The node's memory in bytes, for the OOM score.
    pub memory: i64,
    /// The sizes in bytes of huge pages that the kernel has.
    pub page_sizes: Vec<u64>,
    /// Processes of one pod; `None`: as many as the node's.
    pub pod_pids: Option<i64>,
}

/// The API server refuses quantities that do not parse, so that one is as good as none here.
pub fn parse(text: &Text) -> Option<Quantity> {
    Quantity::parse(&text.0).ok()
}

fn amount(list: Option<&BTreeMap<String, Text>>, kind: &str) -> Option<Quantity> {
    list?.get(kind).and_then(parse)
}

fn limit(container: &Container, kind: &str) -> Option<Quantity> {
    amount(container.resources.as_ref()?.limits.as_ref(), kind).filter(|amount| !amount.is_zero())
}

fn request(container: &Container, kind: &str) -> Option<Quantity> {
    amount(container.resources.as_ref()?.requests.as_ref(), kind)
}

/// What is said for the pod as a whole.
fn whole(spec: &PodSpec, kind: &str) -> Option<Quantity> {
    amount(spec.resources.as_ref()?.limits.as_ref(), kind).filter(|amount| !amount.is_zero())
}

pub fn of_container(spec: &PodSpec, container: &Container, bounds: &Bounds) -> Resources {
    // A container that says nothing may use all that its pod may.
    let cpu = limit(container, "cpu").or_else(|| whole(spec, "cpu"));
    let memory = limit(container, "memory").or_else(|| whole(spec, "memory"));
    let cpu_request = request(container, "cpu").or_else(|| limit(container, "cpu"));
    let own = requests::amounts(container.resources.as_ref().and_then(|own| own.limits.as_ref()));
    Resources {
        cpu_shares: shares(cpu_request.map_or(0, Quantity::milli_value)),
        cpu_quota: cpu.and_then(|cpu| quota(cpu.milli_value())),
        cpu_period: QUOTA_PERIOD.unsigned_abs(),
        memory_limit: memory.map(Quantity::value),
        pids_limit: None,
        huge_pages: huge_pages(&own, &bounds.page_sizes),
        oom_score_adj: oom_score(spec, container, bounds.memory),
    }
}

/// Limits of the pod's own cgroup, above its containers'.
pub fn of_pod(spec: &PodSpec, bounds: &Bounds) -> Resources {
    let (asked, most) = (requests::requests(spec), requests::limits(spec));
    let of = |list: &Amounts, kind: &str| list.get(kind).copied().filter(|amount| !amount.is_zero());
    // A sum over some of the containers would bound the others, too.
    let bounded = |kind: &str| {
        let declared = whole(spec, kind).is_some() || all(spec).all(|container| limit(container, kind).is_some());
        of(&most, kind).filter(|_| declared)
    };
    let best_effort = api::pod::qos_class(spec) == "BestEffort";
    Resources {
        cpu_shares: if best_effort { 2 } else { shares(of(&asked, "cpu").map_or(0, Quantity::milli_value)) },
        cpu_quota: bounded("cpu").and_then(|cpu| quota(cpu.milli_value())),
        cpu_period: QUOTA_PERIOD.unsigned_abs(),
        memory_limit: bounded("memory").map(Quantity::value),
        pids_limit: bounds.pod_pids,
        huge_pages: huge_pages(&most, &bounds.page_sizes),
        oom_score_adj: 0,
    }
}

pub fn shares(milli: i64) -> u64 {
    u64::try_from(milli.saturating_mul(1024) / 1000)
        .unwrap_or(0)
        .clamp(MIN_SHARES.unsigned_abs(), MAX_SHARES.unsigned_abs())
}

fn quota(milli: i64) -> Option<i64> {
    (milli > 0).then(|| (milli.saturating_mul(QUOTA_PERIOD) / 1000).max(MIN_QUOTA))
}

/// By page size; who asks for none of a size gets none.
fn huge_pages(limits: &Amounts, sizes: &[u64]) -> BTreeMap<u64, u64> {
    let mut all: BTreeMap<u64, u64> = sizes.iter().map(|size| (*size, 0)).collect();
    for (name, amount) in limits {
        let size = name.strip_prefix("hugepages-").and_then(|size| Quantity::parse(size).ok());
        let size = size.and_then(|size| u64::try_from(size.value()).ok());
        if let (Some(size), Ok(bytes)) = (size, u64::try_from(amount.value())) {
            all.insert(size, bytes);
        }
    }
    all
}

/// The more of the node a burstable container asked for, the later it is killed.
fn oom_score(spec: &PodSpec, container: &Container, node_memory: i64) -> i32 {
    let critical = spec.priority.is_some_and(|priority| priority >= 2_000_000_000);
    if critical && spec.priority_class_name.as_deref() == Some("system-node-critical") {
        return LAST;
    }
    match api::pod::qos_class(spec) {
        "Guaranteed" => LAST,
        "BestEffort" => FIRST,
        _ if is_sidecar(container) => {
            // Not before the containers that need it.
            let least = spec.containers.iter().map(|one| burstable_score(spec, one, node_memory)).min();
            burstable_score(spec, container, node_memory).min(least.unwrap_or(FIRST))
        }
        _ => burstable_score(spec, container, node_memory),
    }
}

fn burstable_score(spec: &PodSpec, container: &Container, node_memory: i64) -> i32 {
    let asked = |container: &Container| {
        request(container, "memory").or_else(|| limit(container, "memory")).map_or(0, Quantity::value)
    };
    // What the pod as a whole asks beyond its containers is everyone's in equal parts.
    let beyond = whole_request(spec).map_or(0, |whole| {
        let members =
            || spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(|one| is_sidecar(one)));
        let count = i64::try_from(members().count()).unwrap_or(1).max(1);
        (whole - members().map(asked).sum::<i64>()).max(0) / count
    });
    let share = i128::from(asked(container) + beyond) * 1000 / i128::from(node_memory.max(1));
    i32::try_from(1000 - share).unwrap_or(3).clamp(3, 999)
}

fn whole_request(spec: &PodSpec) -> Option<i64> {
    let resources = spec.resources.as_ref()?;
    let asked = amount(resources.requests.as_ref(), "memory").or_else(|| amount(resources.limits.as_ref(), "memory"));
    asked.map(Quantity::value)
}

/// The cgroup that holds the pod's, below that of all pods: guaranteed pods lie in it directly.
pub fn parent(spec: &PodSpec) -> &'static str {
    match api::pod::qos_class(spec) {
        "Guaranteed" => "kubepods",
        "BestEffort" => "kubepods/besteffort",
        _ => "kubepods/burstable",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SIZES: [u64; 2] = [2 << 20, 1 << 30];

    fn spec(containers: Value, more: Value) -> PodSpec {
        let mut spec = json!({ "containers": containers });
        for (name, value) in more.as_object().unwrap() {
            spec[name] = value.clone();
        }
        serde_json::from_value(spec).unwrap()
    }

    fn bounds() -> Bounds {
        Bounds { memory: 1000 << 20, page_sizes: SIZES.to_vec(), pod_pids: Some(99) }
    }

    fn asks(name: &str, requests: Value, limits: Value) -> Value {
        json!({"name": name, "resources": {"requests": requests, "limits": limits}})
    }

    #[test]
    fn a_pod_is_bounded_where_all_its_containers_are() {
        let full = asks("a", json!({"cpu": "250m"}), json!({"cpu": "500m", "memory": "64Mi", "hugepages-2Mi": "4Mi"}));
        let open = asks("b", json!({"cpu": "250m"}), json!({"memory": "64Mi"}));
        let pod = of_pod(&spec(json!([full, open]), json!({})), &bounds());
        assert_eq!((pod.cpu_shares, pod.cpu_quota, pod.memory_limit), (512, None, Some(128 << 20)));
        assert_eq!(pod.huge_pages, BTreeMap::from([(2 << 20, 4 << 20), (1 << 30, 0)]));
        assert_eq!(pod.pids_limit, Some(99));
        let pod = of_pod(&spec(json!([full]), json!({"overhead": {"memory": "1Mi"}})), &bounds());
        assert_eq!((pod.cpu_quota, pod.memory_limit), (Some(50_000), Some(65 << 20)));
        let pod = of_pod(&spec(json!([{"name": "c"}]), json!({})), &bounds());
        assert_eq!((pod.cpu_shares, pod.cpu_quota, pod.memory_limit), (2, None, None));
    }

    #[test]
    fn what_is_said_for_the_whole_pod_bounds_all_of_it() {
        let whole = json!({"resources": {"requests": {"cpu": "1", "memory": "500Mi"}, "limits": {"cpu": "2", "memory": "600Mi"}}});
        let spec = spec(json!([asks("a", json!({"memory": "100Mi"}), json!({})), {"name": "b"}]), whole);
        let pod = of_pod(&spec, &bounds());
        assert_eq!((pod.cpu_shares, pod.cpu_quota, pod.memory_limit), (1024, Some(200_000), Some(600 << 20)));
        let of = |index: usize| of_container(&spec, &spec.containers[index], &bounds());
        assert_eq!((of(1).cpu_shares, of(1).cpu_quota, of(1).memory_limit), (2, Some(200_000), Some(600 << 20)));
        // 400 of the 500 MiB are both containers' alike.
        assert_eq!((of(0).oom_score_adj, of(1).oom_score_adj), (700, 800));
        assert_eq!(parent(&spec), "kubepods/burstable");
    }

    #[test]
    fn a_sidecar_goes_no_sooner_than_who_needs_it() {
        let main = asks("main", json!({"memory": "400Mi"}), json!({}));
        let init = json!([
            {"name": "proxy", "restartPolicy": "Always", "resources": {"requests": {"memory": "1Mi"}}},
            {"name": "first", "resources": {"requests": {"memory": "1Mi"}}},
        ]);
        let spec = spec(json!([main]), json!({ "initContainers": init }));
        let score = |index: usize| oom_score(&spec, &spec.init_containers.as_ref().unwrap()[index], 1000 << 20);
        assert_eq!((score(0), score(1)), (600, 999));
    }

    #[test]
    fn only_the_nodes_own_critical_pods_are_spared() {
        let of = |class: &str| {
            let more = json!({"priority": 2_000_000_000, "priorityClassName": class});
            let spec = spec(json!([{"name": "a"}]), more);
            oom_score(&spec, &spec.containers[0], 1 << 30)
        };
        assert_eq!((of("system-node-critical"), of("system-cluster-critical")), (-997, 1000));
    }
}
