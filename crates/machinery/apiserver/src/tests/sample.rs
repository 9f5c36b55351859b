//! A resource definition with a little of everything, under names whose discovery is known.

use base_meta::Gvk;
use base_meta::schema::{Field, ListType, MapType, PatchStrategy, Rare, SchemaRef, Shape, Table, Type, TypeId};
use machinery_registry::{Column, ResourceDef, Scope, SubresourceDef, Verb};

const PLAIN: Field = Field {
    name: "",
    rare: Rare::NONE,
    shape: Shape::String,
    proto: 0,
    proto_outer: [0, 0],
    pointer: false,
    omitempty: true,
    omitzero: false,
    required: false,
    list_type: None,
    map_type: None,
    patch_strategy: PatchStrategy { merge: false, replace: false, retain_keys: false },
};

pub(crate) const fn field(proto: u16, name: &'static str, shape: Shape) -> Field {
    Field { name, shape, proto, ..PLAIN }
}

const DEPLOYMENT: TypeId = TypeId(0);
const META: TypeId = TypeId(1);
const SPEC: TypeId = TypeId(2);
const PORT: TypeId = TypeId(3);
const LIST_META: TypeId = TypeId(6);

static KEYED: Rare = Rare { list_map_keys: &["port", "protocol"], patch_merge_key: Some("port"), ..*Rare::NONE };
static TCP: Rare = Rare { default: Some("\"TCP\""), enum_values: &["SCTP", "TCP", "UDP"], ..*Rare::NONE };

static TABLE: Table = Table {
    types: &[
        Type {
            name: "io.k8s.api.apps.v1.Deployment",
            fields: &[
                field(0, "apiVersion", Shape::String),
                field(0, "kind", Shape::String),
                field(1, "metadata", Shape::Object(META)),
                Field { pointer: true, ..field(2, "spec", Shape::Object(SPEC)) },
            ],
            atomic_map: false,
        },
        Type {
            name: "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
            fields: &[
                field(1, "name", Shape::String),
                field(2, "labels", Shape::Map(0)),
                field(3, "creationTimestamp", Shape::Time),
                field(4, "fieldsV1", Shape::Any),
            ],
            atomic_map: false,
        },
        Type {
            name: "io.k8s.api.apps.v1.DeploymentSpec",
            fields: &[
                Field { required: true, map_type: Some(MapType::Atomic), ..field(1, "selector", Shape::Map(0)) },
                Field {
                    list_type: Some(ListType::Map),
                    rare: &KEYED,
                    patch_strategy: PatchStrategy { merge: true, replace: false, retain_keys: false },
                    ..field(2, "ports", Shape::List(1))
                },
                Field { pointer: true, ..field(3, "replicas", Shape::Int(32)) },
                field(4, "limit", Shape::Quantity),
                Field { pointer: true, ..field(5, "again", Shape::Object(SPEC)) },
                Field { proto_outer: [7, 0], ..field(1, "inlined", Shape::String) },
            ],
            atomic_map: false,
        },
        Type {
            name: "io.k8s.api.apps.v1.Port",
            fields: &[
                Field { required: true, ..field(1, "port", Shape::IntOrString) },
                Field { rare: &TCP, ..field(2, "protocol", Shape::String) },
                field(3, "key", Shape::Bytes),
            ],
            atomic_map: true,
        },
        Type {
            name: "io.k8s.api.apps.v1.DeploymentList",
            fields: &[field(1, "metadata", Shape::Object(LIST_META)), field(2, "items", Shape::List(2))],
            atomic_map: false,
        },
        Type {
            name: "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
            fields: &[field(5, "dryRun", Shape::List(0))],
            atomic_map: false,
        },
        Type {
            name: "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta",
            fields: &[field(2, "continue", Shape::String)],
            atomic_map: false,
        },
        Type {
            name: "io.k8s.api.autoscaling.v1.Scale",
            fields: &[field(1, "metadata", Shape::Object(META))],
            atomic_map: false,
        },
        Type {
            name: "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
            fields: &[
                field(2, "status", Shape::String),
                field(3, "message", Shape::String),
                field(4, "reason", Shape::String),
                field(6, "code", Shape::Int(32)),
            ],
            atomic_map: false,
        },
    ],
    shapes: &[Shape::String, Shape::Object(PORT), Shape::Object(DEPLOYMENT)],
    prose: &[],
};

const CHANGE: &[Verb] = &[Verb::Get, Verb::Patch, Verb::Update];

pub(crate) fn def() -> ResourceDef {
    ResourceDef {
        gvk: Gvk::of("apps", "v1", "Deployment"),
        plural: "deployments".into(),
        singular: "deployment".into(),
        short_names: &["deploy"],
        categories: &["all"],
        scope: Scope::Namespaced,
        verbs: Verb::ALL,
        subresources: vec![
            SubresourceDef { name: "status", gvk: Gvk::of("apps", "v1", "Deployment"), verbs: CHANGE },
            SubresourceDef { name: "scale", gvk: Gvk::of("autoscaling", "v1", "Scale"), verbs: CHANGE },
            SubresourceDef {
                name: "exec",
                gvk: Gvk::of("apps", "v1", "DeploymentExecOptions"),
                verbs: &[Verb::Create, Verb::Get],
            },
        ],
        columns: &[
            Column { name: "Name", kind: "string", format: "name", description: "", priority: 0 },
            Column { name: "Size", kind: "integer", format: "", description: "how large", priority: 1 },
        ],
        fields: &["spec.size"],
        answers_deleted: false,
        deprecation: None,
        published: None,
        stored_as: None,
        schema: SchemaRef { table: &TABLE, root: DEPLOYMENT },
    }
}
