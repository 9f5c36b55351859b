//! Every structure with its inlined structures expanded.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Facts, FieldFacts, TypeFacts};
use super::resolve::{Resolved, Resolver, is_builtin, open_api_name};

const META_GROUP: &str = "meta.k8s.io";

pub(super) struct Type {
    pub(super) name: String,
    pub(super) atomic: bool,
    /// `group/version/Kind`.
    pub(super) kinds: BTreeSet<String>,
    pub(super) fields: Vec<Field>,
}

pub(super) struct Field {
    pub(super) facts: FieldFacts,
    pub(super) resolved: Resolved,
    pub(super) pointer: bool,
    pub(super) required: bool,
    /// Numbers of the enclosing protobuf messages, outermost first.
    pub(super) outer: Vec<u16>,
    /// No message of protobuf has it: `TypeMeta`, which the envelope carries.
    pub(super) outside_proto: bool,
}

pub(super) fn types(facts: &Facts) -> anyhow::Result<Vec<Type>> {
    let resolver = Resolver { facts };
    let groups = groups(facts);
    let mut types = Vec::new();
    for (package, declared) in &facts.packages {
        for (name, type_facts) in declared {
            if is_builtin(package, name) {
                continue;
            }
            let is_structure = type_facts.fields.is_some() || type_facts.openapi_type.is_some();
            if !is_structure {
                continue;
            }
            let (home, _, structure) = match type_facts.fields {
                Some(_) => (package.clone(), name.clone(), type_facts),
                None => resolver.structure(package, type_facts.alias.as_deref().unwrap_or_default())?,
            };
            let mut fields = Vec::new();
            expand(&resolver, &home, structure, &[], false, &mut fields)?;
            for field in &mut fields {
                field.required = type_facts.required.contains(&field.facts.json);
            }
            types.push(Type {
                name: open_api_name(package, name),
                atomic: type_facts.marks.get("structType").is_some_and(|mark| mark == "atomic"),
                kinds: kinds(package, name, type_facts, &groups),
                fields,
            });
        }
    }
    types.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(types)
}

fn expand(
    resolver: &Resolver<'_>,
    package: &str,
    structure: &TypeFacts,
    outer: &[u16],
    outside_proto: bool,
    fields: &mut Vec<Field>,
) -> anyhow::Result<()> {
    for facts in structure.fields.iter().flatten() {
        if facts.inline {
            let (home, _, inlined) = resolver.structure(package, &facts.go)?;
            let mut outer = outer.to_vec();
            outer.extend((facts.proto != 0).then_some(facts.proto));
            expand(resolver, &home, inlined, &outer, outside_proto || facts.proto == 0, fields)?;
            continue;
        }
        fields.push(Field {
            resolved: resolver.resolve(package, &facts.go)?,
            pointer: facts.go.starts_with('*'),
            facts: facts.clone(),
            required: false,
            outer: outer.to_vec(),
            outside_proto,
        });
    }
    Ok(())
}

/// The API group of each `k8s.io.api.GROUP`, learnt from the types that say theirs.
fn groups(facts: &Facts) -> BTreeMap<String, String> {
    let mut groups: BTreeMap<String, String> = [
        ("k8s.io.api.admission", "admission.k8s.io"),
        ("k8s.io.api.apidiscovery", "apidiscovery.k8s.io"),
        ("k8s.io.api.apiserverinternal", "internal.apiserver.k8s.io"),
        ("k8s.io.api.extensions", "extensions"),
        ("k8s.io.api.imagepolicy", "imagepolicy.k8s.io"),
        ("k8s.io.apimachinery.pkg.apis.meta", META_GROUP),
    ]
    .map(|(package, group)| (package.to_owned(), group.to_owned()))
    .into();
    for (package, types) in &facts.packages {
        let Some((parent, version)) = package.rsplit_once('.') else { continue };
        for gvk in types.values().flat_map(|facts| &facts.gvk) {
            if gvk.version == version && !groups.contains_key(parent) {
                groups.insert(parent.to_owned(), gvk.group.clone());
            }
        }
    }
    groups
}

fn kinds(package: &str, name: &str, facts: &TypeFacts, groups: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut kinds: BTreeSet<String> =
        facts.gvk.iter().map(|gvk| format!("{}/{}/{}", gvk.group, gvk.version, gvk.kind)).collect();
    // Versions that are no longer served still say what kind they are by carrying a TypeMeta.
    let has_type_meta = facts.fields.iter().flatten().any(|field| field.inline && field.go.ends_with("TypeMeta"));
    if kinds.is_empty()
        && has_type_meta
        && let Some((parent, version)) = package.rsplit_once('.')
        && let Some(group) = groups.get(parent)
    {
        kinds.insert(format!("{group}/{version}/{name}"));
        if group == META_GROUP {
            // The options of requests are registered without a group too.
            kinds.insert(format!("/{version}/{name}"));
        }
    }
    kinds
}
