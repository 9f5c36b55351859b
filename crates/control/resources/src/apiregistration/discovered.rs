//! What an aggregated server says it has, read from its `APIResourceList` into the form of aggregated discovery. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The `resources` of one version; entries that make no sense are left out.
pub(super) fn resources(list: &Value) -> Value {
    let entries: Vec<&Value> = list["resources"].as_array().into_iter().flatten().collect();
    let name = |entry: &Value| entry["name"].as_str().unwrap_or("").to_owned();
    let mut below: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut parents: Vec<String> = Vec::new();
    for entry in &entries {
        let name = name(entry);
        let (parent, subresource) = name.split_once('/').map_or((&*name, None), |(parent, sub)| (parent, Some(sub)));
        if parent.is_empty() {
            continue;
        }
        if !parents.iter().any(|known| known == parent) {
            parents.push(parent.to_owned());
        }
        if let Some(subresource) = subresource {
            let mut shown = json!({"subresource": subresource, "responseKind": response_kind(entry),
                "verbs": verbs(entry)});
            if entry["kind"].as_str().is_none_or(str::is_empty) {
                shown.as_object_mut().map(|shown| shown.remove("responseKind"));
            }
            below.entry(parent.to_owned()).or_default().push(shown);
        }
    }
    let shown = parents.iter().filter_map(|parent| {
        let own = entries.iter().find(|entry| name(entry) == *parent);
        let mut shown = match own {
            Some(entry) => own_entry(parent, entry),
            // Only something below it is served; its scope is that of what is.
            None => {
                let any = entries.iter().find(|entry| name(entry).starts_with(&format!("{parent}/")))?;
                json!({"resource": parent, "scope": scope(any), "singularResource": "", "verbs": []})
            }
        };
        if let Some(below) = below.get(parent) {
            shown["subresources"] = below.clone().into();
        }
        Some(shown)
    });
    shown.collect()
}

fn own_entry(name: &str, entry: &Value) -> Value {
    let mut shown = json!({"resource": name, "responseKind": response_kind(entry), "scope": scope(entry),
        "singularResource": entry["singularName"].as_str().unwrap_or(""), "verbs": verbs(entry)});
    for list in ["shortNames", "categories"] {
        if entry[list].as_array().is_some_and(|list| !list.is_empty()) {
            shown[list] = entry[list].clone();
        }
    }
    shown
}

fn scope(entry: &Value) -> &'static str {
    if entry["namespaced"] == true { "Namespaced" } else { "Cluster" }
}

fn verbs(entry: &Value) -> Value {
    if entry["verbs"].is_array() { entry["verbs"].clone() } else { json!([]) }
}

/// Group and version are those of the list where the entry says none, and then left out.
fn response_kind(entry: &Value) -> Value {
    let text = |field: &str| entry[field].as_str().unwrap_or("");
    json!({"group": text("group"), "version": text("version"), "kind": text("kind")})
}

/// The hash in an index of OpenAPI v3 of the document of `group` and `version`.
pub(super) fn openapi_hash(index: &Value, group: &str, version: &str) -> Option<String> {
    let url = index["paths"][format!("apis/{group}/{version}")]["serverRelativeURL"].as_str()?;
    let (_, query) = url.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix("hash=")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_becomes_discovery() {
        let list = json!({"kind": "APIResourceList", "resources": [
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get", "list"],
                "shortNames": ["fl"], "categories": []},
            {"name": "flunders/status", "singularName": "", "namespaced": true, "kind": "Flunder", "verbs": ["get"]},
            {"name": "nodes/scale", "namespaced": false, "group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["get"]},
            {"name": "", "verbs": []}, {"verbs": 1}, 7]});
        assert_eq!(
            resources(&list),
            json!([
                {"resource": "flunders", "responseKind": {"group": "", "version": "", "kind": "Flunder"}, "scope": "Namespaced",
                    "singularResource": "flunder", "verbs": ["get", "list"], "shortNames": ["fl"],
                    "subresources": [{"subresource": "status", "verbs": ["get"],
                        "responseKind": {"group": "", "version": "", "kind": "Flunder"}}]},
                {"resource": "nodes", "scope": "Cluster", "singularResource": "", "verbs": [],
                    "subresources": [{"subresource": "scale", "verbs": ["get"],
                        "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}}]},
            ])
        );
        for odd in [json!(null), json!({"resources": {}}), json!({"resources": [null]})] {
            assert_eq!(resources(&odd), json!([]), "{odd}");
        }
    }

    #[test]
    fn an_index_names_documents_by_hash() {
        let index = json!({"paths": {"apis/a/v1": {"serverRelativeURL": "/openapi/v3/apis/a/v1?x=y&hash=AB"}}});
        assert_eq!(openapi_hash(&index, "a", "v1").as_deref(), Some("AB"));
        assert_eq!(openapi_hash(&index, "b", "v1"), None);
        assert_eq!(openapi_hash(&json!({"paths": {"apis/a/v1": {"serverRelativeURL": "/x"}}}), "a", "v1"), None);
    }
}
