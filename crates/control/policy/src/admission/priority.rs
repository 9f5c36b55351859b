//! A pod's priority is its class's; at most one class is that of the pods that name none.

use std::sync::Arc;

use base_meta::{Gvr, Status};
use machinery_registry::{Admission, Attributes, Operation};
use serde_json::{Value, json};

use super::late::{Fresh, decoded};
use super::{Late, forbidden, is, text};

const LOWER: &str = "PreemptLowerPriority";

pub(super) struct Priority {
    pub(super) classes: Arc<Late>,
}

#[async_trait::async_trait]
impl Admission for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        subresource.is_none()
            && matches!(operation, Operation::Create | Operation::Update)
            && (is(gvr, "", "pods") || is(gvr, "scheduling.k8s.io", "priorityclasses"))
    }

    async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        match (&*attributes.gvr.resource, attributes.old) {
            ("pods", Some(old)) => {
                keep(object, old);
                Ok(())
            }
            ("pods", None) => self.assign(attributes, object).await,
            _ => Ok(()),
        }
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(class) = object.filter(|_| attributes.gvr.resource == "priorityclasses") else { return Ok(()) };
        if class.get("globalDefault") != Some(&json!(true)) {
            return Ok(());
        }
        let Some(default) = self.default(attributes).await? else { return Ok(()) };
        let name = text(&default, "/metadata/name");
        if attributes.operation == Operation::Create || name != text(class, "/metadata/name") {
            let message = format!("PriorityClass {name} is already marked as default. Only one default can exist");
            return Err(forbidden(attributes, object, &message));
        }
        Ok(())
    }
}

impl Priority {
    async fn assign(&self, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
        let asked = text(pod, "/spec/priorityClassName").to_owned();
        let class = if asked.is_empty() {
            self.default(attributes).await?
        } else {
            let found = self.classes.find(attributes.ctx, None, &asked).await?;
            let Some(found) = found else {
                let message = format!("no PriorityClass with name {asked} was found");
                return Err(forbidden(attributes, Some(pod), &message));
            };
            Some(decoded(&found)?)
        };
        let (value, policy) = match &class {
            Some(class) => (class.get("value").and_then(Value::as_i64).unwrap_or(0), text(class, "/preemptionPolicy")),
            None => (0, LOWER),
        };
        if let Some(said) = pod.pointer("/spec/priority").and_then(Value::as_i64).filter(|said| *said != value) {
            let message = format!(
                "the integer value of priority ({said}) must not be provided in pod spec; priority admission controller \
                 computed {value} from the given PriorityClass name"
            );
            return Err(forbidden(attributes, Some(pod), &message));
        }
        let said = text(pod, "/spec/preemptionPolicy");
        if !policy.is_empty() && !said.is_empty() && said != policy {
            let message = format!(
                "the string value of PreemptionPolicy ({said}) must not be provided in pod spec; priority admission \
                 controller computed {policy} from the given PriorityClass name"
            );
            return Err(forbidden(attributes, Some(pod), &message));
        }
        let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
        if let Some(class) = &class {
            spec.insert("priorityClassName".into(), json!(text(class, "/metadata/name")));
        }
        spec.insert("priority".into(), json!(value));
        if !policy.is_empty() {
            spec.insert("preemptionPolicy".into(), json!(policy));
        }
        Ok(())
    }

    /// Of several, which only a race can make, the lowest.
    async fn default(&self, attributes: &Attributes<'_>) -> Result<Option<Arc<Value>>, Status> {
        let all = self.classes.list(attributes.ctx, None, Fresh::Cached).await?;
        let all = all.iter().map(|class| decoded(class)).collect::<Result<Vec<_>, _>>()?;
        let defaults = all.into_iter().filter(|class| class.get("globalDefault") == Some(&json!(true)));
        Ok(defaults.min_by_key(|class| class.get("value").and_then(Value::as_i64)))
    }
}

