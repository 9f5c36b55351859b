//! Whether a definition's schemas can be used: they parse, and their rules compile and cannot cost too much.

use base_meta::field::{Error, Path};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSONSchemaProps};
use machinery_cel::rules::Rules;
use machinery_structural::Schema;

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
    let parsed = serde_json::to_value(document).map_err(|error| error.to_string());
    let parsed = parsed.and_then(|document| Schema::parse(&document).map_err(|error| error.to_string()));
    match parsed {
        Ok(schema) => Rules::compile(&schema, path).1,
        Err(problem) => vec![Error::invalid(path, "", problem)],
    }
}
