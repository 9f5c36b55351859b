//! The table's entries: `objects/README.md` says what is in them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};
use tests::repository;

use crate::value::merge;

/// The definition of the table's own kind.
pub const GADGETS: &str = include_str!("objects/gadgets.definition.yaml");

/// A request for a certificate, as PEM in base64: nobody signs it.
const REQUEST: &str = include_str!("objects/request.txt");
/// A certificate of an authority, as PEM in base64.
const AUTHORITY: &str = include_str!("objects/authority.txt");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    #[serde(default = "own_name")]
    pub name: String,
    #[serde(default)]
    pub generation: Generation,
    #[serde(default)]
    pub minimal: Value,
    #[serde(default)]
    pub maximal: Value,
    #[serde(default)]
    pub becomes: BTreeMap<String, Value>,
    #[serde(default)]
    pub change: Value,
    #[serde(default)]
    pub status: Value,
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
    pub asked: Option<Asked>,
}

/// What `metadata.generation` tells.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Generation {
    /// It is not there.
    #[default]
    None,
    /// It is one, always.
    First,
    /// How often what is neither metadata nor status was set.
    Counted,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    pub body: Value,
    pub code: u16,
    #[serde(default = "anything")]
    pub answer: Value,
}

fn anything() -> Value {
    Value::Object(Map::new())
}

fn own_name() -> String {
    "$n".to_owned()
}

pub struct Entries(BTreeMap<String, Entry>);

impl Entries {
    pub fn load() -> Result<Self> {
        let folder = repository().join("tests/tests/kinds/objects");
        let mut shared = Map::new();
        let mut documents = Vec::new();
        for file in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = file?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if !name.ends_with(".yaml") || name.ends_with(".definition.yaml") || name == "unset.yaml" {
                continue;
            }
            let text = std::fs::read_to_string(&path)?.replace("$csr", REQUEST.trim()).replace("$ca", AUTHORITY.trim());
            let document: Map<String, Value> = serde_norway::from_str(&text).with_context(|| name.clone())?;
            if name == "shared.yaml" { shared = document } else { documents.push((name, document)) }
        }
        let mut all = BTreeMap::new();
        for (file, document) in documents {
            for (id, value) in document {
                let entry =
                    serde_json::from_value(expanded(&value, &shared)).with_context(|| format!("{file}: {id}"))?;
                ensure!(all.insert(id.clone(), entry).is_none(), "{id} has two entries");
            }
        }
        Ok(Self(all))
    }

    pub fn get(&self, id: &str) -> Option<&Entry> {
        self.0.get(id)
    }

    pub fn take(&mut self, id: &str) -> Option<Entry> {
        self.0.remove(id)
    }

    /// Those that nothing took.
    pub fn left(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }
}

/// With what `$use` names in its place.
fn expanded(value: &Value, shared: &Map<String, Value>) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| expanded(item, shared)).collect(),
        Value::Object(fields) => {
            let own = fields.iter().filter(|(name, _)| *name != "$use");
            let own: Map<_, _> = own.map(|(name, value)| (name.clone(), expanded(value, shared))).collect();
            match fields.get("$use").and_then(Value::as_str) {
                Some(used) => {
                    let mut value = expanded(&shared[used], shared);
                    merge(&mut value, &Value::Object(own));
                    value
                }
                None => Value::Object(own),
            }
        }
        plain => plain.clone(),
    }
}
