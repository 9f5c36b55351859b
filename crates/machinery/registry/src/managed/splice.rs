//! A ledger in an object's stored bytes: the first member of its metadata, so that it is cut out without decoding.

use std::borrow::Cow;

use bytes::Bytes;
use machinery_storage::object::{Malformed, leading_member, metadata_start};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

const MEMBER: &str = "managedFields";

/// The bytes without the ledger, and the ledger's own; both as they are stored.
pub fn cut(json: &[u8]) -> (Cow<'_, [u8]>, Option<&str>) {
    let Some((member, value)) = leading_member(json, MEMBER) else { return (Cow::Borrowed(json), None) };
    let mut rest = Vec::with_capacity(json.len() - member.len());
    rest.extend_from_slice(&json[..member.start]);
    rest.extend_from_slice(&json[member.end..]);
    (Cow::Owned(rest), json.get(value).and_then(|value| std::str::from_utf8(value).ok()))
}

/// Puts a ledger into bytes that have none.
pub fn splice(json: Bytes, ledger: Option<&str>) -> Result<Bytes, Malformed> {
    let Some(ledger) = ledger.filter(|ledger| *ledger != "[]") else { return Ok(json) };
    let at = metadata_start(&json)?;
    let mut whole = Vec::with_capacity(json.len() + ledger.len() + MEMBER.len() + 4);
    whole.extend_from_slice(&json[..at]);
    whole.extend_from_slice(b"\"managedFields\":");
    whole.extend_from_slice(ledger.as_bytes());
    if json.get(at) != Some(&b'}') {
        whole.push(b',');
    }
    whole.extend_from_slice(&json[at..]);
    Ok(whole.into())
}

/// The bytes of an object whose metadata may hold a ledger: it leads there.
pub fn encode(object: &Value) -> serde_json::Result<Vec<u8>> {
    match object.get("metadata").and_then(Value::as_object) {
        Some(metadata) if metadata.contains_key(MEMBER) => serde_json::to_vec(&Led { object, metadata }),
        _ => serde_json::to_vec(object),
    }
}

struct Led<'a> {
    object: &'a Value,
    metadata: &'a Map<String, Value>,
}

impl Serialize for Led<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Metadata<'a>(&'a Map<String, Value>);
        impl Serialize for Metadata<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let rest = self.0.iter().filter(|(name, _)| *name != MEMBER);
                serializer.collect_map(self.0.get_key_value(MEMBER).into_iter().chain(rest))
            }
        }
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.object.as_object().into_iter().flatten() {
            if name == "metadata" {
                map.serialize_entry(name, &Metadata(self.metadata))?;
            } else {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_ledger_leads_wherever_it_was() {
        let object = serde_json::json!({"kind": "A", "metadata": {"labels": {}, "managedFields": [1], "name": "a"}});
        let json = encode(&object).unwrap();
        assert_eq!(json, br#"{"kind":"A","metadata":{"managedFields":[1],"labels":{},"name":"a"}}"#);
        assert_eq!(cut(&json).1, Some("[1]"));
        assert_eq!(encode(&serde_json::json!({"a": 1})).unwrap(), br#"{"a":1}"#);
    }

    #[test]
    fn what_is_put_in_comes_out() {
        for json in [r#"{"kind":"A","metadata":{"name":"a"},"spec":{}}"#, r#"{"metadata":{}}"#] {
            let with = splice(Bytes::from_static(json.as_bytes()), Some(r#"[{"a":1}]"#)).unwrap();
            serde_json::from_slice::<serde_json::Value>(&with).unwrap();
            let (rest, ledger) = cut(&with);
            assert_eq!((&*rest, ledger), (json.as_bytes(), Some(r#"[{"a":1}]"#)));
            assert_eq!(cut(json.as_bytes()), (Cow::Borrowed(json.as_bytes()), None));
            assert_eq!(splice(Bytes::from_static(json.as_bytes()), None).unwrap(), json);
        }
        assert!(splice(Bytes::from_static(b"{}"), Some("[1]")).is_err());
    }
}
