//! What the two directions of a connection and its streams know of each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use super::{CHUNK, Error, Gone, Stream};
use crate::frame::{Frame, GoAwayStatus, ResetStatus, StreamId};
use crate::headers::Headers;

/// What may be sent on a stream, and on all of them, before the peer asks for more, in bytes.
const WINDOW: i64 = 64 * 1024;
/// How much is taken in before the peer is told that it may send as much again.
pub(super) const CREDIT: u32 = 32 * 1024;
/// How much of what the client has sent may wait for its readers; then nothing more is read from the connection. Go's
/// clients send as much as they have, whatever the windows say, so this is what bounds memory.
const BUDGET: usize = 1024 * 1024;
/// What a waiting piece costs beside its bytes.
const OVERHEAD: usize = 128;
/// Streams that may be open at once.
const STREAMS: usize = 4096;

pub(super) struct Shared {
    pub(super) outgoing: mpsc::Sender<Option<Frame>>,
    state: Mutex<State>,
    /// A window has grown, or a stream has gone.
    changed: Notify,
    budget: Arc<Semaphore>,
}

struct State {
    streams: HashMap<StreamId, Open>,
    /// The highest that the client has opened.
    last: StreamId,
    /// Whether the client counts windows: Go's do not, and would never ask for more.
    counts: bool,
    initial: i64,
    /// The connection's own.
    window: i64,
    /// What has come since the client was last told that the connection may carry more.
    uncredited: u32,
}

/// A stream that is not over in both directions.
struct Open {
    /// `None` once the client has finished.
    inbound: Option<mpsc::UnboundedSender<Inbound>>,
    /// Whether we have not finished.
    writes: bool,
    window: i64,
}

