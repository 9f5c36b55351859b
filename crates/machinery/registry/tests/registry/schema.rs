//! The widget's schema, written by hand.

use base_meta::schema::{Field, ListType, PatchStrategy, Rare, SchemaRef, Shape, Table, Type, TypeId};

const STRINGS: Shape = Shape::List(0);
const STRING_MAP: Shape = Shape::Map(0);
const PARTS: Shape = Shape::List(1);
const OWNERS: Shape = Shape::List(2);

const fn field(name: &'static str, shape: Shape) -> Field {
    Field {
        name,
        rare: Rare::NONE,
        shape,
        proto: 0,
        proto_outer: [0, 0],
        pointer: false,
        omitempty: true,
        omitzero: false,
        required: false,
        list_type: None,
        map_type: None,
        patch_strategy: PatchStrategy { merge: false, replace: false, retain_keys: false },
    }
}

const fn pointer(name: &'static str, shape: Shape) -> Field {
    Field { pointer: true, ..field(name, shape) }
}

const fn merged(name: &'static str, shape: Shape, rare: &'static Rare) -> Field {
    Field {
        rare,
        list_type: Some(ListType::Map),
        patch_strategy: PatchStrategy { merge: true, replace: false, retain_keys: false },
        ..field(name, shape)
    }
}

const BY_NAME: &Rare = &Rare { patch_merge_key: Some("name"), list_map_keys: &["name"], ..*Rare::NONE };
const BY_UID: &Rare = &Rare { patch_merge_key: Some("uid"), list_map_keys: &["uid"], ..*Rare::NONE };

static SHAPES: &[Shape] = &[Shape::String, Shape::Object(TypeId(4)), Shape::Object(TypeId(6))];

static TYPES: &[Type] = &[
    Type {
        name: "io.k8s.api.example.v1.Widget",
        atomic_map: false,
        fields: &[
            field("apiVersion", Shape::String),
            field("kind", Shape::String),
            field("metadata", Shape::Object(TypeId(1))),
            field("spec", Shape::Object(TypeId(2))),
            field("status", Shape::Object(TypeId(3))),
        ],
    },
    Type {
        name: "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
        atomic_map: false,
        fields: &[
            field("name", Shape::String),
            field("generateName", Shape::String),
            field("namespace", Shape::String),
            field("uid", Shape::String),
            field("resourceVersion", Shape::String),
            field("managedFields", Shape::Any),
            field("generation", Shape::Int(64)),
            pointer("creationTimestamp", Shape::Time),
            pointer("deletionTimestamp", Shape::Time),
            pointer("deletionGracePeriodSeconds", Shape::Int(64)),
            field("labels", STRING_MAP),
            field("annotations", STRING_MAP),
            merged("ownerReferences", OWNERS, BY_UID),
            merged("finalizers", STRINGS, Rare::NONE),
        ],
    },
    Type {
        name: "io.k8s.api.example.v1.WidgetSpec",
        atomic_map: false,
        fields: &[
            field("color", Shape::String),
            pointer("replicas", Shape::Int(32)),
            pointer("selector", Shape::Object(TypeId(5))),
            merged("parts", PARTS, BY_NAME),
            field("steps", PARTS),
        ],
    },
    Type {
        name: "io.k8s.api.example.v1.WidgetStatus",
        atomic_map: false,
        fields: &[field("phase", Shape::String), field("replicas", Shape::Int(32))],
    },
    Type {
        name: "io.k8s.api.example.v1.Part",
        atomic_map: false,
        fields: &[field("name", Shape::String), field("image", Shape::String), field("args", STRINGS)],
    },
    Type {
        name: "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector",
        atomic_map: true,
        fields: &[field("matchLabels", STRING_MAP)],
    },
    Type {
        name: "io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference",
        atomic_map: true,
        fields: &[
            field("apiVersion", Shape::String),
            field("kind", Shape::String),
            field("name", Shape::String),
            field("uid", Shape::String),
        ],
    },
    Type { name: "io.k8s.api.example.v1.Gadget", atomic_map: false, fields: &[] },
    Type {
        name: "io.k8s.api.example.v1beta1.Widget",
        atomic_map: false,
        fields: &[
            field("apiVersion", Shape::String),
            field("kind", Shape::String),
            field("metadata", Shape::Object(TypeId(1))),
            field("spec", Shape::Object(TypeId(9))),
            field("status", Shape::Object(TypeId(3))),
        ],
    },
    Type {
        name: "io.k8s.api.example.v1beta1.WidgetSpec",
        atomic_map: false,
        fields: &[
            field("colour", Shape::String),
            pointer("replicas", Shape::Int(32)),
            pointer("selector", Shape::Object(TypeId(5))),
            merged("parts", PARTS, BY_NAME),
            field("steps", PARTS),
        ],
    },
    Type {
        name: "io.k8s.apimachinery.pkg.apis.meta.v1.CustomObject",
        atomic_map: false,
        fields: &[
            field("apiVersion", Shape::String),
            field("kind", Shape::String),
            field("metadata", Shape::Object(TypeId(1))),
        ],
    },
];

static TABLE: Table = Table { types: TYPES, shapes: SHAPES, prose: &[] };

pub(crate) const WIDGET: SchemaRef = SchemaRef { table: &TABLE, root: TypeId(0) };
/// As [`WIDGET`], with another name for the color.
pub(crate) const OLD_WIDGET: SchemaRef = SchemaRef { table: &TABLE, root: TypeId(8) };
/// What the table says of a kind defined at run time.
pub(crate) const CUSTOM: SchemaRef = SchemaRef { table: &TABLE, root: TypeId(10) };
