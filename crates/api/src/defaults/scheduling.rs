//! `scheduling.k8s.io/v1`.

use k8s_openapi::api::scheduling::v1::PriorityClass;

use super::pointer;

pub fn priority_class(class: &mut PriorityClass) {
    pointer(&mut class.preemption_policy, "PreemptLowerPriority".to_owned());
}
