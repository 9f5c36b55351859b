//! Finding types in the schema table by the names Go's packages give them.

use base_meta::Gvk;
use base_meta::schema::{SchemaRef, Table, TypeId};
use machinery_registry::ResourceDef;

pub(crate) const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

pub(crate) const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";

pub(crate) fn by_name(table: &'static Table, name: &str) -> Option<SchemaRef> {
    let index = table.types.iter().position(|candidate| candidate.name == name)?;
    Some(SchemaRef { table, root: TypeId(u16::try_from(index).ok()?) })
}

/// `autoscaling/v1 Scale` → `io.k8s.api.autoscaling.v1.Scale`.
pub(crate) fn name_of(gvk: &Gvk) -> String {
    let package = match gvk.group.split('.').next() {
        None | Some("") => "core",
        Some(package) => package,
    };
    format!("io.k8s.api.{package}.{}.{}", gvk.version, gvk.kind)
}

/// The type of a plain answer, by what it says of itself.
pub(crate) fn of_answer(table: &'static Table, value: &serde_json::Value) -> Option<(Gvk, SchemaRef)> {
    let gvk = Gvk::parse(value["apiVersion"].as_str()?, value["kind"].as_str()?)?;
    let name = if gvk.kind == "Status" { STATUS.to_owned() } else { name_of(&gvk) };
    by_name(table, &name).map(|schema| (gvk, schema))
}

/// The type of a request's body: the resource's own, or its subresource's where that has another kind.
pub(crate) fn of_body(def: &ResourceDef, subresource: &str) -> Option<SchemaRef> {
    match def.subresource(subresource) {
        Some(sub) if sub.gvk != def.gvk => by_name(def.schema.table, &name_of(&sub.gvk)),
        _ => Some(def.schema),
    }
}
