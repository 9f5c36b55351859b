//! CustomResourceDefinitions: names, versions, columns, subresources, conversion. Their schemas are
//! [`structural_schema`](super::structural_schema)'s.
//!
//! Paths are those of upstream's internal form: what all versions say alike stands at the top of `spec`, a schema as
//! `spec.validation`, and a webhook's client as `spec.conversion.webhookClientConfig`.

use std::collections::BTreeSet;

use base_meta::field::{Error, Path};
use base_meta::names;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceConversion, CustomResourceDefinition, CustomResourceDefinitionNames,
    CustomResourceDefinitionSpec, CustomResourceDefinitionVersion, CustomResourceSubresources,
    CustomResourceValidation, JSONSchemaProps, JSONSchemaPropsOrArray, SelectableField,
};

use super::{Errors, formats, immutable, said, segments, structural_schema};

const APPROVAL: &str = "api-approved.kubernetes.io";
const MAX_SELECTABLE: usize = 8;
const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: &[&str] = &[
    "bool", "byte", "date", "datetime", "double", "duration", "email", "float", "hostname", "int32", "int64", "ipv4",
    "ipv6", "mac", "password", "uri", "uuid",
];

pub fn definition(definition: &CustomResourceDefinition) -> Errors {
    let mut errors = Errors::new();
    let given = &definition.spec;
    let name = said(&definition.metadata.name);
    if !name.is_empty() && name != format!("{}.{}", given.names.plural, given.group) {
        let path = Path::new("metadata").child("name");
        errors.push(Error::invalid(&path, name, r#"must be spec.names.plural+"."+spec.group"#));
    }
    spec(given, &mut errors);
    approval(definition, None, &mut errors);
    unknown_fields(given, &mut errors);
    errors
}

pub fn definition_update(new: &CustomResourceDefinition, old: &CustomResourceDefinition) -> Errors {
    let mut errors = Errors::new();
    let (path, after, before) = (Path::new("spec"), &new.spec, &old.spec);
    spec(after, &mut errors);
    let conditions = old.status.iter().flat_map(|status| status.conditions.iter().flatten());
    if conditions.into_iter().any(|condition| condition.type_ == "Established" && condition.status == "True") {
        immutable(&after.scope, &before.scope, &path.child("scope"), &mut errors);
        immutable(&after.names.kind, &before.names.kind, &path.child("names").child("kind"), &mut errors);
    }
    immutable(&after.group, &before.group, &path.child("group"), &mut errors);
    immutable(&after.names.plural, &before.names.plural, &path.child("names").child("plural"), &mut errors);
    errors.extend(definition_status(new));
    stored_versions(new, &mut errors);
    approval(new, Some(old), &mut errors);
    if before.preserve_unknown_fields != Some(true) {
        unknown_fields(after, &mut errors);
    }
    errors
}

pub fn definition_status(definition: &CustomResourceDefinition) -> Errors {
    let mut errors = Errors::new();
    if let Some(accepted) = definition.status.as_ref().and_then(|status| status.accepted_names.as_ref()) {
        name_formats(accepted, &Path::new("status").child("acceptedNames"), &mut errors);
    }
    errors
}

/// A version that was stored once stays until nothing is stored in it.
fn stored_versions(definition: &CustomResourceDefinition, errors: &mut Errors) {
    let path = Path::new("status").child("storedVersions");
    let stored = definition.status.as_ref().and_then(|status| status.stored_versions.as_deref()).unwrap_or_default();
    if stored.is_empty() {
        errors.push(Error::invalid(&path, &super::json(&stored), "must have at least one stored version"));
        return;
    }
    let versions = &definition.spec.versions;
    for version in versions.iter().filter(|version| version.storage && !stored.contains(&version.name)) {
        let detail = format!("must have the storage version {}", version.name);
        errors.push(Error::invalid(&path, &super::json(&stored), detail));
    }
    for (index, name) in stored.iter().enumerate() {
        if !versions.iter().any(|version| version.name == *name) {
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.push(Error::invalid(&path.index(index), name, detail));
        }
    }
}

/// Groups of Kubernetes itself need a reference to their review.
fn approval(new: &CustomResourceDefinition, old: Option<&CustomResourceDefinition>, errors: &mut Errors) {
    let group = &new.spec.group;
    let protected = ["k8s.io", "kubernetes.io"].iter().any(|of| group == of || group.ends_with(&format!(".{of}")));
    let value = |object: &CustomResourceDefinition| {
        object.metadata.annotations.as_ref().and_then(|all| all.get(APPROVAL)).cloned().unwrap_or_default()
    };
    let valid = |text: &str| text.starts_with("unapproved") || text.contains("://");
    let text = value(new);
    let same = old.is_some_and(|old| (value(old).is_empty(), valid(&value(old))) == (text.is_empty(), valid(&text)));
    if !protected || same {
        return;
    }
    let path = Path::new("metadata").child("annotations").key(APPROVAL);
    if text.is_empty() {
        let detail = format!(
            "protected groups must have approval annotation {APPROVAL:?}, see https://github.com/kubernetes/enhancements/pull/1111"
        );
        errors.push(Error::required(&path, detail));
    } else if !valid(&text) {
        let detail = format!(
            "protected groups must have approval annotation {APPROVAL:?} with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111"
        );
        errors.push(Error::invalid(&path, &text, detail));
    }
}

fn unknown_fields(spec: &CustomResourceDefinitionSpec, errors: &mut Errors) {
    if spec.preserve_unknown_fields == Some(true) {
        let path = Path::new("spec").child("preserveUnknownFields");
        let detail =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(Error::invalid(&path, true, detail));
    }
}

/// Whether all versions say the same of something: then it is looked at once, at the top.
fn alike<T: PartialEq>(
    versions: &[CustomResourceDefinitionVersion],
    of: fn(&CustomResourceDefinitionVersion) -> &T,
) -> bool {
    versions.windows(2).all(|pair| of(&pair[0]) == of(&pair[1]))
}

fn spec(spec: &CustomResourceDefinitionSpec, errors: &mut Errors) {
    let (path, versions) = (Path::new("spec"), &spec.versions);
    group_and_scope(spec, &path, errors);
    let at = path.child("versions");
    for (index, version) in versions.iter().enumerate() {
        if version.schema.as_ref().is_none_or(|schema| schema.open_api_v3_schema.is_none()) {
            let path = at.index(index).child("schema").child("openAPIV3Schema");
            errors.push(Error::required(&path, "schemas are required"));
        }
    }
    let same = Same {
        schema: alike(versions, |version| &version.schema),
        subresources: alike(versions, |version| &version.subresources),
        columns: alike(versions, |version| &version.additional_printer_columns),
        selectable: alike(versions, |version| &version.selectable_fields),
    };
    let mut known = BTreeSet::new();
    let mut unique = true;
    for (index, version) in versions.iter().enumerate() {
        let path = at.index(index);
        unique &= known.insert(&version.name);
        joined(&path.child("name"), &version.name, names::dns1035_label(&version.name), "", errors);
        deprecation(version, &path.child("deprecationWarning"), errors);
        version_parts(version, &same.negated(), &path, "schema", errors);
    }
    if !unique {
        errors.push(Error::invalid(&at, &super::json(versions), "must contain unique version names"));
    }
    if versions.iter().filter(|version| version.storage).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.push(Error::invalid(&at, &super::json(versions), detail));
    }
    let at = path.child("names");
    for (field, value) in [
        ("plural", spec.names.plural.as_str()),
        ("singular", said(&spec.names.singular)),
        ("kind", &spec.names.kind),
        ("listKind", said(&spec.names.list_kind)),
    ] {
        if value.is_empty() {
            errors.push(Error::required(&at.child(field), ""));
        }
    }
    name_formats(&spec.names, &at, errors);
    if let Some(first) = versions.first() {
        version_parts(first, &same, &path, "validation", errors);
    }
    if let Some(given) = &spec.conversion {
        conversion(given, &path.child("conversion"), errors);
    }
}

fn group_and_scope(spec: &CustomResourceDefinitionSpec, path: &Path, errors: &mut Errors) {
    let (group, at) = (&spec.group, path.child("group"));
    let problems = names::dns1123_subdomain(group);
    if group.is_empty() {
        errors.push(Error::required(&at, ""));
    } else if !problems.is_empty() {
        errors.push(Error::invalid(&at, group, problems.join(",")));
    } else if !group.contains('.') {
        errors.push(Error::invalid(&at, group, "should be a domain with at least one dot"));
    }
    let at = path.child("scope");
    match spec.scope.as_str() {
        "" => errors.push(Error::required(&at, "")),
        "Cluster" | "Namespaced" => {}
        other => errors.push(Error::not_supported(&at, other, &["Cluster", "Namespaced"])),
    }
}

/// What all versions say alike, or (negated) what each says for itself.
struct Same {
    schema: bool,
    subresources: bool,
    columns: bool,
    selectable: bool,
}

impl Same {
    fn negated(&self) -> Self {
        Self {
            schema: !self.schema,
            subresources: !self.subresources,
            columns: !self.columns,
            selectable: !self.selectable,
        }
    }
}

fn version_parts(
    version: &CustomResourceDefinitionVersion,
    parts: &Same,
    path: &Path,
    schema: &str,
    errors: &mut Errors,
) {
    let root = version.schema.as_ref().and_then(|schema: &CustomResourceValidation| schema.open_api_v3_schema.as_ref());
    if let Some(root) = root.filter(|_| parts.schema) {
        let status = version.subresources.as_ref().is_some_and(|subresources| subresources.status.is_some());
        structural_schema::root(root, status, &path.child(schema).child("openAPIV3Schema"), errors);
    }
    if let Some(given) = version.subresources.as_ref().filter(|_| parts.subresources) {
        subresources(given, &path.child("subresources"), errors);
    }
    if parts.columns {
        for (index, each) in version.additional_printer_columns.iter().flatten().enumerate() {
            column(each, &path.child("additionalPrinterColumns").index(index), errors);
        }
    }
    if let Some(fields) = version.selectable_fields.as_deref().filter(|_| parts.selectable) {
        selectable(fields, root, &path.child("selectableFields"), errors);
    }
}

/// Upstream reports all the problems of a name in one error.
fn joined(path: &Path, value: &str, problems: Vec<String>, prefix: &str, errors: &mut Errors) {
    if !problems.is_empty() {
        errors.push(Error::invalid(path, value, format!("{prefix}{}", problems.join(","))));
    }
}

fn name_formats(given: &CustomResourceDefinitionNames, path: &Path, errors: &mut Errors) {
    const MIXED: &str = "may have mixed case, but should otherwise match: ";
    let (singular, list_kind) = (said(&given.singular), said(&given.list_kind));
    for (field, value, prefix) in [
        ("plural", given.plural.as_str(), ""),
        ("singular", singular, ""),
        ("kind", &given.kind, MIXED),
        ("listKind", list_kind, MIXED),
    ] {
        let checked = if prefix.is_empty() { value.to_owned() } else { value.to_lowercase() };
        if !value.is_empty() {
            joined(&path.child(field), value, names::dns1035_label(&checked), prefix, errors);
        }
    }
    for (index, name) in given.short_names.iter().flatten().enumerate() {
        joined(&path.child("shortNames").index(index), name, names::dns1035_label(name), "", errors);
    }
    if !given.kind.is_empty() && given.kind == list_kind {
        let detail = "kind and listKind may not be the same";
        errors.push(Error::invalid(&path.child("listKind"), list_kind, detail));
    }
    for (index, name) in given.categories.iter().flatten().enumerate() {
        joined(&path.child("categories").index(index), name, names::dns1035_label(name), "", errors);
    }
}

fn deprecation(version: &CustomResourceDefinitionVersion, path: &Path, errors: &mut Errors) {
    let Some(warning) = &version.deprecation_warning else { return };
    let mut bad = |detail: String| errors.push(Error::invalid(path, warning, detail));
    if version.deprecated != Some(true) {
        bad("can only be set for deprecated versions".to_owned());
        return;
    }
    if warning.len() > 256 {
        bad("must be <= 256 characters long".to_owned());
    }
    if warning.is_empty() {
        bad("must not be an empty string".to_owned());
    }
    if let Some((index, _)) = warning.char_indices().find(|(_, letter)| letter.is_control()) {
        bad(format!("must only contain printable UTF-8 characters; non-printable character found at index {index}"));
    }
}

fn column(column: &CustomResourceColumnDefinition, path: &Path, errors: &mut Errors) {
    if column.name.is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    }
    let one_of = |list: &[&str]| format!("must be one of {}", list.join(","));
    match column.type_.as_str() {
        "" => errors.push(Error::required(&path.child("type"), one_of(COLUMN_TYPES))),
        known if COLUMN_TYPES.contains(&known) => {}
        other => errors.push(Error::invalid(&path.child("type"), other, one_of(COLUMN_TYPES))),
    }
    let format = said(&column.format);
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        errors.push(Error::invalid(&path.child("format"), format, one_of(COLUMN_FORMATS)));
    }
    let path = path.child("JSONPath");
    if column.json_path.is_empty() {
        errors.push(Error::required(&path, ""));
    } else {
        json_path(&column.json_path, &path, errors);
    }
}

