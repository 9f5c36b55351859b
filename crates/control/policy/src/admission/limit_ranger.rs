//! What containers, pods and claims ask for lies within the LimitRanges of their namespace, and what a container leaves
//! out is filled in from them.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::pod::requests::{self, Amounts};
use base_meta::quantity::Quantity;
use base_meta::{Gvr, Status};
use machinery_registry::{Admission, Attributes, Operation};
use serde_json::{Map, Value, json};

use super::late::{Fresh, decoded};
use super::{Late, aggregate, forbidden, is, items, member, text};

/// Says what was filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";
const CONTAINERS: [(&str, &str); 2] = [("containers", "container"), ("initContainers", "init container")];

pub(super) struct LimitRanger {
    pub(super) ranges: Arc<Late>,
}

impl LimitRanger {
    async fn ranges(&self, attributes: &Attributes<'_>) -> Result<Vec<Arc<Value>>, Status> {
        let ending = attributes.old.is_some_and(|old| old.pointer("/metadata/deletionTimestamp").is_some());
        let Some(namespace) = attributes.ctx.namespace.as_deref().filter(|_| !ending) else { return Ok(Vec::new()) };
        let found = self.ranges.list(attributes.ctx, Some(namespace), Fresh::Cached).await?;
        found.iter().map(|range| decoded(range)).collect()
    }
}

#[async_trait::async_trait]
impl Admission for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        match (subresource, operation) {
            (None, Operation::Create) => is(gvr, "", "pods") || is(gvr, "", "persistentvolumeclaims"),
            (None, Operation::Update) => is(gvr, "", "persistentvolumeclaims"),
            (Some("resize"), Operation::Update) => is(gvr, "", "pods"),
            _ => false,
        }
    }

    async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        if attributes.gvr.resource == "pods" {
            for range in self.ranges(attributes).await? {
                fill(&range, object);
            }
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        for range in self.ranges(attributes).await? {
            let errors = if attributes.gvr.resource == "pods" { pod(&range, object) } else { claim(&range, object) };
            if let Some(message) = aggregate(errors) {
                return Err(forbidden(attributes, Some(object), &message));
            }
        }
        Ok(())
    }
}

/// Gives every container the limits and requests that it lacks and the range has defaults for.
fn fill(range: &Value, pod: &mut Value) {
    let (mut limits, mut requests) = (BTreeMap::new(), BTreeMap::new());
    for limit in items(range, "/spec/limits").filter(|limit| text(limit, "/type") == "Container") {
        let given = |field| limit.get(field).and_then(Value::as_object).into_iter().flatten();
        limits.extend(given("default"));
        requests.extend(given("defaultRequest"));
    }
    let mut told = Vec::new();
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for (list, noun) in CONTAINERS {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let name = text(container, "/name").to_owned();
            let Some(container) = container.as_object_mut() else { continue };
            let set_limits = complete(container, "limits", &limits);
            let set_requests = complete(container, "requests", &requests);
            for (set, what) in [(set_requests, "request"), (set_limits, "limit")] {
                if !set.is_empty() {
                    told.push(format!("{} {what} for {noun} {name}", set.join(", ")));
                }
            }
        }
    }
    if told.is_empty() {
        return;
    }
    let Some(pod) = pod.as_object_mut() else { return };
    let Some(metadata) = member(pod, "metadata", json!({})).as_object_mut() else { return };
    if let Some(annotations) = member(metadata, "annotations", json!({})).as_object_mut() {
        annotations.insert(ANNOTATION.into(), json!(format!("LimitRanger plugin set: {}", told.join("; "))));
    }
}

/// The names of what was set.
fn complete(container: &mut Map<String, Value>, field: &str, defaults: &BTreeMap<&String, &Value>) -> Vec<String> {
    let mut set = Vec::new();
    if defaults.is_empty() {
        return set;
    }
    let Some(resources) = member(container, "resources", json!({})).as_object_mut() else { return set };
    let Some(amounts) = member(resources, field, json!({})).as_object_mut() else { return set };
    for (name, amount) in defaults {
        if !amounts.contains_key(*name) {
            amounts.insert((*name).clone(), (*amount).clone());
            set.push((*name).clone());
        }
    }
    set
}

fn claim(range: &Value, claim: &Value) -> Vec<String> {
    let asked = requests::amounts_of(claim.pointer("/spec/resources/requests"));
    let mut errors = Vec::new();
    for limit in items(range, "/spec/limits").filter(|limit| text(limit, "/type") == "PersistentVolumeClaim") {
        let bound = Bound { of: "PersistentVolumeClaim", requests: &asked, limits: &Amounts::new() };
        errors.extend(each(limit, "min", |name, least| bound.least(name, least)));
        errors.extend(each(limit, "max", |name, most| bound.most_requested(name, most)));
    }
    errors
}

