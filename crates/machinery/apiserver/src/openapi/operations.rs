//! The paths of one group and version, with the operations a client may check for.

use base_meta::schema::SchemaRef;
use base_meta::{GroupVersion, Gvk};
use machinery_registry::{ResourceDef, SubresourceDef, Verb};
use serde_json::{Map, Value, json};

use super::parameters;
use super::schemas::{Collector, Dialect, Special};
use crate::definitions::{self, DELETE_OPTIONS};

const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const WATCH_EVENT: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent";
const RESOURCE_LIST: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Below `/openapi/v3/`, and below `/`: `api/v1`, `apis/apps/v1`.
pub(super) fn path(version: &GroupVersion) -> String {
    format!("{}/{version}", if version.group.is_empty() { "api" } else { "apis" })
}

/// The resources of one group and version.
pub(super) struct Group<'a> {
    version: GroupVersion,
    /// `/api/v1`, `/apis/apps/v1`.
    root: String,
    defs: &'a [ResourceDef],
}

impl<'a> Group<'a> {
    /// `defs` are of one group and version, and not empty.
    pub(super) fn new(defs: &'a [ResourceDef]) -> Self {
        let version = defs.first().map_or_else(|| Gvk::of("", "v1", "").group_version(), |def| def.gvk.group_version());
        Self { root: format!("/{}", path(&version)), version, defs }
    }
}

pub(super) fn write(group: &Group<'_>, dialect: Dialect, paths: &mut Map<String, Value>, schemas: &mut Collector) {
    for def in group.defs {
        let types = Types::collect(def, &group.version, schemas);
        let writer = Writer { dialect, def, types };
        writer.resource(&group.root, paths, schemas);
    }
    if let Some(list) = group.defs.first().and_then(|def| schemas.named(def.schema.table, RESOURCE_LIST)) {
        schemas.kind(RESOURCE_LIST, &Gvk::of("", "v1", "APIResourceList"));
        let get = operation(dialect, None, Vec::new(), None, &list);
        paths.insert(format!("{}/", group.root), json!({ "get": get }));
    }
}

/// References to the definitions that one resource's operations use.
struct Types {
    object: Value,
    list: Value,
    status: Value,
    delete_options: Value,
    patch: Value,
}

impl Types {
    fn collect(def: &ResourceDef, version: &GroupVersion, schemas: &mut Collector) -> Self {
        let SchemaRef { table, .. } = def.schema;
        let name = def.schema.root_type().name;
        let object = match &def.published {
            Some(published) => {
                // What every kind's metadata refers to.
                schemas.named(table, OBJECT_META);
                schemas.published(name, published)
            }
            None => schemas.reference(def.schema),
        };
        schemas.kind(name, &def.gvk);

        let list = if def.verbs.contains(&Verb::List) {
            Self::list(name, def, version, &object, schemas)
        } else {
            Value::Null
        };

        let object_type = || json!({ "type": "object" });
        let status = schemas.named(table, STATUS).unwrap_or_else(object_type);
        schemas.kind(STATUS, &Gvk::of("", "v1", "Status"));
        let delete_options = schemas.named(table, DELETE_OPTIONS).unwrap_or_else(object_type);
        schemas.kind(DELETE_OPTIONS, &version.with_kind("DeleteOptions"));
        if schemas.named(table, WATCH_EVENT).is_some() {
            schemas.kind(WATCH_EVENT, &version.with_kind("WatchEvent"));
            // Go's struct says so by comments that the table does not hold.
            schemas.require(WATCH_EVENT, &["object", "type"]);
            schemas.special(Special::RawExtension);
        }
        let patch = schemas.special(Special::Patch);
        Self { object, list, status, delete_options, patch }
    }

