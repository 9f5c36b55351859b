//! How many pods each ReplicaSet of a Deployment should have in the next step.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::sets::{available, bounds, desired_annotation, max_annotation, name, replicas, sum, wanted};

/// New sizes, by the set's name.
pub type Sizes = Vec<(String, i32)>;

/// The size a new set starts at, or grows to: as large as the surge allows.
pub fn new_size(deployment: &Deployment, all: &[&ReplicaSet], current: i32) -> i32 {
    let wanted = wanted(deployment);
    if recreates(deployment) {
        return wanted;
    }
    let (surge, _) = bounds(deployment);
    let room = wanted + surge - sum(all.iter().copied(), replicas);
    if room <= 0 { current } else { current + room.min(wanted - current).max(0) }
}

pub fn recreates(deployment: &Deployment) -> bool {
    deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.strategy.as_ref())
        .and_then(|strategy| strategy.type_.as_deref())
        .is_some_and(|kind| kind == "Recreate")
}

/// One step of a rolling update: first the new set grows; only when it cannot, the old ones shrink.
pub fn rolling(deployment: &Deployment, new: &ReplicaSet, old: &[&ReplicaSet]) -> Sizes {
    let all: Vec<&ReplicaSet> = old.iter().copied().chain([new]).collect();
    let current = replicas(new);
    let target = match current.cmp(&wanted(deployment)) {
        std::cmp::Ordering::Equal => current,
        std::cmp::Ordering::Greater => wanted(deployment),
        std::cmp::Ordering::Less => new_size(deployment, &all, current),
    };
    if target != current {
        return vec![(name(new).to_owned(), target)];
    }
    shrink_old(deployment, new, old)
}

/// Unavailable old pods go first (they serve nobody), then available ones while enough stay available.
fn shrink_old(deployment: &Deployment, new: &ReplicaSet, old: &[&ReplicaSet]) -> Sizes {
    let (_, unavailable) = bounds(deployment);
    let min_available = wanted(deployment) - unavailable;
    let total = sum(old.iter().copied(), replicas) + replicas(new);
    let new_unavailable = replicas(new) - available(new);
    let mut budget = total - min_available - new_unavailable;
    if budget <= 0 {
        return Vec::new();
    }
    let mut old: Vec<&ReplicaSet> = old.to_vec();
    old.sort_by_key(|set| (set.metadata.creation_timestamp.as_ref().map(|time| time.0), set.metadata.name.clone()));
    let mut sizes: Vec<(&ReplicaSet, i32)> = old.iter().map(|set| (*set, replicas(set))).collect();
    for (set, size) in &mut sizes {
        let unhealthy = (*size - available(set)).clamp(0, budget);
        *size -= unhealthy;
        budget -= unhealthy;
    }
    let mut spare = sum(old.iter().copied(), available) + available(new) - min_available;
    for (_, size) in &mut sizes {
        let step = (*size).min(spare).max(0);
        *size -= step;
        spare -= step;
    }
    sizes
        .into_iter()
        .filter(|(set, size)| replicas(set) != *size)
        .map(|(set, size)| (name(set).to_owned(), size))
        .collect()
}

/// Every old set down to nothing.
pub fn drain(old: &[&ReplicaSet]) -> Sizes {
    old.iter().filter(|set| replicas(set) != 0).map(|set| (name(set).to_owned(), 0)).collect()
}

/// Whether somebody changed `spec.replicas` since the sets were last sized.
pub fn resized(deployment: &Deployment, all: &[&ReplicaSet]) -> bool {
    all.iter()
        .filter(|set| replicas(set) > 0)
        .any(|set| desired_annotation(set).is_some_and(|desired| desired != wanted(deployment)))
}

/// Resizes a Deployment in the middle of a rollout: every set in proportion to its size.
pub fn proportional(deployment: &Deployment, new: Option<&ReplicaSet>, old: &[&ReplicaSet]) -> Sizes {
    let all: Vec<&ReplicaSet> = old.iter().copied().chain(new).collect();
    let active: Vec<&ReplicaSet> = all.iter().copied().filter(|set| replicas(set) > 0).collect();
    let wanted = wanted(deployment);
    let only = match active.as_slice() {
        [] => new.or_else(|| all.iter().copied().max_by_key(|set| super::sets::revision_of(set))),
        [one] => Some(*one),
        _ => None,
    };
    if let Some(only) = only {
        return if replicas(only) == wanted { Vec::new() } else { vec![(name(only).to_owned(), wanted)] };
    }
    if let Some(new) = new
        && replicas(new) == wanted
        && desired_annotation(new) == Some(wanted)
        && available(new) == wanted
    {
        return drain(old);
    }
    if recreates(deployment) {
        return Vec::new();
    }
    let (surge, _) = bounds(deployment);
    let allowed = if wanted > 0 { wanted + surge } else { 0 };
    let to_add = allowed - sum(all.iter().copied(), replicas);
    let mut sets = active;
    // The largest first; of equals, growing favours the newest and shrinking the oldest.
    sets.sort_by(|one, two| {
        let age = one.metadata.creation_timestamp.cmp(&two.metadata.creation_timestamp);
        replicas(two).cmp(&replicas(one)).then(if to_add > 0 { age.reverse() } else { age })
    });
    let mut sizes: Vec<(&ReplicaSet, i32)> = Vec::new();
    let mut added = 0;
    for set in &sets {
        let share = if to_add == 0 { 0 } else { share(set, wanted, surge, to_add - added, to_add) };
        added += share;
        sizes.push((set, replicas(set) + share));
    }
    // What rounding left over goes to the largest.
    if let Some((_, size)) = sizes.first_mut() {
        *size = (*size + to_add - added).max(0);
    }
    sizes
        .into_iter()
        .filter(|(set, size)| replicas(set) != *size)
        .map(|(set, size)| (name(set).to_owned(), size))
        .collect()
}

/// One set's part of `to_add`, never more than what is `left` of it.
fn share(set: &ReplicaSet, wanted: i32, surge: i32, left: i32, to_add: i32) -> i32 {
    let size = replicas(set);
    let fraction = if wanted == 0 {
        -size
    } else {
        let before = max_annotation(set).filter(|max| *max > 0).unwrap_or(wanted + surge);
        let scaled = f64::from(size) * f64::from(wanted + surge) / f64::from(before);
        #[allow(clippy::cast_possible_truncation)] // both factors are replica counts
        let scaled = scaled.round() as i32;
        scaled - size
    };
    if to_add > 0 { fraction.min(left).max(0) } else { fraction.max(left).min(0) }
}
