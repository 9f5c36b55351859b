//! Whether a definition can be served at all: its name, its versions, and schemas that parse and whose rules compile.

use base_meta::field::{Error, Path};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSONSchemaProps};
use machinery_cel::rules::Rules;
use machinery_structural::Schema;

pub(super) fn definition(object: &CustomResourceDefinition) -> Vec<Error> {
    let mut errors = Vec::new();
    let spec = &object.spec;
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let path = Path::new("spec");
    let required = |path: Path, text: &str, errors: &mut Vec<Error>| {
        if text.is_empty() {
            errors.push(Error::required(&path, ""));
        }
    };
    required(path.child("group"), &spec.group, &mut errors);
    required(path.child("names").child("plural"), &spec.names.plural, &mut errors);
    required(path.child("names").child("kind"), &spec.names.kind, &mut errors);
    if name != format!("{}.{}", spec.names.plural, spec.group) {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.push(Error::invalid(&Path::new("metadata").child("name"), name, detail));
    }
    if !matches!(spec.scope.as_str(), "Cluster" | "Namespaced") {
        errors.push(match spec.scope.as_str() {
            "" => Error::required(&path.child("scope"), ""),
            other => Error::not_supported(&path.child("scope"), other, &["Cluster", "Namespaced"]),
        });
    }
    if spec.versions.iter().filter(|version| version.storage).count() != 1 {
        let names: Vec<&str> = spec.versions.iter().map(|version| version.name.as_str()).collect();
        let names = serde_json::json!(names);
        errors.push(Error::invalid(
            &path.child("versions"),
            &names,
            "must have exactly one version marked as storage version",
        ));
    }
    for (index, version) in spec.versions.iter().enumerate() {
        let path = path.child("versions").index(index);
        required(path.child("name"), &version.name, &mut errors);
        if version.schema.as_ref().is_none_or(|schema| schema.open_api_v3_schema.is_none()) {
            errors.push(Error::required(&path.child("schema").child("openAPIV3Schema"), "schemas are required"));
        }
    }
    errors
}

/// Upstream keeps a schema that all versions have in one place, and says so in its paths.
pub(super) fn schemas(object: &CustomResourceDefinition) -> Vec<Error> {
    let schemas: Vec<Option<&JSONSchemaProps>> = object
        .spec
        .versions
        .iter()
        .map(|version| version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref()))
        .collect();
    let spec = Path::new("spec");
    let shared = schemas.windows(2).all(|pair| pair[0] == pair[1]);
    let mut errors = Vec::new();
    for (index, schema) in schemas.iter().enumerate() {
        let Some(schema) = schema else { continue };
        let at = if shared { spec.child("validation") } else { spec.child("versions").index(index).child("schema") };
        errors.extend(one(schema, &at.child("openAPIV3Schema")));
        if shared {
            break;
        }
    }
    errors
}

fn one(document: &JSONSchemaProps, path: &Path) -> Vec<Error> {
    match document.type_.as_deref() {
        None | Some("") => return vec![Error::required(&path.child("type"), "must not be empty at the root")],
        Some("object") => {}
        Some(other) => return vec![Error::invalid(&path.child("type"), other, "must be object at the root")],
    }
    let parsed = serde_json::to_value(document).map_err(|error| error.to_string());
    let parsed = parsed.and_then(|document| Schema::parse(&document).map_err(|error| error.to_string()));
    match parsed {
        Ok(schema) => Rules::compile(&schema, path).1,
        Err(problem) => vec![Error::invalid(path, "", problem)],
    }
}
