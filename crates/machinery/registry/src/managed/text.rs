//! FieldsV1: a set as JSON text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::element::{Element, quoted};
use super::set::Set;

impl Set {
    /// Refuses what is not a FieldsV1; leaves out kinds of paths that a later version may know.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<Level>(text).map(|level| level.set)
    }

    pub fn print(&self) -> String {
        let mut out = String::with_capacity(256);
        self.write(false, &mut out, &mut String::new());
        out
    }

    /// `itself`: the path that leads here is a member too.
    pub(super) fn write(&self, itself: bool, out: &mut String, scratch: &mut String) {
        out.push('{');
        let mut first = true;
        if itself && !self.is_empty() {
            out.push_str(r#"".":{}"#);
            first = false;
        }
        for entry in &self.entries {
            if !std::mem::take(&mut first) {
                out.push(',');
            }
            scratch.clear();
            entry.element.write(scratch);
            quoted(scratch, out);
            out.push(':');
            entry.children.write(entry.member, out, scratch);
        }
        out.push('}');
    }
}

/// One level of the text, and whether it holds itself.
struct Level {
    set: Set,
    itself: bool,
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Paths;
        impl<'de> Visitor<'de> for Paths {
            type Value = Level;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of field paths")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Level, A::Error> {
                let mut level = Level { set: Set::default(), itself: false };
                while let Some(key) = map.next_key::<Text<'de>>()? {
                    let below: Level = map.next_value()?;
                    if key.0 == "." {
                        level.itself = true;
                        continue;
                    }
                    if let Some(element) = Element::parse(&key.0).map_err(A::Error::custom)? {
                        let member = below.itself || below.set.is_empty();
                        level.set.push(element, member, below.set);
                    }
                }
                Ok(level)
            }
        }
        deserializer.deserialize_map(Paths)
    }
}

/// A key: mostly borrowed from the text.
struct Text<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field path")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrow)
    }
}

/// How many paths of `wanted` the text holds. Goes down only where they lead: most of a text is skipped.
pub(super) fn count(text: &str, wanted: &Set) -> Result<usize, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let found = Among { wanted, itself: false }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(found)
}

/// Counts at and below one path; `itself`: the path is wanted.
struct Among<'s> {
    wanted: &'s Set,
    itself: bool,
}

impl<'de> DeserializeSeed<'de> for Among<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Among<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of field paths")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<usize, A::Error> {
        let (mut found, mut empty, mut itself) = (0, true, false);
        while let Some(key) = map.next_key::<Text<'de>>()? {
            if key.0 == "." {
                itself = true;
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            empty = false;
            let entry = match key.0.strip_prefix("f:") {
                Some(name) => self.wanted.find_field(name),
                None if self.wanted.is_empty() => None,
                None => {
                    let element = Element::parse(&key.0).map_err(A::Error::custom)?;
                    element.and_then(|element| self.wanted.find(&element))
                }
            };
            match entry {
                None => drop(map.next_value::<IgnoredAny>()?),
                Some(entry) => {
                    found += map.next_value_seed(Among { wanted: &entry.children, itself: entry.member })?;
                }
            }
        }
        Ok(found + usize::from(self.itself && (itself || empty)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn upstreams_text_round_trips() {
        for text in [
            "{}",
            r#"{"f:data":{".":{},"f:a":{}},"f:metadata":{"f:labels":{".":{},"f:app.kubernetes.io/name":{}}}}"#,
            r#"{"f:spec":{"f:ports":{".":{},"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{}},"k:{\"port\":443,\"protocol\":\"TCP\"}":{}}}}"#,
            r#"{"f:metadata":{"f:finalizers":{".":{},"v:\"a.io/b\"":{}}}}"#,
            r#"{"f:a":{"i:0":{},"i:10":{}}}"#,
        ] {
            assert_eq!(Set::parse(text).unwrap().print(), text);
        }
    }

    #[test]
    fn counting_finds_what_a_set_and_a_text_share() {
        let text = r#"{"f:a":{".":{},"f:b":{},"k:{\"n\":1}":{"f:c":{}}},"f:d":{"f:e":{}}}"#;
        let set = Set::parse(text).unwrap();
        assert_eq!(count(text, &set).unwrap(), set.len());
        for (wanted, found) in [
            (r#"{"f:a":{}}"#, 1),
            (r#"{"f:d":{}}"#, 0),
            (r#"{"f:a":{"f:b":{},"f:x":{}},"f:d":{"f:e":{}}}"#, 2),
            (r#"{"f:a":{"k:{\"n\":1}":{}}}"#, 0),
            (r#"{"f:a":{"k:{\"n\":1}":{".":{},"f:c":{}}}}"#, 1),
            ("{}", 0),
        ] {
            assert_eq!(count(text, &Set::parse(wanted).unwrap()).unwrap(), found, "{wanted}");
        }
        assert!(count("{", &set).is_err() && count(r#"{"f:a":1}"#, &set).is_err());
    }

    #[test]
    fn loose_texts_are_brought_to_order() {
        let loose = r#" {"f:b":{}, "x:new":{"f:c":{}}, "f:a":{"f:z":{},"f:y":{},".":{}}, "f:b":{"f:q":{}}, ".":{}} "#;
        assert_eq!(Set::parse(loose).unwrap().print(), r#"{"f:a":{".":{},"f:y":{},"f:z":{}},"f:b":{".":{},"f:q":{}}}"#);
    }

    #[test]
    fn what_is_no_fieldsv1_is_refused() {
        let deep = format!("{}{}", r#"{"f:a":"#.repeat(100_000), "{}");
        for bad in ["", "null", "[]", "1", r#"{"f:a":1}"#, r#"{"a":{}}"#, r#"{"f:a":{}"#, r#"{"k:x":{}}"#, "{}x", &deep]
        {
            assert!(Set::parse(bad).is_err(), "{:.30}", bad);
        }
    }
}
