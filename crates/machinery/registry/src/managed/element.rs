//! One step of a field path: upstream's `fieldpath.PathElement`, its order and its text.

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

/// `Field < Key < Value < Index`; numbers compare as numbers, whichever way they are written.
#[derive(Clone, Debug)]
pub enum Element {
    /// `f:name`.
    Field(Box<str>),
    /// `k:{"name":"a"}`: an item of a list that is a map; sorted by field name.
    Key(Box<[(Box<str>, Value)]>),
    /// `v:"a"`: an item of a list that is a set.
    Value(Value),
    /// `i:0`: an item of a list by its place. No list is owned so any more; old entries may hold it.
    Index(i64),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("field path {0:?} is not two letters long")]
    Short(String),
    #[error("field path {0:?} has no colon")]
    Colon(String),
    #[error("parse field path {0:?}")]
    Malformed(String),
}

impl Element {
    pub fn field(name: &str) -> Self {
        Self::Field(name.into())
    }

    pub fn key(mut fields: Vec<(Box<str>, Value)>) -> Self {
        fields.sort_by(|one, other| one.0.cmp(&other.0));
        Self::Key(fields.into())
    }

    /// `None`: of a kind that a later version may know.
    pub fn parse(text: &str) -> Result<Option<Self>, Error> {
        let malformed = || Error::Malformed(text.to_owned());
        if text.len() < 2 {
            return Err(Error::Short(text.to_owned()));
        }
        if text.as_bytes()[1] != b':' {
            return Err(Error::Colon(text.to_owned()));
        }
        let rest = &text[2..];
        Ok(Some(match text.as_bytes()[0] {
            b'f' => Self::field(rest),
            b'v' => Self::Value(serde_json::from_str(rest).map_err(|_| malformed())?),
            b'i' => Self::Index(rest.parse().map_err(|_| malformed())?),
            b'k' => {
                let Ok(Value::Object(fields)) = serde_json::from_str(rest) else { return Err(malformed()) };
                Self::key(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
            }
            _ => return Ok(None),
        }))
    }

    /// As it stands in FieldsV1, before JSON's own quoting.
    pub fn write(&self, out: &mut String) {
        match self {
            Self::Field(name) => out.extend(["f:", name]),
            Self::Value(value) => {
                out.push_str("v:");
                json(value, out);
            }
            Self::Index(index) => out.extend(["i:", &index.to_string()]),
            Self::Key(fields) => {
                out.push_str("k:{");
                for (at, (name, value)) in fields.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    quoted(name, out);
                    out.push(':');
                    json(value, out);
                }
                out.push('}');
            }
        }
    }
}

/// A value's JSON.
pub(super) fn json(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => quoted(text, out),
        value => out.push_str(&value.to_string()),
    }
}

/// A JSON string.
pub(super) fn quoted(text: &str, out: &mut String) {
    if text.bytes().any(|byte| byte < 0x20) {
        return out.push_str(&Value::from(text).to_string());
    }
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(['"', '\\']) {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        out.push('\\');
        out.push_str(&special[..1]);
        rest = &special[1..];
    }
    out.push_str(rest);
    out.push('"');
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Element {}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        let rank = |element: &Self| match element {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        };
        match (self, other) {
            (Self::Field(one), Self::Field(other)) => one.cmp(other),
            (Self::Key(one), Self::Key(other)) => {
                let pairs = one.iter().zip(other.iter());
                let fields = pairs.map(|(one, other)| one.0.cmp(&other.0).then_with(|| order(&one.1, &other.1)));
                fields.fold(Ordering::Equal, Ordering::then).then(one.len().cmp(&other.len()))
            }
            (Self::Value(one), Self::Value(other)) => order(one, other),
            (Self::Index(one), Self::Index(other)) => one.cmp(other),
            (one, other) => rank(one).cmp(&rank(other)),
        }
    }
}

/// Numbers, texts, booleans, lists, maps, null.
pub(super) fn order(one: &Value, other: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    };
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => one.cmp(&other),
            _ => {
                let float = |number: &serde_json::Number| number.as_f64().unwrap_or_default();
                float(one).total_cmp(&float(other))
            }
        },
        (Value::String(one), Value::String(other)) => one.cmp(other),
        (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
        (Value::Array(one), Value::Array(other)) => {
            let items = one.iter().zip(other).map(|(one, other)| order(one, other));
            items.fold(Ordering::Equal, Ordering::then).then(one.len().cmp(&other.len()))
        }
        (Value::Object(one), Value::Object(other)) => {
            let entries = one.iter().zip(other).map(|(one, other)| one.0.cmp(other.0).then(order(one.1, other.1)));
            entries.fold(Ordering::Equal, Ordering::then).then(one.len().cmp(&other.len()))
        }
        (one, other) => rank(one).cmp(&rank(other)),
    }
}

/// Whether two values are one: `1` and `1.0` are.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (one, other) => one == other,
    }
}

/// As messages show a path: `.spec.ports[port=80,protocol="TCP"].name`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(fields) => {
                let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", fields.join(","))
            }
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn texts_round_trip_and_print_as_paths() {
        for (text, path) in [
            ("f:spec", ".spec"),
            ("f:app.kubernetes.io/name", ".app.kubernetes.io/name"),
            ("f:", "."),
            (r#"k:{"containerPort":80,"protocol":"TCP"}"#, r#"[containerPort=80,protocol="TCP"]"#),
            (r#"v:"a\"b""#, r#"[="a\"b"]"#),
            ("v:1", "[=1]"),
            ("i:3", "[3]"),
        ] {
            let element = Element::parse(text).unwrap().unwrap();
            let mut again = String::new();
            element.write(&mut again);
            assert_eq!((again.as_str(), element.to_string().as_str()), (text, path));
        }
        assert_eq!(Element::parse("x:later"), Ok(None));
        let unsorted = Element::parse(r#"k:{"b":1,"a":2}"#).unwrap().unwrap();
        assert_eq!(unsorted.to_string(), "[a=2,b=1]");
    }

    #[test]
    fn bad_texts_are_refused() {
        for bad in ["", "f", "spec", "k:[]", "k:{", "v:", "v:x", "i:one", "é:"] {
            assert!(Element::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_order_is_upstreams() {
        let sorted = [
            "f:",
            "f:a",
            "f:b",
            r#"k:{"a":80}"#,
            r#"k:{"a":443}"#,
            r#"k:{"a":"x"}"#,
            "v:9",
            "v:10",
            r#"v:"1""#,
            "v:true",
            "i:2",
            "i:10",
        ];
        let parsed: Vec<_> = sorted.iter().map(|text| Element::parse(text).unwrap().unwrap()).collect();
        assert!(parsed.is_sorted());
        assert_eq!(Element::parse("v:1").unwrap(), Element::parse("v:1.0").unwrap());
    }
}
