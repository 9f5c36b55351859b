//! exec and attach over a WebSocket: client's frames to the process, the process's output to the client, its end last.

use std::time::Duration;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::seams::{SeamError, Streams, TerminalSize, Writer};
use crate::streams::frame::{self, Inbound, Subprotocol};
use crate::streams::outcome;
use crate::streams::output::{self, Output};

/// How long a client may take to answer the close.
const PARTING: Duration = Duration::from_secs(5);
/// How long a client may take to show that it reads.
const GREETING: Duration = Duration::from_millis(500);
/// Between the first sign of the client and the first frame to it.
const SETTLE: Duration = Duration::from_millis(2);

/// Serves an upgraded connection. `start` runs once the client is there, so that its failure reaches it as a Status.
pub async fn serve<S, F>(socket: S, protocol: Subprotocol, start: F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    F: Future<Output = Result<Streams, SeamError>> + Send,
{
    let socket = WebSocketStream::from_raw_socket(socket, Role::Server, None).await;
    let (mut sink, mut stream) = socket.split();
    let (started, first) = tokio::join!(start, greet(&mut sink, &mut stream));
    let result = match started {
        Ok(streams) => {
            // An empty frame tells the client that the streams are there.
            if sink.send(protocol.message(frame::STDOUT, b"")).await.is_err() {
                return;
            }
            let mut client = Channels { protocol, sink: &mut sink };
            tokio::select! {
                result = output::run(streams.stdout, streams.stderr, streams.exit, &mut client) => result,
                // The client is gone: nobody is left to tell.
                () = inbound(first, &mut stream, protocol, streams.stdin, streams.resize) => return,
            }
        }
        Err(error) => Err(error),
    };
    let told = outcome::told(protocol.tells_status(), &result);
    // The client may have left meanwhile.
    if told.is_empty() || sink.send(protocol.message(frame::ERROR, &told)).await.is_ok() {
        part(sink, stream).await;
    }
}

struct Channels<'a, S> {
    protocol: Subprotocol,
    sink: &'a mut SplitSink<WebSocketStream<S>, Message>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> output::Client for Channels<'_, S> {
    async fn show(&mut self, output: Output, data: &[u8]) -> bool {
        let channel = match output {
            Output::Stdout => frame::STDOUT,
            Output::Stderr => frame::STDERR,
        };
        self.sink.send(self.protocol.message(channel, data)).await.is_ok()
    }
}

/// Waits until the client reads; returns what it said instead of answering. kubectl before 1.33 begins to read just before
/// it has made its streams, and throws away what is for a stream that it has not: a frame that lies there already is lost.
async fn greet<S>(
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    stream: &mut SplitStream<WebSocketStream<S>>,
) -> Option<Message>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    if sink.send(Message::Ping(tungstenite::Bytes::new())).await.is_err() {
        return None;
    }
    // A client that never answers is served all the same.
    let first = tokio::time::timeout(GREETING, stream.next()).await.ok().flatten();
    tokio::time::sleep(SETTLE).await;
    first.and_then(Result::ok)
}

/// Closes, says that nothing more comes, and ends the connection once the client has answered. Going earlier, with
/// something of the client's unread, would reset it, and the reset overtakes what the client has not read yet. Saying it
/// late leaves a client asleep that waits on its socket while the last frames lie decrypted in its TLS layer (Python's does).
pub(crate) async fn part<S>(mut sink: SplitSink<WebSocketStream<S>, Message>, stream: SplitStream<WebSocketStream<S>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    if sink.send(Message::Close(Some(close))).await.is_err() {
        return;
    }
    let Ok(mut socket) = sink.reunite(stream) else { return };
    if socket.get_mut().shutdown().await.is_ok() {
        let unread = async { while let Some(Ok(_)) = socket.next().await {} };
        // Late is gone.
        let _ = tokio::time::timeout(PARTING, unread).await;
    }
}