/// What was assigned stays, whatever an update leaves out.
fn keep(pod: &mut Value, old: &Value) {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for field in ["priority", "preemptionPolicy"] {
        let missing = spec.get(field).is_none_or(Value::is_null);
        if let Some(assigned) = old.get("spec").and_then(|spec| spec.get(field)).filter(|_| missing) {
            spec.insert(field.into(), assigned.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Asked, objects};
    use super::*;

    fn class(name: &str, value: i64, default: bool) -> Value {
        json!({"metadata": {"name": name}, "value": value, "globalDefault": default, "preemptionPolicy": LOWER})
    }

    async fn admitted(classes: &[Value], mut pod: Value) -> Result<Value, String> {
        let plugin = Priority { classes: objects(classes) };
        let asked = Asked::new(Gvr::of("", "v1", "pods"), "a", "p", Operation::Create);
        let done = plugin.mutate(&asked.attributes(None), &mut pod).await;
        done.map(|()| pod["spec"].clone()).map_err(|status| status.message)
    }

    #[tokio::test]
    async fn pods_get_the_priority_of_their_class() {
        let never = json!({"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"});
        assert_eq!(
            admitted(std::slice::from_ref(&never), json!({"spec": {"priorityClassName": "high"}})).await,
            Ok(json!({"priorityClassName": "high", "priority": 1000, "preemptionPolicy": "Never"}))
        );
        assert_eq!(
            admitted(std::slice::from_ref(&never), json!({"spec": {}})).await,
            Ok(json!({"priority": 0, "preemptionPolicy": LOWER}))
        );
        let both = [class("b", 7, true), class("a", 5, true)];
        assert_eq!(
            admitted(&both, json!({"spec": {}})).await,
            Ok(json!({"priorityClassName": "a", "priority": 5, "preemptionPolicy": LOWER}))
        );
        let refused = |pod| async { admitted(std::slice::from_ref(&never), pod).await.expect_err("refused") };
        assert_eq!(
            refused(json!({"spec": {"priorityClassName": "x"}})).await,
            "pods \"p\" is forbidden: no PriorityClass with name x was found"
        );
        assert_eq!(
            refused(json!({"spec": {"priorityClassName": "high", "priority": 3}})).await,
            "pods \"p\" is forbidden: the integer value of priority (3) must not be provided in pod spec; priority \
             admission controller computed 1000 from the given PriorityClass name"
        );
        assert_eq!(
            refused(json!({"spec": {"priorityClassName": "high", "preemptionPolicy": LOWER}})).await,
            "pods \"p\" is forbidden: the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided \
             in pod spec; priority admission controller computed Never from the given PriorityClass name"
        );
    }

    #[tokio::test]
    async fn an_update_keeps_it() {
        let plugin = Priority { classes: objects(&[]) };
        let asked = Asked::new(Gvr::of("", "v1", "pods"), "a", "p", Operation::Update);
        let old = json!({"spec": {"priority": 5, "preemptionPolicy": "Never"}});
        let mut pod = json!({"spec": {"priority": 6}});
        plugin.mutate(&asked.attributes(Some(&old)), &mut pod).await.expect("admitted");
        assert_eq!(pod["spec"], json!({"priority": 6, "preemptionPolicy": "Never"}), "validation refuses the change");
    }

    #[tokio::test]
    async fn one_class_is_everybodys() {
        let plugin = Priority { classes: objects(&[class("first", 1, true)]) };
        let ask = |new: Value, operation| {
            let plugin = &plugin;
            async move {
                let asked = Asked::new(Gvr::of("scheduling.k8s.io", "v1", "priorityclasses"), "", "n", operation);
                plugin.validate(&asked.attributes(None), Some(&new)).await.map_err(|status| status.message)
            }
        };
        assert_eq!(
            ask(class("n", 2, true), Operation::Create).await.expect_err("refused"),
            "priorityclasses.scheduling.k8s.io \"n\" is forbidden: PriorityClass first is already marked as default. \
             Only one default can exist"
        );
        assert_eq!(ask(class("first", 2, true), Operation::Update).await, Ok(()));
        assert_eq!(ask(class("n", 2, false), Operation::Create).await, Ok(()));
    }
}
