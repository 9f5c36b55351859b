//! What a job makes of the ends of its pods: podFailurePolicy, successPolicy, podReplacementPolicy.

use std::collections::BTreeSet;

use base_meta::field::{BadValue, Error, Path};
use base_meta::names;
use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
    SuccessPolicy, SuccessPolicyRule,
};

use super::job::indexed;
use super::workload::not_negative;
use super::{Errors, formats, json, said};

const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const MAX_INDEXES_TEXT: usize = 64 * 1024;

pub(super) fn policies(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    if let Some(policy) = &spec.pod_failure_policy {
        let path = path.child("podFailurePolicy").child("rules");
        at_most(policy.rules.len(), MAX_RULES, &path, errors);
        for (index, rule) in policy.rules.iter().enumerate() {
            failure_rule(spec, rule, &path.index(index), errors);
        }
    }
    if let Some(policy) = &spec.success_policy {
        let path = path.child("successPolicy");
        if indexed(spec) {
            success(spec, policy, &path, errors);
        } else {
            let shown = BadValue::json(format!("{{\"Rules\":{}}}", rules_as_go(policy)));
            errors.push(Error::invalid(&path, shown, "requires indexed completion mode"));
        }
    }
    if let Some(policy) = &spec.pod_replacement_policy {
        let supported: &[&str] =
            if spec.pod_failure_policy.is_some() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        if !supported.contains(&policy.as_str()) {
            errors.push(Error::not_supported(&path.child("podReplacementPolicy"), policy, supported));
        }
    }
}

/// Upstream prints its internal type, whose members have Go's names.
fn rules_as_go(policy: &SuccessPolicy) -> String {
    let rule = |rule: &SuccessPolicyRule| {
        let (indexes, count) = (json(&rule.succeeded_indexes), json(&rule.succeeded_count));
        format!("{{\"SucceededIndexes\":{indexes},\"SucceededCount\":{count}}}")
    };
    format!("[{}]", policy.rules.iter().map(rule).collect::<Vec<_>>().join(","))
}

fn at_most(count: usize, most: usize, path: &Path, errors: &mut Errors) {
    if count > most {
        let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
        errors.push(Error::too_many(path, number(count), number(most)));
    }
}

/// A choice without a default.
fn choice(value: &str, supported: &[&str], path: &Path, errors: &mut Errors) {
    if value.is_empty() {
        let list: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        errors.push(Error::required(path, format!("valid values: [{}]", list.join(" "))));
    } else if !supported.contains(&value) {
        errors.push(Error::not_supported(path, value, supported));
    }
}

