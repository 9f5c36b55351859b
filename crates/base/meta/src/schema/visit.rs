//! The visitor behind `decode` and `conform`: walks the input with the schema beside it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::cursor::{Cursor, Step, go_text, zero};
use super::key::{Found, Key};
use super::{Field, Shape, Type, scalar};

/// One position of the schema, to be filled from the input.
pub(super) struct Expected<'c> {
    cursor: &'c mut Cursor,
    shape: Shape,
    /// The structure whose field this is within.
    owner: Option<&'static Type>,
    /// Go's text for the type where it is not derived from the shape.
    go: Option<&'static str>,
}

impl<'c> Expected<'c> {
    pub(super) fn root(cursor: &'c mut Cursor, shape: Shape) -> Self {
        Self { cursor, shape, owner: None, go: None }
    }

    fn within(&mut self, shape: Shape, go: Option<&'static str>) -> Expected<'_> {
        Expected { cursor: self.cursor, shape, owner: self.owner, go }
    }

    fn go_type(&self) -> String {
        match (self.go, self.shape) {
            // These types read a plain one of Go's first, and its error is what is seen.
            (_, Shape::Time | Shape::MicroTime | Shape::Duration) => "string".to_owned(),
            (_, Shape::IntOrString) => "int32".to_owned(),
            (Some(go), _) => go.to_owned(),
            (None, shape) => go_text(self.cursor.table, shape),
        }
    }

    /// Notes a value of the wrong type; the pass goes on, so that a syntax error further on is still found.
    fn mismatch(&mut self, found: &str) -> Value {
        if self.cursor.mismatch.is_none() {
            let target = match self.owner {
                Some(owner) => {
                    let mut place = owner.go_name().to_owned();
                    for step in &self.cursor.path {
                        if let Step::Field(name) = step {
                            place.extend([".", name]);
                        }
                    }
                    format!("struct field {place} of type {}", self.go_type())
                }
                None => format!("value of type {}", self.go_type()),
            };
            self.cursor.mismatch = Some(format!("json: cannot unmarshal {found} into Go {target}"));
        }
        Value::Null
    }

    fn refuse<E: serde::de::Error>(&mut self, message: String) -> E {
        let error = E::custom(&message);
        self.cursor.refused = Some(message);
        error
    }

    fn text<E: serde::de::Error>(&mut self, text: String) -> Result<Value, E> {
        match scalar::canonical(self.shape, text) {
            Ok(Some(text)) => Ok(Value::String(text)),
            Ok(None) => Ok(Value::Null),
            Err(scalar::Refusal::Mismatch) => Ok(self.mismatch("string")),
            Err(scalar::Refusal::Message(message)) => Err(self.refuse(message)),
        }
    }

    fn integer<E: serde::de::Error>(&mut self, number: i128) -> Result<Value, E> {
        let bits = match self.shape {
            Shape::Int(bits) => bits,
            Shape::IntOrString => 32,
            Shape::Float => return Ok(i64::try_from(number).map_or(Value::from(number as f64), Value::from)),
            Shape::Quantity => return self.text(number.to_string()),
            _ => return Ok(self.mismatch("number")),
        };
        let fits = if bits == 32 { i32::try_from(number).map(i64::from).ok() } else { i64::try_from(number).ok() };
        Ok(match fits {
            Some(number) => Value::from(number),
            None => self.mismatch(&format!("number {number}")),
        })
    }
}

impl<'de> DeserializeSeed<'de> for Expected<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.shape == Shape::Any {
            return serde::Deserialize::deserialize(deserializer);
        }
        deserializer.deserialize_any(self)
    }
}

