//! ClusterRoles whose rules are those of others, chosen by label.

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::index::{Index, Key};

/// How often a role may be aggregated by one that is aggregated in turn.
const DEPTH: usize = 8;

/// Every aggregating role whose rules are not what its selectors say, with what they should be.
pub(super) fn plan(index: &Index) -> Vec<(String, Vec<PolicyRule>)> {
    let aggregating = index.cluster_roles.iter().filter(|(_, role)| !role.selectors.is_empty());
    let wanted = aggregating.map(|(name, role)| {
        let mut rules: Vec<PolicyRule> = Vec::new();
        for selector in &role.selectors {
            let chosen = index.cluster_roles.iter().filter(|(other, labelled)| {
                *other != name && selector.matches(|key| labelled.labels.get(key).map(String::as_str))
            });
            for (other, _) in chosen {
                for rule in index.rules(&Key::new("", other)).into_iter().flat_map(|rules| rules.iter()) {
                    if !rules.contains(rule) {
                        rules.push(rule.clone());
                    }
                }
            }
        }
        (name.to_string(), rules)
    });
    wanted.filter(|(name, rules)| index.rules(&Key::new("", name)).is_none_or(|have| **have != **rules)).collect()
}

/// Applies the plan until nothing changes: an aggregating role may itself be aggregated, as `view` is by `edit`.
pub(super) fn settle(index: &mut Index) -> Vec<String> {
    let mut changed = Vec::new();
    // Roles that aggregate each other in a circle need not settle: they go on changing at their watch's pace.
    for _ in 0..DEPTH {
        for (name, rules) in plan(index) {
            index.set_rules(Key::new("", &name), rules);
            changed.push(name);
        }
    }
    changed.sort();
    changed.dedup();
    changed
}
