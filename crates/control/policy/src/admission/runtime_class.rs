//! A pod that names a RuntimeClass carries what that costs beside it, and goes where its nodes are.

use std::sync::Arc;

use api::pod::requests::amounts_of;
use base_meta::{Gvr, Status};
use machinery_registry::{Admission, Attributes, Operation};
use serde_json::{Map, Value, json};

use super::late::decoded;
use super::{Late, forbidden, is, items, member, text};

const OTHER_OVERHEAD: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

pub(super) struct RuntimeClass {
    pub(super) classes: Arc<Late>,
}

impl RuntimeClass {
    async fn class(&self, attributes: &Attributes<'_>, pod: &Value) -> Result<Option<Arc<Value>>, Status> {
        let Some(name) = pod.pointer("/spec/runtimeClassName").and_then(Value::as_str) else { return Ok(None) };
        match self.classes.find(attributes.ctx, None, name).await? {
            Some(found) => decoded(&found).map(Some),
            None => {
                let message = format!("pod rejected: RuntimeClass {name:?} not found");
                Err(forbidden(attributes, Some(pod), &message))
            }
        }
    }
}

#[async_trait::async_trait]
impl Admission for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        is(gvr, "", "pods") && subresource.is_none() && operation == Operation::Create
    }

    async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        let Some(class) = self.class(attributes, object).await? else { return Ok(()) };
        if let Some(overhead) = class.get("overhead") {
            let said = object.pointer("/spec/overhead").filter(|said| !said.is_null());
            if said.is_some() && amounts_of(said) != amounts_of(overhead.get("podFixed")) {
                return Err(forbidden(attributes, Some(object), OTHER_OVERHEAD));
            }
        }
        let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
        if let Some(fixed) = class.pointer("/overhead/podFixed") {
            spec.insert("overhead".into(), fixed.clone());
        }
        let conflict = class.get("scheduling").and_then(|scheduling| schedule(spec, scheduling));
        conflict.map_or(Ok(()), |conflict| Err(forbidden(attributes, Some(object), &conflict)))
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(pod) = object else { return Ok(()) };
        let said = pod.pointer("/spec/overhead");
        let class = self.class(attributes, pod).await?;
        let problem = match class.as_deref().and_then(|class| class.get("overhead")) {
            Some(overhead) => (amounts_of(overhead.get("podFixed")) != amounts_of(said)).then_some(OTHER_OVERHEAD),
            None => said
                .is_some()
                .then_some("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"),
        };
        problem.map_or(Ok(()), |problem| Err(forbidden(attributes, object, problem)))
    }
}

/// Adds the class's selector and tolerations; `Some` where the pod wants another node than the class.
fn schedule(spec: &mut Map<String, Value>, scheduling: &Value) -> Option<String> {
    if let Some(wanted) = scheduling.get("nodeSelector").and_then(Value::as_object).filter(|all| !all.is_empty())
        && let Some(selector) = member(spec, "nodeSelector", json!({})).as_object_mut()
    {
        for (key, value) in wanted {
            let said = selector.entry(key).or_insert_with(|| value.clone());
            if said != value {
                return Some(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                    text(value, ""),
                    text(said, "")
                ));
            }
        }
    }
    let more: Vec<Value> = items(scheduling, "/tolerations").cloned().collect();
    if !more.is_empty() {
        let mut all: Vec<Value> = spec.get("tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
        all.extend(more);
        spec.insert("tolerations".into(), Value::Array(merged(&all)));
    }
    None
}

/// Each that no other covers.
fn merged(all: &[Value]) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for (index, one) in all.iter().enumerate() {
        let later = all.iter().skip(index + 1).any(|other| other != one && covers(other, one));
        if !later && !kept.iter().any(|other| covers(other, one)) {
            kept.push(one.clone());
        }
    }
    kept
}

/// Whether all that `one` tolerates `wide` does.
fn covers(wide: &Value, one: &Value) -> bool {
    let part = |toleration, pointer| text(toleration, pointer);
    let exists = part(wide, "/operator") == "Exists";
    if wide == one {
        return true;
    }
    if part(one, "/key") != part(wide, "/key") && !(part(wide, "/key").is_empty() && exists) {
        return false;
    }
    if part(one, "/effect") != part(wide, "/effect") && !part(wide, "/effect").is_empty() {
        return false;
    }
    let seconds = |toleration: &Value| toleration.get("tolerationSeconds").and_then(Value::as_i64);
    if part(wide, "/effect") == "NoExecute"
        && let Some(most) = seconds(wide)
        && seconds(one).is_none_or(|seconds| seconds > most)
    {
        return false;
    }
    exists || (matches!(part(one, "/operator"), "" | "Equal") && part(one, "/value") == part(wide, "/value"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Asked, objects};
    use super::*;

    async fn admitted(class: Value, mut pod: Value) -> Result<Value, String> {
        let plugin = RuntimeClass { classes: objects(&[class]) };
        let asked = Asked::new(Gvr::of("", "v1", "pods"), "a", "p", Operation::Create);
        plugin.mutate(&asked.attributes(None), &mut pod).await.map_err(|status| status.message)?;
        plugin.validate(&asked.attributes(None), Some(&pod)).await.map_err(|status| status.message)?;
        Ok(pod["spec"].clone())
    }

    #[tokio::test]
    async fn overhead_is_the_classs() {
        let class = json!({"metadata": {"name": "vm"}, "overhead": {"podFixed": {"cpu": "250m"}}});
        let pod = admitted(class.clone(), json!({"spec": {"runtimeClassName": "vm"}})).await.expect("admitted");
        assert_eq!(pod["overhead"], json!({"cpu": "250m"}));
        let own = json!({"spec": {"runtimeClassName": "vm", "overhead": {"cpu": "1"}}});
        assert_eq!(
            admitted(class.clone(), own).await.expect_err("refused"),
            "pods \"p\" is forbidden: pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
        );
        assert_eq!(
            admitted(class.clone(), json!({"spec": {"overhead": {"cpu": "1"}}})).await.expect_err("refused"),
            "pods \"p\" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
        );
        assert_eq!(
            admitted(class, json!({"spec": {"runtimeClassName": "x"}})).await.expect_err("refused"),
            "pods \"p\" is forbidden: pod rejected: RuntimeClass \"x\" not found"
        );
    }

    #[tokio::test]
    async fn pods_go_where_the_class_is() {
        let class = json!({"metadata": {"name": "vm"}, "scheduling": {"nodeSelector": {"vm": "yes"},
            "tolerations": [{"key": "vm", "operator": "Exists"}]}});
        let pod = json!({"spec": {"runtimeClassName": "vm", "nodeSelector": {"a": "b"},
            "tolerations": [{"key": "vm", "operator": "Equal", "value": "1", "effect": "NoSchedule"}, {"key": "x", "operator": "Exists"}]}});
        let pod = admitted(class.clone(), pod).await.expect("admitted");
        assert_eq!(pod["nodeSelector"], json!({"a": "b", "vm": "yes"}));
        assert_eq!(
            pod["tolerations"],
            json!([{"key": "x", "operator": "Exists"}, {"key": "vm", "operator": "Exists"}])
        );
        let other = json!({"spec": {"runtimeClassName": "vm", "nodeSelector": {"vm": "no"}}});
        assert_eq!(
            admitted(class, other).await.expect_err("refused"),
            "pods \"p\" is forbidden: conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no"
        );
    }
}
