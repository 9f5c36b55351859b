//! What a Deployment must do next, from what it is and the ReplicaSets it may own.

use std::collections::BTreeMap;

use base_meta::selector::LabelSelector;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::scale::{self, Sizes};
use super::sets::{self, Scale, bounds, find_new, name, replicas, wanted};

#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Orphans that match: they get our owner reference.
    pub adopt: Vec<String>,
    pub create: Option<ReplicaSet>,
    /// Sets whose annotations or minReadySeconds differ, whole.
    pub update: Vec<ReplicaSet>,
    pub scale: Sizes,
    /// Beyond the revision history's limit.
    pub delete: Vec<String>,
    /// The Deployment's own revision annotation.
    pub revision: Option<i64>,
}

/// The Deployment's sets: owned, or orphans that match. `adopt` names the latter.
pub fn owned<'a>(
    deployment: &Deployment,
    selector: &LabelSelector,
    all: &'a [ReplicaSet],
    plan: &mut Plan,
) -> Vec<&'a ReplicaSet> {
    let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
    all.iter()
        .filter(|set| match crate::world::controller_of(&set.metadata) {
            Some(owner) => owner.uid == uid,
            None => {
                let matches = deployment.metadata.deletion_timestamp.is_none()
                    && set.metadata.deletion_timestamp.is_none()
                    && selector.matches(|key| {
                        set.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str)
                    });
                if matches {
                    plan.adopt.push(name(set).to_owned());
                }
                matches
            }
        })
        .collect()
}

/// `old_pods` says whether any pod of an old set still exists, ended or not (Recreate waits for that).
pub fn plan(
    deployment: &Deployment,
    selector: &LabelSelector,
    all: &[ReplicaSet],
    old_pods: impl Fn(&[&ReplicaSet]) -> bool,
) -> Plan {
    let mut plan = Plan::default();
    let mine = owned(deployment, selector, all, &mut plan);
    if deployment.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let new = find_new(deployment, &mine);
    let old: Vec<&ReplicaSet> =
        mine.iter().copied().filter(|set| new.is_none_or(|new| new.metadata.uid != set.metadata.uid)).collect();
    let paused = deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false);
    let (surge, _) = bounds(deployment);
    let size = Scale { desired: wanted(deployment), surge };

    if paused || scale::resized(deployment, &mine) {
        plan.scale = scale::proportional(deployment, new, &old);
        remember_size(&mine, size, &mut plan);
        if paused {
            clean_up(deployment, &old, &mut plan);
        }
        return plan;
    }

    let revision = old.iter().map(|set| sets::revision_of(set)).max().unwrap_or(0) + 1;
    match new {
        None => {
            let blocked = scale::recreates(deployment) && (scale_down_first(&old) || old_pods(&old));
            if blocked {
                plan.scale = scale::drain(&old);
            } else {
                let replicas = scale::new_size(deployment, &mine, 0);
                plan.create = Some(sets::make(deployment, replicas, revision, size));
                plan.revision = Some(revision);
            }
        }
        Some(new) => {
            let revision = revision.max(sets::revision_of(new));
            refresh(deployment, new, revision, size, &mut plan);
            if sets::revision(deployment.metadata.annotations.as_ref()) != revision {
                plan.revision = Some(revision);
            }
            plan.scale = if scale::recreates(deployment) {
                recreate(deployment, new, &old, &old_pods)
            } else {
                scale::rolling(deployment, new, &old)
            };
            if plan.scale.is_empty() && super::status::complete(deployment, new, &mine) {
                clean_up(deployment, &old, &mut plan);
            }
        }
    }
    plan
}

fn scale_down_first(old: &[&ReplicaSet]) -> bool {
    old.iter().any(|set| replicas(set) > 0)
}

fn recreate(
    deployment: &Deployment,
    new: &ReplicaSet,
    old: &[&ReplicaSet],
    old_pods: &impl Fn(&[&ReplicaSet]) -> bool,
) -> Sizes {
    let drain = scale::drain(old);
    if !drain.is_empty() {
        return drain;
    }
    if old_pods(old) || replicas(new) == wanted(deployment) {
        return Vec::new();
    }
    vec![(name(new).to_owned(), wanted(deployment))]
}

