//! A pod that says nothing of nodes that fail stays on one for five minutes.

use api::taint;
use base_meta::{Gvr, Status};
use machinery_registry::{Admission, Attributes, Operation};
use serde_json::{Value, json};

use super::{is, text};

const TAINTS: [&str; 2] = [taint::NOT_READY, taint::UNREACHABLE];
const SECONDS: i64 = 300;

pub(super) struct DefaultTolerationSeconds;

#[async_trait::async_trait]
impl Admission for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        is(gvr, "", "pods") && subresource.is_none() && matches!(operation, Operation::Create | Operation::Update)
    }

    async fn mutate(&self, _: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
        let list = spec.entry("tolerations").or_insert_with(|| json!([]));
        if list.is_null() {
            *list = json!([]);
        }
        let Some(list) = list.as_array_mut() else { return Ok(()) };
        for key in TAINTS {
            let speaks = |toleration: &Value| {
                ["", key].contains(&text(toleration, "/key"))
                    && ["", "NoExecute"].contains(&text(toleration, "/effect"))
            };
            if !list.iter().any(speaks) {
                list.push(
                    json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}),
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Asked;
    use super::*;

    async fn admitted(mut pod: Value) -> Value {
        let asked = Asked::new(Gvr::of("", "v1", "pods"), "a", "p", Operation::Create);
        DefaultTolerationSeconds.mutate(&asked.attributes(None), &mut pod).await.expect("admitted");
        pod["spec"]["tolerations"].clone()
    }

    #[tokio::test]
    async fn silence_means_five_minutes() {
        let both = admitted(json!({"spec": {}})).await;
        assert_eq!(both.as_array().map(Vec::len), Some(2));
        assert_eq!(
            both[0],
            json!({"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
        );
        let own = json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "tolerationSeconds": 5}]);
        assert_eq!(admitted(json!({"spec": {"tolerations": own}})).await.as_array().map(Vec::len), Some(2));
        let all = json!([{"operator": "Exists"}]);
        assert_eq!(admitted(json!({"spec": {"tolerations": all}})).await, all);
    }
}
