//! One session: client's frames to the process, the process's output to the client, its end as a Status.

use std::time::Duration;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::seams::{Reader, SeamError, Streams, TerminalSize, Writer};
use crate::streams::frame::{self, Inbound};
use crate::streams::{Subprotocol, outcome};

const CHUNK: usize = 32 * 1024;
/// How long output may stay silent after the process's end before its inherited pipes are given up.
const SILENCE: Duration = Duration::from_secs(1);
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
            if sink.send(Message::binary(frame::encode(frame::STDOUT, b""))).await.is_err() {
                return;
            }
            tokio::select! {
                result = run(streams.stdout, streams.stderr, streams.exit, &mut sink) => result,
                // The client is gone: nobody is left to tell.
                () = inbound(first, &mut stream, protocol, streams.stdin, streams.resize) => return,
            }
        }
        Err(error) => Err(error),
    };
    let status = frame::encode(frame::ERROR, outcome::status(&result).to_string().as_bytes());
    let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    // The client may have left meanwhile.
    if sink.send(Message::binary(status)).await.is_ok() && sink.send(Message::Close(Some(close))).await.is_ok() {
        part(sink, stream).await;
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

/// Ends the connection once the client has answered the close. Going earlier, with something of the client's unread,
/// would reset it, and the reset overtakes what the client has not read yet.
async fn part<S>(sink: SplitSink<WebSocketStream<S>, Message>, mut stream: SplitStream<WebSocketStream<S>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let unread = async { while let Some(Ok(_)) = stream.next().await {} };
    // Late is gone.
    let _ = tokio::time::timeout(PARTING, unread).await;
    if let Ok(mut socket) = sink.reunite(stream) {
        let _ = socket.get_mut().shutdown().await;
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
        let data = match message {
            Message::Binary(data) => data,
            Message::Text(text) => text.into(),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
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

/// Process to client, until it has ended and its output is through.
async fn run<S>(
    mut stdout: Option<Reader>,
    mut stderr: Option<Reader>,
    exit: impl Future<Output = Result<i32, SeamError>>,
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
) -> Result<i32, SeamError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    tokio::pin!(exit);
    let mut ended = None;
    let (mut out, mut err) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let open = stdout.is_some() || stderr.is_some();
        let silence = async {
            match (&ended, open) {
                (Some(_), false) => {}
                (Some(_), true) => tokio::time::sleep(SILENCE).await,
                (None, _) => std::future::pending().await,
            }
        };
        tokio::select! {
            result = &mut exit, if ended.is_none() => ended = Some(result),
            count = read(&mut stdout, &mut out) => {
                if !forward(frame::STDOUT, count, &out, &mut stdout, sink).await {
                    break;
                }
            }
            count = read(&mut stderr, &mut err) => {
                if !forward(frame::STDERR, count, &err, &mut stderr, sink).await {
                    break;
                }
            }
            () = silence => break,
        }
    }
    match ended {
        Some(result) => result,
        None => Err(SeamError::new("send", "output", "the client is gone")),
    }
}

/// Never resolves on a stream that is not there or has ended.
async fn read(stream: &mut Option<Reader>, buffer: &mut [u8]) -> usize {
    match stream {
        // A stream that breaks has ended.
        Some(reader) => reader.read(buffer).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

/// Whether the client still listens.
async fn forward<W>(channel: u8, count: usize, data: &[u8], stream: &mut Option<Reader>, sink: &mut W) -> bool
where
    W: futures::Sink<Message, Error = tungstenite::Error> + Unpin,
{
    if count == 0 {
        *stream = None;
        return true;
    }
    sink.send(Message::binary(frame::encode(channel, &data[..count]))).await.is_ok()
}

#[cfg(test)]
mod tests {
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
