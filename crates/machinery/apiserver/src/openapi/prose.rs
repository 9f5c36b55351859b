//! What people read about types and fields, added to the definitions that are published.

use std::collections::HashMap;
use std::io::Read as _;

use flate2::read::GzDecoder;
use serde_json::{Map, Value};

/// Whose `apiVersion` and `kind` say what every kind's say: the types of kinds leave them out.
const EVERY_KIND: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// Adds `description` to the definitions and their properties, where the table (`Table::prose`) has a text.
pub(super) fn describe(compressed: &[u8], schemas: &mut Map<String, Value>) {
    let mut text = String::new();
    if !compressed.is_empty()
        && let Err(error) = GzDecoder::new(compressed).read_to_string(&mut text)
    {
        tracing::error!(%error, "the schema table's prose does not unpack");
    }
    let of_types = by_type(&text);
    let of_every_kind = of_types.get(EVERY_KIND);
    for (name, schema) in schemas {
        let Some(own) = of_types.get(name.as_str()) else { continue };
        if let Some(text) = own.get("") {
            schema["description"] = said(text);
        }
        let Some(Value::Object(properties)) = schema.get_mut("properties") else { continue };
        for (field, property) in properties {
            let every = || of_every_kind.filter(|_| matches!(field.as_str(), "apiVersion" | "kind"));
            let found = own.get(field.as_str()).or_else(|| every()?.get(field.as_str()));
            if let (Some(text), Value::Object(property)) = (found, property) {
                property.insert("description".into(), said(text));
            }
        }
    }
}

fn said(text: &str) -> Value {
    text.replace('\r', "\n").into()
}

/// By type, then by field; a type's own text has no field.
fn by_type(text: &str) -> HashMap<&str, HashMap<&str, &str>> {
    let mut types: HashMap<&str, HashMap<&str, &str>> = HashMap::new();
    let mut current = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('=') {
            current = name;
        } else if let Some((field, text)) = line.split_once(' ').filter(|(_, text)| !text.is_empty()) {
            types.entry(current).or_default().insert(field, text);
        }
    }
    types
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use serde_json::json;

    use super::*;

    fn packed(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).expect("into memory");
        encoder.finish().expect("into memory")
    }

    #[test]
    fn types_and_their_fields_are_described() {
        let text = format!("={EVERY_KIND}\n \nkind Which kind.\n=a.Boat\n A boat.\rSmall.\nhull Its hull.\n");
        let definition = || json!({ "properties": { "hull": { "$ref": "x" }, "kind": {}, "mast": {} } });
        let mut schemas = Map::new();
        schemas.insert("a.Boat".into(), definition());
        schemas.insert("a.Other".into(), definition());
        describe(&packed(&text), &mut schemas);
        let described = json!({
            "description": "A boat.\nSmall.",
            "properties": {
                "hull": { "$ref": "x", "description": "Its hull." },
                "kind": { "description": "Which kind." },
                "mast": {},
            },
        });
        assert_eq!((&schemas["a.Boat"], &schemas["a.Other"]), (&described, &definition()));
    }

    #[test]
    fn prose_that_is_none_describes_nothing() {
        let whole = packed("=a.Boat\n A boat.\n");
        for broken in [&b""[..], b"no gzip", &whole[..whole.len() / 2]] {
            let mut schemas = Map::new();
            schemas.insert("a.Boat".into(), json!({}));
            describe(broken, &mut schemas);
            assert_eq!(schemas["a.Boat"], json!({}));
        }
    }
}