fn pod(range: &Value, pod: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    for limit in items(range, "/spec/limits") {
        match text(limit, "/type") {
            "Container" => {
                for container in CONTAINERS.iter().flat_map(|(list, _)| items(pod, &format!("/spec/{list}"))) {
                    let requests = requests::amounts_of(container.pointer("/resources/requests"));
                    let limits = requests::amounts_of(container.pointer("/resources/limits"));
                    errors.extend(Bound { of: "Container", requests: &requests, limits: &limits }.check(limit));
                }
            }
            "Pod" => {
                let Ok(mut spec) = api::decoders::pod_spec(pod) else { continue };
                // What its runtime needs beside it is not what it asks for.
                spec.overhead = None;
                let (requests, limits) = (requests::requests(&spec), requests::limits(&spec));
                errors.extend(Bound { of: "Pod", requests: &requests, limits: &limits }.check(limit));
            }
            _ => {}
        }
    }
    errors
}

fn each(limit: &Value, field: &str, check: impl Fn(&str, Quantity) -> Option<String>) -> Vec<String> {
    let enforced = requests::amounts_of(limit.get(field));
    enforced.iter().filter_map(|(name, amount)| check(name, *amount)).collect()
}

struct Bound<'a> {
    of: &'static str,
    requests: &'a Amounts,
    limits: &'a Amounts,
}

impl Bound<'_> {
    fn check(&self, limit: &Value) -> Vec<String> {
        let mut errors = each(limit, "min", |name, least| self.least(name, least));
        errors.extend(each(limit, "max", |name, most| self.most(name, most)));
        errors.extend(each(limit, "maxLimitRequestRatio", |name, most| self.ratio(name, most)));
        errors
    }

    fn least(&self, name: &str, least: Quantity) -> Option<String> {
        let head = format!("minimum {name} usage per {} is {least}", self.of);
        match (self.requests.get(name), self.limits.get(name)) {
            (None, _) => Some(format!("{head}.  No request is specified")),
            (Some(asked), _) if *asked < least => Some(format!("{head}, but request is {asked}")),
            (_, Some(limit)) if *limit < least => Some(format!("{head}, but limit is {limit}")),
            _ => None,
        }
    }

    fn most(&self, name: &str, most: Quantity) -> Option<String> {
        let head = format!("maximum {name} usage per {} is {most}", self.of);
        match (self.limits.get(name), self.requests.get(name)) {
            (None, _) => Some(format!("{head}.  No limit is specified")),
            (Some(limit), _) if *limit > most => Some(format!("{head}, but limit is {limit}")),
            (_, Some(asked)) if *asked > most => Some(format!("{head}, but request is {asked}")),
            _ => None,
        }
    }

    /// Of what has no limits.
    fn most_requested(&self, name: &str, most: Quantity) -> Option<String> {
        let head = format!("maximum {name} usage per {} is {most}", self.of);
        match self.requests.get(name) {
            None => Some(format!("{head}.  No request is specified")),
            Some(asked) if *asked > most => Some(format!("{head}, but request is {asked}")),
            Some(_) => None,
        }
    }

    fn ratio(&self, name: &str, most: Quantity) -> Option<String> {
        let head = format!("{name} max limit to request ratio per {} is {most}", self.of);
        let given = |amounts: &Amounts| amounts.get(name).copied().filter(|amount| !amount.is_zero());
        let Some(asked) = given(self.requests) else {
            return Some(format!("{head}, but no request is specified or request is 0"));
        };
        let Some(limit) = given(self.limits) else {
            return Some(format!("{head}, but no limit is specified or limit is 0"));
        };
        let ratio = fraction(limit) / fraction(asked);
        (ratio > fraction(most)).then(|| format!("{head}, but provided ratio is {ratio:.6}"))
    }
}

