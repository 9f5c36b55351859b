//! Bodies that are recorded as they pass.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use machinery_registry::Body;

use super::Record;

/// More of a body is not recorded; nothing larger is accepted either.
const MOST: usize = crate::body::LIMIT;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A request's body that is copied while it is read.
pub(crate) struct Tee {
    body: Body,
    copy: Arc<Mutex<Vec<u8>>>,
}

impl Tee {
    pub(crate) fn new(body: Body) -> (Self, Arc<Mutex<Vec<u8>>>) {
        let copy = Arc::new(Mutex::new(Vec::new()));
        (Self { body, copy: copy.clone() }, copy)
    }
}

impl http_body::Body for Tee {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let mut copy = self.copy.lock().unwrap_or_else(PoisonError::into_inner);
            let room = MOST.saturating_sub(copy.len()).min(data.len());
            copy.extend_from_slice(&data[..room]);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The answer of a long-running request: its record is closed when the stream ends or its client leaves.
pub(crate) struct Ending {
    pub(crate) body: Body,
    pub(crate) record: Option<Record>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            record.complete();
        }
    }
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
