//! Field names in the input.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Visitor};

use super::Type;

/// Finds a field by the key in the input, without allocating for known ones.
pub(super) struct Key(pub(super) &'static Type);

pub(super) enum Found {
    Known(usize),
    Unknown(String),
}

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Found, E> {
        Ok(match self.0.fields.iter().position(|field| field.name == name) {
            Some(index) => Found::Known(index),
            None => Found::Unknown(name.to_owned()),
        })
    }
}