fn failure_rule(spec: &JobSpec, rule: &PodFailurePolicyRule, path: &Path, errors: &mut Errors) {
    let action = path.child("action");
    if rule.action == "FailIndex" {
        if spec.backoff_limit_per_index.is_none() {
            errors.push(Error::invalid(&action, &rule.action, "requires the backoffLimitPerIndex to be set"));
        }
    } else {
        choice(&rule.action, &["Count", "FailIndex", "FailJob", "Ignore"], &action, errors);
    }
    if let Some(codes) = &rule.on_exit_codes {
        exit_codes(spec, codes, &path.child("onExitCodes"), errors);
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    pod_conditions(patterns, &path.child("onPodConditions"), errors);
    let problem = match (&rule.on_exit_codes, patterns.is_empty()) {
        (Some(_), false) => "specifying both OnExitCodes and OnPodConditions is not supported",
        (None, true) => "specifying one of OnExitCodes and OnPodConditions is required",
        _ => return,
    };
    errors.push(Error { value: None, ..Error::invalid(path, "", problem) });
}

fn pod_conditions(patterns: &[PodFailurePolicyOnPodConditionsPattern], path: &Path, errors: &mut Errors) {
    at_most(patterns.len(), MAX_RULES, path, errors);
    for (index, pattern) in patterns.iter().enumerate() {
        let path = path.index(index);
        formats::invalid(&path.child("type"), &pattern.type_, names::qualified_name(&pattern.type_), errors);
        choice(said(&pattern.status), &["False", "True", "Unknown"], &path.child("status"), errors);
    }
}

fn exit_codes(spec: &JobSpec, codes: &PodFailurePolicyOnExitCodesRequirement, path: &Path, errors: &mut Errors) {
    choice(&codes.operator, &["In", "NotIn"], &path.child("operator"), errors);
    if let Some(name) = &codes.container_name {
        let pod = spec.template.spec.as_ref();
        let init = pod.and_then(|pod| pod.init_containers.as_ref()).into_iter().flatten();
        let known = pod.into_iter().flat_map(|pod| &pod.containers).chain(init).any(|known| known.name == *name);
        if !known {
            let message = "must be one of the container or initContainer names in the pod template";
            errors.push(Error::invalid(&path.child("containerName"), name, message));
        }
    }
    let path = path.child("values");
    if codes.values.is_empty() {
        errors.push(Error::invalid(&path, &json(&codes.values), "at least one value is required"));
    }
    at_most(codes.values.len(), MAX_EXIT_CODES, &path, errors);
    let mut seen = BTreeSet::new();
    for (index, code) in codes.values.iter().enumerate() {
        if codes.operator == "In" && *code == 0 {
            errors.push(Error::invalid(&path.index(index), *code, "must not be 0 for the In operator"));
        }
        if !seen.insert(*code) {
            errors.push(Error::duplicate(&path.index(index), *code));
        }
    }
    if !codes.values.is_sorted() {
        errors.push(Error::invalid(&path, &json(&codes.values), "must be ordered"));
    }
}

fn success(spec: &JobSpec, policy: &SuccessPolicy, path: &Path, errors: &mut Errors) {
    let path = path.child("rules");
    if policy.rules.is_empty() {
        let message = "at least one rules must be specified when the successPolicy is specified";
        errors.push(Error::required(&path, message));
    }
    at_most(policy.rules.len(), MAX_RULES, &path, errors);
    let Some(completions) = spec.completions else { return };
    for (index, rule) in policy.rules.iter().enumerate() {
        success_rule(rule, completions, &path.index(index), errors);
    }
}

fn success_rule(rule: &SuccessPolicyRule, completions: i32, path: &Path, errors: &mut Errors) {
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        let message = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(Error::required(path, message));
    }
    let mut total = 0;
    if let Some(indexes) = &rule.succeeded_indexes {
        let path = path.child("succeededIndexes");
        if indexes.len() > MAX_INDEXES_TEXT {
            errors.push(Error::too_long(&path, MAX_INDEXES_TEXT));
        }
        match parse_indexes(indexes, completions) {
            Ok(intervals) => total = intervals.iter().map(|(first, last)| last - first + 1).sum(),
            Err(problem) => {
                errors.push(Error::invalid(&path, indexes, format!("error parsing succeededIndexes: {problem}")));
            }
        }
    }
    if let Some(count) = rule.succeeded_count {
        let path = path.child("succeededCount");
        not_negative(Some(count), &path, errors);
        if count > completions {
            let message = format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.push(Error::invalid(&path, count, message));
        }
        if rule.succeeded_indexes.is_some() && count > total {
            let message = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            errors.push(Error::invalid(&path, count, message));
        }
    }
}

/// `0,2-4` as intervals in order; each below `completions`.
pub(super) fn parse_indexes(text: &str, completions: i32) -> Result<Vec<(i32, i32)>, String> {
    let mut intervals: Vec<(i32, i32)> = Vec::new();
    if text.is_empty() {
        return Ok(intervals);
    }
    for part in text.split(',') {
        let parts: Vec<&str> = part.split('-').collect();
        let parse = |text: &str| {
            text.parse::<i32>().map_err(|_| format!("cannot convert string to integer for index: {text:?}"))
        };
        let within = |index: i32, text: &str| {
            if index >= completions { Err(format!("too large index: {text:?}")) } else { Ok(index) }
        };
        let (first, last) = match parts[..] {
            [one] => {
                let index = within(parse(one)?, one)?;
                (index, index)
            }
            [first, last] => {
                let (low, high) = (parse(first)?, parse(last)?);
                let (low, high) = (within(low, first)?, within(high, last)?);
                if low >= high {
                    return Err(format!("non-increasing order, previous: {low}, current: {high}"));
                }
                (low, high)
            }
            _ => {
                return Err(format!(
                    "the fragment {part:?} violates the requirement that an index interval can have \
                                    at most two parts separated by '-'"
                ));
            }
        };
        if let Some((_, previous)) = intervals.last()
            && *previous >= first
        {
            return Err(format!("non-increasing order, previous: {previous}, current: {first}"));
        }
        intervals.push((first, last));
    }
    Ok(intervals)
}
