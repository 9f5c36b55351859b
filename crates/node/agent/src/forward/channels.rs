//! Ports over a WebSocket's channels: the n-th port of the request has channel 2n for data and 2n + 1 for what goes wrong,
//! and each begins with the port's number. One connection a port; no side can finish before the other.

use bytes::{Buf, Bytes};
use futures::stream::{FuturesUnordered, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::forward::Target;
use crate::forward::carry::{self, Gone, Inward, Outward};
use crate::streams::frame::Subprotocol;
use crate::streams::part;

/// Messages that wait for either side.
const QUEUE: usize = 16;
/// The channels' numbers are one byte.
pub(super) const MOST: usize = 128;

pub(super) async fn serve<S>(
    socket: WebSocketStream<S>,
    protocol: Subprotocol,
    ports: Vec<u16>,
    target: Target,
    gone: impl Future<Output = ()> + Send,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut sink, mut stream) = socket.split();
    let (outgoing, mut messages) = mpsc::channel::<Message>(QUEUE);
    let mut inputs = Vec::new();
    let going = FuturesUnordered::new();
    for (index, port) in (0_u8..).zip(ports) {
        let (input, data) = mpsc::channel::<Bytes>(QUEUE);
        inputs.push(input);
        let channel = |number| Channel { number, protocol, outgoing: outgoing.clone() };
        let (mut data_out, mut errors) = (channel(2 * index), channel(2 * index + 1));
        let target = &target;
        going.push(async move {
            let mut data = data;
            let preamble = Bytes::copy_from_slice(&port.to_le_bytes());
            for channel in [&mut data_out, &mut errors] {
                if channel.send(preamble.clone()).await.is_err() {
                    return;
                }
            }
            carry::forward(target, port, &mut data, &mut data_out, &mut errors).await;
        });
    }
    // The channels hold the only ones left: the messages end with them.
    drop(outgoing);
    let work = going.collect::<()>();
    let sending = async {
        while let Some(message) = messages.recv().await {
            if sink.send(message).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        ((), ()) = futures::future::join(work, sending) => {}
        () = gone => {}
        // Nobody is left to close for.
        () = receive(&mut stream, protocol, inputs) => return,
    }
    part(sink, stream).await;
}

/// Client to channels. Ends when the client closes or breaks the protocol.
async fn receive<S>(
    stream: &mut SplitStream<WebSocketStream<S>>,
    protocol: Subprotocol,
    inputs: Vec<mpsc::Sender<Bytes>>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    while let Some(Ok(message)) = stream.next().await {
        if message.is_close() {
            return;
        }
        match protocol.frame(message) {
            Ok(Some(mut frame)) if !frame.is_empty() => {
                let channel = usize::from(frame.get_u8());
                // On the others there is nothing to be said by a client.
                if channel.is_multiple_of(2)
                    && !frame.is_empty()
                    && let Some(input) = inputs.get(channel / 2)
                {
                    // The connection may be over.
                    let _ = input.send(frame).await;
                }
            }
            Ok(_) => {}
            Err(error) => return tracing::debug!(%error, "a forwarding client broke the protocol"),
        }
    }
}

struct Channel {
    number: u8,
    protocol: Subprotocol,
    outgoing: mpsc::Sender<Message>,
}

impl Inward for mpsc::Receiver<Bytes> {
    async fn next(&mut self) -> Result<Option<Bytes>, Gone> {
        self.recv().await.ok_or(Gone).map(Some)
    }
}

impl Outward for Channel {
    async fn send(&mut self, data: Bytes) -> Result<(), Gone> {
        self.outgoing.send(self.protocol.message(self.number, &data)).await.map_err(|_| Gone)
    }

    async fn finish(&mut self) {}

    async fn reset(&mut self) {}
}
