//! A network's configuration: what its plug-ins are, in which order, and what each is told. Pure.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::version::Version;

/// What no configuration needs.
pub const MOST_BYTES: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ListError {
    #[error("it is not JSON")]
    Json(#[source] serde_json::Error),
    #[error("{field}: {problem}")]
    Field { field: String, problem: String },
}

fn wrong(field: impl Into<String>, problem: impl Into<String>) -> ListError {
    ListError::Field { field: field.into(), problem: problem.into() }
}

/// A network: a chain of plug-ins, each of which goes on from the result of the one before.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkList {
    pub name: String,
    pub version: Version,
    /// Whether CHECK may be asked.
    pub check: bool,
    /// Whether GC may be asked.
    pub collect: bool,
    pub plugins: Vec<Plugin>,
    /// As it was written, to be told to DEL in the same words.
    pub source: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Plugin {
    /// The name of its program.
    pub kind: String,
    /// What it wants to be told at run time, by name.
    pub capabilities: BTreeSet<String>,
    pub config: Map<String, Value>,
}

impl NetworkList {
    /// A list of plug-ins, or a single one, which is a list of one.
    pub fn parse(text: &[u8]) -> Result<Self, ListError> {
        let source = std::str::from_utf8(text).map_err(|_| wrong("the file", "is not UTF-8"))?.to_owned();
        let Value::Object(all) = serde_json::from_str(&source).map_err(ListError::Json)? else {
            return Err(wrong("the file", "must be a JSON object"));
        };
        let name = string(&all, "name")?.ok_or_else(|| wrong("name", "is required"))?;
        if !is_name(&name) {
            return Err(wrong("name", format!("{name:?} must be letters, digits, '_', '.' or '-'")));
        }
        let plugins = match all.get("plugins") {
            None => vec![Plugin::parse(&all, "")?],
            Some(Value::Array(plugins)) if plugins.is_empty() => {
                return Err(wrong("plugins", "must name one at least"));
            }
            Some(Value::Array(plugins)) => {
                let plugin = |(number, plugin): (usize, &Value)| match plugin {
                    Value::Object(plugin) => Plugin::parse(plugin, &format!("plugins[{number}].")),
                    _ => Err(wrong(format!("plugins[{number}]"), "must be an object")),
                };
                plugins.iter().enumerate().map(plugin).collect::<Result<_, _>>()?
            }
            Some(_) => return Err(wrong("plugins", "must be a list")),
        };
        Ok(Self {
            name,
            version: version(&all)?,
            check: !flag(&all, "disableCheck")?,
            collect: !flag(&all, "disableGC")?,
            plugins,
            source,
        })
    }
}

impl Plugin {
    fn parse(config: &Map<String, Value>, path: &str) -> Result<Self, ListError> {
        let field = format!("{path}type");
        let kind = string(config, "type").map_err(|_| wrong(&*field, "must be a string"))?;
        let kind = kind.filter(|kind| !kind.is_empty()).ok_or_else(|| wrong(&*field, "is required"))?;
        // It names a file of the folders of plug-ins, never one elsewhere.
        if kind.contains(['/', '\0']) || kind == "." || kind == ".." {
            return Err(wrong(field, format!("{kind:?} is not the name of a program")));
        }
        let capabilities = match config.get("capabilities") {
            None | Some(Value::Null) => BTreeSet::new(),
            Some(Value::Object(all)) => {
                let mut wanted = BTreeSet::new();
                for (name, value) in all {
                    match value {
                        Value::Bool(true) => wanted.insert(name.clone()),
                        Value::Bool(false) => false,
                        _ => return Err(wrong(format!("{path}capabilities.{name}"), "must be true or false")),
                    };
                }
                wanted
            }
            Some(_) => return Err(wrong(format!("{path}capabilities"), "must be an object")),
        };
        Ok(Self { kind, capabilities, config: config.clone() })
    }
}

/// The newest that both know: `cniVersions` may name more than the one in `cniVersion`.
fn version(all: &Map<String, Value>) -> Result<Version, ListError> {
    let mut named: Vec<String> = string(all, "cniVersion")?.into_iter().collect();
    match all.get("cniVersions") {
        None | Some(Value::Null) => {}
        Some(Value::Array(more)) => {
            for one in more {
                let one = one.as_str().ok_or_else(|| wrong("cniVersions", "must be a list of strings"))?;
                named.push(one.to_owned());
            }
        }
        Some(_) => return Err(wrong("cniVersions", "must be a list of strings")),
    }
    let known = named.iter().filter_map(|name| Version::parse(name)).max();
    known.ok_or_else(|| match &named[..] {
        [] => wrong("cniVersion", "is required: from 0.3.0 to 1.1.0"),
        named => wrong("cniVersion", format!("{} is not spoken here: from 0.3.0 to 1.1.0", named.join(", "))),
    })
}

fn string(all: &Map<String, Value>, field: &str) -> Result<Option<String>, ListError> {
    match all.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(wrong(field, "must be a string")),
    }
}

/// Also as the words that some configurations have instead.
fn flag(all: &Map<String, Value>, field: &str) -> Result<bool, ListError> {
    match all.get(field) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(Value::String(text)) if text == "true" || text == "false" => Ok(text == "true"),
        Some(_) => Err(wrong(field, "must be true or false")),
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}
