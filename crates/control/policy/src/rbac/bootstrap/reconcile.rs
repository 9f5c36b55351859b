//! What an object of the default policy lacks. Only ever adds: what users granted beyond it stays.

use base_meta::decode_value;
use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::{Value, json};

use crate::rbac::cover;

const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

#[derive(Debug, PartialEq)]
pub(in crate::rbac) enum Step {
    /// It is right, or a user has taken charge of it.
    Keep,
    Create,
    Update(Value),
    /// It is bound to another role, which no update may change.
    Replace,
}

pub(in crate::rbac) fn reconcile(stored: Option<&Value>, wanted: &Value) -> Step {
    let Some(stored) = stored else { return Step::Create };
    if stored["metadata"]["annotations"][AUTOUPDATE] == "false" {
        return Step::Keep;
    }
    if let Some(role) = wanted.get("roleRef")
        && stored.get("roleRef") != Some(role)
    {
        return Step::Replace;
    }
    let mut new = stored.clone();
    for part in ["labels", "annotations"] {
        for (key, value) in wanted["metadata"][part].as_object().into_iter().flatten() {
            let slot = &mut new["metadata"][part][key];
            if slot.is_null() {
                *slot = value.clone();
            }
        }
    }
    if let Some(rule) = wanted.get("aggregationRule") {
        // Its rules are the aggregation's.
        add(&mut new, "/aggregationRule", "clusterRoleSelectors", &rule["clusterRoleSelectors"]);
    } else if let Some(rules) = wanted.get("rules") {
        let missing = cover::compact(cover::missing(&parsed(stored.get("rules")), &parsed(Some(rules))));
        if !missing.is_empty() {
            let missing = serde_json::to_value(missing).unwrap_or_default();
            add(&mut new, "", "rules", &missing);
        }
    }
    if let Some(subjects) = wanted.get("subjects") {
        add(&mut new, "", "subjects", subjects);
    }
    if new == *stored { Step::Keep } else { Step::Update(new) }
}

/// Appends what the list at `parent/field` does not have yet.
fn add(object: &mut Value, parent: &str, field: &str, items: &Value) {
    if object.pointer(parent).is_none() {
        object[&parent[1..]] = json!({});
    }
    let Some(parent) = object.pointer_mut(parent) else { return };
    if !parent[field].is_array() {
        parent[field] = json!([]);
    }
    let Some(list) = parent[field].as_array_mut() else { return };
    for item in items.as_array().into_iter().flatten() {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

fn parsed(rules: Option<&Value>) -> Vec<PolicyRule> {
    // Stored rules have been decoded before; those of the table are checked by a test.
    rules.and_then(|rules| decode_value(rules).ok()).unwrap_or_default()
}
