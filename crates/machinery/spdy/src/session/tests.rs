//! A server's session against a client that speaks frames by hand.

use bytes::Bytes;
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

use super::*;
use crate::frame::ResetStatus;
use crate::headers::Headers;
use crate::peer::Peer;

/// A client, and the server that runs `handle` for it.
fn session<F>(
    handle: impl FnOnce(Incoming) -> F + Send + 'static,
) -> (Peer<DuplexStream>, JoinHandle<Result<(), Error>>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (near, far) = tokio::io::duplex(256 * 1024);
    let (read, write) = tokio::io::split(near);
    (Peer::new(far), tokio::spawn(serve(read, write, handle)))
}

fn open(stream: StreamId) -> Frame {
    Frame::SynStream { stream, fin: false, headers: [("streamtype", "data")].into_iter().collect() }
}

fn data(stream: StreamId, text: &'static str) -> Frame {
    Frame::Data { stream, fin: false, data: Bytes::from_static(text.as_bytes()) }
}

fn fin(stream: StreamId) -> Frame {
    Frame::Data { stream, fin: true, data: Bytes::new() }
}

fn reply(stream: StreamId) -> Frame {
    Frame::SynReply { stream, fin: false, headers: Headers::default() }
}

fn reset(stream: StreamId, status: ResetStatus) -> Frame {
    Frame::Reset { stream, status }
}

fn bye(last_good: StreamId, status: GoAwayStatus) -> Frame {
    Frame::GoAway { last_good, status }
}

/// Accepts one stream and sends back what comes on it, to its end.
async fn echo(mut incoming: Incoming) {
    let stream = incoming.next().await.expect("a stream");
    assert_eq!(stream.headers.get("streamType"), Some("data"));
    let (mut reader, mut writer) = stream.accept().await.expect("accepted");
    while let Ok(Some(piece)) = reader.next().await {
        writer.send(piece).await.expect("sent");
    }
    writer.finish().await;
}

#[tokio::test]
async fn a_stream_is_accepted_carries_both_ways_and_ends_the_session() {
    let (mut client, server) = session(echo);
    client.send(&[open(1), data(1, "one"), Frame::Ping(1), Frame::Ping(2), data(1, "two"), fin(1)]).await;
    let mut frames = Vec::new();
    while let Some(frame) = client.next().await {
        if matches!(frame, Frame::GoAway { .. }) {
            client.socket.shutdown().await.expect("shut down");
        }
        frames.push(frame);
    }
    server.await.expect("no panic").expect("served");
    // The ping's answer may overtake the stream's.
    let ping = frames.iter().position(|frame| *frame == Frame::Ping(1)).expect("a pong");
    frames.remove(ping);
    assert_eq!(frames, [reply(1), data(1, "one"), data(1, "two"), fin(1), bye(1, GoAwayStatus::OK)]);
}

#[tokio::test]
async fn a_reset_reaches_both_halves() {
    let (mut client, server) = session(|mut incoming: Incoming| async move {
        let (mut reader, mut writer) = incoming.next().await.expect("a stream").accept().await.expect("accepted");
        assert_eq!(reader.next().await, Err(Gone));
        assert_eq!(writer.send(Bytes::from_static(b"late")).await, Err(Gone));
        incoming.next().await.expect("another").refuse().await;
    });
    client.send(&[open(1), reset(1, ResetStatus::CANCEL), data(1, "late"), open(3)]).await;
    assert_eq!(client.next().await, Some(reply(1)));
    assert_eq!(client.next().await, Some(reset(3, ResetStatus::CANCEL)));
    assert_eq!(client.next().await, Some(bye(3, GoAwayStatus::OK)));
    drop(client);
    server.await.expect("no panic").expect("served");
}

