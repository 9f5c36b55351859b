//! Pure: which kinds have to be looked at to recount a quota, and what its status is to say.

use std::collections::BTreeSet;

use api::quota::{self, Amounts, Kind, amounts_of};
use base_meta::quantity::{Format, Quantity};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// What a namespace has of one kind.
pub enum Found {
    /// Of kinds whose objects are measured.
    Objects(Vec<Value>),
    /// Of the others their number is enough.
    Count(u64),
}

/// The kinds that the quota constrains.
pub fn kinds(quota: &Value) -> BTreeSet<Kind> {
    hard(quota).keys().filter_map(|name| quota::kind_of(name)).collect()
}

fn hard(quota: &Value) -> Amounts {
    amounts_of(quota.pointer("/spec/hard"))
}

/// The status as it should be. A kind that is not in `found` could not be looked at: what was said of it before stays.
pub fn status(quota: &Value, found: &[(Kind, Found)], now: Timestamp) -> Value {
    let hard = hard(quota);
    let mut used = amounts_of(quota.pointer("/status/used"));
    used.retain(|name, _| hard.contains_key(name));
    for name in hard.keys() {
        let Some(kind) = quota::kind_of(name) else { continue };
        let Some((_, found)) = found.iter().find(|(looked_at, _)| *looked_at == kind) else { continue };
        let sum = match found {
            Found::Count(count) => Quantity::from_value(i64::try_from(*count).unwrap_or(i64::MAX), Format::DecimalSi),
            Found::Objects(objects) => objects
                .iter()
                .filter(|object| quota::in_scope(&kind, quota, object))
                .filter_map(|object| quota::usage(&kind, object, now).remove(name))
                .sum(),
        };
        used.insert(name.clone(), sum);
    }
    let print = |amounts: &Amounts| -> Map<String, Value> {
        amounts.iter().map(|(name, amount)| (name.clone(), amount.to_string().into())).collect()
    };
    json!({ "hard": print(&hard), "used": print(&used) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(cpu: &str, phase: &str) -> Value {
        json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}, "status": {"phase": phase}})
    }

    fn at() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    #[test]
    fn what_is_used_is_what_there_is() {
        let hard =
            json!({"cpu": "2", "pods": "5", "count/pods": "9", "configmaps": "3", "count/gone.example.com": "1"});
        let quota = json!({"spec": {"hard": hard},
            "status": {"hard": {"cpu": "1"}, "used": {"cpu": "7", "secrets": "1", "count/gone.example.com": "1"}}});
        let pods = vec![pod("500m", "Running"), pod("1", "Pending"), pod("4", "Succeeded")];
        let found = [(Kind::new("", "pods"), Found::Objects(pods)), (Kind::new("", "configmaps"), Found::Count(2))];
        let status = status(&quota, &found, at());
        assert_eq!(status["hard"], hard);
        assert_eq!(
            status["used"],
            json!({"cpu": "1500m", "pods": "2", "count/pods": "3", "configmaps": "2", "count/gone.example.com": "1"})
        );
        assert_eq!(kinds(&quota).len(), 3);
        let settled = json!({"spec": {"hard": hard}, "status": status});
        assert_eq!(super::status(&settled, &found, at()), status);
    }

    #[test]
    fn only_what_is_in_scope_counts() {
        let quota = json!({"spec": {"hard": {"pods": "5"}, "scopes": ["BestEffort"]}});
        let pods = vec![pod("1", "Running"), json!({"spec": {"containers": [{"name": "c"}]}})];
        let found = [(Kind::new("", "pods"), Found::Objects(pods))];
        assert_eq!(status(&quota, &found, at())["used"], json!({"pods": "1"}));
    }

    #[test]
    fn a_quota_of_nothing_has_a_status_too() {
        let quota = json!({"spec": {"hard": {}}});
        assert_eq!(status(&quota, &[], at()), json!({"hard": {}, "used": {}}));
    }
}