/// Brings the new set's annotations and minReadySeconds in line.
fn refresh(deployment: &Deployment, new: &ReplicaSet, revision: i64, size: Scale, plan: &mut Plan) {
    let mut wanted = new.clone();
    wanted.metadata.annotations =
        Some(sets::annotations(deployment, new.metadata.annotations.as_ref(), revision, size));
    if let Some(spec) = &mut wanted.spec {
        spec.min_ready_seconds = deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
    }
    if wanted != *new {
        plan.update.push(wanted);
    }
}

/// Writes the wanted size on every set that has pods, so that the resize is not seen again.
fn remember_size(mine: &[&ReplicaSet], size: Scale, plan: &mut Plan) {
    for set in mine.iter().filter(|set| replicas(set) > 0) {
        let mut annotations: BTreeMap<String, String> = set.metadata.annotations.clone().unwrap_or_default();
        size.write(&mut annotations);
        if set.metadata.annotations.as_ref() != Some(&annotations) {
            let mut wanted = (*set).clone();
            wanted.metadata.annotations = Some(annotations);
            plan.update.push(wanted);
        }
    }
}

/// Drops the oldest empty sets beyond `revisionHistoryLimit`.
fn clean_up(deployment: &Deployment, old: &[&ReplicaSet], plan: &mut Plan) {
    let limit = deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
    let limit = usize::try_from(limit).unwrap_or(0);
    let mut empty: Vec<&ReplicaSet> =
        old.iter().copied().filter(|set| set.metadata.deletion_timestamp.is_none()).collect();
    let Some(excess) = empty.len().checked_sub(limit).filter(|excess| *excess > 0) else { return };
    empty.sort_by_key(|set| sets::revision_of(set));
    plan.delete = empty
        .into_iter()
        .take(excess)
        .filter(|set| {
            let status = set.status.clone().unwrap_or_default();
            replicas(set) == 0 && status.replicas == 0 && status.observed_generation >= set.metadata.generation
        })
        .map(|set| name(set).to_owned())
        .collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn deployment(replicas: i32, image: &str, strategy: Value) -> Deployment {
        serde_json::from_value(json!({
            "metadata": { "name": "web", "namespace": "default", "uid": "deployment", "generation": 1 },
            "spec": {
                "replicas": replicas,
                "strategy": strategy,
                "revisionHistoryLimit": 1,
                "selector": { "matchLabels": { "app": "web" } },
                "template": template(image),
            },
        }))
        .expect("a Deployment")
    }

    fn template(image: &str) -> Value {
        json!({
            "metadata": { "labels": { "app": "web" } },
            "spec": { "containers": [{ "name": "web", "image": image }] },
        })
    }

    fn rolling() -> Value {
        json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": "25%" } })
    }

    /// A set of `image` with `size` wanted and `available` available pods.
    fn set(image: &str, revision: i64, size: i32, available: i32) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {
                "name": format!("web-{image}"),
                "namespace": "default",
                "uid": image,
                "labels": { "app": "web" },
                "annotations": { sets::REVISION: revision.to_string() },
                "creationTimestamp": format!("2026-01-01T00:00:0{revision}Z"),
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "deployment", "controller": true,
                }],
            },
            "spec": { "replicas": size, "selector": { "matchLabels": { "app": "web" } }, "template": template(image) },
            "status": { "replicas": size, "readyReplicas": available, "availableReplicas": available },
        }))
        .expect("a ReplicaSet")
    }

    fn planned(deployment: &Deployment, sets: &[ReplicaSet], old_pods: bool) -> Plan {
        let selector =
            LabelSelector::from_typed(Some(&deployment.spec.clone().expect("a spec").selector)).expect("valid");
        plan(deployment, &selector, sets, |_| old_pods)
    }

    #[test]
    fn a_new_template_gets_a_set_as_large_as_the_surge_allows() {
        let first = planned(&deployment(4, "a", rolling()), &[], false);
        assert_eq!(first.create.as_ref().map(replicas), Some(4));
        let next = planned(&deployment(4, "b", rolling()), &[set("a", 1, 4, 4)], true);
        let made = next.create.expect("a new set");
        assert_eq!((replicas(&made), next.revision), (1, Some(2)));
        assert_eq!(sets::revision_of(&made), 2);
        let labels = made.spec.expect("a spec").selector.match_labels.expect("labels");
        assert!(labels.contains_key(api::template_hash::LABEL));
    }

    /// Every step of a rollout of four pods, each pod becoming available between two steps.
    #[test]
    fn a_rolling_update_never_has_too_few_nor_too_many() {
        let deployment = deployment(4, "b", rolling());
        let (mut old, mut new) = (set("a", 1, 4, 4), set("b", 2, 1, 0));
        let mut story = Vec::new();
        for _ in 0..20 {
            let plan = planned(&deployment, &[old.clone(), new.clone()], true);
            for (name, size) in &plan.scale {
                let set = if name == "web-a" { &mut old } else { &mut new };
                set.spec.as_mut().expect("a spec").replicas = Some(*size);
                let status = set.status.as_mut().expect("a status");
                status.replicas = *size;
                status.available_replicas = status.available_replicas.map(|have| have.min(*size));
            }
            story.push((replicas(&old), replicas(&new)));
            let total = replicas(&old) + replicas(&new);
            let available = sets::available(&old) + sets::available(&new);
            assert!(total <= 5 && available >= 3, "{story:?}");
            let next = replicas(&new).min(sets::available(&new) + 1);
            new.status.as_mut().expect("a status").available_replicas = Some(next);
        }
        assert_eq!(story.last(), Some(&(0, 4)), "{story:?}");
    }

    #[test]
    fn recreate_waits_for_the_last_old_pod() {
        let deployment = deployment(2, "b", json!({ "type": "Recreate" }));
        let drain = planned(&deployment, &[set("a", 1, 2, 2)], true);
        assert_eq!((drain.scale, drain.create), (vec![("web-a".into(), 0)], None));
        let wait = planned(&deployment, &[set("a", 1, 0, 0)], true);
        assert_eq!((wait.scale.len(), wait.create), (0, None));
        let go = planned(&deployment, &[set("a", 1, 0, 0)], false);
        assert_eq!(go.create.as_ref().map(replicas), Some(2));
    }

    #[test]
    fn a_rollback_gives_the_old_set_a_new_revision() {
        let plan = planned(&deployment(1, "a", rolling()), &[set("a", 1, 0, 0), set("b", 2, 1, 1)], true);
        assert_eq!(plan.revision, Some(3));
        let updated = &plan.update[0];
        assert_eq!((name(updated), sets::revision_of(updated)), ("web-a", 3));
        assert_eq!(plan.scale, [("web-a".into(), 1)]);
    }

    #[test]
    fn history_beyond_the_limit_is_dropped() {
        let sets = [set("a", 1, 0, 0), set("b", 2, 0, 0), set("c", 3, 1, 1)];
        let plan = planned(&deployment(1, "c", rolling()), &sets, false);
        assert_eq!(plan.delete, ["web-a"]);
    }

    #[test]
    fn resizing_in_the_middle_of_a_rollout_is_proportional() {
        let mut sets = [set("a", 1, 6, 6), set("b", 2, 4, 2)];
        for set in &mut sets {
            let annotations = set.metadata.annotations.as_mut().expect("annotations");
            Scale { desired: 8, surge: 2 }.write(annotations);
        }
        let plan = planned(&deployment(16, "b", rolling()), &sets, true);
        assert_eq!(plan.scale.iter().map(|(_, size)| size).sum::<i32>(), 20);
        assert_eq!(plan.scale, [("web-a".into(), 12), ("web-b".into(), 8)]);
    }

    #[test]
    fn a_paused_deployment_makes_nothing() {
        let mut deployment = deployment(2, "b", rolling());
        deployment.spec.as_mut().expect("a spec").paused = Some(true);
        let plan = planned(&deployment, &[set("a", 1, 2, 2)], true);
        assert_eq!((plan.create, plan.scale.len()), (None, 0));
    }

    #[test]
    fn an_orphan_is_adopted() {
        let mut orphan = set("a", 1, 1, 1);
        orphan.metadata.owner_references = None;
        assert_eq!(planned(&deployment(1, "a", rolling()), &[orphan], false).adopt, ["web-a"]);
    }
}
