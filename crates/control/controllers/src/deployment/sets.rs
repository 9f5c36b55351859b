//! A Deployment's ReplicaSets: which is the new one, revisions, and the annotations they carry.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::fraction::{self, Round};
use crate::world::owned_by;

pub const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Annotations of a Deployment that its ReplicaSets do not inherit.
const NOT_COPIED: &[&str] =
    &[LAST_APPLIED, REVISION, REVISION_HISTORY, DESIRED, MAX, "deprecated.deployment.rollback.revision"];

pub fn name(set: &ReplicaSet) -> &str {
    set.metadata.name.as_deref().unwrap_or_default()
}

/// Wanted replicas.
pub fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

pub fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

pub fn wanted(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

pub fn sum<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>, of: fn(&ReplicaSet) -> i32) -> i32 {
    sets.into_iter().map(of).sum()
}

/// The set whose template is the Deployment's; the oldest where there are several.
pub fn find_new<'a>(deployment: &Deployment, sets: &[&'a ReplicaSet]) -> Option<&'a ReplicaSet> {
    let template = &deployment.spec.as_ref()?.template;
    sets.iter()
        .copied()
        .filter(|set| {
            set.spec
                .as_ref()
                .and_then(|spec| spec.template.as_ref())
                .is_some_and(|other| same_template(template, other))
        })
        .min_by_key(|set| (set.metadata.creation_timestamp.as_ref().map(|time| time.0), set.metadata.name.clone()))
}

/// Equal but for the `pod-template-hash` label.
pub fn same_template(one: &PodTemplateSpec, two: &PodTemplateSpec) -> bool {
    let plain = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        let meta = template.metadata.get_or_insert_default();
        if let Some(labels) = &mut meta.labels {
            labels.remove(api::template_hash::LABEL);
        }
        if meta.labels.as_ref().is_some_and(BTreeMap::is_empty) {
            meta.labels = None;
        }
        template
    };
    plain(one) == plain(two)
}

pub fn revision(annotations: Option<&BTreeMap<String, String>>) -> i64 {
    annotations.and_then(|all| all.get(REVISION)).and_then(|text| text.parse().ok()).unwrap_or(0)
}

pub fn revision_of(set: &ReplicaSet) -> i64 {
    revision(set.metadata.annotations.as_ref())
}

/// `None` where the annotation is missing or not a number.
pub fn desired_annotation(set: &ReplicaSet) -> Option<i32> {
    set.metadata.annotations.as_ref()?.get(DESIRED)?.parse().ok()
}

pub fn max_annotation(set: &ReplicaSet) -> Option<i32> {
    set.metadata.annotations.as_ref()?.get(MAX)?.parse().ok()
}

/// The set's annotations as they should be: the Deployment's, its revision, and the sizes for proportional scaling.
pub fn annotations(
    deployment: &Deployment,
    present: Option<&BTreeMap<String, String>>,
    revision: i64,
    scale: Scale,
) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = present.cloned().unwrap_or_default();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            all.insert(key.clone(), value.clone());
        }
    }
    let old = all.get(REVISION).cloned();
    if revision > old.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0) {
        if let Some(old) = old {
            let history = all.entry(REVISION_HISTORY.into()).or_default();
            if !history.is_empty() {
                history.push(',');
            }
            history.push_str(&old);
        }
        all.insert(REVISION.into(), revision.to_string());
    }
    scale.write(&mut all);
    all
}

/// How large a rollout wants to be, remembered on each set.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub desired: i32,
    pub surge: i32,
}

impl Scale {
    pub fn write(self, annotations: &mut BTreeMap<String, String>) {
        annotations.insert(DESIRED.into(), self.desired.to_string());
        annotations.insert(MAX.into(), (self.desired + self.surge).to_string());
    }
}

/// The new ReplicaSet of a template that has none.
pub fn make(deployment: &Deployment, replicas: i32, revision: i64, scale: Scale) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = api::template_hash::compute(&spec.template, collisions);
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(api::template_hash::LABEL.into(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(api::template_hash::LABEL.into(), hash.clone());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.metadata.name.as_deref().unwrap_or_default())),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations(deployment, None, revision, scale)),
            owner_references: Some(vec![owned_by(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

/// `maxSurge` and `maxUnavailable` as numbers of pods: surge rounds up, unavailable down, and one of them is positive.
pub fn bounds(deployment: &Deployment) -> (i32, i32) {
    let Some(spec) = deployment.spec.as_ref() else { return (0, 0) };
    if spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
        return (0, 0);
    }
    let rolling = spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    let total = spec.replicas.unwrap_or(1);
    let number = |value: Option<&IntOrString>, round| value.map_or(0, |value| fraction::scaled(value, total, round));
    let surge = number(rolling.and_then(|rolling| rolling.max_surge.as_ref()), Round::Up);
    let unavailable = number(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), Round::Down);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable.min(total.max(0))) }
}
