//! One stream, and its two directions.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Gone;
use super::shared::{CREDIT, Inbound, Shared};
use crate::frame::{Frame, ResetStatus, StreamId};
use crate::headers::Headers;

/// A stream that the client has opened and that waits for an answer.
pub struct Stream {
    pub id: StreamId,
    pub headers: Headers,
    inbound: mpsc::UnboundedReceiver<Inbound>,
    shared: Arc<Shared>,
}

impl Stream {
    pub(super) fn new(
        id: StreamId,
        headers: Headers,
        inbound: mpsc::UnboundedReceiver<Inbound>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { id, headers, inbound, shared }
    }

    /// Tells the client that the stream is there.
    pub async fn accept(self) -> Result<(Reader, Writer), Gone> {
        let Self { id, inbound, shared, .. } = self;
        shared.send(Frame::SynReply { stream: id, fin: false, headers: Headers::default() }).await?;
        let reader = Reader { id, inbound, ended: false, uncredited: 0, shared: Arc::clone(&shared) };
        Ok((reader, Writer { id, shared }))
    }

    pub async fn refuse(self) {
        reset(&self.shared, self.id, ResetStatus::CANCEL).await;
    }
}

/// Opens streams to a server.
pub struct Opener(Arc<Shared>);

impl Opener {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// What is written may go out before the server has answered; it resets a stream that it refuses.
    pub async fn open(&self, headers: Headers) -> Result<(Reader, Writer), Gone> {
        let (id, inbound) = self.0.begin();
        self.0.send(Frame::SynStream { stream: id, fin: false, headers }).await?;
        let reader = Reader { id, inbound, ended: false, uncredited: 0, shared: Arc::clone(&self.0) };
        Ok((reader, Writer { id, shared: Arc::clone(&self.0) }))
    }
}

/// What the peer sends.
pub struct Reader {
    id: StreamId,
    inbound: mpsc::UnboundedReceiver<Inbound>,
    ended: bool,
    /// What has been taken since the client was last told that it may send more.
    uncredited: u32,
    shared: Arc<Shared>,
}

impl Reader {
    /// The next piece; `None` once the client has finished. Cancelling loses nothing.
    ///
    /// # Errors
    /// When either side has reset the stream, or the connection has ended.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Gone> {
        if self.ended {
            return Ok(None);
        }
        match self.inbound.recv().await {
            Some(Inbound::Data(data, _)) => {
                self.uncredited = self.uncredited.saturating_add(data.len() as u32);
                if self.uncredited >= CREDIT {
                    let delta = std::mem::take(&mut self.uncredited);
                    // Not waited for, so that nothing is lost by a cancel: a full queue is one more reason to wait.
                    let credit = Frame::WindowUpdate { stream: self.id, delta };
                    if self.shared.outgoing.try_send(Some(credit)).is_err() {
                        self.uncredited = delta;
                    }
                }
                Ok(Some(data))
            }
            Some(Inbound::End) => {
                self.ended = true;
                Ok(None)
            }
            None => Err(Gone),
        }
    }
}

/// What we send.
pub struct Writer {
    id: StreamId,
    shared: Arc<Shared>,
}

impl Writer {
    /// Returns once everything is queued: at the pace at which the client reads.
    pub async fn send(&mut self, mut data: Bytes) -> Result<(), Gone> {
        while !data.is_empty() {
            let granted = self.shared.allowance(self.id, data.len()).await?;
            let piece = data.split_to(granted);
            self.shared.send(Frame::Data { stream: self.id, fin: false, data: piece }).await?;
        }
        Ok(())
    }

    /// Nothing more will be sent on this stream; the client may go on. Again is no different.
    pub async fn finish(&mut self) {
        if self.shared.finished_by_us(self.id) {
            // A client that is gone has its end.
            let _ = self.shared.send(Frame::Data { stream: self.id, fin: true, data: Bytes::new() }).await;
        }
    }

    /// Ends both directions.
    pub async fn reset(&mut self) {
        reset(&self.shared, self.id, ResetStatus::CANCEL).await;
    }
}

async fn reset(shared: &Shared, stream: StreamId, status: ResetStatus) {
    if shared.forget(stream) {
        // Likewise.
        let _ = shared.send(Frame::Reset { stream, status }).await;
    }
}
