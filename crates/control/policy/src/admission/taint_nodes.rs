//! A new node takes no pods until the node lifecycle controller has seen that it is ready.

use api::taint;
use base_meta::{Gvr, Status};
use machinery_registry::{Admission, Attributes, Operation};
use serde_json::{Value, json};

use super::{is, items, member, text};

pub(super) struct TaintNodesByCondition;

#[async_trait::async_trait]
impl Admission for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        is(gvr, "", "nodes") && subresource.is_none() && operation == Operation::Create
    }

    async fn mutate(&self, _: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        let is_it = |one: &Value| text(one, "/key") == taint::NOT_READY && text(one, "/effect") == taint::NO_SCHEDULE;
        if items(object, "/spec/taints").any(is_it) {
            return Ok(());
        }
        let Some(node) = object.as_object_mut() else { return Ok(()) };
        let Some(spec) = member(node, "spec", json!({})).as_object_mut() else { return Ok(()) };
        if let Some(taints) = member(spec, "taints", json!([])).as_array_mut() {
            taints.push(json!({"key": taint::NOT_READY, "effect": taint::NO_SCHEDULE}));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Asked;
    use super::*;

    async fn admitted(mut node: Value) -> Value {
        let asked = Asked::new(Gvr::of("", "v1", "nodes"), "", "n", Operation::Create);
        TaintNodesByCondition.mutate(&asked.attributes(None), &mut node).await.expect("admitted");
        node["spec"]["taints"].clone()
    }

    #[tokio::test]
    async fn the_taint_is_put_on_once() {
        let taint = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
        assert_eq!(admitted(json!({})).await, json!([taint]));
        let mine = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"});
        assert_eq!(admitted(json!({"spec": {"taints": [mine]}})).await, json!([mine, taint]));
        assert_eq!(admitted(json!({"spec": {"taints": [taint]}})).await, json!([taint]));
    }
}
