//! The facts as their file holds them.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct Facts {
    /// Types by name, by Go package.
    pub(super) packages: BTreeMap<String, BTreeMap<String, TypeFacts>>,
}

#[derive(Clone, Default, Deserialize)]
pub(super) struct TypeFacts {
    /// Absent for a named string, list or map, which has an alias.
    pub(super) fields: Option<Vec<FieldFacts>>,
    pub(super) alias: Option<String>,
    /// Set where the alias is published as a definition of its own.
    pub(super) openapi_type: Option<String>,
    #[serde(default)]
    pub(super) enum_marker: bool,
    #[serde(default)]
    pub(super) values: Vec<String>,
    #[serde(default)]
    pub(super) required: Vec<String>,
    #[serde(default)]
    pub(super) gvk: Vec<GvkFacts>,
    #[serde(default)]
    pub(super) marks: BTreeMap<String, String>,
}

#[derive(Clone, Deserialize)]
pub(super) struct GvkFacts {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FieldFacts {
    pub(super) go: String,
    pub(super) json: String,
    #[serde(default)]
    pub(super) inline: bool,
    #[serde(default)]
    pub(super) omitempty: bool,
    #[serde(default)]
    pub(super) omitzero: bool,
    #[serde(default)]
    pub(super) proto: u16,
    pub(super) default: Option<String>,
    pub(super) list_type: Option<String>,
    #[serde(default)]
    pub(super) list_map_keys: Vec<String>,
    pub(super) map_type: Option<String>,
    pub(super) struct_type: Option<String>,
    pub(super) patch_strategy: Option<String>,
    pub(super) patch_merge_key: Option<String>,
}

const META: &str = "k8s.io.apimachinery.pkg.apis.meta.v1";

/// Adds what the collected files of upstream leave out: structures without JSON tags of their own, and those that are
/// declared in another file of their package.
pub(super) fn supplement(facts: &mut Facts) -> anyhow::Result<()> {
    let structure = |fields: &[(&str, &str, u16)]| TypeFacts {
        fields: Some(
            fields
                .iter()
                .map(|(json, go, proto)| FieldFacts {
                    json: (*json).into(),
                    go: (*go).into(),
                    proto: *proto,
                    ..FieldFacts::default()
                })
                .collect(),
        ),
        ..TypeFacts::default()
    };
    let mut watch_event = structure(&[("type", "string", 1), ("object", "runtime.RawExtension", 2)]);
    watch_event.gvk = vec![GvkFacts { group: String::new(), version: "v1".into(), kind: "WatchEvent".into() }];
    let added = [
        (
            META,
            "GroupVersionKind",
            structure(&[("group", "string", 1), ("version", "string", 2), ("kind", "string", 3)]),
        ),
        (
            META,
            "GroupVersionResource",
            structure(&[("group", "string", 1), ("version", "string", 2), ("resource", "string", 3)]),
        ),
        (META, "GroupResource", structure(&[("group", "string", 1), ("resource", "string", 2)])),
        (META, "WatchEvent", watch_event),
        ("k8s.io.api.apiserverinternal.v1alpha1", "StorageVersionSpec", structure(&[])),
        ("k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1", "CustomResourceSubresourceStatus", structure(&[])),
    ];
    for (package, name, facts_of_type) in added {
        facts.packages.entry(package.into()).or_default().entry(name.into()).or_insert(facts_of_type);
    }
    let row = facts.packages.get_mut(META).and_then(|types| types.get_mut("TableRow"));
    let fields =
        row.and_then(|row| row.fields.as_mut()).ok_or_else(|| anyhow::anyhow!("the facts have no TableRow"))?;
    if !fields.iter().any(|field| field.json == "cells") {
        let cells = FieldFacts { json: "cells".into(), go: "[]runtime.RawExtension".into(), ..FieldFacts::default() };
        fields.insert(0, cells);
    }
    Ok(())
}
