//! The types of the schema table: what Go's API types say beyond a field's name.
//!
//! `api` fills the table from generated data; each resource definition carries its root type, so
//! `machinery` decodes, patches, publishes and normalises objects without naming a kind.
//! A table is a flat slice of types that refer to each other by index: static, without pointers to chase,
//! and the same shape that a CustomResourceDefinition's schema is lowered to.

/// Index of a type in its [`Table`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeId(pub u16);

/// What a JSON value at a position may be, and how Go would hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    String,
    /// `[]byte`: base64 text.
    Bytes,
    Bool,
    /// `int32`, `int64` and the unsigned ones; the width in bits.
    Int(u8),
    Float,
    /// `resource.Quantity`: printed in canonical form.
    Quantity,
    /// `intstr.IntOrString`.
    IntOrString,
    /// `metav1.Time`: RFC 3339, seconds; `null` where zero.
    Time,
    /// `metav1.MicroTime`: RFC 3339 with microseconds.
    MicroTime,
    /// `metav1.Duration`: Go's duration text.
    Duration,
    /// `runtime.RawExtension`, `FieldsV1`, `JSON`: kept as it came.
    Any,
    Object(TypeId),
    /// Element shape, as an index into [`Table::shapes`].
    List(u16),
    /// `map[string]V`: value shape, as an index into [`Table::shapes`].
    Map(u16),
}

/// How server-side apply and strategic merge treat a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    Map,
}

/// `patchStrategy` of strategic merge patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PatchStrategy {
    pub merge: bool,
    pub replace: bool,
    pub retain_keys: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// JSON name.
    pub name: &'static str,
    pub shape: Shape,
    /// Go holds a pointer: an explicit zero value is kept.
    pub pointer: bool,
    pub omitempty: bool,
    /// OpenAPI `required`.
    pub required: bool,
    /// The schema's declared default, as JSON.
    pub default: Option<&'static str>,
    /// protobuf field number; 0 where the field has none.
    pub proto: u16,
    /// `x-kubernetes-list-type`; `None` where upstream declares none.
    pub list_type: Option<ListType>,
    pub list_map_keys: &'static [&'static str],
    /// `x-kubernetes-map-type: atomic` (on the field).
    pub atomic_map: bool,
    pub patch_strategy: PatchStrategy,
    pub patch_merge_key: Option<&'static str>,
    pub enum_values: &'static [&'static str],
}

#[derive(Clone, Copy, Debug)]
pub struct Type {
    /// The OpenAPI definition name, `io.k8s.api.apps.v1.Deployment`.
    pub name: &'static str,
    /// In upstream's order; inlined structs are already expanded.
    pub fields: &'static [Field],
    /// `x-kubernetes-map-type: atomic` on the type (LabelSelector, ObjectReference, …).
    pub atomic_map: bool,
}

/// Every type of one API, and the nested shapes of lists and maps.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    pub types: &'static [Type],
    pub shapes: &'static [Shape],
}

/// A type together with its table: what a resource definition carries.
#[derive(Clone, Copy, Debug)]
pub struct SchemaRef {
    pub table: &'static Table,
    pub root: TypeId,
}
