//! Both kinds in the table of resources. Upstream's types are in a module of their own and so not in the schema table; these
//! are published as custom kinds are.

use std::sync::Arc;

use base_meta::Gvk;
use machinery_registry::{Column, Published, ResourceDef, Scope, Verb};
use machinery_structural::GroupVersionKind;
use serde_json::{Value, json};

use super::GROUP;
use crate::apiextensions::schema_of;
use crate::columns::{self, NAME};

const VERSION: &str = "v1beta1";
pub(super) const API_VERSION: &str = "metrics.k8s.io/v1beta1";

const COLUMNS: &[Column] = &[
    NAME,
    quantity("cpu", "Processors used, averaged over the window."),
    quantity("memory", "Bytes of the working set."),
    columns::text("Window", "What the processors' use is an average of."),
];

const fn quantity(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", format: "quantity", description, priority: 0 }
}

pub(super) fn nodes() -> ResourceDef {
    def("NodeMetrics", "nodes", Scope::Cluster, &json!({ "usage": usage() }), "usage")
}

pub(super) fn pods() -> ResourceDef {
    let container = json!({
        "type": "object", "required": ["name", "usage"],
        "properties": {
            "name": {"type": "string", "description": "As in the pod's spec."},
            "usage": usage(),
        },
    });
    let containers = json!({"type": "array", "items": container, "description": "Those that run."});
    def("PodMetrics", "pods", Scope::Namespaced, &json!({ "containers": containers }), "containers")
}

fn usage() -> Value {
    json!({
        "type": "object", "description": "By resource: cpu, and memory (the working set).",
        "additionalProperties": {"type": "string"},
    })
}

fn def(kind: &'static str, plural: &'static str, scope: Scope, own: &Value, required: &str) -> ResourceDef {
    let mut document = json!({
        "type": "object", "required": ["timestamp", "window", required],
        "properties": {
            "timestamp": {"type": "string", "format": "date-time", "description": "The end of the window."},
            "window": {"type": "string", "description": "What the use of processors is an average of."},
        },
    });
    for (name, schema) in own.as_object().into_iter().flatten() {
        document["properties"][name] = schema.clone();
    }
    let named = GroupVersionKind { group: GROUP, version: VERSION, kind };
    let published = Published {
        v2: named.publish_v2(&document, "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
        v3: named.publish_v3(&document, "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
    };
    ResourceDef {
        gvk: Gvk::of(GROUP, VERSION, kind),
        plural: plural.into(),
        // As metrics-server has it: the words pod and node stay those of the core group.
        singular: "".into(),
        short_names: &[],
        categories: &[],
        scope,
        verbs: &[Verb::Get, Verb::List],
        subresources: Vec::new(),
        columns: COLUMNS,
        fields: &[],
        answers_deleted: false,
        deprecation: None,
        schema: schema_of(&format!("io.k8s.metrics.pkg.apis.metrics.v1beta1.{kind}")),
        stored_as: None,
        published: Some(Arc::new(published)),
    }
}
