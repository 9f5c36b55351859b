//! The columns of `kubectl get` that a definition asks for.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionVersion;
use machinery_registry::{Column, intern, intern_columns};

use super::json_path::JsonPath;
use crate::columns::NAME;

const CREATION: &str = ".metadata.creationTimestamp";

#[derive(Debug)]
pub(super) struct Columns {
    pub(super) headers: &'static [Column],
    /// Of the columns after the name; one that is not understood stays empty.
    pub(super) paths: Vec<Option<JsonPath>>,
}

impl Columns {
    pub(super) fn of(version: &CustomResourceDefinitionVersion) -> Self {
        let asked = version.additional_printer_columns.as_deref().unwrap_or_default();
        if asked.is_empty() {
            let age = Column {
                name: "Age",
                kind: "date",
                format: "",
                description: "How long ago the object was created.",
                priority: 0,
            };
            return Self { headers: intern_columns(vec![NAME, age]), paths: vec![JsonPath::parse(CREATION)] };
        }
        let columns = asked.iter().map(|column| Column {
            name: intern(&column.name),
            kind: intern(&column.type_),
            format: intern(column.format.as_deref().unwrap_or_default()),
            description: intern(
                column
                    .description
                    .as_deref()
                    .filter(|text| !text.is_empty())
                    .unwrap_or("Custom resource definition column (in JSONPath format): "),
            ),
            priority: column.priority.unwrap_or_default(),
        });
        Self {
            headers: intern_columns([NAME].into_iter().chain(columns).collect()),
            paths: asked.iter().map(|column| JsonPath::parse(&column.json_path)).collect(),
        }
    }
}
