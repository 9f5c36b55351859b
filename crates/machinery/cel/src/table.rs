//! The declared type of a built-in kind, from the schema table.

use std::collections::BTreeMap;

use base_meta::schema::{SchemaRef, Shape, TypeId};

use crate::escape::escape;
use crate::types::{Kind, Ty};

/// What an expression sees of an object of the kind. A type inside itself is of any type there.
pub fn declare_built_in(schema: SchemaRef) -> Ty {
    structure(schema, schema.root, &mut Vec::new())
}

fn structure(schema: SchemaRef, id: TypeId, above: &mut Vec<TypeId>) -> Ty {
    if above.contains(&id) {
        return Kind::Dyn.into();
    }
    above.push(id);
    let this = schema.table.get(id);
    let fields: BTreeMap<String, Ty> =
        this.fields.iter().filter_map(|field| Some((escape(field.name)?, of(schema, field.shape, above)))).collect();
    above.pop();
    Ty::object(this.go_name(), fields)
}

fn of(schema: SchemaRef, shape: Shape, above: &mut Vec<TypeId>) -> Ty {
    match shape {
        Shape::String | Shape::Quantity | Shape::Duration => Kind::String.into(),
        Shape::Bytes => Kind::Bytes.into(),
        Shape::Bool => Kind::Bool.into(),
        Shape::Int(_) => Kind::Int.into(),
        Shape::Float => Kind::Double.into(),
        Shape::Time | Shape::MicroTime => Kind::Timestamp.into(),
        Shape::IntOrString | Shape::Any => Kind::Dyn.into(),
        Shape::Object(id) => structure(schema, id, above),
        Shape::List(element) => Ty::list(of(schema, schema.table.nested(element), above)),
        Shape::Map(value) => Ty::map(Kind::String.into(), of(schema, schema.table.nested(value), above)),
    }
}
