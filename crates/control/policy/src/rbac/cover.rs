//! Whether some rules grant all that others do: nobody grants what it does not hold.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::matching::{each, has, path_fits};

/// What of `wanted` no rule of `held` grants, in rules of one verb on one thing.
pub(super) fn missing(held: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    let atoms = wanted.iter().flat_map(atoms);
    atoms.filter(|atom| !held.iter().any(|rule| covers(rule, atom))).collect()
}

/// One verb on one resource, one object of it, or one path.
fn atoms(rule: &PolicyRule) -> Vec<PolicyRule> {
    let mut all = Vec::new();
    let one = |text: &str| Some(vec![text.to_owned()]);
    for group in each(rule.api_groups.as_ref()) {
        for resource in each(rule.resources.as_ref()) {
            for verb in &rule.verbs {
                let atom = PolicyRule {
                    api_groups: one(group),
                    resources: one(resource),
                    verbs: vec![verb.clone()],
                    ..PolicyRule::default()
                };
                match rule.resource_names.as_deref().unwrap_or_default() {
                    [] => all.push(atom),
                    names => {
                        all.extend(names.iter().map(|name| PolicyRule { resource_names: one(name), ..atom.clone() }));
                    }
                }
            }
        }
    }
    for path in each(rule.non_resource_urls.as_ref()) {
        for verb in &rule.verbs {
            all.push(PolicyRule { non_resource_urls: one(path), verbs: vec![verb.clone()], ..PolicyRule::default() });
        }
    }
    all
}

fn covers(held: &PolicyRule, atom: &PolicyRule) -> bool {
    let verbs = atom.verbs.iter().all(|verb| has(Some(&held.verbs), verb));
    let groups = each(atom.api_groups.as_ref()).all(|group| has(held.api_groups.as_ref(), group));
    let resources = each(atom.resources.as_ref()).all(|wanted| {
        let of_any = |pattern: &str| {
            let subresource = pattern.strip_prefix("*/");
            subresource.is_some_and(|sub| wanted.split_once('/').is_some_and(|(_, asked)| asked == sub))
        };
        has(held.resources.as_ref(), wanted) || each(held.resources.as_ref()).any(of_any)
    });
    let names = match (each(held.resource_names.as_ref()).next(), each(atom.resource_names.as_ref()).next()) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(_), Some(name)) => each(held.resource_names.as_ref()).any(|held| held == name),
    };
    let paths = each(atom.non_resource_urls.as_ref())
        .all(|path| each(held.non_resource_urls.as_ref()).any(|pattern| path_fits(pattern, path)));
    verbs && groups && resources && names && paths
}

/// Rules of one resource with one set of names become one rule of all their verbs.
pub(crate) fn compact(rules: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut all: Vec<PolicyRule> = Vec::new();
    for rule in rules {
        let single = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| list.len() == 1);
        let few = |list: &Option<Vec<String>>| list.as_ref().is_none_or(|list| list.len() <= 1);
        let simple = single(&rule.api_groups)
            && single(&rule.resources)
            && few(&rule.resource_names)
            && rule.non_resource_urls.as_ref().is_none_or(Vec::is_empty);
        let same = |other: &&mut PolicyRule| {
            simple
                && (&other.api_groups, &other.resources, &other.resource_names)
                    == (&rule.api_groups, &rule.resources, &rule.resource_names)
        };
        match all.iter_mut().find(same) {
            Some(found) => found.verbs.extend(rule.verbs),
            None => all.push(rule),
        }
    }
    all
}

/// As upstream prints rules in refusals, sorted, one a line.
pub(super) fn describe(rules: Vec<PolicyRule>) -> String {
    let lines: BTreeSet<String> = compact(rules).iter().map(line).collect();
    lines.into_iter().collect::<Vec<_>>().join("\n")
}

fn line(rule: &PolicyRule) -> String {
    let parts = [
        ("APIGroups", rule.api_groups.as_deref()),
        ("Resources", rule.resources.as_deref()),
        ("NonResourceURLs", rule.non_resource_urls.as_deref()),
        ("ResourceNames", rule.resource_names.as_deref()),
        ("Verbs", Some(rule.verbs.as_slice())),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter_map(|(name, values)| values.filter(|values| !values.is_empty()).map(|values| (name, values)))
        .map(|(name, values)| {
            let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
            format!("{name}:[{}]", quoted.join(" "))
        })
        .collect();
    format!("{{{}}}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rules(value: Value) -> Vec<PolicyRule> {
        serde_json::from_value(value).expect("rules")
    }

    fn on(verbs: &[&str], groups: &[&str], resources: &[&str]) -> Value {
        json!({"verbs": verbs, "apiGroups": groups, "resources": resources})
    }

    #[test]
    fn nobody_grants_what_it_does_not_hold() {
        let held = rules(json!([on(&["get", "list"], &[""], &["pods", "*/scale"])]));
        let table = [
            (json!([on(&["get"], &[""], &["pods"])]), ""),
            (json!([on(&["get"], &[""], &["x/scale"])]), ""),
            (
                json!([on(&["get", "delete", "watch"], &["", "apps"], &["pods"])]),
                "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\" \"watch\"]}\n\
                 {APIGroups:[\"apps\"], Resources:[\"pods\"], Verbs:[\"get\" \"delete\" \"watch\"]}",
            ),
            (json!([on(&["*"], &["*"], &["*"])]), "{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}"),
            (json!([{"verbs": ["get"], "nonResourceURLs": ["/x"]}]), "{NonResourceURLs:[\"/x\"], Verbs:[\"get\"]}"),
        ];
        for (wanted, expected) in table {
            assert_eq!(describe(missing(&held, &rules(wanted.clone()))), expected, "{wanted}");
        }
    }

    #[test]
    fn names_narrow() {
        let mut named = on(&["get"], &[""], &["secrets"]);
        named["resourceNames"] = json!(["a", "b"]);
        let all = rules(json!([on(&["get"], &[""], &["secrets"])]));
        let some = rules(json!([named]));
        assert_eq!(missing(&all, &some), []);
        assert_eq!(missing(&some, &all).len(), 1);
        named["resourceNames"] = json!(["b", "c"]);
        assert_eq!(
            describe(missing(&some, &rules(json!([named])))),
            "{APIGroups:[\"\"], Resources:[\"secrets\"], ResourceNames:[\"c\"], Verbs:[\"get\"]}"
        );
    }
}
