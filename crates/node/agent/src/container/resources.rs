//! Requests and limits to cgroup values, with upstream's formulas.

use std::collections::BTreeMap;

use base_meta::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::seams::Resources;

const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
const QUOTA_PERIOD: i64 = 100_000;
const MIN_QUOTA: i64 = 1_000;

/// The API server refuses quantities that do not parse, so that one is as good as none here.
pub fn parse(text: &Text) -> Option<Quantity> {
    Quantity::parse(&text.0).ok()
}

fn amount(list: Option<&BTreeMap<String, Text>>, kind: &str) -> Option<Quantity> {
    list?.get(kind).and_then(parse)
}

pub(super) fn resources(spec: &PodSpec, container: &Container, node_memory: i64) -> Resources {
    let own = container.resources.as_ref();
    let limit = |kind| amount(own.and_then(|r| r.limits.as_ref()), kind);
    let request = |kind| amount(own.and_then(|r| r.requests.as_ref()), kind);
    let cpu_limit = limit("cpu").map_or(0, Quantity::milli_value);
    let cpu_request = request("cpu").map_or(cpu_limit, Quantity::milli_value);
    let shares = (cpu_request * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES);
    Resources {
        cpu_shares: u64::try_from(shares).unwrap_or(2),
        cpu_quota: (cpu_limit > 0).then(|| (cpu_limit * QUOTA_PERIOD / 1000).max(MIN_QUOTA)),
        cpu_period: QUOTA_PERIOD.unsigned_abs(),
        memory_limit: limit("memory").map(Quantity::value).filter(|bytes| *bytes > 0),
        oom_score_adj: oom_score(spec, request("memory").or(limit("memory")).map_or(0, Quantity::value), node_memory),
    }
}

/// The more of the node a burstable container asked for, the later it is killed.
fn oom_score(spec: &PodSpec, memory_request: i64, node_memory: i64) -> i32 {
    if spec.priority.is_some_and(|priority| priority >= 2_000_000_000) {
        return -997;
    }
    match api::pod::qos_class(spec) {
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let share = i128::from(memory_request) * 1000 / i128::from(node_memory.max(1));
            i32::try_from(1000 - share).unwrap_or(3).clamp(3, 999)
        }
    }
}
