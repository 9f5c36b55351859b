//! StatefulSets and the ControllerRevisions that remember what they (and DaemonSets) were.

use std::borrow::Cow;

use base_meta::field::{BadValue, Error, Path};
use base_meta::names;
use base_meta::selector::LabelSelector as Selector;
use k8s_openapi::api::apps::v1::{
    ControllerRevision, RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetSpec, StatefulSetStatus,
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, PodTemplateSpec, Volume};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::persistent_volume_claim::claim_spec;
use super::workload::{bad_amount, is_zero, not_negative, number_or_percent, template};
use super::{Errors, formats, immutable, json, labels, normal, said};

const ONLY: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                    'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                    'minReadySeconds' are forbidden";

pub fn stateful_set(set: &StatefulSet) -> Errors {
    let mut errors = Errors::new();
    let empty = StatefulSetSpec::default();
    spec(set.spec.as_ref().unwrap_or(&empty), &Path::new("spec"), &mut errors);
    errors
}

pub fn stateful_set_update(new: &StatefulSet, old: &StatefulSet) -> Errors {
    let mut errors = stateful_set(new);
    let (new, old) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
    let fixed = StatefulSetSpec {
        replicas: old.replicas,
        ordinals: old.ordinals.clone(),
        template: old.template.clone(),
        update_strategy: old.update_strategy.clone(),
        revision_history_limit: old.revision_history_limit,
        persistent_volume_claim_retention_policy: old.persistent_volume_claim_retention_policy.clone(),
        min_ready_seconds: old.min_ready_seconds,
        ..new
    };
    if normal(json(&fixed)) != normal(json(&old)) {
        errors.push(Error::forbidden(&Path::new("spec"), ONLY));
    }
    errors
}

fn spec(spec: &StatefulSetSpec, path: &Path, errors: &mut Errors) {
    let policy_path = path.child("podManagementPolicy");
    match said(&spec.pod_management_policy) {
        "" => errors.push(Error::required(&policy_path, "")),
        "OrderedReady" | "Parallel" => {}
        other => errors.push(Error::invalid(&policy_path, other, "must be 'OrderedReady' or 'Parallel'")),
    }
    update_strategy(spec, &path.child("updateStrategy"), errors);
    if let Some(retention) = &spec.persistent_volume_claim_retention_policy {
        let path = path.child("persistentVolumeClaimRetentionPolicy");
        for (name, slot) in [("whenDeleted", &retention.when_deleted), ("whenScaled", &retention.when_scaled)] {
            if !matches!(said(slot), "Retain" | "Delete") {
                errors.push(Error::not_supported(&path.child(name), said(slot), &["Retain", "Delete"]));
            }
        }
    }
    not_negative(spec.replicas, &path.child("replicas"), errors);
    not_negative(spec.min_ready_seconds, &path.child("minReadySeconds"), errors);
    not_negative(spec.revision_history_limit, &path.child("revisionHistoryLimit"), errors);
    let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start);
    not_negative(start, &path.child("ordinals.start"), errors);
    let name = said(&spec.service_name);
    if !name.is_empty() {
        formats::invalid(&path.child("serviceName"), name, names::dns1123_subdomain(name), errors);
    }
    let before = errors.len();
    labels::selector(&spec.selector, &path.child("selector"), errors);
    let selector = if labels::is_empty(&spec.selector) {
        errors.push(Error::required(&path.child("selector"), ""));
        None
    } else if errors.len() > before {
        None
    } else {
        Selector::from_typed(Some(&spec.selector)).ok()
    };
    let claimed = with_claims(spec);
    template(&claimed, selector, &path.child("template"), "StatefulSet", errors);
    for (index, claim) in spec.volume_claim_templates.iter().flatten().enumerate() {
        let path = path.child("volumeClaimTemplates").index(index).child("spec");
        claim_spec(&claim.spec.clone().unwrap_or_default(), &path, errors);
    }
}

/// The template as its pods will be: each claim template is a volume.
fn with_claims(spec: &StatefulSetSpec) -> Cow<'_, PodTemplateSpec> {
    let claims: Vec<&String> =
        spec.volume_claim_templates.iter().flatten().filter_map(|claim| claim.metadata.name.as_ref()).collect();
    if claims.is_empty() {
        return Cow::Borrowed(&spec.template);
    }
    let mut template = spec.template.clone();
    let volumes = template.spec.get_or_insert_default().volumes.get_or_insert_default();
    volumes.retain(|volume| !claims.contains(&&volume.name));
    for name in claims {
        let source = PersistentVolumeClaimVolumeSource { claim_name: name.clone(), ..Default::default() };
        let volume = Volume { name: name.clone(), persistent_volume_claim: Some(source), ..Volume::default() };
        volumes.push(volume);
    }
    Cow::Owned(template)
}