fn json_path(text: &str, path: &Path, errors: &mut Errors) -> bool {
    let simple = text.starts_with('.');
    if !simple {
        errors.push(Error::invalid(path, text, "must be a simple json path starting with ."));
    }
    simple
}

fn subresources(given: &CustomResourceSubresources, path: &Path, errors: &mut Errors) {
    let Some(scale) = &given.scale else { return };
    let mut check = |field: &str, text: &str, under: &[&str], detail: &str| {
        let path = path.child(field);
        if text.is_empty() {
            errors.push(Error::required(&path, ""));
        } else if json_path(text, &path, errors) && !under.iter().any(|prefix| text.starts_with(prefix)) {
            errors.push(Error::invalid(&path, text, detail));
        }
    };
    check("scale.specReplicasPath", &scale.spec_replicas_path, &[".spec."], "should be a json path under .spec");
    check(
        "scale.statusReplicasPath",
        &scale.status_replicas_path,
        &[".status."],
        "should be a json path under .status",
    );
    if let Some(text) = scale.label_selector_path.as_deref().filter(|text| !text.is_empty()) {
        let detail = "should be a json path under either .spec or .status";
        check("scale.labelSelectorPath", text, &[".spec.", ".status."], detail);
    }
}

fn selectable(fields: &[SelectableField], root: Option<&JSONSchemaProps>, path: &Path, errors: &mut Errors) {
    let mut known = BTreeSet::new();
    for (index, field) in fields.iter().enumerate() {
        let (text, path) = (&field.json_path, path.index(index).child("jsonPath"));
        if text.is_empty() {
            errors.push(Error::required(&path, ""));
            continue;
        }
        let Some(schema) = root.and_then(|root| field_at(root, text)) else {
            errors.push(Error::invalid(&path, text, "is an invalid path: does not refer to a valid field"));
            continue;
        };
        if text.starts_with(".metadata") {
            errors.push(Error::invalid(&path, text, "must not point to fields in metadata"));
        }
        if !matches!(said(&schema.type_), "string" | "boolean" | "integer") {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(Error::invalid(&path, text, detail));
        }
        if !known.insert(text) {
            errors.push(Error::duplicate(&path, text));
        }
    }
    if known.len() > MAX_SELECTABLE {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        errors.push(Error::too_many(path, number(known.len()), number(MAX_SELECTABLE)));
    }
}