    fn list(name: &str, def: &ResourceDef, version: &GroupVersion, object: &Value, schemas: &mut Collector) -> Value {
        let list_name = format!("{name}List");
        let list_meta = schemas.named(def.schema.table, LIST_META);
        let list = schemas.named(def.schema.table, &list_name).unwrap_or_else(|| {
            let mut properties = json!({
                "apiVersion": { "type": "string" },
                "kind": { "type": "string" },
                "items": { "type": "array", "items": object },
            });
            if let Some(list_meta) = list_meta {
                properties["metadata"] = list_meta;
            }
            schemas.define(&list_name, json!({ "type": "object", "required": ["items"], "properties": properties }))
        });
        schemas.kind(&list_name, &version.with_kind(format!("{}List", def.gvk.kind)));
        list
    }
}

struct Writer<'a> {
    dialect: Dialect,
    def: &'a ResourceDef,
    types: Types,
}

impl Writer<'_> {
    fn resource(&self, root: &str, paths: &mut Map<String, Value>, schemas: &mut Collector) {
        let def = self.def;
        let namespaced = def.namespaced();
        let place = if namespaced { "/namespaces/{namespace}" } else { "" };
        let collection = format!("{root}{place}/{}", def.plural);
        let item = format!("{collection}/{{name}}");

        let mut operations = Map::new();
        self.put(&mut operations, "get", Verb::List, &self.types.list);
        self.put(&mut operations, "post", Verb::Create, &self.types.object);
        self.put(&mut operations, "delete", Verb::DeleteCollection, &self.types.status);
        self.path(paths, collection, operations, namespaced, false);

        let mut operations = Map::new();
        self.put(&mut operations, "get", Verb::Get, &self.types.object);
        self.put(&mut operations, "put", Verb::Update, &self.types.object);
        self.put(&mut operations, "patch", Verb::Patch, &self.types.object);
        let deleted = if def.answers_deleted { &self.types.object } else { &self.types.status };
        self.put(&mut operations, "delete", Verb::Delete, deleted);
        self.path(paths, item.clone(), operations, namespaced, true);

        if namespaced {
            let mut operations = Map::new();
            self.put(&mut operations, "get", Verb::List, &self.types.list);
            self.path(paths, format!("{root}/{}", def.plural), operations, false, false);
        }
        for sub in &def.subresources {
            let path = format!("{item}/{}", sub.name);
            if sub.gvk.kind.ends_with("ProxyOptions") {
                let operations = self.connect(sub);
                self.path(paths, format!("{path}/{{path}}"), operations, namespaced, true);
            }
            let operations = if connects(sub) { self.connect(sub) } else { self.subresource(sub, schemas) };
            self.path(paths, path, operations, namespaced, true);
        }
    }

    /// A stream: its options are in the query, what goes through it no schema tells.
    fn connect(&self, sub: &SubresourceDef) -> Map<String, Value> {
        let text = json!({ "type": "string" });
        let connect = || operation(self.dialect, Some(("connect", &sub.gvk)), Vec::new(), None, &text);
        let mut operations: Map<String, Value> = METHODS
            .iter()
            .filter(|(_, verb)| sub.verbs.contains(verb))
            .map(|(name, _)| ((*name).to_owned(), connect()))
            .collect();
        if sub.gvk.kind.ends_with("ProxyOptions") {
            operations.extend(["head", "options"].map(|name| (name.to_owned(), connect())));
        }
        operations
    }

    fn path(
        &self,
        paths: &mut Map<String, Value>,
        path: String,
        mut operations: Map<String, Value>,
        namespaced: bool,
        named: bool,
    ) {
        if !operations.is_empty() {
            let parameters = parameters::of_path(self.dialect, namespaced, named);
            operations.insert("parameters".into(), parameters.into());
            paths.insert(path, operations.into());
        }
    }

    fn put(&self, operations: &mut Map<String, Value>, method: &str, verb: Verb, answer: &Value) {
        if self.def.verbs.contains(&verb) {
            let operation = self.operation(verb, &self.def.gvk, &self.types.object, answer);
            operations.insert(method.to_owned(), operation);
        }
    }

    fn operation(&self, verb: Verb, gvk: &Gvk, object: &Value, answer: &Value) -> Value {
        let (dialect, types) = (self.dialect, &self.types);
        let (action, mut parameters, body) = match verb {
            Verb::Get => ("get", Vec::new(), None),
            Verb::List => ("list", parameters::of_list(dialect), None),
            Verb::Watch => ("watchlist", parameters::of_list(dialect), None),
            Verb::Create => ("post", parameters::of_write(dialect), Some((object, true))),
            Verb::Update => ("put", parameters::of_write(dialect), Some((object, true))),
            Verb::Patch => ("patch", parameters::of_patch(dialect), Some((&types.patch, true))),
            Verb::Delete => ("delete", parameters::of_delete(dialect), Some((&types.delete_options, false))),
            Verb::DeleteCollection => {
                let mut both = parameters::of_delete(dialect);
                both.extend(parameters::of_list(dialect).into_iter().filter(|parameter| parameter["name"] != "watch"));
                ("deletecollection", both, Some((&types.delete_options, false)))
            }
        };
        let mut request_body = None;
        if let Some((schema, required)) = body {
            match dialect {
                Dialect::V2 => {
                    parameters.push(json!({ "name": "body", "in": "body", "required": required, "schema": schema }));
                }
                Dialect::V3 => request_body = Some(content(verb, schema)),
            }
        }
        operation(dialect, Some((action, gvk)), parameters, request_body, answer)
    }

    /// Its body's kind may be another group's (`Scale`); where the table lacks it, the parent's stands in.
    fn subresource(&self, sub: &SubresourceDef, schemas: &mut Collector) -> Map<String, Value> {
        let table = self.def.schema.table;
        let name = definitions::name_of(&sub.gvk);
        let object = if sub.gvk == self.def.gvk { None } else { schemas.named(table, &name) };
        if object.is_some() {
            schemas.kind(&name, &sub.gvk);
        }
        let object = object.unwrap_or_else(|| self.types.object.clone());
        // A log is text, whatever kind its object is of.
        let answer = if sub.name == "log" { json!({ "type": "string" }) } else { object.clone() };
        METHODS
            .iter()
            .filter(|(_, verb)| sub.verbs.contains(verb))
            .map(|(method, verb)| ((*method).to_owned(), self.operation(*verb, &sub.gvk, &object, &answer)))
            .collect()
    }
}

