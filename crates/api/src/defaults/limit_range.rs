//! LimitRanges: limits of containers follow from each other.

use k8s_openapi::api::core::v1::LimitRange;

pub fn limit_range(range: &mut LimitRange) {
    let limits = range.spec.iter_mut().flat_map(|spec| &mut spec.limits);
    for item in limits.filter(|item| item.type_ == "Container") {
        let default = item.default.get_or_insert_default();
        for (name, most) in item.max.iter().flatten() {
            default.entry(name.clone()).or_insert_with(|| most.clone());
        }
        let request = item.default_request.get_or_insert_default();
        for (name, limit) in default.iter() {
            request.entry(name.clone()).or_insert_with(|| limit.clone());
        }
        for (name, least) in item.min.iter().flatten() {
            request.entry(name.clone()).or_insert_with(|| least.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_come_from_the_most_and_the_least() {
        let mut object: LimitRange = serde_json::from_value(json!({"spec": {"limits": [
            {"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi", "cpu": "1"}},
            {"type": "Pod", "max": {"cpu": "2"}}]}}))
        .expect("a range");
        limit_range(&mut object);
        let limits = serde_json::to_value(&object).expect("JSON")["spec"]["limits"].clone();
        assert_eq!(limits[0]["default"], json!({"cpu": "2"}));
        assert_eq!(limits[0]["defaultRequest"], json!({"cpu": "2", "memory": "1Mi"}));
        assert_eq!(limits[1], json!({"type": "Pod", "max": {"cpu": "2"}}));
    }
}
