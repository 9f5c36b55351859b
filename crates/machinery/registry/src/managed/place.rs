//! What the schema says of a position: is it owned and merged as one value, or item by item, and by which keys.

use std::borrow::Cow;
use std::cmp::Ordering;

use base_meta::schema::{Field, ListType, SchemaRef, Shape, Table};
use serde_json::{Map, Value};

use super::element::{Element, json, order};

/// A position in a kind's schema.
#[derive(Clone, Copy)]
pub enum Place<'s> {
    /// Of the table of built-in types.
    Table(TablePlace),
    /// Of a schema that came at run time.
    Run(&'s dyn Node),
    /// Nothing is said: maps are merged key by key, lists are one value.
    Deduced,
}

/// One node of a schema that came at run time (a CustomResourceDefinition's).
pub trait Node: Send + Sync {
    fn kind(&self) -> NodeKind<'_>;
    /// Of a declared field; `None` where there is none of that name.
    fn field(&self, name: &str) -> Option<Place<'_>>;
    /// Of a list's items, or a map's values; `None` where fields that are not declared may not be.
    fn element(&self) -> Option<Place<'_>>;
    fn default(&self) -> Option<&Value>;
}

#[derive(Clone, Copy, Debug)]
pub enum NodeKind<'s> {
    Scalar,
    /// A map or list that is one value.
    Atomic,
    Set,
    Keyed(&'s [String]),
    Map,
}

#[derive(Clone, Copy)]
pub struct TablePlace {
    table: &'static Table,
    shape: Shape,
    /// The field that holds it: list and map types are said there.
    field: Option<&'static Field>,
}

/// How a value at a place is owned and merged.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind<'s> {
    /// One value: a scalar, or an atomic list or map.
    Leaf,
    Map,
    Set,
    Keyed(Keys<'s>),
}

/// The names of the fields that tell items apart.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keys<'s> {
    Table(&'static [&'static str]),
    Run(&'s [String]),
}

impl<'s> Keys<'s> {
    fn names(self) -> impl Iterator<Item = &'s str> {
        let (table, run): (&[&str], &[String]) = match self {
            Keys::Table(names) => (names, &[]),
            Keys::Run(names) => (&[], names),
        };
        table.iter().copied().chain(run.iter().map(String::as_str))
    }
}

impl From<SchemaRef> for Place<'_> {
    fn from(schema: SchemaRef) -> Self {
        Self::Table(TablePlace { table: schema.table, shape: Shape::Object(schema.root), field: None })
    }
}

impl<'s> Place<'s> {
    /// `value` decides where the schema says nothing.
    pub(super) fn kind(self, value: &Value) -> Kind<'s> {
        match self {
            Self::Table(place) => place.kind(value),
            Self::Run(node) => match node.kind() {
                NodeKind::Scalar | NodeKind::Atomic => Kind::Leaf,
                NodeKind::Set => Kind::Set,
                NodeKind::Keyed(names) => Kind::Keyed(Keys::Run(names)),
                NodeKind::Map => Kind::Map,
            },
            Self::Deduced => deduced(value),
        }
    }

    /// Where an entry of a map is, and whether its name is declared; `None`: it may not be there.
    pub(super) fn entry(self, name: &str) -> Option<(Self, bool)> {
        match self {
            Self::Table(place) => place.entry(name).map(|(place, declared)| (Self::Table(place), declared)),
            Self::Run(node) => match node.field(name) {
                Some(place) => Some((place, true)),
                None => node.element().map(|place| (place, false)),
            },
            Self::Deduced => Some((Self::Deduced, false)),
        }
    }

    /// As [`Self::entry`], for objects that are stored: what is not declared is deduced.
    pub(super) fn entry_or_deduced(self, name: &str) -> (Self, bool) {
        self.entry(name).unwrap_or((Self::Deduced, false))
    }

    /// Where a list's items are.
    pub(super) fn item(self) -> Self {
        match self {
            Self::Table(place) => match place.shape {
                Shape::List(element) => Self::Table(place.below(place.table.nested(element))),
                _ => Self::Deduced,
            },
            Self::Run(node) => node.element().unwrap_or(Self::Deduced),
            Self::Deduced => Self::Deduced,
        }
    }

    fn default(self) -> Option<Value> {
        match self {
            Self::Table(place) => serde_json::from_str(place.field?.default?).ok(),
            Self::Run(node) => node.default().cloned(),
            Self::Deduced => None,
        }
    }

    pub(super) fn shape(self) -> Option<Shape> {
        match self {
            Self::Table(place) => Some(place.shape),
            _ => None,
        }
    }

    /// What tells an item of a list at this place from the others. `Err` says why nothing does.
    pub(super) fn item_key<'v>(self, kind: Kind<'s>, item: &'v Value) -> Result<ItemKey<'v>, String>
    where
        's: 'v,
    {
        let Kind::Keyed(keys) = kind else {
            return match item {
                Value::Object(_) => Err("associative list without keys has an element that's a map type".into()),
                Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
                Value::Null => Err("associative list without keys has an element that's an explicit null".into()),
                scalar => Ok(ItemKey::Value(scalar)),
            };
        };
        let fields: &Map<String, Value> = match item {
            Value::Object(fields) => fields,
            Value::Null => return Err("associative list with keys may not have a null element".into()),
            _ => return Err("associative list with keys may not have non-map elements".into()),
        };
        let mut key = Vec::with_capacity(2);
        for name in keys.names() {
            let value = match fields.get(name) {
                Some(value) => Cow::Borrowed(value),
                None => {
                    let default = self.item().entry(name).and_then(|(place, _)| place.default());
                    Cow::Owned(default.ok_or_else(|| {
                        format!(
                            "associative list with keys has an element that omits key field {name:?} (and doesn't have default value)"
                        )
                    })?)
                }
            };
            key.push((name, value));
        }
        key.sort_by(|one, other| one.0.cmp(other.0));
        Ok(ItemKey::Fields(key))
    }

    /// [`Self::item_key`] as an element of a path.
    pub(super) fn item_element(self, kind: Kind<'s>, item: &Value) -> Result<Element, String> {
        Ok(match self.item_key(kind, item)? {
            ItemKey::Value(value) => Element::Value(value.clone()),
            ItemKey::Fields(fields) => {
                Element::key(fields.into_iter().map(|(name, value)| (name.into(), value.into_owned())).collect())
            }
        })
    }
}