/// Client to process. Ends when the client closes or breaks the protocol.
async fn inbound<S>(
    mut first: Option<Message>,
    stream: &mut SplitStream<WebSocketStream<S>>,
    protocol: Subprotocol,
    mut stdin: Option<Writer>,
    resize: mpsc::UnboundedSender<TerminalSize>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    loop {
        let message = match first.take() {
            Some(message) => message,
            None => match stream.next().await {
                Some(Ok(message)) => message,
                Some(Err(_)) | None => return,
            },
        };
        if message.is_close() {
            return;
        }
        let data = match protocol.frame(message) {
            Ok(Some(data)) => data,
            Ok(None) => continue,
            Err(error) => return tracing::debug!(%error, "remote command client broke the protocol"),
        };
        match frame::decode(protocol, &data) {
            Ok(Inbound::Stdin(data)) => {
                if let Some(writer) = &mut stdin
                    && (writer.write_all(data).await.is_err() || writer.flush().await.is_err())
                {
                    stdin = None; // the process reads no more
                }
            }
            Ok(Inbound::StdinClosed) => stdin = None,
            Ok(Inbound::Resize(size)) => {
                // The process may just have ended.
                let _ = resize.send(size);
            }
            Ok(Inbound::Nothing) => {}
            Err(error) => {
                tracing::debug!(%error, "remote command client broke the protocol");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn client(socket: tokio::io::DuplexStream) -> WebSocketStream<tokio::io::DuplexStream> {
        WebSocketStream::from_raw_socket(socket, Role::Client, None).await
    }

    fn streams(
        code: i32,
        output: &'static [u8],
    ) -> (Streams, tokio::io::DuplexStream, mpsc::UnboundedReceiver<TerminalSize>) {
        let (stdin, process) = tokio::io::duplex(64);
        let (resize, sizes) = mpsc::unbounded_channel();
        let streams = Streams {
            stdin: Some(Box::new(stdin)),
            stdout: Some(Box::new(output)),
            stderr: None,
            resize,
            exit: Box::pin(async move { Ok(code) }),
        };
        (streams, process, sizes)
    }

    async fn frames(mut client: WebSocketStream<tokio::io::DuplexStream>) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while let Some(Ok(message)) = client.next().await {
            if let Message::Binary(data) = message {
                frames.push(data.to_vec());
            }
        }
        frames
    }

    #[tokio::test]
    async fn output_then_the_exit_code_as_a_status() {
        let (near, far) = tokio::io::duplex(1024);
        let (streams, _process, _sizes) = streams(3, b"hello");
        let server = tokio::spawn(serve(near, Subprotocol::V5, async { Ok(streams) }));
        let frames = frames(client(far).await).await;
        server.await.unwrap();
        assert_eq!(frames[0], b"\x01");
        assert_eq!(frames[1], b"\x01hello");
        assert_eq!(frames[2][0], frame::ERROR);
        let status: serde_json::Value = serde_json::from_slice(&frames[2][1..]).unwrap();
        assert_eq!(status["reason"], "NonZeroExitCode");
        assert_eq!(status["details"]["causes"][0], serde_json::json!({"reason": "ExitCode", "message": "3"}));
    }

    #[tokio::test]
    async fn a_process_that_cannot_start_is_reported() {
        let (near, far) = tokio::io::duplex(1024);
        let failed = async { Err(SeamError::new("exec in container", "c", "no such file")) };
        let server = tokio::spawn(serve(near, Subprotocol::V4, failed));
        let frames = frames(client(far).await).await;
        server.await.unwrap();
        let status: serde_json::Value = serde_json::from_slice(&frames[0][1..]).unwrap();
        assert_eq!(status["message"], "Internal error occurred: exec in container c: no such file");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_before_the_client_reads_and_a_silent_one_is_served_too() {
        let (near, mut far) = tokio::io::duplex(1024);
        let (streams, _process, _sizes) = streams(0, b"hello");
        let server = tokio::spawn(serve(near, Subprotocol::V5, async { Ok(streams) }));
        let begun = tokio::time::Instant::now();
        let mut ping = [0; 2];
        far.read_exact(&mut ping).await.unwrap();
        assert_eq!(ping, [0x89, 0]);
        let mut frame = [0; 3];
        far.read_exact(&mut frame).await.unwrap();
        assert_eq!(frame, [0x82, 1, frame::STDOUT]);
        assert!(begun.elapsed() >= GREETING);
        drop(far);
        server.await.unwrap();
    }

    #[tokio::test]
    async fn input_sizes_and_the_end_of_input_arrive() {
        let (near, far) = tokio::io::duplex(1024);
        let (mut streams, mut process, mut sizes) = streams(0, b"");
        streams.exit = Box::pin(std::future::pending());
        let server = tokio::spawn(serve(near, Subprotocol::V5, async { Ok(streams) }));
        let mut client = client(far).await;
        client.send(Message::binary(&b"\x00hi"[..])).await.unwrap();
        client.send(Message::binary(&b"\x04{\"Width\":10,\"Height\":5}"[..])).await.unwrap();
        client.send(Message::binary(&b"\xff\x00"[..])).await.unwrap();
        let mut input = Vec::new();
        process.read_to_end(&mut input).await.unwrap();
        assert_eq!(input, b"hi");
        assert_eq!(sizes.recv().await, Some(TerminalSize { width: 10, height: 5 }));
        client.close(None).await.unwrap();
        server.await.unwrap();
    }
}