/// The schema of the field that `.spec.color` names.
fn field_at<'a>(root: &'a JSONSchemaProps, path: &str) -> Option<&'a JSONSchemaProps> {
    path.strip_prefix('.')?.split('.').try_fold(root, |schema, name| schema.properties.as_ref()?.get(name))
}

fn conversion(conversion: &CustomResourceConversion, path: &Path, errors: &mut Errors) {
    let strategy = path.child("strategy");
    match conversion.strategy.as_str() {
        "" => errors.push(Error::required(&strategy, "")),
        "None" | "Webhook" => {}
        other => errors.push(Error::not_supported(&strategy, other, &["None", "Webhook"])),
    }
    let (at, reviews) = (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    let webhook = conversion.webhook.as_ref();
    let versions = webhook.map_or(&[][..], |webhook| &webhook.conversion_review_versions);
    let config = webhook.and_then(|webhook| webhook.client_config.as_ref());
    if conversion.strategy != "Webhook" {
        let detail = "should not be set when strategy is not set to Webhook";
        if config.is_some() {
            errors.push(Error::forbidden(&at, detail));
        }
        if !versions.is_empty() {
            errors.push(Error::forbidden(&reviews, detail));
        }
        return;
    }
    match config.map(|config| (&config.url, &config.service)) {
        None => errors.push(Error::required(&at, "required when strategy is set to Webhook")),
        Some((Some(url), None)) => segments::webhook_url(url, &at.child("url"), errors),
        Some((None, Some(service))) => {
            let service = segments::HookService {
                name: &service.name,
                namespace: &service.namespace,
                path: service.path.as_deref(),
                port: service.port.unwrap_or(443),
            };
            segments::webhook_service(&service, &at.child("service"), errors);
        }
        Some(_) => errors.push(Error::required(&at, "exactly one of url or service is required")),
    }
    review_versions(versions, &reviews, errors);
}

fn review_versions(versions: &[String], path: &Path, errors: &mut Errors) {
    if versions.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, version) in versions.iter().enumerate() {
        if seen.insert(version) {
            formats::invalid(&path.index(index), version, names::dns1035_label(version), errors);
        } else {
            errors.push(Error::invalid(&path.index(index), version, "duplicate version"));
        }
    }
    if !versions.iter().any(|version| matches!(version.as_str(), "v1" | "v1beta1")) {
        let detail = "must include at least one of v1, v1beta1";
        errors.push(Error::invalid(path, &super::json(&versions), detail));
    }
}

