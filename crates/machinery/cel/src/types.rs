//! Types, with the most a value of one can hold.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// As large as a request can carry: the bound of what declares none.
pub const UNBOUNDED: u64 = 3 * 1024 * 1024;

/// A structure with named fields.
#[derive(Debug, Default)]
pub struct Object {
    pub name: String,
    /// By the name an expression says, escaped where need be.
    pub fields: BTreeMap<String, Ty>,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    Type,
    List(Arc<Ty>),
    Map(Arc<Ty>, Arc<Ty>),
    Object(Arc<Object>),
    Optional(Arc<Ty>),
    /// Of one of Kubernetes' libraries: `kubernetes.Quantity`, `net.IP`, …
    Opaque(&'static str),
    /// Made by an expression: `Object.spec{…}`.
    Made(Arc<str>),
    /// Of a signature: any type, the same at each place.
    Variable(char),
}

#[derive(Clone, Debug)]
pub struct Ty {
    pub kind: Kind,
    /// The most characters, items or entries a value has.
    pub max: u64,
}

impl From<Kind> for Ty {
    fn from(kind: Kind) -> Self {
        Self { kind, max: UNBOUNDED }
    }
}

impl Ty {
    pub fn list(item: Self) -> Self {
        Kind::List(Arc::new(item)).into()
    }

    pub fn map(key: Self, value: Self) -> Self {
        Kind::Map(Arc::new(key), Arc::new(value)).into()
    }

    pub fn object(name: &str, fields: impl IntoIterator<Item = (String, Self)>) -> Self {
        Kind::Object(Arc::new(Object { name: name.to_owned(), fields: fields.into_iter().collect() })).into()
    }

    pub fn optional(inner: Self) -> Self {
        Kind::Optional(Arc::new(inner)).into()
    }

    #[must_use]
    pub fn at_most(mut self, max: Option<u64>) -> Self {
        self.max = max.unwrap_or(self.max).min(self.max);
        self
    }

    pub fn is_dyn(&self) -> bool {
        matches!(self.kind, Kind::Dyn)
    }

    /// Whether a value of `other` can stand where this is asked for.
    pub fn accepts(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Dyn, _) | (_, Kind::Dyn) => true,
            // Structures, times and the like may be null.
            (Kind::Null, Kind::Object(_) | Kind::Timestamp | Kind::Duration | Kind::Optional(_))
            | (Kind::Object(_) | Kind::Timestamp | Kind::Duration | Kind::Optional(_), Kind::Null) => true,
            (Kind::List(a), Kind::List(b)) | (Kind::Optional(a), Kind::Optional(b)) => a.accepts(b),
            (Kind::Map(key, value), Kind::Map(other_key, other_value)) => {
                key.accepts(other_key) && value.accepts(other_value)
            }
            (Kind::Object(a), Kind::Object(b)) => Arc::ptr_eq(a, b) || a.name == b.name,
            (Kind::Opaque(a), Kind::Opaque(b)) => a == b,
            (Kind::Made(a), Kind::Made(b)) => a == b,
            (Kind::Variable(a), Kind::Variable(b)) => a == b,
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }

    /// The type of a value that is one of two.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        let max = self.max.max(other.max);
        if self.accepts(other) && !other.is_dyn() {
            Self { kind: if matches!(self.kind, Kind::Null) { other.kind.clone() } else { self.kind.clone() }, max }
        } else {
            Self { kind: Kind::Dyn, max }
        }
    }
}

impl fmt::Display for Ty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Dyn => f.write_str("dyn"),
            Kind::Null => f.write_str("null"),
            Kind::Bool => f.write_str("bool"),
            Kind::Int => f.write_str("int"),
            Kind::Uint => f.write_str("uint"),
            Kind::Double => f.write_str("double"),
            Kind::String => f.write_str("string"),
            Kind::Bytes => f.write_str("bytes"),
            Kind::Timestamp => f.write_str("timestamp"),
            Kind::Duration => f.write_str("duration"),
            Kind::Type => f.write_str("type"),
            Kind::List(item) => write!(f, "list({item})"),
            Kind::Map(key, value) => write!(f, "map({key}, {value})"),
            Kind::Object(object) => f.write_str(&object.name),
            Kind::Optional(inner) => write!(f, "optional_type({inner})"),
            Kind::Opaque(name) => f.write_str(name),
            Kind::Made(name) => f.write_str(name),
            Kind::Variable(name) => write!(f, "{name}"),
        }
    }
}
