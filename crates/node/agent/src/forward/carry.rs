//! One forwarded connection: bytes both ways between a program in the pod and the client.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::forward::Target;
use crate::seams::{Connection, words};

const CHUNK: usize = 32 * 1024;
/// How long the client may go on once the program has finished.
const PARTING: Duration = Duration::from_secs(1);

/// The client has let go of this connection.
pub(super) struct Gone;

/// What comes from the client.
pub(super) trait Inward {
    /// The next piece; `None` once the client has finished. Cancelling loses nothing.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Gone>> + Send;
}

/// What goes to it. After `finish` or `reset` nothing is sent.
pub(super) trait Outward {
    fn send(&mut self, data: Bytes) -> impl Future<Output = Result<(), Gone>> + Send;
    fn finish(&mut self) -> impl Future<Output = ()> + Send;
    /// Ends the client's direction too.
    fn reset(&mut self) -> impl Future<Output = ()> + Send;
}

/// Connects to the port and carries until both sides are done. What goes wrong is told on `errors`, as upstream's kubelet
/// does: what the program itself broke off resets both, so that the client goes on with others.
pub(super) async fn forward(
    target: &Target,
    port: u16,
    inward: &mut impl Inward,
    outward: &mut impl Outward,
    errors: &mut impl Outward,
) {
    let failure = match target.dial(port).await {
        Ok(connection) => match carry(connection, inward, outward).await {
            Ok(()) => None,
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
                tracing::debug!(pod = target.name, port, %error, "a forwarded connection was broken off");
                outward.reset().await;
                return errors.reset().await;
            }
            Err(error) => Some(target.failure(port, &words(&error))),
        },
        Err(failure) => Some(failure),
    };
    if let Some(failure) = failure {
        tracing::debug!(failure, "a port was not forwarded");
        // The client may be gone.
        let _ = errors.send(failure.into()).await;
    }
    errors.finish().await;
    outward.finish().await;
    // What the client still sends goes nowhere.
    outward.reset().await;
}

async fn carry(connection: Connection, inward: &mut impl Inward, outward: &mut impl Outward) -> io::Result<()> {
    let (mut from, mut to) = tokio::io::split(connection);
    // Whether the client is still there.
    let mut up = pin!(async {
        while let Ok(piece) = inward.next().await {
            match piece {
                Some(data) => to.write_all(&data).await?,
                None => {
                    // The program may answer yet.
                    to.shutdown().await?;
                    return Ok::<_, io::Error>(true);
                }
            }
        }
        Ok(false)
    });
    let mut down = pin!(async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(CHUNK);
            if from.read_buf(&mut buffer).await? == 0 {
                outward.finish().await;
                return Ok::<_, io::Error>(());
            }
            if outward.send(buffer.split().freeze()).await.is_err() {
                return Ok(());
            }
        }
    });
    tokio::select! {
        sent = &mut up => match sent {
            Ok(true) => down.await,
            Ok(false) => Ok(()),
            // What the program said before it broke off is for the client.
            Err(error) => match tokio::time::timeout(PARTING, down).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(error),
            },
        },
        received = &mut down => {
            received?;
            // A program that is done does not care for the rest.
            let _ = tokio::time::timeout(PARTING, up).await;
            Ok(())
        }
    }
}