#[tokio::test]
async fn what_is_left_is_reset_at_the_end() {
    let (mut client, server) = session(|mut incoming: Incoming| async move {
        let _both = incoming.next().await.expect("a stream").accept().await.expect("accepted");
    });
    client.send(&[open(1)]).await;
    assert_eq!(client.next().await, Some(reply(1)));
    assert_eq!(client.next().await, Some(reset(1, ResetStatus::CANCEL)));
    assert_eq!(client.next().await, Some(bye(1, GoAwayStatus::OK)));
    drop(client);
    server.await.expect("no panic").expect("served");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_hang_up_is_left() {
    let (mut client, server) = session(|_| async {});
    assert_eq!(client.next().await, Some(bye(0, GoAwayStatus::OK)));
    server.await.expect("no panic").expect("served");
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_the_handler() {
    let (mut client, server) = session(|mut incoming: Incoming| async move {
        let _stream = incoming.next().await;
        std::future::pending().await
    });
    client.send(&[open(1)]).await;
    drop(client);
    server.await.expect("no panic").expect("served");
}

#[tokio::test]
async fn streams_out_of_turn_are_refused() {
    let waits = |mut incoming: Incoming| async move { while incoming.next().await.is_some() {} };
    let (mut client, server) = session(waits);
    client.send(&[open(5), open(3), open(5)]).await;
    assert_eq!(client.next().await, Some(reset(3, ResetStatus::PROTOCOL_ERROR)));
    assert_eq!(client.next().await, Some(reset(5, ResetStatus::CANCEL)));
    assert_eq!(client.next().await, Some(bye(5, GoAwayStatus::PROTOCOL_ERROR)));
    assert!(matches!(server.await.expect("no panic"), Err(Error::OutOfTurn(5))));

    let (mut client, server) = session(waits);
    client.send(&[open(2)]).await;
    assert_eq!(client.next().await, Some(bye(0, GoAwayStatus::PROTOCOL_ERROR)));
    assert!(matches!(server.await.expect("no panic"), Err(Error::OutOfTurn(2))));

    let (mut client, server) = session(waits);
    client.socket.write_all(b"\x80\x02\0\x01\0\0\0\0").await.expect("written");
    assert_eq!(client.next().await, Some(bye(0, GoAwayStatus::PROTOCOL_ERROR)));
    assert!(matches!(server.await.expect("no panic"), Err(Error::Decode(DecodeError::Version(2)))));
}

#[tokio::test]
async fn windows_count_once_the_client_counts_them() {
    let (mut client, _server) = session(|mut incoming: Incoming| async move {
        let (mut reader, mut writer) = incoming.next().await.expect("a stream").accept().await.expect("accepted");
        assert_eq!(reader.next().await, Ok(Some(Bytes::from_static(b"go"))));
        writer.send(Bytes::from_static(&[7; 100])).await.expect("sent");
        writer.finish().await;
        std::future::pending().await
    });
    client.send(&[Frame::Settings { initial_window: Some(30) }, open(1), data(1, "go")]).await;
    assert_eq!(client.next().await, Some(reply(1)));
    let mut left = 100;
    let mut least = 70;
    while left > 0 {
        let Some(Frame::Data { data, fin: false, .. }) = client.next().await else { panic!("no data") };
        left -= data.len();
        assert!(left >= least, "{left} of {least}");
        if left == 70 {
            least = 0;
            client.send(&[Frame::WindowUpdate { stream: 1, delta: 70 }]).await;
        }
    }
    assert_eq!(client.next().await, Some(fin(1)));
}

#[tokio::test]
async fn what_has_been_read_may_be_sent_again() {
    let (mut client, _server) = session(|mut incoming: Incoming| async move {
        let (mut reader, _writer) = incoming.next().await.expect("a stream").accept().await.expect("accepted");
        while let Ok(Some(_)) = reader.next().await {}
        std::future::pending().await
    });
    client.send(&[open(1)]).await;
    assert_eq!(client.next().await, Some(reply(1)));
    client.send(&[Frame::Data { stream: 1, fin: false, data: Bytes::from_static(&[7; 40_000]) }]).await;
    let mut credited = [client.next().await, client.next().await];
    credited.sort_by_key(|frame| format!("{frame:?}"));
    for (frame, of) in credited.into_iter().zip([0, 1]) {
        let Some(Frame::WindowUpdate { stream, delta }) = frame else { panic!("{frame:?}") };
        assert!(stream == of && delta >= 32 * 1024, "{stream} {delta}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_stops_the_client_and_not_the_server() {
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let (mut client, _server) = session(|mut incoming: Incoming| async move {
        let (mut reader, mut writer) = incoming.next().await.expect("a stream").accept().await.expect("accepted");
        gone.await.expect("a sign");
        let mut length = 0;
        while let Ok(Some(piece)) = reader.next().await {
            length += piece.len();
        }
        writer.send(length.to_string().into()).await.expect("sent");
        std::future::pending().await
    });
    client.send(&[open(1)]).await;
    assert_eq!(client.next().await, Some(reply(1)));
    let long = Frame::Data { stream: 1, fin: true, data: vec![7; 3_000_000].into() };
    let (read, write) = tokio::io::split(client.socket);
    let mut bytes = BytesMut::new();
    Encoder::default().encode(&long, &mut bytes);
    let mut write = write;
    let mut writing = std::pin::pin!(write.write_all(&bytes));
    // Not all of it fits into what the server keeps and the socket holds.
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut writing).await.is_err());
    go.send(()).expect("a server");
    writing.await.expect("written");
    let mut client = Peer::new(read.unsplit(write));
    loop {
        if let Some(Frame::Data { data, .. }) = client.next().await {
            assert_eq!(data, "3000000");
            return;
        }
    }
}

/// A client's session, and the server that answers it.
async fn called<F>(serve_it: impl FnOnce(Incoming) -> F, handle: impl AsyncFnOnce(Opener)) -> Result<(), Error>
where
    F: Future<Output = ()>,
{
    let (near, far) = tokio::io::duplex(64 * 1024);
    let ((near_read, near_write), (far_read, far_write)) = (tokio::io::split(near), tokio::io::split(far));
    let (called, served) = tokio::join!(
        call(near_read, near_write, async |opener| handle(opener).await),
        serve(far_read, far_write, serve_it)
    );
    served.expect("a session");
    called
}

#[tokio::test]
async fn a_client_opens_streams_and_reads_what_comes_back_to_its_end() {
    let big = "x".repeat(200 * 1024);
    let handle = async |opener: Opener| {
        let headers = [("streamType", "data")].into_iter().collect();
        let (mut reader, mut writer) = opener.open(headers).await.expect("a stream");
        let sent = async {
            writer.send(Bytes::from(big.clone())).await.expect("sent");
            writer.finish().await;
        };
        let read = async {
            let mut length = 0;
            while let Ok(Some(piece)) = reader.next().await {
                length += piece.len();
            }
            length
        };
        assert_eq!(tokio::join!(sent, read).1, big.len());
    };
    called(echo, handle).await.expect("a session");
}

#[tokio::test]
async fn what_a_server_says_before_it_hangs_up_is_read() {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (read, write) = tokio::io::split(near);
    let client = tokio::spawn(call(read, write, |opener| async move {
        let (mut reader, mut writer) =
            opener.open([("streamType", "data")].into_iter().collect()).await.expect("a stream");
        let mut said = String::new();
        while let Ok(Some(piece)) = reader.next().await {
            // Slower than the server.
            tokio::task::yield_now().await;
            said.push_str(std::str::from_utf8(&piece).expect("text"));
        }
        assert_eq!(said, "one two");
        assert_eq!(writer.send(Bytes::from_static(b"late")).await, Err(Gone));
    }));
    let mut peer = Peer::new(far);
    assert!(matches!(peer.next().await, Some(Frame::SynStream { stream: 1, .. })));
    peer.send(&[reply(1), data(1, "one "), data(1, "two")]).await;
    drop(peer);
    client.await.expect("no panic").expect("a session");
}
