//! RuntimeClasses.

use base_meta::field::{Error, Path};
use k8s_openapi::api::node::v1::RuntimeClass;

use super::{Errors, immutable, labels, pod_spec, resources, segments};

pub fn runtime_class(class: &RuntimeClass) -> Errors {
    let mut errors = Errors::new();
    segments::label(&class.handler, &Path::new("handler"), &mut errors);
    if let Some(overhead) = &class.overhead {
        resources::quantities(overhead.pod_fixed.as_ref(), &Path::new("overhead").child("podFixed"), &mut errors);
    }
    if let Some(scheduling) = &class.scheduling {
        let path = Path::new("scheduling");
        labels::labels(scheduling.node_selector.as_ref(), &path.child("nodeSelector"), &mut errors);
        let tolerations = scheduling.tolerations.as_deref().unwrap_or_default();
        let path = path.child("tolerations");
        pod_spec::tolerations(tolerations, &path, &mut errors);
        for (index, toleration) in tolerations.iter().enumerate() {
            if tolerations[..index].contains(toleration) {
                errors.push(Error::duplicate(&path.index(index), &super::json(toleration)));
            }
        }
    }
    errors
}

pub fn runtime_class_update(new: &RuntimeClass, old: &RuntimeClass) -> Errors {
    let mut errors = Errors::new();
    immutable(&new.handler, &old.handler, &Path::new("handler"), &mut errors);
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{object, printed};
    use super::*;

    #[test]
    fn each_rule_names_its_field() {
        let good: RuntimeClass = object(json!({"handler": "runsc", "overhead": {"podFixed": {"memory": "1Mi"}},
            "scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "a", "operator": "Exists"}]}}));
        assert!(runtime_class(&good).is_empty());
        let table = [
            (json!({"handler": "A"}), "handler: Invalid value: \"A\""),
            (json!({"handler": "a", "overhead": {"podFixed": {"cpu": "-1"}}}), "overhead.podFixed[cpu]: Invalid value"),
            (json!({"handler": "a", "scheduling": {"nodeSelector": {"a b": ""}}}), "scheduling.nodeSelector: Invalid"),
            (
                json!({"handler": "a", "scheduling": {"tolerations": [
                    {"key": "a", "operator": "Exists"}, {"key": "a", "operator": "Exists"}]}}),
                "scheduling.tolerations[1]: Duplicate value",
            ),
        ];
        for (value, expected) in table {
            let found = printed(runtime_class(&object(value.clone())));
            assert!(found.len() == 1 && found[0].starts_with(expected), "{value}: {found:?}");
        }
        let other: RuntimeClass = object(json!({"handler": "kata"}));
        assert_eq!(
            printed(runtime_class_update(&other, &good)),
            ["handler: Invalid value: \"kata\": field is immutable"]
        );
    }
}
