//! The body of a watch: one JSON frame a line (or protobuf frames, each after its length), all events that are ready in one chunk.
//!
//! An event's JSON is the stored object's own bytes, copied into the chunk that TLS is about to encrypt; the other
//! forms are made per object version (cells) and never kept per watcher.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base_meta::Status;
use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body::Frame;
use machinery_registry::Resource;
use machinery_registry::resource::WatchEvent;
use machinery_storage::{Object, Revision};
use serde_json::json;
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::definitions;
use crate::forms;
use crate::forms::table::Include;
use crate::identifier;
use crate::metrics::Watched;
use crate::protobuf::{self, Part};

/// A chunk is sent when it is this large, however many events are ready.
const CHUNK: usize = 64 * 1024;

/// Shortest default duration of a watch, as upstream's `--min-request-timeout`; the longest is twice that.
const MIN_TIMEOUT: Duration = Duration::from_secs(1800);

/// What a client that names no timeout gets; spread, so that watchers do not all come back at once.
pub(crate) fn default_timeout() -> Duration {
    MIN_TIMEOUT.mul_f64(1.0 + identifier::fraction())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventForm {
    Object,
    Metadata,
    Table(Include),
    Protobuf(Part),
}

impl EventForm {
    /// Of the whole body.
    pub(crate) const fn mime(self) -> &'static str {
        match self {
            Self::Protobuf(_) => "application/vnd.kubernetes.protobuf;stream=watch",
            _ => "application/json",
        }
    }
}

pub(crate) struct WatchBody {
    events: Option<BoxStream<'static, WatchEvent>>,
    writer: Writer,
    deadline: Pin<Box<Sleep>>,
    drain: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl WatchBody {
    pub(crate) fn new(
        resource: Arc<dyn Resource>,
        events: BoxStream<'static, WatchEvent>,
        form: EventForm,
        timeout: Duration,
        watched: Watched,
        drain: WaitForCancellationFutureOwned,
    ) -> Self {
        Self {
            events: Some(events),
            writer: Writer { resource, form, described: false, chunk: BytesMut::new(), watched },
            deadline: Box::pin(tokio::time::sleep(timeout)),
            drain: Box::pin(drain),
        }
    }
}

impl http_body::Body for WatchBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let Some(events) = &mut this.events else { return Poll::Ready(None) };
        if this.deadline.as_mut().poll(cx).is_ready() || this.drain.as_mut().poll(cx).is_ready() {
            this.events = None;
            return Poll::Ready(None);
        }
        let mut ended = false;
        while !ended && this.writer.chunk.len() < CHUNK {
            match events.poll_next_unpin(cx) {
                Poll::Ready(Some(event)) => ended = this.writer.event(&event),
                Poll::Ready(None) => ended = true,
                Poll::Pending => break,
            }
        }
        if ended {
            this.events = None;
        }
        let chunk = this.writer.chunk.split().freeze();
        match (chunk.is_empty(), ended) {
            (false, _) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
            (true, true) => Poll::Ready(None),
            (true, false) => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.events.is_none()
    }
}

struct Writer {
    resource: Arc<dyn Resource>,
    form: EventForm,
    /// Whether an event with the table's columns was sent.
    described: bool,
    chunk: BytesMut,
    watched: Watched,
}

impl Writer {
    /// Whether it was the last.
    fn event(&mut self, event: &WatchEvent) -> bool {
        let start = self.chunk.len();
        self.watched.events.inc();
        let written = match event {
            WatchEvent::Added(object) => self.object("ADDED", object),
            WatchEvent::Modified(object) => self.object("MODIFIED", object),
            WatchEvent::Deleted(object) => self.object("DELETED", object),
            WatchEvent::Bookmark { revision, initial_events_end } => self.bookmark(*revision, *initial_events_end),
            WatchEvent::Error(status) => Err(status.clone()),
        };
        let Err(status) = written else { return false };
        self.chunk.truncate(start);
        if let EventForm::Protobuf(_) = self.form
            && let Some(schema) = definitions::by_name(self.resource.def().schema.table, definitions::STATUS)
            && protobuf::write_error(&mut self.chunk, &status, schema).is_ok()
        {
            return true;
        }
        self.open("ERROR");
        // A Status holds strings and numbers only; serialising one does not fail.
        self.chunk.put_slice(&serde_json::to_vec(&status).unwrap_or_default());
        self.chunk.put_slice(b"}\n");
        true
    }

    fn open(&mut self, kind: &str) {
        self.chunk.put_slice(b"{\"type\":\"");
        self.chunk.put_slice(kind.as_bytes());
        self.chunk.put_slice(b"\",\"object\":");
    }

    fn object(&mut self, kind: &str, object: &Object) -> Result<(), Status> {
        if let EventForm::Protobuf(part) = self.form {
            return protobuf::write_event(&mut self.chunk, kind, self.resource.def(), part, object);
        }
        self.open(kind);
        match self.form {
            EventForm::Protobuf(_) => {}
            EventForm::Object => object.write_json(&mut self.chunk),
            EventForm::Metadata => forms::write_metadata(&mut self.chunk, object)?,
            EventForm::Table(include) => {
                let columns = !std::mem::replace(&mut self.described, true);
                let resource = &*self.resource;
                let revision = object.revision;
                forms::table::write_single(&mut self.chunk, resource, include, columns, revision, Some(object))?;
            }
        }
        self.chunk.put_slice(b"}\n");
        Ok(())
    }

    fn bookmark(&mut self, revision: Revision, initial_events_end: bool) -> Result<(), Status> {
        if let EventForm::Protobuf(part) = self.form {
            let mut metadata = json!({ "resourceVersion": revision.to_string() });
            if initial_events_end {
                metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
            }
            let object = json!({ "metadata": metadata });
            return protobuf::write_made(&mut self.chunk, "BOOKMARK", self.resource.def(), part, &object);
        }
        self.open("BOOKMARK");
        let annotations =
            if initial_events_end { r#","annotations":{"k8s.io/initial-events-end":"true"}"# } else { "" };
        let gvk = &self.resource.def().gvk;
        let (kind, api_version) = match self.form {
            EventForm::Object | EventForm::Protobuf(_) => (gvk.kind.as_ref(), gvk.api_version()),
            EventForm::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1".to_owned()),
            EventForm::Table(include) => {
                forms::table::write_single(&mut self.chunk, &*self.resource, include, false, revision, None)?;
                self.chunk.put_slice(b"}\n");
                return Ok(());
            }
        };
        let object = format!(
            r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{{"resourceVersion":"{revision}","creationTimestamp":null{annotations}}}}}"#
        );
        self.chunk.put_slice(object.as_bytes());
        self.chunk.put_slice(b"}\n");
        Ok(())
    }
}