/// Null is given back as null; whoever holds the position decides what it means there.
impl<'de> Visitor<'de> for Expected<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: serde::de::Error>(mut self, flag: bool) -> Result<Value, E> {
        match self.shape {
            Shape::Bool => Ok(Value::Bool(flag)),
            Shape::Quantity => self.text(flag.to_string()),
            _ => Ok(self.mismatch("bool")),
        }
    }

    fn visit_i64<E: serde::de::Error>(mut self, number: i64) -> Result<Value, E> {
        self.integer(number.into())
    }

    fn visit_u64<E: serde::de::Error>(mut self, number: u64) -> Result<Value, E> {
        self.integer(number.into())
    }

    fn visit_f64<E: serde::de::Error>(mut self, number: f64) -> Result<Value, E> {
        match self.shape {
            Shape::Float => Ok(Value::from(number)),
            Shape::Quantity => self.text(number.to_string()),
            Shape::Int(_) | Shape::IntOrString => {
                if self.cursor.whole_floats && number.fract() == 0.0 && number.abs() < 9e18 {
                    self.integer(number as i128)
                } else {
                    let text = Value::from(number).to_string();
                    Ok(self.mismatch(&format!("number {text}")))
                }
            }
            _ => Ok(self.mismatch("number")),
        }
    }

    fn visit_str<E: serde::de::Error>(mut self, text: &str) -> Result<Value, E> {
        self.text(text.to_owned())
    }

    fn visit_string<E: serde::de::Error>(mut self, text: String) -> Result<Value, E> {
        self.text(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let Shape::List(element) = self.shape else {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return if self.shape == Shape::Quantity { self.text("[]".into()) } else { Ok(self.mismatch("array")) };
        };
        let shape = self.cursor.table.nested(element);
        let go = self.go.and_then(|go| go.strip_prefix("[]"));
        let mut list = Vec::new();
        loop {
            self.cursor.path.push(Step::Index(list.len()));
            let item = items.next_element_seed(self.within(shape, go));
            self.cursor.path.pop();
            match item? {
                Some(Value::Null) => list.push(zero(shape)),
                Some(value) => list.push(value),
                None => break,
            }
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, entries: A) -> Result<Value, A::Error> {
        match self.shape {
            Shape::Object(id) => {
                let this = self.cursor.table.get(id);
                self.structure(this, entries)
            }
            Shape::Map(value) => {
                let shape = self.cursor.table.nested(value);
                self.dictionary(shape, entries)
            }
            shape => {
                let mut entries = entries;
                while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                if shape == Shape::Quantity { self.text("{}".into()) } else { Ok(self.mismatch("object")) }
            }
        }
    }
}

impl Expected<'_> {
    fn structure<'de, A: MapAccess<'de>>(&mut self, this: &'static Type, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        let mut seen = vec![false; this.fields.len()];
        while let Some(key) = entries.next_key_seed(Key(this))? {
            let index = match key {
                Found::Known(index) => index,
                Found::Unknown(name) => {
                    self.cursor.strict("unknown", &name);
                    entries.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let field: &'static Field = &this.fields[index];
            if std::mem::replace(&mut seen[index], true) {
                self.cursor.strict("duplicate", field.name);
            }
            self.cursor.path.push(Step::Field(field.name));
            let expected = Expected { cursor: self.cursor, shape: field.shape, owner: Some(this), go: field.go_type };
            let value = entries.next_value_seed(expected);
            self.cursor.path.pop();
            let value = value?;
            if value.is_null() {
                // Null empties what Go holds by reference; it leaves a plain value as it was.
                if field.pointer || matches!(field.shape, Shape::List(_) | Shape::Map(_) | Shape::Bytes | Shape::Any) {
                    object.remove(field.name);
                }
                continue;
            }
            match (object.get_mut(field.name), value) {
                // A structure or a dictionary that comes twice is filled twice.
                (Some(Value::Object(old)), Value::Object(new)) if field.shape != Shape::Any => old.extend(new),
                (_, value) => {
                    object.insert(field.name.to_owned(), value);
                }
            }
        }
        Ok(Value::Object(object))
    }

    fn dictionary<'de, A: MapAccess<'de>>(&mut self, shape: Shape, mut entries: A) -> Result<Value, A::Error> {
        let go = self.go.and_then(|go| go.strip_prefix("map[")).and_then(|go| go.split_once(']')).map(|(_, go)| go);
        let deep = matches!(shape, Shape::Object(_) | Shape::List(_) | Shape::Map(_));
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                self.cursor.strict("duplicate", &key);
            }
            if deep {
                self.cursor.path.push(Step::Key(key.clone()));
            }
            let value = entries.next_value_seed(self.within(shape, go));
            if deep {
                self.cursor.path.pop();
            }
            let value = value?;
            object.insert(key, if value.is_null() { zero(shape) } else { value });
        }
        Ok(Value::Object(object))
    }
}