const METHODS: [(&str, Verb); 5] = [
    ("get", Verb::Get),
    ("post", Verb::Create),
    ("put", Verb::Update),
    ("patch", Verb::Patch),
    ("delete", Verb::Delete),
];

/// Whether what is asked is a stream; its kind is that of its options.
fn connects(sub: &SubresourceDef) -> bool {
    sub.gvk.kind.ends_with("Options")
}

fn content(verb: Verb, schema: &Value) -> Value {
    let types: &[&str] = if verb == Verb::Patch {
        &[
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
            "application/apply-patch+yaml",
        ]
    } else {
        &["*/*"]
    };
    let content: Map<String, Value> =
        types.iter().map(|media| ((*media).to_owned(), json!({ "schema": schema }))).collect();
    json!({ "content": content })
}

fn operation(
    dialect: Dialect,
    action: Option<(&str, &Gvk)>,
    parameters: Vec<Value>,
    request_body: Option<Value>,
    answer: &Value,
) -> Value {
    let ok = match dialect {
        Dialect::V2 => json!({ "description": "OK", "schema": answer }),
        Dialect::V3 => json!({
            "description": "OK",
            "content": {
                "application/json": { "schema": answer },
                "application/yaml": { "schema": answer },
            },
        }),
    };
    let mut operation = json!({ "responses": { "200": ok, "401": { "description": "Unauthorized" } } });
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = request_body {
        operation["requestBody"] = body;
    }
    if let Some((action, gvk)) = action {
        operation["x-kubernetes-action"] = json!(action);
        operation["x-kubernetes-group-version-kind"] =
            json!({ "group": gvk.group, "version": gvk.version, "kind": gvk.kind });
    }
    operation
}