pub(super) enum Inbound {
    /// The permit is given back when the piece is taken.
    Data(Bytes, #[allow(dead_code)] OwnedSemaphorePermit),
    End,
}

impl Shared {
    pub(super) fn new(outgoing: mpsc::Sender<Option<Frame>>) -> Self {
        let state =
            State { streams: HashMap::new(), last: 0, counts: false, initial: WINDOW, window: WINDOW, uncredited: 0 };
        let budget = Arc::new(Semaphore::new(BUDGET));
        Self { outgoing, state: Mutex::new(state), changed: Notify::new(), budget }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame; waits while the client does not read.
    pub(super) async fn send(&self, frame: Frame) -> Result<(), Gone> {
        self.outgoing.send(Some(frame)).await.map_err(|_| Gone)
    }

    /// Acts on what the peer has sent.
    pub(super) async fn take(
        self: &Arc<Self>,
        frame: Frame,
        streams: Option<&mpsc::UnboundedSender<Stream>>,
    ) -> Result<(), Error> {
        let answer = match (frame, streams) {
            (Frame::SynStream { stream, .. }, None) => return Err(Error::OutOfTurn(stream)),
            (Frame::SynStream { stream, fin, headers }, Some(streams)) => self.open(stream, fin, headers, streams)?,
            (frame, _) => self.act(frame, streams.is_none()).await,
        };
        if let Some(answer) = answer {
            // Nobody is told anything more once we have said that this is the end.
            let _ = self.send(answer).await;
        }
        Ok(())
    }

    /// Any frame but one that opens a stream. The numbers of a client's pings are odd, those of a server's even.
    async fn act(&self, frame: Frame, client: bool) -> Option<Frame> {
        match frame {
            Frame::SynStream { .. } => None,
            Frame::Data { stream, fin, data } => {
                let credit = self.data(stream, fin, data).await;
                credit.map(|delta| Frame::WindowUpdate { stream: 0, delta })
            }
            Frame::Headers { stream, fin, .. } | Frame::SynReply { stream, fin, .. } => {
                if fin {
                    self.finished_by_client(stream);
                }
                None
            }
            Frame::Reset { stream, .. } => {
                self.forget(stream);
                None
            }
            // Its own come back; ours are never sent.
            Frame::Ping(id) => (id.is_multiple_of(2) == client).then_some(Frame::Ping(id)),
            Frame::Settings { initial_window } => {
                self.resize(initial_window);
                None
            }
            Frame::WindowUpdate { stream, delta } => {
                self.widen(stream, delta);
                None
            }
            // It hangs up when it has let go of its streams.
            Frame::GoAway { .. } => None,
        }
    }

    /// Nothing more will come: readers find the end of what has.
    pub(super) fn hang_up(&self) {
        self.state().streams.clear();
        self.changed.notify_waiters();
    }

    /// Makes a stream of ours, which the peer is not told of yet.
    pub(super) fn begin(&self) -> (StreamId, mpsc::UnboundedReceiver<Inbound>) {
        let (sender, inbound) = mpsc::unbounded_channel();
        let mut state = self.state();
        // A client's are odd.
        let stream = if state.last == 0 { 1 } else { state.last + 2 };
        state.last = stream;
        let window = state.initial;
        state.streams.insert(stream, Open { inbound: Some(sender), writes: true, window });
        (stream, inbound)
    }

    fn open(
        self: &Arc<Self>,
        stream: StreamId,
        fin: bool,
        headers: Headers,
        streams: &mpsc::UnboundedSender<Stream>,
    ) -> Result<Option<Frame>, Error> {
        let (sender, inbound) = mpsc::unbounded_channel();
        let mut state = self.state();
        if stream.is_multiple_of(2) || state.streams.contains_key(&stream) {
            return Err(Error::OutOfTurn(stream));
        }
        // Numbers only grow; a client that opens several at once may send them in another order.
        let refused = match stream < state.last {
            true => Some(ResetStatus::PROTOCOL_ERROR),
            false => (state.streams.len() >= STREAMS).then_some(ResetStatus::REFUSED_STREAM),
        };
        state.last = state.last.max(stream);
        if let Some(status) = refused {
            return Ok(Some(Frame::Reset { stream, status }));
        }
        let window = state.initial;
        state.streams.insert(stream, Open { inbound: Some(sender), writes: true, window });
        drop(state);
        // Once the handler is done nobody opens streams; the end resets this one.
        let _ = streams.send(Stream::new(stream, headers, inbound, Arc::clone(self)));
        if fin {
            self.finished_by_client(stream);
        }
        Ok(None)
    }

    /// Hands a piece to its stream's reader; returns how much more the connection may carry, when that is to be told.
    async fn data(&self, stream: StreamId, fin: bool, data: Bytes) -> Option<u32> {
        // Cannot overflow: the decoder gives out no more than was in its buffer.
        let length = data.len();
        let inbound = self.state().streams.get(&stream).and_then(|open| open.inbound.clone());
        // What comes for a stream that is gone crossed with its end.
        if let Some(inbound) = inbound
            && length > 0
        {
            let cost = (length + OVERHEAD).min(BUDGET) as u32;
            let waited = tokio::select! {
                permit = Arc::clone(&self.budget).acquire_many_owned(cost) => permit.ok(),
                () = inbound.closed() => None,
            };
            if let Some(permit) = waited {
                // A reader that has been dropped wants no more.
                let _ = inbound.send(Inbound::Data(data, permit));
            }
        }
        if fin {
            self.finished_by_client(stream);
        }
        let mut state = self.state();
        state.uncredited = state.uncredited.saturating_add(length as u32);
        (state.uncredited >= CREDIT).then(|| std::mem::take(&mut state.uncredited))
    }

    fn finished_by_client(&self, stream: StreamId) {
        let mut state = self.state();
        let Some(open) = state.streams.get_mut(&stream) else { return };
        if let Some(inbound) = open.inbound.take() {
            let _ = inbound.send(Inbound::End);
        }
        if !open.writes {
            state.streams.remove(&stream);
        }
    }

    /// Whether the stream was still open in our direction.
    pub(super) fn finished_by_us(&self, stream: StreamId) -> bool {
        let mut state = self.state();
        let Some(open) = state.streams.get_mut(&stream) else { return false };
        let wrote = std::mem::replace(&mut open.writes, false);
        if open.inbound.is_none() {
            state.streams.remove(&stream);
        }
        wrote
    }

    /// Whether the stream was still open in any direction.
    pub(super) fn forget(&self, stream: StreamId) -> bool {
        let known = self.state().streams.remove(&stream).is_some();
        self.changed.notify_waiters();
        known
    }

    fn resize(&self, initial: Option<u32>) {
        let mut state = self.state();
        state.counts = true;
        if let Some(initial) = initial {
            let grown = i64::from(initial) - state.initial;
            state.initial = initial.into();
            state.streams.values_mut().for_each(|open| open.window += grown);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    fn widen(&self, stream: StreamId, delta: u32) {
        let mut state = self.state();
        state.counts = true;
        match stream {
            0 => state.window += i64::from(delta),
            _ => {
                if let Some(open) = state.streams.get_mut(&stream) {
                    open.window += i64::from(delta);
                }
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// How many of `wanted` bytes may be sent now; waits until some may.
    pub(super) async fn allowance(&self, stream: StreamId, wanted: usize) -> Result<usize, Gone> {
        let wanted = wanted.min(CHUNK);
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let mut state = self.state();
                let State { streams, window, counts, .. } = &mut *state;
                let open = streams.get_mut(&stream).filter(|open| open.writes).ok_or(Gone)?;
                let most = if *counts { open.window.min(*window).max(0) } else { i64::MAX };
                let granted = wanted.min(usize::try_from(most).unwrap_or(usize::MAX));
                if granted > 0 {
                    open.window -= granted as i64;
                    *window -= granted as i64;
                    return Ok(granted);
                }
            }
            changed.await;
        }
    }

    /// Resets what is left and says that this was all.
    pub(super) async fn end(&self, status: GoAwayStatus) {
        let (mut left, last_good) = {
            let mut state = self.state();
            (std::mem::take(&mut state.streams).into_keys().collect::<Vec<_>>(), state.last)
        };
        left.sort_unstable();
        for stream in left {
            // A client that is gone need not be told.
            let _ = self.send(Frame::Reset { stream, status: ResetStatus::CANCEL }).await;
        }
        let _ = self.send(Frame::GoAway { last_good, status }).await;
        let _ = self.outgoing.send(None).await;
    }
}
