//! One connection: frames in, frames out, and a handler that is given the client's streams, or opens them.

mod shared;
mod stream;
#[cfg(test)]
mod tests;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::decode::{DecodeError, Decoder};
use crate::encode::Encoder;
use crate::frame::{Frame, GoAwayStatus, StreamId};
use shared::Shared;
pub use stream::{Opener, Reader, Stream, Writer};

/// How much is read or written at once, in bytes.
const CHUNK: usize = 16 * 1024;
/// Frames that wait to be written.
const QUEUE: usize = 16;
/// A connection on which nothing comes for that long is over: upstream's idle timeout of streams.
const IDLE: Duration = Duration::from_secs(4 * 60 * 60);
/// How long a client may take to hang up once it has been told that this is the end.
const PARTING: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read frames")]
    Decode(#[from] DecodeError),
    #[error("stream {0} opened out of turn")]
    OutOfTurn(StreamId),
    #[error("exchange bytes with the client")]
    Io(#[from] io::Error),
}

/// The stream was reset, or its connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream is gone")]
pub struct Gone;

/// The streams that the client opens, in that order. Each waits to be accepted or refused.
pub struct Incoming(mpsc::UnboundedReceiver<Stream>);

impl Incoming {
    /// `None` once the connection has ended.
    pub async fn next(&mut self) -> Option<Stream> {
        self.0.recv().await
    }
}

/// Serves one connection. Returns when `handle` is done (what is left of the streams is reset, and the client told that
/// this was all) or when the client hangs up (`handle` is dropped).
///
/// # Errors
/// When the client breaks the protocol or the connection breaks.
pub async fn serve<R, W, F>(read: R, write: W, handle: impl FnOnce(Incoming) -> F) -> Result<(), Error>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    F: Future<Output = ()>,
{
    let (streams, incoming) = mpsc::unbounded_channel();
    run(read, write, Some(streams), |_| handle(Incoming(incoming))).await
}

/// The same as the client, which opens the streams. The server opens none.
///
/// # Errors
/// When the server breaks the protocol or the connection breaks.
pub async fn call<R, W, F>(read: R, write: W, handle: impl FnOnce(Opener) -> F) -> Result<(), Error>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    F: Future<Output = ()>,
{
    run(read, write, None, |shared| handle(Opener::new(shared))).await
}

/// `streams`: where those go that the peer opens, if it may.
async fn run<R, W, F>(
    read: R,
    write: W,
    streams: Option<mpsc::UnboundedSender<Stream>>,
    handle: impl FnOnce(Arc<Shared>) -> F,
) -> Result<(), Error>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    F: Future<Output = ()>,
{
    let client = streams.is_none();
    let (outgoing, frames) = mpsc::channel(QUEUE);
    let shared = Arc::new(Shared::new(outgoing));
    let mut sending = pin!(send(write, frames));
    let mut receiving = pin!(receive(read, Arc::clone(&shared), streams));
    let mut broken = false;
    let ended = {
        let mut handled = pin!(handle(Arc::clone(&shared)));
        loop {
            tokio::select! {
                () = &mut handled => break None,
                result = &mut receiving => {
                    if client {
                        // What the server said before it hung up is still to be read.
                        shared.hang_up();
                        handled.await;
                    }
                    break Some(result);
                }
                result = &mut sending, if !broken => match client {
                    // Likewise.
                    true => broken = true,
                    false => return result.map(drop).map_err(Error::from),
                }
            }
        }
    };
    let status = match ended {
        Some(Ok(()) | Err(Error::Io(_))) => return ended.unwrap_or(Ok(())),
        _ if broken => return ended.unwrap_or(Ok(())),
        Some(Err(_)) => GoAwayStatus::PROTOCOL_ERROR,
        None => GoAwayStatus::OK,
    };
    let told = async {
        let ((), sent) = tokio::join!(shared.end(status), &mut sending);
        sent
    };
    let parted = async {
        if ended.is_some() || client {
            return told.await;
        }
        // Going before the client has read everything would take from it what it has not read yet.
        let (sent, _) = tokio::join!(told, &mut receiving);
        sent
    };
    // Late is gone.
    if let Ok(Ok(mut write)) = tokio::time::timeout(PARTING, parted).await {
        let _ = write.shutdown().await;
    }
    ended.unwrap_or(Ok(()))
}

/// Reads until the client hangs up.
async fn receive<R>(
    mut read: R,
    shared: Arc<Shared>,
    streams: Option<mpsc::UnboundedSender<Stream>>,
) -> Result<(), Error>
where
    R: AsyncRead + Unpin,
{
    let mut decoder = Decoder::default();
    let mut buffer = BytesMut::new();
    loop {
        while let Some(frame) = decoder.decode(&mut buffer)? {
            shared.take(frame, streams.as_ref()).await?;
        }
        buffer.reserve(CHUNK);
        match tokio::time::timeout(IDLE, read.read_buf(&mut buffer)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0)) | Err(_) => return Ok(()),
            Ok(Err(error)) => return Err(error.into()),
        }
    }
}

/// Writes until the end is asked for by `None`; gives the connection back then.
async fn send<W>(mut write: W, mut frames: mpsc::Receiver<Option<Frame>>) -> io::Result<W>
where
    W: AsyncWrite + Unpin,
{
    let mut encoder = Encoder::default();
    let mut out = BytesMut::new();
    while let Some(Some(frame)) = frames.recv().await {
        encoder.encode(&frame, &mut out);
        let mut last = false;
        while out.len() < CHUNK
            && let Ok(next) = frames.try_recv()
        {
            match next {
                Some(frame) => encoder.encode(&frame, &mut out),
                None => {
                    last = true;
                    break;
                }
            }
        }
        write.write_all(&out).await?;
        write.flush().await?;
        out.clear();
        if last {
            break;
        }
    }
    Ok(write)
}
