//! LimitRanges: within each item, what is least, most and default must agree.

use std::collections::{BTreeMap, BTreeSet};

use base_meta::field::{Error, Path};
use base_meta::names;
use base_meta::quantity::Quantity;
use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::{Errors, formats, resources};

type List<'a> = Option<&'a BTreeMap<String, Text>>;

pub fn limit_range(range: &LimitRange) -> Errors {
    let mut errors = Errors::new();
    let mut seen = BTreeSet::new();
    let path = Path::new("spec").child("limits");
    for (index, item) in range.spec.iter().flat_map(|spec| &spec.limits).enumerate() {
        let path = path.index(index);
        kind(&item.type_, &path.child("type"), &mut errors);
        if !seen.insert(&item.type_) {
            errors.push(Error::duplicate(&path.child("type"), &item.type_));
        }
        names_of(item, &path, &mut errors);
        let pod = item.type_ == "Pod";
        let unless_pod = |list: &'_ Option<BTreeMap<String, Text>>| if pod { None } else { list.clone() };
        let (default, request) = (unless_pod(&item.default), unless_pod(&item.default_request));
        let lists: [List<'_>; 5] = [
            item.min.as_ref(),
            item.max.as_ref(),
            default.as_ref(),
            request.as_ref(),
            item.max_limit_request_ratio.as_ref(),
        ];
        let keys: BTreeSet<&String> = lists.iter().flat_map(|list| list.iter().flat_map(|list| list.keys())).collect();
        for key in keys {
            agree(key, lists.map(|list| amount(list, key)), &path, &mut errors);
        }
    }
    errors
}

fn kind(kind: &str, path: &Path, errors: &mut Errors) {
    let problems = names::qualified_name(kind);
    let standard = kind.contains('/') || matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim");
    if problems.is_empty() && !standard {
        errors.push(Error::invalid(path, kind, "must be a standard limit type or fully qualified"));
    }
    formats::invalid(path, kind, problems, errors);
}

fn names_of(item: &LimitRangeItem, path: &Path, errors: &mut Errors) {
    let of_pods = matches!(item.type_.as_str(), "Pod" | "Container");
    let check = |list: List<'_>, name: &str, errors: &mut Errors| {
        for key in list.into_iter().flatten().map(|(key, _)| key) {
            resources::name(key, of_pods, &path.child(name).key(key), errors);
        }
    };
    check(item.max.as_ref(), "max", errors);
    check(item.min.as_ref(), "min", errors);
    for (name, list) in [("default", &item.default), ("defaultRequest", &item.default_request)] {
        if item.type_ != "Pod" {
            check(list.as_ref(), name, errors);
        } else if list.as_ref().is_some_and(|list| !list.is_empty()) {
            errors.push(Error::forbidden(&path.child(name), "may not be specified when `type` is 'Pod'"));
        }
    }
    let says_storage = |list: List<'_>| list.is_some_and(|list| list.contains_key("storage"));
    if item.type_ == "PersistentVolumeClaim" && !says_storage(item.min.as_ref()) && !says_storage(item.max.as_ref()) {
        let message = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(Error::required(&path.child("limits"), message));
    }
    check(item.max_limit_request_ratio.as_ref(), "maxLimitRequestRatio", errors);
}

/// As it is written, and as a number.
type Amount<'a> = Option<(&'a str, Quantity)>;

fn amount<'a>(list: List<'a>, key: &str) -> Amount<'a> {
    let text = list?.get(key)?.0.as_str();
    Some((text, text.parse().ok()?))
}

fn agree(key: &str, [min, max, default, request, ratio]: [Amount<'_>; 5], path: &Path, errors: &mut Errors) {
    // The smaller, what it is called, the greater, what that is called, the field and the value that are shown.
    let mut above =
        |low: Amount<'_>, low_name: &str, high: Amount<'_>, high_name: &str, field: &str, shows_low: bool| {
            if let (Some((low, low_amount)), Some((high, high_amount))) = (low, high)
                && low_amount > high_amount
            {
                let message = format!("{low_name} value {low} is greater than {high_name} value {high}");
                errors.push(Error::invalid(&path.child(field).key(key), if shows_low { low } else { high }, message));
            }
        };
    above(min, "min", max, "max", "min", true);
    above(min, "min", request, "default request", "defaultRequest", false);
    above(request, "default request", max, "max", "defaultRequest", true);
    above(request, "default request", default, "default limit", "defaultRequest", true);
    above(min, "min", default, "default", "default", true);
    above(default, "default", max, "max", "default", false);
    if let Some((text, amount)) = ratio {
        let path = path.child("maxLimitRequestRatio").key(key);
        if amount.milli_value() < 1000 {
            errors.push(Error::invalid(&path, text, format!("ratio {text} is less than 1")));
        }
        if let (Some((_, min)), Some((_, max))) = (min, max) {
            #[allow(clippy::cast_precision_loss, reason = "upstream compares as float64")]
            let (most, asked) =
                (max.milli_value() as f64 / min.milli_value() as f64, amount.milli_value() as f64 / 1000.0);
            if asked > most {
                errors.push(Error::invalid(&path, text, format!("ratio {text} is greater than max/min = {most:.6}")));
            }
        }
    }
    if let (Some((limit, limit_amount)), Some((request, request_amount))) = (default, request)
        && !resources::may_overcommit(key)
        && limit_amount != request_amount
    {
        let message = format!("default value {limit} must equal to defaultRequest value {request} in {key}");
        errors.push(Error::invalid(&path.child("defaultRequest").key(key), request, message));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed};
    use super::*;

    fn problems(items: Value) -> Vec<String> {
        let mut range: LimitRange = object(json!({"metadata": {"name": "l"}, "spec": {"limits": items}}));
        crate::defaults::limit_range(&mut range);
        printed(limit_range(&range))
    }

    #[test]
    fn each_rule_names_its_field() {
        let table = [
            (
                json!([{"type": "Node", "max": {"cpu": "1"}}]),
                "spec.limits[0].type: Invalid value: \"Node\": must be a standard limit type or fully qualified",
            ),
            (
                json!([{"type": "Pod", "max": {"cpu": "1"}}, {"type": "Pod", "max": {"cpu": "1"}}]),
                "spec.limits[1].type: Duplicate value: \"Pod\"",
            ),
            (
                json!([{"type": "Pod", "max": {"storage": "1"}}]),
                "spec.limits[0].max[storage]: Invalid value: \"storage\": must be a standard resource for containers",
            ),
            (
                json!([{"type": "Pod", "default": {"cpu": "1"}}]),
                "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
            ),
            (
                json!([{"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]),
                "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
            ),
            (
                json!([{"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "2"}}]),
                "spec.limits[0].defaultRequest[cpu]: Invalid value: \"2\": default request value 2 is greater than \
                 default limit value 1",
            ),
            (
                json!([{"type": "PersistentVolumeClaim"}]),
                "spec.limits[0].limits: Required value: either minimum or maximum storage value is required",
            ),
            (
                json!([{"type": "Pod", "maxLimitRequestRatio": {"cpu": "800m"}}]),
                "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"800m\": ratio 800m is less than 1",
            ),
            (
                json!([{"type": "Pod", "min": {"cpu": "1"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "3"}}]),
                "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = \
                 2.000000",
            ),
        ];
        let good = json!([{"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1"}, "default": {"memory": "1Gi"}},
            {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}]);
        assert_eq!(problems(good), Vec::<String>::new());
        for (items, expected) in table {
            let found = problems(items.clone());
            assert!(found.len() == 1 && found[0].starts_with(expected), "{items}: {found:?}");
        }
    }
}
