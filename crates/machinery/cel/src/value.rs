//! Values while an expression runs. Cloning one is cheap: what is large is shared.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use base_meta::quantity::Quantity;
use jiff::{SignedDuration, Timestamp};

use crate::authorization::Authorization;
use crate::made::Made;

/// A key of a map. Whole numbers are the same key however they are written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Bool(bool),
    Int(i128),
    String(Arc<str>),
}

#[derive(Clone, Debug)]
pub enum Val {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
    List(Arc<Vec<Val>>),
    /// Also a structure: its fields by name.
    Map(Arc<BTreeMap<Key, Val>>),
    Timestamp(Timestamp),
    Duration(SignedDuration),
    Type(Arc<str>),
    Optional(Option<Arc<Val>>),
    Quantity(Quantity),
    Ip(IpAddr),
    Cidr(IpAddr, u8),
    Url(Arc<url::Url>),
    Semver(Arc<semver::Version>),
    /// One of the named formats.
    Format(&'static str),
    /// `authorizer`, and what is built from it.
    Authorization(Arc<Authorization>),
    /// `Object.spec{…}` and the like.
    Made(Arc<Made>),
}

impl From<&str> for Val {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}
impl From<String> for Val {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}
impl From<bool> for Val {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}
impl From<i64> for Val {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}
impl From<usize> for Val {
    fn from(count: usize) -> Self {
        Self::Int(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

impl Val {
    pub fn list(items: Vec<Self>) -> Self {
        Self::List(Arc::new(items))
    }

    pub fn map(entries: impl IntoIterator<Item = (Key, Self)>) -> Self {
        Self::Map(Arc::new(entries.into_iter().collect()))
    }

    /// A structure.
    pub fn fields<N: AsRef<str>>(fields: impl IntoIterator<Item = (N, Self)>) -> Self {
        Self::map(fields.into_iter().map(|(name, value)| (Key::String(name.as_ref().into()), value)))
    }

    pub fn some(inner: Self) -> Self {
        Self::Optional(Some(Arc::new(inner)))
    }

    pub const NONE: Self = Self::Optional(None);

    /// As `type()` prints it.
    pub fn type_name(&self) -> &str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Type(_) => "type",
            Self::Optional(_) => "optional_type",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Ip(_) => "net.IP",
            Self::Cidr(..) => "net.CIDR",
            Self::Url(_) => "kubernetes.URL",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Authorization(of) => of.type_name(),
            Self::Made(made) => &made.name,
        }
    }

    /// What can be a key of a map.
    pub fn key(&self) -> Option<Key> {
        Some(match self {
            Self::Bool(flag) => Key::Bool(*flag),
            Self::Int(number) => Key::Int(i128::from(*number)),
            Self::Uint(number) => Key::Int(i128::from(*number)),
            #[allow(clippy::cast_possible_truncation)]
            Self::Double(number) if number.fract() == 0.0 && number.abs() < 9e15 => Key::Int(*number as i128),
            Self::String(text) => Key::String(text.clone()),
            _ => return None,
        })
    }

    /// Characters, items or entries; 1 for anything else. What work on the value is charged by.
    pub fn weight(&self) -> u64 {
        (match self {
            Self::String(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(items) => items.len(),
            Self::Map(entries) => entries.len(),
            Self::Made(made) => made.fields.len(),
            Self::Optional(Some(inner)) => return inner.weight(),
            _ => 1,
        }) as u64
    }

    /// What comparing the value with another looks at, at most `most`.
    pub fn deep_weight(&self, most: u64) -> u64 {
        let mut weight = self.weight();
        let mut add = |value: &Self| {
            if weight < most {
                weight += value.deep_weight(most - weight);
            }
        };
        match self {
            Self::List(items) => items.iter().for_each(&mut add),
            Self::Map(entries) => entries.values().for_each(&mut add),
            Self::Made(made) => made.fields.values().for_each(&mut add),
            _ => {}
        }
        weight
    }

    #[allow(clippy::cast_precision_loss)]
    fn number(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(*number as f64),
            Self::Uint(number) => Some(*number as f64),
            Self::Double(number) => Some(*number),
            _ => None,
        }
    }

    /// The order of two values of one type, or of two numbers.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Uint(a), Self::Uint(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            (Self::Uint(a), Self::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::String(a), Self::String(b)) => Some(a.cmp(b)),
            (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::Timestamp(a), Self::Timestamp(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            (Self::Quantity(a), Self::Quantity(b)) => Some(a.cmp(b)),
            (Self::Semver(a), Self::Semver(b)) => Some(a.cmp_precedence(b)),
            (a, b) => a.number()?.partial_cmp(&b.number()?),
        }
    }
}

impl PartialEq for Val {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::List(a), Self::List(b)) => Arc::ptr_eq(a, b) || a == b,
            (Self::Map(a), Self::Map(b)) => Arc::ptr_eq(a, b) || a == b,
            (Self::Type(a), Self::Type(b)) => a == b,
            (Self::Optional(a), Self::Optional(b)) => a == b,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a, m), Self::Cidr(b, n)) => a == b && m == n,
            (Self::Url(a), Self::Url(b)) => a == b,
            (Self::Format(a), Self::Format(b)) => a == b,
            (Self::Authorization(a), Self::Authorization(b)) => a == b,
            (Self::Made(a), Self::Made(b)) => Arc::ptr_eq(a, b) || a == b,
            (a, b) => a.compare(b) == Some(Ordering::Equal),
        }
    }
}