/// What an item is told by, borrowed.
pub(super) enum ItemKey<'v> {
    Value(&'v Value),
    /// Sorted by name.
    Fields(Vec<(&'v str, Cow<'v, Value>)>),
}

impl ItemKey<'_> {
    /// As elements are ordered; both are of one list.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Value(one), Self::Value(other)) => order(one, other),
            (Self::Fields(one), Self::Fields(other)) => {
                let mut pairs = one.iter().zip(other);
                pairs
                    .find_map(|(one, other)| Some(order(&one.1, &other.1)).filter(|order| order.is_ne()))
                    .unwrap_or(Ordering::Equal)
            }
            (Self::Value(_), Self::Fields(_)) => Ordering::Less,
            (Self::Fields(_), Self::Value(_)) => Ordering::Greater,
        }
    }

    /// As it stands in FieldsV1, before JSON's own quoting.
    pub(super) fn write(&self, out: &mut String) {
        match self {
            Self::Value(value) => {
                out.push_str("v:");
                json(value, out);
            }
            Self::Fields(fields) => {
                for (at, (name, value)) in fields.iter().enumerate() {
                    out.push_str(if at == 0 { "k:{\"" } else { ",\"" });
                    out.push_str(name);
                    out.push_str("\":");
                    json(value, out);
                }
                out.push('}');
            }
        }
    }
}

fn deduced<'s>(value: &Value) -> Kind<'s> {
    if value.is_object() { Kind::Map } else { Kind::Leaf }
}

impl TablePlace {
    fn below(self, shape: Shape) -> Self {
        Self { shape, field: None, ..self }
    }

    fn kind<'s>(self, value: &Value) -> Kind<'s> {
        let atomic = match (self.field, self.shape) {
            (Some(field), _) => self.table.is_atomic_map(field),
            (None, Shape::Object(id)) => self.table.get(id).atomic_map,
            (None, _) => false,
        };
        match self.shape {
            Shape::Object(_) | Shape::Map(_) if atomic => Kind::Leaf,
            Shape::Object(_) | Shape::Map(_) => Kind::Map,
            Shape::List(_) => match self.field.and_then(|field| field.list_type) {
                Some(ListType::Set) => Kind::Set,
                Some(ListType::Map) => Kind::Keyed(Keys::Table(self.field.map_or(&[], |field| field.list_map_keys))),
                Some(ListType::Atomic) | None => Kind::Leaf,
            },
            Shape::Any => deduced(value),
            _ => Kind::Leaf,
        }
    }

    fn entry(self, name: &str) -> Option<(Self, bool)> {
        match self.shape {
            Shape::Object(id) => {
                let field = self.table.field(id, name)?;
                Some((Self { shape: field.shape, field: Some(field), ..self }, true))
            }
            Shape::Map(value) => Some((self.below(self.table.nested(value)), false)),
            Shape::Any => Some((self.below(Shape::Any), false)),
            _ => None,
        }
    }
}
