//! PriorityClasses.

use base_meta::field::{Error, Path};
use k8s_openapi::api::scheduling::v1::PriorityClass;

use super::{Errors, immutable, said};

/// What only the system's own classes may exceed.
pub const HIGHEST_USER_PRIORITY: i32 = 1_000_000_000;
const SYSTEM_PREFIX: &str = "system-";

/// The classes that every cluster has: name, value, description.
pub const SYSTEM: [(&str, i32, &str); 2] = [
    (
        "system-node-critical",
        2 * HIGHEST_USER_PRIORITY + 1000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2 * HIGHEST_USER_PRIORITY,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

pub fn priority_class(class: &PriorityClass) -> Errors {
    let mut errors = Errors::new();
    let (name, value) = (said(&class.metadata.name), class.value.unwrap_or(0));
    if name.starts_with(SYSTEM_PREFIX) {
        if let Some(problem) = not_known(name, value, class.global_default.unwrap_or(false)) {
            let detail = format!(
                "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {problem}"
            );
            errors.push(Error::forbidden(&Path::new("metadata").child("name"), detail));
        }
    } else if value > HIGHEST_USER_PRIORITY {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}");
        errors.push(Error::forbidden(&Path::new("value"), detail));
    }
    let path = Path::new("preemptionPolicy");
    match class.preemption_policy.as_deref() {
        None | Some("PreemptLowerPriority" | "Never") => {}
        Some("") => errors.push(Error::required(&path, "")),
        Some(other) => errors.push(Error::not_supported(&path, other, &["PreemptLowerPriority", "Never"])),
    }
    errors
}

fn not_known(name: &str, value: i32, global: bool) -> Option<String> {
    match SYSTEM.iter().find(|(known, ..)| *known == name) {
        None => Some(format!("{name} is not a known system priority class")),
        Some((_, known, _)) if *known != value => Some(format!("value of {name} PriorityClass must be {known}")),
        Some(_) if global => Some(format!("globalDefault of {name} PriorityClass must be false")),
        Some(_) => None,
    }
}

pub fn priority_class_update(new: &PriorityClass, old: &PriorityClass) -> Errors {
    let mut errors = Errors::new();
    if new.value.unwrap_or(0) != old.value.unwrap_or(0) {
        errors.push(Error::forbidden(&Path::new("value"), "may not be changed in an update."));
    }
    immutable(&new.preemption_policy, &old.preemption_policy, &Path::new("preemptionPolicy"), &mut errors);
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed};
    use super::*;

    fn made(name: &str, value: i64, more: Value) -> PriorityClass {
        let mut made = json!({"metadata": {"name": name}, "value": value});
        for (key, value) in more.as_object().into_iter().flatten() {
            made[key] = value.clone();
        }
        object(made)
    }

    #[test]
    fn each_rule_names_its_field() {
        let reserved = "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: ";
        let table = [
            (made("a", 1_000_000_000, json!({})), None),
            (made("system-node-critical", 2_000_001_000, json!({})), None),
            (
                made("a", 1_000_000_001, json!({})),
                Some("value: Forbidden: maximum allowed value of a user defined priority is 1000000000".to_owned()),
            ),
            (made("system-x", 1, json!({})), Some(format!("{reserved}system-x is not a known system priority class"))),
            (
                made("system-cluster-critical", 1, json!({})),
                Some(format!("{reserved}value of system-cluster-critical PriorityClass must be 2000000000")),
            ),
            (
                made("a", 1, json!({"preemptionPolicy": "X"})),
                Some(
                    "preemptionPolicy: Unsupported value: \"X\": supported values: \"PreemptLowerPriority\", \"Never\""
                        .to_owned(),
                ),
            ),
        ];
        for (class, expected) in table {
            assert_eq!(printed(priority_class(&class)), Vec::from_iter(expected));
        }
        let (new, old) = (made("a", 2, json!({"preemptionPolicy": "Never"})), made("a", 1, json!({})));
        assert_eq!(
            printed(priority_class_update(&new, &old)),
            [
                "value: Forbidden: may not be changed in an update.",
                "preemptionPolicy: Invalid value: \"Never\": field is immutable",
            ]
        );
    }
}
