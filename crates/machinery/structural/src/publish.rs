//! The schema as OpenAPI shows it to clients.
//!
//! Version 3 shows what was written. Version 2 cannot say several things (alternatives, null, two types), and a client
//! that read half of them would refuse good objects, so there they are left out.

use serde_json::{Map, Value, json};

pub struct GroupVersionKind<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
}

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

impl GroupVersionKind<'_> {
    /// The definition of the kind for OpenAPI version 3. `metadata` is the reference to ObjectMeta's definition.
    pub fn publish_v3(&self, document: &Value, metadata: &str) -> Value {
        let mut schema = document.clone();
        walk(&mut schema, &mut |fields| {
            // Alternatives of a type are redundant beside the mark, and upstream leaves them out.
            if is(fields, "x-kubernetes-int-or-string") {
                fields.remove("type");
                fields.insert("oneOf".into(), json!([{"type": "integer"}, {"type": "string"}]));
                if fields.get("anyOf") == Some(&json!([{"type": "integer"}, {"type": "string"}])) {
                    fields.remove("anyOf");
                }
            }
        });
        self.as_object(schema, json!({"allOf": [{"$ref": metadata}], "description": METADATA}))
    }

    /// The same for version 2.
    pub fn publish_v2(&self, document: &Value, metadata: &str) -> Value {
        let mut schema = document.clone();
        walk(&mut schema, &mut |fields| {
            for name in ["oneOf", "anyOf", "allOf", "not", "default", "nullable"] {
                let nullable = name == "nullable" && is(fields, name);
                fields.remove(name);
                if nullable {
                    for name in ["type", "items", "properties", "additionalProperties", "required"] {
                        fields.remove(name);
                    }
                }
            }
            if is(fields, "x-kubernetes-int-or-string") {
                fields.remove("type");
            }
            if is(fields, "x-kubernetes-preserve-unknown-fields") {
                for name in ["type", "items", "properties", "required"] {
                    fields.remove(name);
                }
            }
        });
        self.as_object(schema, json!({"$ref": metadata, "description": METADATA}))
    }

    /// Adds what every object has, and what kind this one is.
    fn as_object(&self, schema: Value, metadata: Value) -> Value {
        let mut fields = match schema {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        fields.insert("type".into(), json!("object"));
        let properties = fields.entry("properties").or_insert_with(|| json!({}));
        if let Value::Object(properties) = properties {
            properties.insert("apiVersion".into(), json!({"type": "string", "description": API_VERSION}));
            properties.insert("kind".into(), json!({"type": "string", "description": KIND}));
            properties.insert("metadata".into(), metadata);
        }
        fields.insert(
            "x-kubernetes-group-version-kind".into(),
            json!([{"group": self.group, "version": self.version, "kind": self.kind}]),
        );
        Value::Object(fields)
    }

    /// The definition of the list of the kind, whose items are `item`.
    pub fn publish_list(&self, list_kind: &str, item: &str, list_meta: &str) -> Value {
        json!({
            "description": format!("{list_kind} is a list of {}", self.kind),
            "type": "object",
            "required": ["items"],
            "properties": {
                "apiVersion": {"type": "string", "description": API_VERSION},
                "kind": {"type": "string", "description": KIND},
                "metadata": {"$ref": list_meta, "description": "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"},
                "items": {
                    "description": format!("List of {}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md", self.kind),
                    "type": "array",
                    "items": {"$ref": item},
                },
            },
            "x-kubernetes-group-version-kind": [{"group": self.group, "version": self.version, "kind": list_kind}],
        })
    }
}

fn is(fields: &Map<String, Value>, name: &str) -> bool {
    fields.get(name) == Some(&Value::Bool(true))
}

/// Every schema in a document, outer ones first.
fn walk(document: &mut Value, change: &mut dyn FnMut(&mut Map<String, Value>)) {
    let Value::Object(fields) = document else { return };
    change(fields);
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(|document| walk(document, change));
    }
    for name in ["items", "additionalProperties"] {
        if let Some(document) = fields.get_mut(name) {
            walk(document, change);
        }
    }
}
