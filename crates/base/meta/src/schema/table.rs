//! The types of the schema table.

/// Index of a type in its [`Table`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub u16);

/// What a JSON value at a position may be, and how Go would hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// `x-kubernetes-map-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapType {
    Atomic,
    /// Said where the field's type is atomic elsewhere.
    Granular,
}

/// `patchStrategy` of strategic merge patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PatchStrategy {
    pub merge: bool,
    pub replace: bool,
    pub retain_keys: bool,
}

/// One field. Facts that few fields have are in [`Rare`]; they read as if they were here.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// JSON name.
    pub name: &'static str,
    pub rare: &'static Rare,
    pub shape: Shape,
    /// protobuf field number; 0 where the field has none.
    pub proto: u16,
    /// The numbers of the messages that hold the field in protobuf where JSON inlines them, outermost first; then 0.
    pub proto_outer: [u8; 2],
    /// Go holds a pointer: an explicit zero value is kept.
    pub pointer: bool,
    pub omitempty: bool,
    /// Also left out where it is a zero structure.
    pub omitzero: bool,
    /// OpenAPI `required`.
    pub required: bool,
    /// `x-kubernetes-list-type`; `None` where upstream declares none.
    pub list_type: Option<ListType>,
    /// `x-kubernetes-map-type` on the field; it goes before the type's own.
    pub map_type: Option<MapType>,
    pub patch_strategy: PatchStrategy,
}

/// Facts of a field that are mostly absent, shared by all fields that have the same ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rare {
    /// The schema's declared default, as JSON.
    pub default: Option<&'static str>,
    pub list_map_keys: &'static [&'static str],
    pub patch_merge_key: Option<&'static str>,
    pub enum_values: &'static [&'static str],
    /// Go's name of a named string or integer (`v1.Protocol`), which its decoding errors print.
    pub go_type: Option<&'static str>,
}

impl Rare {
    pub const NONE: &'static Self =
        &Self { default: None, list_map_keys: &[], patch_merge_key: None, enum_values: &[], go_type: None };
}

impl std::ops::Deref for Field {
    type Target = Rare;

    fn deref(&self) -> &Rare {
        self.rare
    }
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

impl Type {
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Go's name: the last part of the OpenAPI one.
    pub fn go_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }
}

/// Every type of one API, and the nested shapes of lists and maps.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    pub types: &'static [Type],
    pub shapes: &'static [Shape],
    /// What people read about types and fields: gzip of lines, `=TYPE`, below it ` TEXT` of the type and `FIELD TEXT` of
    /// each field; carriage returns stand for line ends within a text. Empty where nobody has written any.
    pub prose: &'static [u8],
}

impl Table {
    /// Panics where `id` is another table's.
    pub fn get(&self, id: TypeId) -> &'static Type {
        &self.types[usize::from(id.0)]
    }

    pub fn field(&self, id: TypeId, name: &str) -> Option<&'static Field> {
        self.get(id).field(name)
    }

    /// The shape of the elements of a list or the values of a map, from its index in [`Shape`].
    pub fn nested(&self, index: u16) -> Shape {
        self.shapes[usize::from(index)]
    }

    /// Whether server-side apply and strategic merge treat the field's object or map as one value.
    pub fn is_atomic_map(&self, field: &Field) -> bool {
        match (field.map_type, field.shape) {
            (Some(map_type), _) => map_type == MapType::Atomic,
            (None, Shape::Object(id)) => self.get(id).atomic_map,
            (None, _) => false,
        }
    }
}

/// A type together with its table: what a resource definition carries.
#[derive(Clone, Copy, Debug)]
pub struct SchemaRef {
    pub table: &'static Table,
    pub root: TypeId,
}

impl SchemaRef {
    pub fn root_type(&self) -> &'static Type {
        self.table.get(self.root)
    }
}
