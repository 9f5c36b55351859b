//! Request bodies that nobody reads: a refusal is often known from the head alone.
//!
//! Dropping such a body at once resets its HTTP/2 stream, and the client may lose the answer with it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// A client that sends more, or takes longer, has had its answer by then.
const MOST: usize = 256 * 1024;
const LONGEST: Duration = Duration::from_secs(1);

/// A body whose rest is read and thrown away when it is dropped.
pub(crate) struct Unread<B: Body<Data = Bytes> + Send + Unpin + 'static> {
    body: Option<B>,
    /// Owns the reading of rests.
    tasks: TaskTracker,
}

impl<B: Body<Data = Bytes> + Send + Unpin + 'static> Unread<B> {
    pub(crate) fn new(body: B, tasks: TaskTracker) -> Self {
        Self { body: Some(body), tasks }
    }
}

impl<B: Body<Data = Bytes> + Send + Unpin + 'static> Body for Unread<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl<B: Body<Data = Bytes> + Send + Unpin + 'static> Drop for Unread<B> {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        // Outside the runtime the process is ending, and the connection with it.
        if let Ok(runtime) = Handle::try_current() {
            self.tasks.spawn_on(tokio::time::timeout(LONGEST, discard(body)), &runtime);
        }
    }
}

async fn discard<B: Body<Data = Bytes> + Unpin>(mut body: B) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > MOST {
            break;
        }
    }
}
