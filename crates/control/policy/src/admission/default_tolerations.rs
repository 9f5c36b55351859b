//! Pods stay five minutes on a node that is not ready or cannot be reached, unless they say otherwise.

use base_meta::{Gvr, Status};
use machinery_registry::{Admission, Attributes, Operation};
use serde_json::{Value, json};

const SECONDS: i64 = 300;
const TAINTS: &[&str] = &["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub struct DefaultTolerationSeconds;

#[async_trait::async_trait]
impl Admission for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        operation == Operation::Create && subresource.is_none() && gvr.group.is_empty() && gvr.resource == "pods"
    }

    async fn mutate(&self, _attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
        let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
        if tolerations.is_null() {
            *tolerations = json!([]);
        }
        let Some(tolerations) = tolerations.as_array_mut() else { return Ok(()) };
        for taint in TAINTS {
            let covers = |toleration: &Value| {
                let text = |field: &str| toleration.get(field).and_then(Value::as_str).unwrap_or_default();
                let key = text("key");
                (key == *taint || key.is_empty()) && matches!(text("effect"), "" | "NoExecute")
            };
            if !tolerations.iter().any(covers) {
                tolerations.push(json!({
                    "key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS,
                }));
            }
        }
        Ok(())
    }
}