/// As upstream's: in thousandths unless that overflows.
#[allow(clippy::cast_precision_loss)]
fn fraction(amount: Quantity) -> f64 {
    if amount.value() <= i64::MAX / 1000 { amount.milli_value() as f64 / 1000.0 } else { amount.value() as f64 }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Asked, objects};
    use super::*;

    fn plugin(limits: Value) -> LimitRanger {
        let range = json!({"metadata": {"namespace": "a", "name": "r"}, "spec": {"limits": limits}});
        LimitRanger { ranges: objects(&[range]) }
    }

    fn container(resources: Value) -> Value {
        json!({"name": "c", "resources": resources})
    }

    async fn admitted(plugin: &LimitRanger, mut pod: Value) -> Result<Value, String> {
        let asked = Asked::new(Gvr::of("", "v1", "pods"), "a", "p", Operation::Create);
        plugin.mutate(&asked.attributes(None), &mut pod).await.map_err(|status| status.message)?;
        plugin.validate(&asked.attributes(None), Some(&pod)).await.map_err(|status| status.message)?;
        Ok(pod)
    }

    #[tokio::test]
    async fn what_a_container_leaves_out_is_filled_in_and_told() {
        let plugin = plugin(json!([{"type": "Container", "default": {"cpu": "500m", "memory": "512Mi"},
            "defaultRequest": {"cpu": "100m", "memory": "256Mi"}}]));
        let pod = json!({"spec": {"containers": [container(json!({"limits": {"cpu": "1"}}))],
            "initContainers": [{"name": "i"}]}});
        let pod = admitted(&plugin, pod).await.expect("admitted");
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({"limits": {"cpu": "1", "memory": "512Mi"}, "requests": {"cpu": "100m", "memory": "256Mi"}})
        );
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu, memory request for container c; memory limit for container c; \
             cpu, memory request for init container i; cpu, memory limit for init container i"
        );
        // Another namespace has no range.
        let elsewhere = Asked::new(Gvr::of("", "v1", "pods"), "b", "p", Operation::Create);
        let mut pod = json!({"spec": {"containers": [{"name": "c"}]}});
        plugin.mutate(&elsewhere.attributes(None), &mut pod).await.expect("admitted");
        assert_eq!(pod, json!({"spec": {"containers": [{"name": "c"}]}}));
    }

    #[tokio::test]
    async fn refusals_in_upstreams_words() {
        let small = json!({"requests": {"cpu": "50m"}, "limits": {"cpu": "2"}});
        let table = [
            (
                json!({"type": "Container", "min": {"cpu": "100m"}}),
                "minimum cpu usage per Container is 100m, but request is 50m",
            ),
            (
                json!({"type": "Container", "min": {"memory": "1Mi"}}),
                "minimum memory usage per Container is 1Mi.  No request is specified",
            ),
            (json!({"type": "Container", "max": {"cpu": "1"}}), "maximum cpu usage per Container is 1, but limit is 2"),
            (
                json!({"type": "Container", "max": {"memory": "1Gi"}}),
                "maximum memory usage per Container is 1Gi.  No limit is specified",
            ),
            (
                json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "10"}}),
                "cpu max limit to request ratio per Container is 10, but provided ratio is 40.000000",
            ),
            (json!({"type": "Pod", "max": {"cpu": "3"}}), "maximum cpu usage per Pod is 3, but limit is 4"),
            (
                json!({"type": "Pod", "min": {"cpu": "3"}, "max": {"cpu": "3"}}),
                "[minimum cpu usage per Pod is 3, but request is 100m, maximum cpu usage per Pod is 3, but limit is 4]",
            ),
        ];
        for (limit, expected) in table {
            let pod = json!({"spec": {"containers": [container(small.clone()), container(small.clone())]}});
            let refused = admitted(&plugin(json!([limit])), pod).await.expect_err("refused");
            assert_eq!(refused, format!("pods \"p\" is forbidden: {expected}"));
        }
    }

    #[tokio::test]
    async fn claims() {
        let plugin =
            plugin(json!([{"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}]));
        let ask = |size: &'static str, old: Option<Value>| {
            let plugin = &plugin;
            async move {
                let gvr = Gvr::of("", "v1", "persistentvolumeclaims");
                let asked =
                    Asked::new(gvr, "a", "p", if old.is_some() { Operation::Update } else { Operation::Create });
                let claim = json!({"spec": {"resources": {"requests": {"storage": size}}}});
                plugin.validate(&asked.attributes(old.as_ref()), Some(&claim)).await.map_err(|status| status.message)
            }
        };
        assert_eq!(ask("1Gi", None).await, Ok(()));
        assert_eq!(
            ask("3Gi", None).await.expect_err("refused"),
            "persistentvolumeclaims \"p\" is forbidden: maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"
        );
        assert_eq!(
            ask("1Mi", Some(json!({}))).await.expect_err("refused"),
            "persistentvolumeclaims \"p\" is forbidden: minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"
        );
        let ending = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert_eq!(ask("1Mi", Some(ending)).await, Ok(()));
    }

    #[test]
    fn which_requests_it_looks_at() {
        let plugin = plugin(json!([]));
        let pods = Gvr::of("", "v1", "pods");
        assert!(plugin.handles(&pods, None, Operation::Create));
        assert!(plugin.handles(&pods, Some("resize"), Operation::Update));
        assert!(!plugin.handles(&pods, None, Operation::Update));
        assert!(!plugin.handles(&pods, Some("status"), Operation::Update));
    }
}