/// The one schema of all items, where it is one.
pub(super) fn items(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(items),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    fn base() -> Value {
        json!({"metadata": {"name": "widgets.a.example"}, "spec": {"group": "a.example", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "conversion": {"strategy": "None"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}}},
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size",
                    "statusReplicasPath": ".status.size"}},
                "selectableFields": [{"jsonPath": ".spec.size"}],
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]}]}})
    }

    #[test]
    fn each_rule_names_its_field() {
        let table = [
            (
                "/metadata/name",
                json!("x"),
                r#"metadata.name: Invalid value: "x": must be spec.names.plural+"."+spec.group"#,
            ),
            ("/spec/scope", json!("X"), "spec.scope: Unsupported value: \"X\": supported values: \"Cluster\""),
            ("/spec/names/kind", json!("WidgetList"), "spec.names.listKind: Invalid value: \"WidgetList\": kind and"),
            ("/spec/names/shortNames", json!(["W"]), "spec.names.shortNames[0]: Invalid value: \"W\""),
            ("/spec/names/singular", json!(""), "spec.names.singular: Required value"),
            ("/spec/versions/0/storage", json!(false), "spec.versions: Invalid value"),
            ("/spec/versions/0/name", json!("1"), "spec.versions[0].name: Invalid value: \"1\""),
            (
                "/spec/versions/0/deprecationWarning",
                json!("x"),
                "spec.versions[0].deprecationWarning: Invalid value: \"x\": can",
            ),
            ("/spec/preserveUnknownFields", json!(true), "spec.preserveUnknownFields: Invalid value: true: cannot set"),
            (
                "/spec/versions/0/subresources/scale/specReplicasPath",
                json!(".status.size"),
                "spec.subresources.scale.specReplicasPath: Invalid value: \".status.size\": should be a json path under",
            ),
            (
                "/spec/versions/0/additionalPrinterColumns/0/type",
                json!("x"),
                "spec.additionalPrinterColumns[0].type: Invalid value: \"x\": must be one of boolean,date",
            ),
            (
                "/spec/versions/0/selectableFields/0/jsonPath",
                json!(".spec"),
                "spec.selectableFields[0].jsonPath: Invalid value: \".spec\": must point to a field of type string",
            ),
            ("/spec/conversion/strategy", json!("X"), "spec.conversion.strategy: Unsupported value: \"X\""),
            (
                "/spec/conversion/webhook",
                json!({"conversionReviewVersions": ["v1"]}),
                "spec.conversion.conversionReviewVersions: Forbidden",
            ),
        ];
        assert_eq!(printed(definition(&object(base()))), [""; 0]);
        for (pointer, value, expected) in table {
            let found = printed(definition(&object(with(&base(), &[(pointer, value)]))));
            assert!(found.len() == 1 && found[0].starts_with(expected), "{pointer}: {found:?}");
        }
        let bare = with(
            &base(),
            &[("/spec/versions/0/schema", Value::Null), ("/spec/versions/0/selectableFields", Value::Null)],
        );
        assert_eq!(
            printed(definition(&object(bare))),
            ["spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required"]
        );
        let ours = with(&base(), &[("/spec/group", json!("x.k8s.io")), ("/metadata/name", json!("widgets.x.k8s.io"))]);
        assert!(
            printed(definition(&object(ours)))[0]
                .starts_with("metadata.annotations[api-approved.kubernetes.io]: Required")
        );
    }

    #[test]
    fn versions_that_differ_are_named_and_stored_ones_stay() {
        let mut two = base();
        let second = json!({"name": "v2", "served": true, "storage": false,
            "schema": {"openAPIV3Schema": {"type": "string"}}});
        two["spec"]["versions"].as_array_mut().expect("versions").push(second);
        let found = printed(definition(&object(two)));
        assert_eq!(
            found,
            ["spec.versions[1].schema.openAPIV3Schema.type: Invalid value: \"string\": must be object at the root"]
        );
        let status = json!({"storedVersions": ["v0", "v1"], "conditions": [{"type": "Established", "status": "True"}]});
        let old: CustomResourceDefinition = object(with(&base(), &[("/status", status)]));
        let changed = [("/spec/scope", json!("Cluster")), ("/status", json!({"storedVersions": ["v0", "v1"]}))];
        let found = printed(definition_update(&object(with(&base(), &changed)), &old));
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0], "spec.scope: Invalid value: \"Cluster\": field is immutable");
        assert!(
            found[1].starts_with("status.storedVersions[0]: Invalid value: \"v0\": missing from spec.versions; v0 was")
        );
    }
}
