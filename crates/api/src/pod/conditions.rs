//! Conditions, readiness and availability.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub const READY: &str = "Ready";
pub const POD_SCHEDULED: &str = "PodScheduled";
pub const CONTAINERS_READY: &str = "ContainersReady";
pub const INITIALIZED: &str = "Initialized";
pub const READY_TO_START_CONTAINERS: &str = "PodReadyToStartContainers";

pub fn condition<'a>(status: &'a PodStatus, kind: &str) -> Option<&'a PodCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

pub fn is_pod_ready(pod: &Pod) -> bool {
    ready_condition(pod).is_some_and(|ready| ready.status == "True")
}

/// Ready for at least `min_ready_seconds`.
pub fn is_pod_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    let Some(ready) = ready_condition(pod).filter(|ready| ready.status == "True") else { return false };
    if min_ready_seconds == 0 {
        return true;
    }
    available_at(ready, min_ready_seconds).is_some_and(|at| at <= now)
}

/// When a ready pod becomes available by itself: what a controller waits for; `None` for one that is not ready.
pub fn becomes_available_at(pod: &Pod, min_ready_seconds: i32) -> Option<Timestamp> {
    available_at(ready_condition(pod).filter(|ready| ready.status == "True")?, min_ready_seconds)
}

fn available_at(ready: &PodCondition, min_ready_seconds: i32) -> Option<Timestamp> {
    let since = ready.last_transition_time.as_ref()?.0;
    since.checked_add(SignedDuration::from_secs(i64::from(min_ready_seconds))).ok()
}

fn ready_condition(pod: &Pod) -> Option<&PodCondition> {
    condition(pod.status.as_ref()?, READY)
}

/// All its containers have ended for good.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"))
}

/// Adds or replaces the condition of its type, keeping the transition time while `status` stays the same.
/// Answers whether anything but times changed.
pub fn set_condition(status: &mut PodStatus, mut new: PodCondition, now: Timestamp) -> bool {
    let conditions = status.conditions.get_or_insert_default();
    let Some(old) = conditions.iter_mut().find(|condition| condition.type_ == new.type_) else {
        new.last_transition_time.get_or_insert(Time(now));
        conditions.push(new);
        return true;
    };
    new.last_transition_time =
        if old.status == new.status { old.last_transition_time.clone() } else { Some(Time(now)) };
    let said = |slot: &Option<String>| slot.clone().unwrap_or_default();
    let same = old.status == new.status
        && said(&old.reason) == said(&new.reason)
        && said(&old.message) == said(&new.message)
        && old.observed_generation == new.observed_generation;
    *old = new;
    !same
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn ready(status: &str) -> PodCondition {
        PodCondition { type_: READY.into(), status: status.into(), ..PodCondition::default() }
    }

    fn pod(status: PodStatus) -> Pod {
        Pod { status: Some(status), ..Pod::default() }
    }

    #[test]
    fn available_after_min_ready_seconds() {
        let mut status = PodStatus::default();
        assert!(!is_pod_ready(&Pod::default()));
        assert!(set_condition(&mut status, ready("True"), at(100)));
        let pod = pod(status);
        assert!(is_pod_ready(&pod));
        assert!(is_pod_available(&pod, 0, at(100)));
        assert!(!is_pod_available(&pod, 10, at(109)));
        assert!(is_pod_available(&pod, 10, at(110)));
        assert_eq!(becomes_available_at(&pod, 10), Some(at(110)));
    }

    #[test]
    fn the_transition_time_moves_with_the_status_only() {
        let mut status = PodStatus::default();
        set_condition(&mut status, ready("False"), at(1));
        assert!(!set_condition(&mut status, ready("False"), at(2)));
        assert_eq!(condition(&status, READY).expect("there").last_transition_time, Some(Time(at(1))));
        assert!(set_condition(&mut status, ready("True"), at(3)));
        assert_eq!(condition(&status, READY).expect("there").last_transition_time, Some(Time(at(3))));
    }
}
