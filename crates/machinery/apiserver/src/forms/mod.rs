//! The forms an object is sent in, written from its stored bytes.

pub(crate) mod long;
pub(crate) mod table;

use base_meta::{Gvk, Status};
use bytes::{BufMut, BytesMut};
use machinery_registry::resource::List;
use machinery_storage::Object;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Opens a `PartialObjectMetadata`; its metadata and a brace follow.
const METADATA_OPENING: &str = r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":"#;

#[derive(Deserialize)]
struct Outline<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

/// Appends the object as a `PartialObjectMetadata`. Nothing is decoded but the outermost braces.
pub(crate) fn write_metadata(out: &mut BytesMut, object: &Object) -> Result<(), Status> {
    let json = object.json();
    let outline: Outline<'_> = serde_json::from_slice(json)
        .map_err(|error| Status::internal(format_args!("stored object has no metadata: {error}")))?;
    let inner = outline.metadata.get().strip_prefix('{').unwrap_or("}");
    let comma = if inner == "}" { "" } else { "," };
    out.reserve(METADATA_OPENING.len() + inner.len() + 48);
    out.put_slice(METADATA_OPENING.as_bytes());
    out.put_slice(format!("{{\"resourceVersion\":\"{}\"{comma}", object.revision).as_bytes());
    out.put_slice(inner.as_bytes());
    out.put_u8(b'}');
    Ok(())
}

/// Both orders in which an encoded object may open with its type.
pub(crate) struct TypePrefix([String; 2]);

impl TypePrefix {
    pub(crate) fn of(gvk: &Gvk) -> Self {
        let (api_version, kind) = (gvk.api_version(), &gvk.kind);
        Self([
            format!(r#"{{"apiVersion":"{api_version}","kind":"{kind}","#),
            format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}","#),
        ])
    }

    /// Appends the object as a list's item: without its type, which the list's own type implies.
    fn write_item(&self, out: &mut BytesMut, object: &Object) {
        let start = out.len();
        object.write_json(out);
        let typed = self.0.iter().find(|prefix| out[start..].starts_with(prefix.as_bytes()));
        if let Some(prefix) = typed {
            // Only the opening brace stays of the prefix.
            let cut = prefix.len() - 1;
            out.copy_within(start + prefix.len().., start + 1);
            let length = out.len() - cut;
            out.truncate(length);
        }
    }
}

/// `kind`, `apiVersion` and `metadata` of a list, up to the comma before what follows.
pub(crate) fn write_list_head(out: &mut BytesMut, kind: &str, api_version: &str, list: &List) {
    let mut head =
        format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{{"resourceVersion":"{}""#, list.revision);
    if !list.continue_token.is_empty() {
        head.push_str(r#","continue":"#);
        head.push_str(&serde_json::Value::from(list.continue_token.as_str()).to_string());
    }
    if let Some(remaining) = list.remaining {
        head.push_str(&format!(r#","remainingItemCount":{remaining}"#));
    }
    head.push_str("},");
    out.put_slice(head.as_bytes());
}

fn write_items<E>(
    out: &mut BytesMut,
    list: &List,
    mut write: impl FnMut(&mut BytesMut, &Object) -> Result<(), E>,
) -> Result<(), E> {
    out.put_slice(b"\"items\":[");
    for (index, item) in list.items.iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        write(out, item)?;
    }
    out.put_slice(b"]}");
    Ok(())
}

/// About how long [`list`] is.
pub(crate) fn list_size(list: &List) -> usize {
    list.items.iter().map(|item| item.json().len() + 48).sum()
}

/// The list with its objects whole: their stored bytes, without decoding.
pub(crate) fn list(gvk: &Gvk, list: &List) -> BytesMut {
    let size = list_size(list);
    let mut out = BytesMut::with_capacity(size + 256);
    write_list_head(&mut out, &format!("{}List", gvk.kind), &gvk.api_version(), list);
    let prefix = TypePrefix::of(gvk);
    let done: Result<(), std::convert::Infallible> = write_items(&mut out, list, |out, item| {
        prefix.write_item(out, item);
        Ok(())
    });
    match done {
        Ok(()) => out,
        Err(never) => match never {},
    }
}

/// As a `PartialObjectMetadataList`.
pub(crate) fn metadata_list(list: &List) -> Result<BytesMut, Status> {
    let mut out = BytesMut::with_capacity(list.items.len() * 512 + 256);
    write_list_head(&mut out, "PartialObjectMetadataList", "meta.k8s.io/v1", list);
    write_items(&mut out, list, write_metadata)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use bytes::Bytes;
    use machinery_storage::{Meta, Revision};

    use super::*;

    fn object(json: &'static str) -> Arc<Object> {
        Arc::new(Object::new("/k".into(), Revision(7), Meta::default(), Bytes::from_static(json.as_bytes())).unwrap())
    }

    #[test]
    fn a_list_is_the_stored_bytes_without_types() {
        let items = vec![
            object(r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"x":"1"}}"#),
            object(r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"b"}}"#),
            object(r#"{"metadata":{"name":"c"}}"#),
        ];
        let list = List { items, revision: Revision(9), continue_token: "to\"ken".into(), remaining: Some(2) };
        let text = super::list(&Gvk::of("", "v1", "ConfigMap"), &list);
        assert_eq!(
            std::str::from_utf8(&text).unwrap(),
            concat!(
                r#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"9","continue":"to\"ken","remainingItemCount":2},"#,
                r#""items":[{"metadata":{"resourceVersion":"7","name":"a"},"data":{"x":"1"}},"#,
                r#"{"metadata":{"resourceVersion":"7","name":"b"}},{"metadata":{"resourceVersion":"7","name":"c"}}]}"#
            )
        );
    }

    #[test]
    fn metadata_only_keeps_the_metadata_bytes() {
        let mut out = BytesMut::new();
        write_metadata(&mut out, &object(r#"{"kind":"X","metadata":{"name":"a","labels":{"b":"c"}},"spec":{}}"#))
            .unwrap();
        let expected = r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"7","name":"a","labels":{"b":"c"}}}"#;
        assert_eq!(std::str::from_utf8(&out).unwrap(), expected);
        out.clear();
        write_metadata(&mut out, &object(r#"{"metadata":{}}"#)).unwrap();
        assert!(out.ends_with(br#""metadata":{"resourceVersion":"7"}}"#));
    }
}
