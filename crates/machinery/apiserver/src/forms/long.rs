//! A list too long to be made whole: written while the client takes it, so that a chunk of it is all that waits.

use base_meta::Gvk;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use machinery_registry::Body;
use machinery_registry::resource::List;

use super::{TypePrefix, write_list_head};

/// Bytes of JSON from which a list counts as long.
pub(crate) const LONG: usize = 1024 * 1024;
/// A chunk is sent once it has this many bytes.
const CHUNK: usize = 128 * 1024;

/// The same bytes as [`super::list`].
pub(crate) fn list(gvk: &Gvk, list: List) -> Body {
    let mut opening = BytesMut::new();
    write_list_head(&mut opening, &format!("{}List", gvk.kind), &gvk.api_version(), &list);
    opening.put_slice(b"\"items\":[");
    let chunks = Chunks { prefix: TypePrefix::of(gvk), list, written: 0, opening: Some(opening) };
    StreamBody::new(stream::iter(chunks.map(|chunk| Ok(Frame::data(chunk))))).boxed_unsync()
}

struct Chunks {
    list: List,
    prefix: TypePrefix,
    written: usize,
    /// Taken by the first chunk.
    opening: Option<BytesMut>,
}

impl Iterator for Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let first = self.opening.is_some();
        if !first && self.written == self.list.items.len() {
            return None;
        }
        let mut chunk = self.opening.take().unwrap_or_default();
        chunk.reserve(CHUNK + CHUNK / 8);
        while let Some(item) = self.list.items.get(self.written) {
            if self.written > 0 {
                chunk.put_u8(b',');
            }
            self.prefix.write_item(&mut chunk, item);
            self.written += 1;
            if chunk.len() >= CHUNK {
                break;
            }
        }
        if self.written == self.list.items.len() {
            chunk.put_slice(b"]}");
        }
        Some(chunk.freeze())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use machinery_storage::{Meta, Object, Revision};

    use super::*;

    #[tokio::test]
    async fn a_long_list_is_the_same_in_chunks() {
        for count in [0, 1, 3, 400] {
            let object = |number: usize| {
                let filler = "x".repeat(1000);
                let json =
                    format!(r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"p{number}"}},"f":"{filler}"}}"#);
                Arc::new(Object::new("/k".into(), Revision(7), Meta::default(), json.into()).unwrap())
            };
            let items = || List {
                items: (0..count).map(object).collect(),
                revision: Revision(9),
                continue_token: "token".into(),
                remaining: Some(2),
            };
            let gvk = Gvk::of("", "v1", "Pod");
            let mut body = list(&gvk, items());
            let (mut text, mut chunks) = (Vec::new(), 0);
            while let Some(frame) = body.frame().await {
                text.extend_from_slice(&frame.unwrap().into_data().unwrap());
                chunks += 1;
            }
            assert_eq!(text, super::super::list(&gvk, &items()), "{count}");
            assert_eq!(chunks, if count == 400 { 4 } else { 1 }, "{count}");
        }
    }
}
