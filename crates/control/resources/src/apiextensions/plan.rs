//! What a definition's status should say, from it and the names that others have. Pure.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionCondition, CustomResourceDefinitionNames,
};

use crate::define;

/// What one kind is called, in one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// Plural, singular and short names: what a path or a command may say.
    pub resources: Vec<String>,
    pub kinds: Vec<String>,
}

impl Names {
    pub(super) fn of(names: &CustomResourceDefinitionNames) -> Self {
        let short = names.short_names.iter().flatten();
        Self {
            resources: [Some(&names.plural), names.singular.as_ref()]
                .into_iter()
                .flatten()
                .chain(short)
                .cloned()
                .collect(),
            kinds: [Some(&names.kind), names.list_kind.as_ref()].into_iter().flatten().cloned().collect(),
        }
    }

    /// What of `wanted` is already in use here: `PluralConflict` and the like, and the name.
    fn conflict(&self, wanted: &CustomResourceDefinitionNames) -> Option<(&'static str, String)> {
        let taken = |name: &String| self.resources.contains(name);
        let kind = |name: &String| self.kinds.contains(name);
        let one = |reason, name: Option<&String>, taken: &dyn Fn(&String) -> bool| {
            name.filter(|name| taken(name)).map(|name| (reason, name.clone()))
        };
        one("PluralConflict", Some(&wanted.plural), &taken)
            .or_else(|| one("SingularConflict", wanted.singular.as_ref(), &taken))
            .or_else(|| one("ShortNamesConflict", wanted.short_names.iter().flatten().find(|name| taken(name)), &taken))
            .or_else(|| one("KindConflict", Some(&wanted.kind), &kind))
            .or_else(|| one("ListKindConflict", wanted.list_kind.as_ref(), &kind))
    }
}

/// The definition with its status as it should be. `others` are the names in use in its group.
pub(super) fn settled(object: &CustomResourceDefinition, others: &[Names]) -> CustomResourceDefinition {
    let mut new = object.clone();
    let names = &object.spec.names;
    let conflict = others.iter().find_map(|other| other.conflict(names));
    let served_before = is_true(object, "Established");
    match conflict {
        None => {
            new.status.get_or_insert_default().accepted_names = Some(names.clone());
            set_condition(&mut new, "NamesAccepted", true, "NoConflicts", "no conflicts found");
            set_condition(
                &mut new,
                "Established",
                true,
                "InitialNamesAccepted",
                "the initial names have been accepted",
            );
        }
        Some((reason, name)) => {
            let message = format!("{name:?} is already in use");
            set_condition(&mut new, "NamesAccepted", false, reason, &message);
            if !served_before {
                set_condition(&mut new, "Established", false, "NotAccepted", "not all names are accepted");
            }
        }
    }
    approval(&mut new);
    new
}

/// Groups of Kubernetes itself want a word from its reviewers.
fn approval(object: &mut CustomResourceDefinition) {
    const ANNOTATION: &str = "api-approved.kubernetes.io";
    let group = &object.spec.group;
    if !(group == "k8s.io"
        || group.ends_with(".k8s.io")
        || group == "kubernetes.io"
        || group.ends_with(".kubernetes.io"))
    {
        return;
    }
    let annotations = object.metadata.annotations.as_ref();
    let value = annotations.and_then(|annotations| annotations.get(ANNOTATION)).cloned().unwrap_or_default();
    let (approved, reason, message) = match value.as_str() {
        "" => (
            false,
            "MissingAnnotation",
            format!(
                "protected groups must have approval annotation {ANNOTATION:?}, see https://github.com/kubernetes/enhancements/pull/1111"
            ),
        ),
        text if text.starts_with("unapproved") => (false, "UnapprovedAnnotation", format!("not approved: {text:?}")),
        text if text.starts_with("https://") => (true, "ApprovedAnnotation", format!("approved in {text}")),
        text => (
            false,
            "InvalidAnnotation",
            format!(
                "protected groups must have approval annotation {ANNOTATION:?} with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111; got {text:?}"
            ),
        ),
    };
    set_condition(object, "KubernetesAPIApprovalPolicyConformant", approved, reason, &message);
}

pub(super) fn condition<'a>(
    object: &'a CustomResourceDefinition,
    kind: &str,
) -> Option<&'a CustomResourceDefinitionCondition> {
    object.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

pub(super) fn is_true(object: &CustomResourceDefinition, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition.status == "True")
}

/// The time changes only with the status.
pub(super) fn set_condition(
    object: &mut CustomResourceDefinition,
    kind: &str,
    status: bool,
    reason: &str,
    message: &str,
) {
    let status = if status { "True" } else { "False" };
    let observed = object.metadata.generation;
    let conditions = object.status.get_or_insert_default().conditions.get_or_insert_default();
    let known = conditions.iter_mut().find(|condition| condition.type_ == kind);
    if let Some(known) = known {
        if known.status != status {
            known.status = status.into();
            known.last_transition_time = Some(define::now());
        }
        known.reason = Some(reason.into());
        known.message = Some(message.into());
        known.observed_generation = known.observed_generation.and(observed);
        return;
    }
    conditions.push(CustomResourceDefinitionCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_transition_time: Some(define::now()),
        observed_generation: None,
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn definition(plural: &str, kind: &str) -> CustomResourceDefinition {
        serde_json::from_value(json!({
            "metadata": {"name": format!("{plural}.example.com")},
            "spec": {"group": "example.com", "scope": "Namespaced", "versions": [],
                "names": {"plural": plural, "kind": kind, "shortNames": ["ct"]}}
        }))
        .unwrap()
    }

    #[test]
    fn free_names_are_accepted() {
        let settled = settled(&definition("crontabs", "CronTab"), &[]);
        assert!(is_true(&settled, "NamesAccepted") && is_true(&settled, "Established"));
        assert_eq!(settled.status.as_ref().unwrap().accepted_names.as_ref().unwrap().plural, "crontabs");
        assert_eq!(super::settled(&settled, &[]), settled);
    }

    #[test]
    fn taken_names_are_not() {
        for (other, reason, message) in [
            (definition("crontabs", "Other"), "PluralConflict", "\"crontabs\" is already in use"),
            (definition("others", "CronTab"), "ShortNamesConflict", "\"ct\" is already in use"),
        ] {
            let settled = settled(&definition("crontabs", "CronTab"), &[Names::of(&other.spec.names)]);
            let accepted = condition(&settled, "NamesAccepted").unwrap();
            assert_eq!((accepted.status.as_str(), accepted.reason.as_deref()), ("False", Some(reason)));
            assert_eq!(accepted.message.as_deref(), Some(message));
            assert!(!is_true(&settled, "Established"));
        }
    }

    #[test]
    fn protected_groups_need_approval() {
        let mut object = definition("crontabs", "CronTab");
        object.spec.group = "x.k8s.io".into();
        let settled = settled(&object, &[]);
        assert_eq!(condition(&settled, "KubernetesAPIApprovalPolicyConformant").unwrap().status, "False");
    }
}
