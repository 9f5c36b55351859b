//! What other servers tell of their versions in OpenAPI v2, taken into this server's document.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

const DEFINITION: &str = "#/definitions/";
/// Differs where a server shows one type for several kinds.
const KINDS: &str = "x-kubernetes-group-version-kind";

/// Takes from `other` the paths at and below `prefix`, and the definitions that these stand on. What `own` has stays: another
/// definition of the same name is renamed, as upstream does.
pub(super) fn merge(own: &mut Value, prefix: &str, other: &Value) {
    let (Some(paths), Some(definitions)) = (other["paths"].as_object(), other["definitions"].as_object()) else {
        return;
    };
    let below = |path: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let paths: Vec<(&String, &Value)> = paths.iter().filter(|(path, _)| below(path)).collect();
    let mut needed = BTreeSet::new();
    paths.iter().for_each(|(_, path)| reach(path, definitions, &mut needed));
    let Some(have) = own["definitions"].as_object_mut() else { return };
    let mut names = BTreeMap::new();
    for name in needed {
        let theirs = &definitions[name];
        let alike = |name: &str| have.get(name).is_some_and(|ours| same(ours, theirs));
        let versions = (2..).map(|version| format!("{name}_v{version}"));
        let mut candidates = std::iter::once(name.to_owned()).chain(versions);
        let as_is = candidates.find(|candidate| alike(candidate) || !have.contains_key(candidate));
        names.insert(name, as_is.unwrap_or_else(|| name.to_owned()));
    }
    for (name, known_as) in &names {
        if !have.contains_key(known_as) {
            have.insert(known_as.clone(), renamed(&definitions[*name], &names));
        }
    }
    let Some(have) = own["paths"].as_object_mut() else { return };
    for (path, item) in paths {
        if !have.contains_key(path) {
            have.insert(path.clone(), renamed(item, &names));
        }
    }
}

fn definition(value: &Value) -> Option<&str> {
    value.as_str()?.strip_prefix(DEFINITION)
}

/// Every definition that is named in `value`, and in those.
fn reach<'a>(value: &'a Value, definitions: &'a Map<String, Value>, found: &mut BTreeSet<&'a str>) {
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(members) => {
                let named = members.get("$ref").and_then(definition);
                if let Some((name, next)) = named.and_then(|name| definitions.get_key_value(name))
                    && found.insert(name)
                {
                    open.push(next);
                }
                open.extend(members.values());
            }
            _ => {}
        }
    }
}

fn same(ours: &Value, theirs: &Value) -> bool {
    let (Some(ours), Some(theirs)) = (ours.as_object(), theirs.as_object()) else { return ours == theirs };
    let content = |of: &Map<String, Value>| of.iter().filter(|(name, _)| *name != KINDS).count();
    content(ours) == content(theirs)
        && ours.iter().filter(|(name, _)| *name != KINDS).all(|(name, value)| theirs.get(name) == Some(value))
}

fn renamed(value: &Value, names: &BTreeMap<&str, String>) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| renamed(item, names)).collect(),
        Value::Object(members) => {
            let each = members.iter().map(|(name, value)| {
                let other = definition(value).filter(|_| name == "$ref").and_then(|name| names.get(name));
                let value = other.map_or_else(|| renamed(value, names), |other| format!("{DEFINITION}{other}").into());
                (name.clone(), value)
            });
            Value::Object(each.collect())
        }
        scalar => scalar.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn to(name: &str) -> Value {
        json!({ "$ref": format!("{DEFINITION}{name}") })
    }

    #[test]
    fn a_versions_paths_and_what_they_stand_on_are_taken_over() {
        let meta = json!({"type": "object", "properties": {"name": {"type": "string"}}});
        let mut own = json!({"paths": {"/apis/a/v1": {"get": 1}},
            "definitions": {"Meta": meta, "Time": {"type": "string"}, "Kept": {"type": "object", KINDS: [{"kind": "A"}]}}});
        let flunder =
            json!({"properties": {"metadata": to("Meta"), "when": to("Time"), "more": {"items": to("Loop")}}});
        let other = json!({
            "paths": {
                "/apis/a/v1": {"get": 2}, "/apis/b/v1": {"get": to("Flunder")}, "/apis/b/v1/flunders": {"post": to("Kept")},
                "/apis/b/v10": {"get": to("Unused")}, "/healthz": {}
            },
            "definitions": {
                "Meta": meta, "Time": {"type": "string", "format": "date-time"}, "Flunder": flunder, "Loop": to("Loop"),
                "Kept": {"type": "object", KINDS: [{"kind": "B"}]}, "Unused": {}
            }
        });
        merge(&mut own, "/apis/b/v1", &other);
        let paths: Vec<&String> = own["paths"].as_object().expect("paths").keys().collect();
        assert_eq!(paths, ["/apis/a/v1", "/apis/b/v1", "/apis/b/v1/flunders"]);
        assert_eq!(own["paths"]["/apis/a/v1"]["get"], 1);
        let names: Vec<&String> = own["definitions"].as_object().expect("definitions").keys().collect();
        assert_eq!(names, ["Flunder", "Kept", "Loop", "Meta", "Time", "Time_v2"]);
        assert_eq!(own["definitions"]["Flunder"]["properties"]["when"], to("Time_v2"));
        assert_eq!(own["definitions"]["Kept"][KINDS], json!([{"kind": "A"}]));
    }

    #[test]
    fn what_is_no_document_adds_nothing() {
        let own = json!({"paths": {}, "definitions": {}});
        for odd in [
            json!(null),
            json!([]),
            json!({"paths": [], "definitions": {}}),
            json!({"paths": {"/apis/b/v1": to("Gone")}, "definitions": {}}),
        ] {
            let mut merged = own.clone();
            merge(&mut merged, "/apis/b/v1", &odd);
            assert_eq!(merged["definitions"], json!({}), "{odd}");
        }
    }
}