fn update_strategy(spec: &StatefulSetSpec, path: &Path, errors: &mut Errors) {
    let Some(strategy) = &spec.update_strategy else {
        errors.push(Error::required(path, ""));
        return;
    };
    let rolling_path = path.child("rollingUpdate");
    match (said(&strategy.type_), &strategy.rolling_update) {
        ("", _) => errors.push(Error::required(path, "")),
        ("OnDelete", Some(rolling)) => {
            let shown = rolling_as_go(rolling);
            errors.push(Error::invalid(&rolling_path, shown, "only allowed for updateStrategy 'RollingUpdate'"));
        }
        ("RollingUpdate", Some(rolling)) => {
            not_negative(rolling.partition, &rolling_path.child("partition"), errors);
            if let Some(unavailable) = &rolling.max_unavailable {
                let path = rolling_path.child("maxUnavailable");
                number_or_percent(unavailable, &path, errors);
                if is_zero(unavailable) {
                    errors.push(bad_amount(unavailable, &path, "cannot be 0"));
                }
                not_more_than_all(unavailable, &path, errors);
            }
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        (other, rolling) => {
            let rolling = rolling.as_ref().map_or("null".to_owned(), rolling_text);
            let shown = BadValue::json(format!("{{\"Type\":{other:?},\"RollingUpdate\":{rolling}}}"));
            errors.push(Error::invalid(path, shown, "must be 'RollingUpdate' or 'OnDelete'"));
        }
    }
}

/// Upstream prints its internal type, whose members have Go's names.
fn rolling_text(rolling: &RollingUpdateStatefulSetStrategy) -> String {
    let unavailable = json(&rolling.max_unavailable);
    format!("{{\"Partition\":{},\"MaxUnavailable\":{unavailable}}}", rolling.partition.unwrap_or(0))
}

fn rolling_as_go(rolling: &RollingUpdateStatefulSetStrategy) -> BadValue {
    BadValue::json(rolling_text(rolling))
}

pub(super) fn not_more_than_all(amount: &IntOrString, path: &Path, errors: &mut Errors) {
    if let IntOrString::String(text) = amount
        && formats::percent(text).is_some_and(|percent| percent > 100)
    {
        errors.push(bad_amount(amount, path, "must not be greater than 100%"));
    }
}

pub fn stateful_set_status_update(new: &StatefulSet, old: &StatefulSet) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("status");
    let empty = StatefulSetStatus::default();
    let status = new.status.as_ref().unwrap_or(&empty);
    let counts = [
        ("replicas", Some(status.replicas)),
        ("readyReplicas", status.ready_replicas),
        ("currentReplicas", status.current_replicas),
        ("updatedReplicas", status.updated_replicas),
        ("availableReplicas", status.available_replicas),
    ];
    for (name, number) in counts {
        not_negative(number, &path.child(name), &mut errors);
    }
    not_negative(status.observed_generation, &path.child("observedGeneration"), &mut errors);
    not_negative(status.collision_count, &path.child("collisionCount"), &mut errors);
    for (name, number) in counts.into_iter().skip(1) {
        let number = number.unwrap_or(0);
        if number > status.replicas {
            errors.push(Error::invalid(&path.child(name), number, "cannot be greater than status.replicas"));
        }
    }
    let available = status.available_replicas.unwrap_or(0);
    if available > status.ready_replicas.unwrap_or(0) {
        let message = "cannot be greater than status.readyReplicas";
        errors.push(Error::invalid(&path.child("availableReplicas"), available, message));
    }
    let before = old.status.as_ref().and_then(|status| status.collision_count);
    not_decremented(status.collision_count, before, &path.child("collisionCount"), &mut errors);
    errors
}

pub(super) fn not_decremented(new: Option<i32>, old: Option<i32>, path: &Path, errors: &mut Errors) {
    if old.is_some_and(|old| new.is_none_or(|new| new < old)) {
        errors.push(Error::invalid(path, new.unwrap_or(0), "cannot be decremented"));
    }
}

pub fn controller_revision(revision: &ControllerRevision) -> Errors {
    let mut errors = Errors::new();
    if revision.data.is_none() {
        errors.push(Error::required(&Path::new("data"), "data is mandatory"));
    }
    not_negative(Some(revision.revision), &Path::new("revision"), &mut errors);
    errors
}

