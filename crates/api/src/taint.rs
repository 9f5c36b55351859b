//! Taints: the names of those that say how a node is, and what tolerates one.

use k8s_openapi::api::core::v1::{Taint, Toleration};

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
pub const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";
pub const DISK_PRESSURE: &str = "node.kubernetes.io/disk-pressure";
pub const PID_PRESSURE: &str = "node.kubernetes.io/pid-pressure";
pub const NETWORK_UNAVAILABLE: &str = "node.kubernetes.io/network-unavailable";
/// Set by an administrator who knows that the node is off.
pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

pub const NO_SCHEDULE: &str = "NoSchedule";
pub const NO_EXECUTE: &str = "NoExecute";

/// A taint without a value.
pub fn of(key: &str, effect: &str) -> Taint {
    Taint { key: key.to_owned(), effect: effect.to_owned(), ..Taint::default() }
}

/// The same key and effect: a node has at most one such.
pub fn same(one: &Taint, other: &Taint) -> bool {
    one.key == other.key && one.effect == other.effect
}

/// The first toleration that holds against the taint.
pub fn toleration<'a>(tolerations: &'a [Toleration], taint: &Taint) -> Option<&'a Toleration> {
    tolerations.iter().find(|toleration| {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        let exists = toleration.operator.as_deref() == Some("Exists");
        (effect.is_empty() || effect == taint.effect)
            && (key == taint.key || (key.is_empty() && exists))
            && (exists || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toleration_of(key: &str, operator: &str, value: &str, effect: &str) -> Toleration {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Toleration {
            key: some(key),
            operator: some(operator),
            value: some(value),
            effect: some(effect),
            toleration_seconds: None,
        }
    }

    #[test]
    fn a_toleration_holds_by_key_value_and_effect() {
        let gpu = Taint { value: Some("a100".into()), ..of("gpu", NO_EXECUTE) };
        let table = [
            (toleration_of("gpu", "Exists", "", ""), true),
            (toleration_of("gpu", "Equal", "a100", "NoExecute"), true),
            (toleration_of("gpu", "", "a100", ""), true),
            (toleration_of("", "Exists", "", ""), true),
            (toleration_of("gpu", "Equal", "h100", ""), false),
            (toleration_of("gpu", "Exists", "", "NoSchedule"), false),
            (toleration_of("fpga", "Exists", "", ""), false),
            (toleration_of("", "Equal", "a100", ""), false),
        ];
        for (one, holds) in table {
            assert_eq!(toleration(std::slice::from_ref(&one), &gpu).is_some(), holds, "{one:?}");
        }
    }
}
