//! Labels and label selectors inside specs.

use std::collections::BTreeMap;

use base_meta::field::{Error, Path};
use base_meta::names;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{Errors, formats};

/// A map used as labels: `spec.selector`, `nodeSelector`, a template's labels.
pub fn labels(labels: Option<&BTreeMap<String, String>>, path: &Path, errors: &mut Errors) {
    for (key, value) in labels.into_iter().flatten() {
        formats::invalid(path, key, names::qualified_name(key), errors);
        formats::invalid(path, value, names::label_value(value), errors);
    }
}

pub fn selector(selector: &LabelSelector, path: &Path, errors: &mut Errors) {
    requirements(selector, true, path, errors);
}

/// As [`selector`], but the values of its expressions may be any text: older servers let those in.
pub fn selector_of_any_values(selector: &LabelSelector, path: &Path, errors: &mut Errors) {
    requirements(selector, false, path, errors);
}

fn requirements(selector: &LabelSelector, judge_values: bool, path: &Path, errors: &mut Errors) {
    labels(selector.match_labels.as_ref(), &path.child("matchLabels"), errors);
    for (index, requirement) in selector.match_expressions.iter().flatten().enumerate() {
        let path = path.child("matchExpressions").index(index);
        let values = requirement.values.as_deref().unwrap_or_default();
        match requirement.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => errors
                .push(Error::required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'")),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(Error::forbidden(
                &path.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(Error::invalid(&path.child("operator"), other, "not a valid selector operator")),
        }
        formats::invalid(&path.child("key"), &requirement.key, names::qualified_name(&requirement.key), errors);
        for (index, value) in values.iter().enumerate().filter(|_| judge_values) {
            formats::invalid(&path.child("values").index(index), value, names::label_value(value), errors);
        }
    }
}

/// Selects nothing in particular: upstream refuses such a selector on workloads.
pub fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{object, printed};
    use super::*;

    #[test]
    fn requirements_are_checked() {
        let bad: LabelSelector = object(json!({"matchLabels": {"a b": "c"}, "matchExpressions": [
            {"key": "a", "operator": "In"}, {"key": "a", "operator": "Exists", "values": ["x"]},
            {"key": "a", "operator": "Like", "values": ["x"]}]}));
        let mut errors = Errors::new();
        selector(&bad, &Path::new("s"), &mut errors);
        let text = printed(errors);
        assert_eq!(text.len(), 4, "{text:?}");
        assert!(text[0].starts_with("s.matchLabels: Invalid value: \"a b\""));
        assert_eq!(
            text[1],
            "s.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
        );
        assert_eq!(text[3], "s.matchExpressions[2].operator: Invalid value: \"Like\": not a valid selector operator");
    }

    #[test]
    fn a_selector_without_requirements_is_empty() {
        assert!(is_empty(&LabelSelector::default()));
        assert!(is_empty(&object(json!({"matchLabels": {}, "matchExpressions": []}))));
        assert!(!is_empty(&object(json!({"matchLabels": {"a": "b"}}))));
    }
}