pub fn controller_revision_update(new: &ControllerRevision, old: &ControllerRevision) -> Errors {
    let mut errors = controller_revision(new);
    immutable(&new.data, &old.data, &Path::new("data"), &mut errors);
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    fn good() -> Value {
        json!({"metadata": {"name": "web"}, "spec": {
            "selector": {"matchLabels": {"app": "web"}}, "serviceName": "web", "updateStrategy": {},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}],
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
                {"name": "c", "image": "a", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}}}})
    }

    fn made(changes: &[(&str, Value)]) -> StatefulSet {
        let mut made = object(with(&good(), changes));
        crate::defaults::stateful_set(&mut made);
        made
    }

    #[test]
    fn each_rule_names_its_field() {
        let table = [
            (
                "/spec/podManagementPolicy",
                json!("Any"),
                "spec.podManagementPolicy: Invalid value: \"Any\": must be 'OrderedReady' or 'Parallel'",
            ),
            (
                "/spec/updateStrategy",
                json!({"type": "OnDelete", "rollingUpdate": {"partition": 1}}),
                "spec.updateStrategy.rollingUpdate: Invalid value: {\"Partition\":1,\"MaxUnavailable\":null}: only \
                 allowed for updateStrategy 'RollingUpdate'",
            ),
            (
                "/spec/updateStrategy",
                json!({"type": "X"}),
                "spec.updateStrategy: Invalid value: {\"Type\":\"X\",\"RollingUpdate\":null}: must be 'RollingUpdate' or \
                 'OnDelete'",
            ),
            (
                "/spec/updateStrategy",
                json!({"rollingUpdate": {"partition": -1}}),
                "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                "/spec/updateStrategy",
                json!({"rollingUpdate": {"maxUnavailable": 0}}),
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0",
            ),
            (
                "/spec/persistentVolumeClaimRetentionPolicy",
                json!({"whenDeleted": "Keep"}),
                "spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: \"Keep\": supported values: \
                 \"Retain\", \"Delete\"",
            ),
            ("/spec/replicas", json!(-1), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
            (
                "/spec/ordinals",
                json!({"start": -1}),
                "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
            ),
            ("/spec/selector", json!({}), "spec.selector: Required value"),
            (
                "/spec/selector/matchLabels",
                json!({"app": "x"}),
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match",
            ),
            (
                "/spec/template/spec/restartPolicy",
                json!("Never"),
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ),
            (
                "/spec/volumeClaimTemplates/0/spec/accessModes",
                json!([]),
                "spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required",
            ),
        ];
        assert_eq!(printed(stateful_set(&made(&[]))), Vec::<String>::new());
        for (pointer, value, expected) in table {
            let found = printed(stateful_set(&made(&[(pointer, value.clone())])));
            assert!(found.len() == 1 && found[0].starts_with(expected), "{pointer} = {value}: {found:?}");
        }
    }

    #[test]
    fn most_of_the_spec_never_changes() {
        let moved = made(&[("/spec/serviceName", json!("other"))]);
        assert_eq!(printed(stateful_set_update(&moved, &made(&[]))), [format!("spec: Forbidden: {ONLY}")]);
        let scaled = made(&[("/spec/replicas", json!(3)), ("/spec/ordinals", json!({"start": 1}))]);
        assert!(stateful_set_update(&scaled, &made(&[])).is_empty());
    }

    #[test]
    fn counts_in_a_status_agree() {
        let (mut new, mut old) = (made(&[]), made(&[]));
        old.status = object(json!({"replicas": 0, "collisionCount": 1}));
        new.status = object(json!({"replicas": 1, "readyReplicas": 2, "availableReplicas": 3}));
        assert_eq!(
            printed(stateful_set_status_update(&new, &old)),
            [
                "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
                "status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas",
                "status.availableReplicas: Invalid value: 3: cannot be greater than status.readyReplicas",
                "status.collisionCount: Invalid value: 0: cannot be decremented",
            ]
        );
    }

    #[test]
    fn a_revision_keeps_its_data() {
        let old: ControllerRevision = object(json!({"data": {"a": 1}, "revision": 1}));
        let new: ControllerRevision = object(json!({"data": {"a": 2}, "revision": -1}));
        assert!(controller_revision_update(&old, &old).is_empty());
        assert_eq!(
            printed(controller_revision_update(&new, &old)),
            [
                "revision: Invalid value: -1: must be greater than or equal to 0",
                "data: Invalid value: {\"a\":2}: field is immutable",
            ]
        );
        let without: ControllerRevision = object(json!({"revision": 1}));
        assert_eq!(printed(controller_revision(&without)), ["data: Required value: data is mandatory"]);
    }
}
