//! How long a pod stays on a node with taints: pure.

use std::collections::BTreeMap;
use std::time::Duration;

use api::taint::{self, NO_EXECUTE};
use k8s_openapi::api::core::v1::{Taint, Toleration};
use tokio::time::Instant;

/// Since when the pod and each taint (key and value) of its node have been together.
pub type Since = BTreeMap<(String, String), Instant>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Stays,
    LeavesAt(Instant),
    Leaves,
}

/// Takes the taints that make pods leave; `since` is brought up to date. A time that is tolerated counts from when the
/// taint was first seen by this process, so that a restart of it evicts nobody sooner.
pub fn judge(taints: &[Taint], tolerations: &[Toleration], since: &mut Since, now: Instant) -> Verdict {
    let id = |taint: &Taint| (taint.key.clone(), taint.value.clone().unwrap_or_default());
    let evicting: Vec<&Taint> = taints.iter().filter(|taint| taint.effect == NO_EXECUTE).collect();
    since.retain(|known, _| evicting.iter().any(|taint| id(taint) == *known));
    let mut leaves: Option<Instant> = None;
    for taint in evicting {
        let seen = *since.entry(id(taint)).or_insert(now);
        let Some(toleration) = taint::toleration(tolerations, taint) else { return Verdict::Leaves };
        if let Some(seconds) = toleration.toleration_seconds {
            let until = seen + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            leaves = leaves.into_iter().chain([until]).min();
        }
    }
    match leaves {
        None => Verdict::Stays,
        Some(at) if at <= now => Verdict::Leaves,
        Some(at) => Verdict::LeavesAt(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn for_seconds(key: &str, seconds: Option<i64>) -> Toleration {
        Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            toleration_seconds: seconds,
            ..Toleration::default()
        }
    }

    #[test]
    fn what_is_not_tolerated_evicts_at_once() {
        let (now, mut since) = (Instant::now(), Since::default());
        let taints = [taint::of("a", NO_EXECUTE), taint::of("b", taint::NO_SCHEDULE)];
        assert_eq!(judge(&taints, &[], &mut since, now), Verdict::Leaves);
        assert_eq!(judge(&taints, &[for_seconds("a", None)], &mut since, now), Verdict::Stays);
        assert_eq!(judge(&taints, &[for_seconds("a", Some(0))], &mut since, now), Verdict::Leaves);
        assert_eq!(judge(&taints, &[for_seconds("a", Some(-5))], &mut since, now), Verdict::Leaves);
        assert_eq!(judge(&taints[1..], &[], &mut since, now), Verdict::Stays);
    }

    #[test]
    fn the_shortest_time_counts_and_each_from_its_own_taint() {
        let (start, mut since) = (Instant::now(), Since::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        let tolerations = [for_seconds("a", Some(300)), for_seconds("b", Some(10))];
        let (a, b) = (taint::of("a", NO_EXECUTE), taint::of("b", NO_EXECUTE));
        let one = std::slice::from_ref(&a);
        assert_eq!(judge(one, &tolerations, &mut since, start), Verdict::LeavesAt(at(300)));
        let both = [a.clone(), b];
        assert_eq!(judge(&both, &tolerations, &mut since, at(200)), Verdict::LeavesAt(at(210)));
        assert_eq!(judge(one, &tolerations, &mut since, at(205)), Verdict::LeavesAt(at(300)));
        assert_eq!(judge(one, &tolerations, &mut since, at(300)), Verdict::Leaves);
    }

    #[test]
    fn a_taint_that_comes_back_counts_anew() {
        let (start, mut since) = (Instant::now(), Since::default());
        let tolerations = [for_seconds("a", Some(10))];
        let taints = [taint::of("a", NO_EXECUTE)];
        judge(&taints, &tolerations, &mut since, start);
        let later = start + Duration::from_secs(9);
        assert_eq!(judge(&[], &tolerations, &mut since, later), Verdict::Stays);
        let again = judge(&taints, &tolerations, &mut since, later);
        assert_eq!(again, Verdict::LeavesAt(later + Duration::from_secs(10)));
    }
}
