//! JSON without a schema, and which of its fields come twice: what Go's strict decoder of unstructured objects tells.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The value, and `duplicate field "spec.a"` for each; the last one counts.
pub(crate) fn parse(bytes: &[u8]) -> serde_json::Result<(Value, Vec<String>)> {
    let (mut path, mut found) = (Vec::new(), Vec::new());
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Seed { path: &mut path, found: &mut found }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok((value, found))
}

struct Seed<'a> {
    /// Steps as they are printed: `.name` or `[0]`.
    path: &'a mut Vec<String>,
    found: &'a mut Vec<String>,
}

impl Seed<'_> {
    fn within(&mut self) -> Seed<'_> {
        Seed { path: self.path, found: self.found }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(flag.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Number::from_f64(number).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            self.path.push(format!("[{}]", list.len()));
            let item = items.next_element_seed(self.within());
            self.path.pop();
            match item? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            self.path.push(format!(".{name}"));
            if object.contains_key(&name) {
                let place = self.path.concat();
                let error = format!("duplicate field {:?}", place.trim_start_matches('.'));
                if !self.found.contains(&error) {
                    self.found.push(error);
                }
            }
            let value = entries.next_value_seed(self.within());
            self.path.pop();
            object.insert(name, value?);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_counts_and_each_is_named_once() {
        let (value, found) = parse(br#"{"a":1,"b":[{"c":1,"c":2,"c":3}],"a":-1.5}"#).unwrap();
        assert_eq!(value, json!({"a": -1.5, "b": [{"c": 3}]}));
        assert_eq!(found, [r#"duplicate field "b[0].c""#, r#"duplicate field "a""#]);
    }

    #[test]
    fn bad_json_is_refused() {
        let deep = "[".repeat(1000);
        for bad in ["", "{", "{\"a\":1}x", "{\"a\":}", &deep] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
