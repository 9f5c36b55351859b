//! What the schema table says of a custom kind, and of any other that is not in it: apiVersion, kind and metadata.
//!
//! A definition's name in OpenAPI is its type's, so each kind needs a type of its own; the few types of the built-in table
//! that they share are copied into a small one once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex, PoisonError};

use base_meta::schema::{Field, SchemaRef, Shape, Table, Type, TypeId};
use machinery_registry::intern;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
/// What a custom object has, and what OpenAPI refers to beside it.
const SHARED: &[&str] = &["ObjectMeta", "ListMeta", "Status", "DeleteOptions", "WatchEvent", "APIResourceList"];

struct Shared {
    types: Vec<Type>,
    shapes: &'static [Shape],
    /// Of every custom kind.
    fields: &'static [Field],
}

static BASE: LazyLock<Shared> = LazyLock::new(shared);

/// The type of that OpenAPI name. Each name costs its few bytes once.
pub(crate) fn schema(name: &str) -> SchemaRef {
    static KNOWN: LazyLock<Mutex<HashMap<&'static str, SchemaRef>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(schema) = known.get(name) {
        return *schema;
    }
    let name = intern(name);
    let mut types = BASE.types.clone();
    let root = id(types.len());
    types.push(Type { name, fields: BASE.fields, atomic_map: false });
    let table: &'static Table =
        Box::leak(Box::new(Table { types: types.leak(), shapes: BASE.shapes, prose: api::schema::table().prose }));
    let schema = SchemaRef { table, root };
    known.insert(name, schema);
    schema
}

fn id(index: usize) -> TypeId {
    TypeId(u16::try_from(index).unwrap_or(u16::MAX))
}

/// Copies types with their fields' shapes renumbered.
struct Copier {
    numbers: BTreeMap<TypeId, TypeId>,
    types: Vec<Type>,
    shapes: Vec<Shape>,
}

impl Copier {
    fn take(&mut self, from: &'static Table, wanted: TypeId) -> TypeId {
        if let Some(known) = self.numbers.get(&wanted) {
            return *known;
        }
        let number = id(self.types.len());
        self.numbers.insert(wanted, number);
        self.types.push(*from.get(wanted));
        let fields: Vec<Field> = from
            .get(wanted)
            .fields
            .iter()
            .map(|field| Field { shape: self.shape(from, field.shape), ..*field })
            .collect();
        self.types[usize::from(number.0)].fields = fields.leak();
        number
    }

    fn shape(&mut self, from: &'static Table, shape: Shape) -> Shape {
        match shape {
            Shape::Object(wanted) => Shape::Object(self.take(from, wanted)),
            Shape::List(nested) => Shape::List(self.nested(from, nested)),
            Shape::Map(nested) => Shape::Map(self.nested(from, nested)),
            scalar => scalar,
        }
    }

    fn nested(&mut self, from: &'static Table, nested: u16) -> u16 {
        let shape = self.shape(from, from.nested(nested));
        self.shapes.push(shape);
        u16::try_from(self.shapes.len() - 1).unwrap_or(u16::MAX)
    }
}

fn shared() -> Shared {
    let from = api::schema::table();
    let mut copier = Copier { numbers: BTreeMap::new(), types: Vec::new(), shapes: Vec::new() };
    for name in SHARED {
        if let Some(wanted) = api::schema::by_name(&format!("{META}{name}")) {
            copier.take(from, wanted);
        }
    }
    // Any kind has the three fields alike; without numbers, for these objects are never protobuf.
    let any = api::schema::schema("io.k8s.api.core.v1.ConfigMap").expect("the table has ConfigMap: a test loads it");
    let mut fields = Vec::new();
    for name in ["apiVersion", "kind", "metadata"] {
        let field = any.root_type().field(name).expect("every kind has these");
        fields.push(Field { shape: copier.shape(from, field.shape), proto: 0, ..*field });
    }
    Shared { types: copier.types, shapes: copier.shapes.leak(), fields: fields.leak() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_a_type_of_its_own_name() {
        let schema = schema("com.example.v1.Gizmo");
        assert_eq!(schema.root_type().name, "com.example.v1.Gizmo");
        let Shape::Object(metadata) = schema.root_type().field("metadata").expect("metadata").shape else {
            panic!("metadata is a structure")
        };
        assert_eq!(schema.table.get(metadata).name, format!("{META}ObjectMeta"));
        assert!(schema.root_type().fields.iter().all(|field| field.proto == 0));
        assert!(std::ptr::eq(schema.table, super::schema("com.example.v1.Gizmo").table));
    }
}
