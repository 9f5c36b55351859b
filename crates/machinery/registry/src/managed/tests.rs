//! A small kind, and the stories of its fields.
#![allow(clippy::unwrap_used)]

mod laws;
mod overlay;
mod ownership;
mod stories;

use std::sync::LazyLock;

use base_meta::Status;
use base_meta::schema::{Field, ListType, MapType, PatchStrategy, Rare, SchemaRef, Shape, Table, Type, TypeId};
use serde_json::{Value, json};

use super::*;

const VERSION: &str = "test.io/v1";

fn field(name: &'static str, shape: Shape) -> Field {
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
        patch_strategy: PatchStrategy::default(),
    }
}

fn keyed(name: &'static str, shape: Shape, keys: &'static [&'static str]) -> Field {
    let rare = Box::leak(Box::new(Rare { list_map_keys: keys, ..Rare::default() }));
    Field { rare, list_type: Some(ListType::Map), ..field(name, shape) }
}

fn set(name: &'static str, shape: Shape) -> Field {
    Field { list_type: Some(ListType::Set), ..field(name, shape) }
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    // Lists and maps of strings (0, 1), containers (2), ports (3), owners (4).
    let shapes = [3, 4, 5].map(|id| Shape::Object(TypeId(id)));
    let shapes: Vec<Shape> = [Shape::String, Shape::Any].into_iter().chain(shapes).collect();
    let text = |name| field(name, Shape::String);
    let ty = |name, fields: Vec<Field>| Type { name, fields: fields.leak(), atomic_map: false };
    let protocol = Rare { default: Some("\"TCP\""), ..Rare::default() };
    let types = vec![
        ty(
            "Thing",
            vec![
                text("apiVersion"),
                text("kind"),
                field("metadata", Shape::Object(TypeId(1))),
                field("spec", Shape::Object(TypeId(2))),
                field("status", Shape::Object(TypeId(6))),
            ],
        ),
        ty(
            "Meta",
            vec![
                text("name"),
                text("namespace"),
                text("uid"),
                text("resourceVersion"),
                field("labels", Shape::Map(0)),
                field("annotations", Shape::Map(0)),
                set("finalizers", Shape::List(0)),
                keyed("ownerReferences", Shape::List(4), &["uid"]),
            ],
        ),
        ty(
            "Spec",
            vec![
                field("replicas", Shape::Int(32)),
                Field { map_type: Some(MapType::Atomic), ..field("selector", Shape::Map(0)) },
                keyed("containers", Shape::List(2), &["name"]),
                set("tags", Shape::List(0)),
                field("args", Shape::List(0)),
                field("raw", Shape::Any),
                field("strategy", Shape::Object(TypeId(7))),
            ],
        ),
        ty(
            "Container",
            vec![
                text("name"),
                text("image"),
                keyed("ports", Shape::List(3), &["port", "protocol"]),
                field("limits", Shape::Map(0)),
            ],
        ),
        ty(
            "Port",
            vec![
                field("port", Shape::Int(32)),
                Field { rare: Box::leak(Box::new(protocol)), ..text("protocol") },
                text("name"),
            ],
        ),
        ty("Owner", vec![text("uid"), text("name")]),
        ty("Status", vec![field("replicas", Shape::Int(32))]),
        ty("Strategy", vec![text("type"), field("surge", Shape::IntOrString)]),
    ];
    let table = Box::leak(Box::new(Table { types: types.leak(), shapes: shapes.leak(), prose: &[] }));
    SchemaRef { table, root: TypeId(0) }
});

fn kind() -> OneVersion<'static> {
    OneVersion { api_version: VERSION, place: Place::from(*SCHEMA) }
}

/// An object as it would be stored: the value, and its ledger.
#[derive(Clone, Debug)]
struct Stored {
    object: Value,
    ledger: Ledger,
}

fn empty() -> Value {
    json!({ "apiVersion": VERSION, "kind": "Thing", "metadata": {}, "spec": {}, "status": {} })
}

fn write(manager: &str, operation: Operation, time: &str) -> Write {
    let writer =
        Writer { manager: manager.to_owned().into(), operation, api_version: VERSION.into(), subresource: "".into() };
    Write { writer, time: time.into(), reset: Set::of_fields(&[&["status"]]) }
}

/// A whole object around what is said of its labels and its spec.
fn thing(labels: Value, spec: Value) -> Value {
    let mut object = json!({ "apiVersion": VERSION, "kind": "Thing", "metadata": { "name": "web" } });
    if !labels.is_null() {
        object["metadata"]["labels"] = labels;
    }
    if !spec.is_null() {
        object["spec"] = spec;
    }
    object
}

impl Stored {
    fn new() -> Self {
        Self { object: empty(), ledger: Ledger::default() }
    }

    fn create(manager: &str, object: &Value) -> Self {
        let write = write(manager, Operation::Update, "2024-01-01T00:00:00Z");
        let text = created(kind().place, &empty(), object, &["status"], &write.writer, &write.time);
        let ledger = text.map(|text| Ledger::parse(&text).unwrap()).unwrap_or_default();
        Self { object: object.clone(), ledger }
    }

    fn update(&mut self, manager: &str, time: &str, object: &Value) {
        let write = write(manager, Operation::Update, time);
        if let Some(ledger) = updated(&kind(), &self.object, object, &self.ledger, &write).unwrap() {
            self.ledger = ledger;
        }
        self.object = object.clone();
    }

    fn apply(&mut self, manager: &str, config: &Value, force: bool) -> Result<bool, Status> {
        let write = write(manager, Operation::Apply, "2024-02-02T00:00:00Z");
        let applied = applied(&kind(), &self.object, config, &self.ledger, &write, force, &empty())
            .map_err(|error| error.status("ns/web; test.io/v1, Kind=Thing"))?;
        self.ledger = applied.ledger;
        let changed = applied.object.is_some();
        if let Some(object) = applied.object {
            self.object = object;
        }
        Ok(changed)
    }

    fn set(&self, manager: &str) -> Set {
        let entries = self.ledger.entries.iter().filter(|entry| entry.writer.manager == manager);
        entries.fold(Set::default(), |all, entry| all.union(&entry.set().unwrap()))
    }

    fn owns(&self, manager: &str) -> String {
        self.set(manager).print()
    }
}
