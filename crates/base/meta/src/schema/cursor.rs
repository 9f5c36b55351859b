//! Where a decoding pass is, and what it has found.

use serde_json::{Map, Value};

use super::{Shape, Table};

/// More strict errors than this are not collected, as upstream does.
const MAX_STRICT_ERRORS: usize = 100;

pub(super) enum Step {
    Field(&'static str),
    Key(String),
    Index(usize),
}

/// Where the pass is, and what it has found.
pub(super) struct Cursor {
    pub(super) table: &'static Table,
    /// Numbers such as `3.0` are integers: YAML's and JSON patches' arithmetic leaves them.
    pub(super) whole_floats: bool,
    pub(super) path: Vec<Step>,
    pub(super) strict_errors: Vec<String>,
    /// The first value of a wrong type.
    pub(super) mismatch: Option<String>,
    /// A value that its type refused, which ends the pass.
    pub(super) refused: Option<String>,
}

impl Cursor {
    pub(super) fn new(table: &'static Table, whole_floats: bool) -> Self {
        Self { table, whole_floats, path: Vec::new(), strict_errors: Vec::new(), mismatch: None, refused: None }
    }

    pub(super) fn strict(&mut self, problem: &str, name: &str) {
        if self.strict_errors.len() >= MAX_STRICT_ERRORS {
            return;
        }
        let mut path = String::new();
        for step in &self.path {
            let dot = if path.is_empty() { "" } else { "." };
            match step {
                Step::Field(name) => path.extend([dot, name]),
                Step::Key(key) => path.extend([dot, key]),
                Step::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        let dot = if path.is_empty() { "" } else { "." };
        let error = format!("{problem} field {:?}", format!("{path}{dot}{name}"));
        if !self.strict_errors.contains(&error) {
            self.strict_errors.push(error);
        }
    }
}

/// Go's text for a type, from its shape.
pub(super) fn go_text(table: &Table, shape: Shape) -> String {
    match shape {
        Shape::String => "string".into(),
        Shape::Bytes => "[]uint8".into(),
        Shape::Bool => "bool".into(),
        Shape::Int(bits) => format!("int{bits}"),
        Shape::Float => "float64".into(),
        Shape::Quantity => "resource.Quantity".into(),
        Shape::IntOrString => "intstr.IntOrString".into(),
        Shape::Time => "v1.Time".into(),
        Shape::MicroTime => "v1.MicroTime".into(),
        Shape::Duration => "v1.Duration".into(),
        Shape::Any => "runtime.RawExtension".into(),
        Shape::Object(id) => {
            let name = table.get(id).name;
            let start = name.rmatch_indices('.').nth(1).map_or(0, |(at, _)| at + 1);
            name[start..].to_owned()
        }
        Shape::List(element) => format!("[]{}", go_text(table, table.nested(element))),
        Shape::Map(value) => format!("map[string]{}", go_text(table, table.nested(value))),
    }
}

/// What null becomes in a list or a map, where it cannot be left out.
pub(super) fn zero(shape: Shape) -> Value {
    match shape {
        Shape::String | Shape::Bytes | Shape::Duration => Value::String(String::new()),
        Shape::Bool => Value::Bool(false),
        Shape::Int(_) | Shape::Float | Shape::IntOrString => Value::from(0),
        Shape::Quantity => Value::String("0".into()),
        Shape::Time | Shape::MicroTime | Shape::Any => Value::Null,
        Shape::Object(_) | Shape::Map(_) => Value::Object(Map::new()),
        Shape::List(_) => Value::Array(Vec::new()),
    }
}
