//! One version of a definition, made ready: its schema, rules, columns, and row in the table of resources.

use std::sync::Arc;

use base_meta::Gvk;
use base_meta::field::{Error, Path};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use machinery_cel::rules::{Rules, Verdict};
use machinery_registry::custom::{Step, Topology};
use machinery_registry::{
    CustomSchema, Published, ResourceDef, ScalePaths, Scope, SubresourceDef, Verb, intern, intern_texts,
};
use machinery_structural::{GroupVersionKind, ListType, ParseError, Schema, Type};
use serde_json::Value;

use super::columns::Columns;
use super::json_path::JsonPath;
use super::table;

#[derive(Debug, thiserror::Error)]
pub(crate) enum BadDefinition {
    #[error("version {version:?} has no schema")]
    NoSchema { version: String },
    #[error("reading the schema of version {version:?}")]
    Schema {
        version: String,
        #[source]
        source: ParseError,
    },
    #[error("no version is stored")]
    NoStorage,
    #[error("writing the schema as JSON")]
    Json(#[from] serde_json::Error),
}

/// Shared by the strategy, the views and their conversions.
#[derive(Debug)]
pub(crate) struct Version {
    pub(super) schema: Schema,
    pub(super) rules: Rules,
    pub(super) columns: Columns,
    /// Name and place of each selectable field.
    pub(super) selectable: Vec<(&'static str, Option<JsonPath>)>,
    pub(super) def: ResourceDef,
    pub(super) scale: ScalePaths,
}

const CHANGE: &[Verb] = &[Verb::Get, Verb::Patch, Verb::Update];

impl Version {
    pub(crate) fn new(
        definition: &CustomResourceDefinition,
        version: &CustomResourceDefinitionVersion,
    ) -> Result<Self, BadDefinition> {
        let document = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
        let document = document.ok_or_else(|| BadDefinition::NoSchema { version: version.name.clone() })?;
        let mut document = serde_json::to_value(document)?;
        if definition.spec.preserve_unknown_fields == Some(true) {
            document["x-kubernetes-preserve-unknown-fields"] = true.into();
        }
        let schema = Schema::parse(&document)
            .map_err(|source| BadDefinition::Schema { version: version.name.clone(), source })?;
        // Those of a stored definition compiled when it was written.
        let (rules, _) = Rules::compile(&schema, &Path::default());
        let selectable = version.selectable_fields.iter().flatten();
        let selectable: Vec<_> = selectable
            .map(|field| (intern(field.json_path.trim_start_matches('.')), JsonPath::parse(&field.json_path)))
            .collect();
        let columns = Columns::of(version);
        let def = def(definition, version, &document, &columns, &selectable);
        Ok(Self { schema, rules, columns, selectable, def, scale: scale(version) })
    }

    pub(crate) fn def(&self) -> &ResourceDef {
        &self.def
    }

    pub(super) fn judge(&self, object: &Value, old: Option<&Value>) -> Verdict {
        let errors = match old {
            Some(old) => self.schema.validate_update(&Path::default(), object, old),
            None => self.schema.validate(&Path::default(), object),
        };
        // Rules may count on what the schema promises.
        if errors.is_empty() {
            self.rules.validate(&self.schema, object, old)
        } else {
            Verdict { errors, ..Verdict::default() }
        }
    }
}

fn scale(version: &CustomResourceDefinitionVersion) -> ScalePaths {
    match version.subresources.as_ref().and_then(|subresources| subresources.scale.as_ref()) {
        None => ScalePaths::default(),
        Some(scale) => ScalePaths {
            spec_replicas: scale.spec_replicas_path.clone().into(),
            status_replicas: scale.status_replicas_path.clone().into(),
            selector: scale.label_selector_path.clone().map(Into::into),
        },
    }
}

fn def(
    definition: &CustomResourceDefinition,
    version: &CustomResourceDefinitionVersion,
    document: &Value,
    columns: &Columns,
    selectable: &[(&'static str, Option<JsonPath>)],
) -> ResourceDef {
    let spec = &definition.spec;
    let accepted = definition.status.as_ref().and_then(|status| status.accepted_names.as_ref());
    let names = accepted.unwrap_or(&spec.names);
    let gvk =
        Gvk { group: spec.group.clone().into(), version: version.name.clone().into(), kind: names.kind.clone().into() };
    let subresources = version.subresources.as_ref();
    let has_status = subresources.is_some_and(|subresources| subresources.status.is_some());
    let has_scale = subresources.is_some_and(|subresources| subresources.scale.is_some());
    let status = SubresourceDef { name: "status", gvk: gvk.clone(), verbs: CHANGE };
    let scale = SubresourceDef { name: "scale", gvk: Gvk::of("autoscaling", "v1", "Scale"), verbs: CHANGE };
    let deprecation = (version.deprecated == Some(true)).then(|| {
        let default = || format!("{}/{} {} is deprecated", spec.group, version.name, names.kind);
        version.deprecation_warning.clone().unwrap_or_else(default).into()
    });
    let kind = GroupVersionKind { group: &spec.group, version: &version.name, kind: &names.kind };
    let published = Published {
        v2: kind.publish_v2(document, "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
        v3: kind.publish_v3(document, "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
    };
    let package: Vec<&str> = spec.group.rsplit('.').collect();
    ResourceDef {
        plural: names.plural.clone().into(),
        singular: names.singular.clone().unwrap_or_default().into(),
        short_names: intern_texts(names.short_names.iter().flatten().map(String::as_str)),
        categories: intern_texts(names.categories.iter().flatten().map(String::as_str)),
        scope: if spec.scope == "Cluster" { Scope::Cluster } else { Scope::Namespaced },
        verbs: Verb::ALL,
        subresources: has_status.then_some(status).into_iter().chain(has_scale.then_some(scale)).collect(),
        columns: columns.headers,
        fields: intern_texts(selectable.iter().map(|(name, _)| *name)),
        answers_deleted: false,
        deprecation,
        schema: table::schema(&format!("{}.{}.{}", package.join("."), version.name, names.kind)),
        stored_as: None,
        published: Some(Arc::new(published)),
        gvk,
    }
}

impl CustomSchema for Version {
    fn prune(&self, object: &mut Value) -> Vec<String> {
        self.schema.prune(object)
    }

    fn default(&self, object: &mut Value) {
        self.schema.apply_defaults(object);
    }

    fn has_defaults(&self) -> bool {
        self.schema.has_defaults()
    }

    fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<Error> {
        self.judge(object, old).errors
    }

    fn topology(&self, path: &[Step<'_>]) -> Topology {
        let mut schema = Some(&self.schema);
        for step in path {
            schema = schema.and_then(|schema| match step {
                Step::Field(name) => schema.property(name),
                Step::Element => schema.items.as_deref(),
            });
        }
        // Of what the schema does not know, maps are granular and lists are not.
        let Some(schema) = schema else { return Topology::Granular };
        match (schema.kind, &schema.list) {
            _ if schema.int_or_string => Topology::Atomic,
            (Type::Object, _) if schema.atomic_map => Topology::Atomic,
            (Type::Object | Type::Any, _) => Topology::Granular,
            (Type::Array, ListType::Set) => Topology::Set,
            (Type::Array, ListType::Map(keys)) => {
                let items = schema.items.as_deref();
                let default = |key: &String| items.and_then(|items| items.properties.get(key)?.default.clone());
                Topology::Map(keys.iter().map(|key| (key.clone(), default(key))).collect())
            }
            _ => Topology::Atomic,
        }
    }
}
