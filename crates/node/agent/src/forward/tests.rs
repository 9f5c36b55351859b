//! Forwarding against programs in memory: what clients of each protocol see.

use std::collections::BTreeMap;

use futures::{SinkExt as _, StreamExt as _};
use machinery_spdy::Peer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;

use super::*;
use crate::fakes::World;
use crate::seams::{Sandbox, label};

/// A pod with one program, and the connections that it gets.
struct Pod {
    world: Arc<World>,
    connections: mpsc::UnboundedReceiver<DuplexStream>,
    view: watch::Sender<View>,
}

const PORT: u16 = 80;

impl Pod {
    fn new() -> Self {
        let world = World::new();
        let (listener, connections) = mpsc::unbounded_channel();
        let sandbox = Sandbox {
            id: "s1".into(),
            labels: BTreeMap::from([(label::POD_UID.to_owned(), "u".to_owned())]),
            users: None,
            netns: None,
            ready: true,
            created_at: world.clock.now(),
            containers: Vec::new(),
        };
        {
            let mut state = world.state.lock().unwrap();
            state.sandboxes.insert("s1".into(), sandbox);
            state.listeners.insert(PORT, listener);
        }
        Self { world, connections, view: watch::channel(View::default()).0 }
    }

    fn target(&self) -> Target {
        Target { runtime: self.world.clone(), name: "web".into(), uid: "u".into() }
    }

    fn spdy(&self) -> Peer<DuplexStream> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (read, write) = tokio::io::split(near);
        tokio::spawn(spdy::serve(read, write, self.target(), gone(self.view.subscribe())));
        Peer::new(far)
    }

    async fn channels(&self, protocol: Subprotocol, ports: &[u16]) -> WebSocketStream<DuplexStream> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let near = WebSocketStream::from_raw_socket(near, Role::Server, None).await;
        let gone = gone(self.view.subscribe());
        tokio::spawn(channels::serve(near, protocol, ports.to_vec(), self.target(), gone));
        WebSocketStream::from_raw_socket(far, Role::Client, None).await
    }
}

/// As kubectl does: first the stream for errors, of which it writes nothing.
async fn pair(client: &mut Peer<DuplexStream>, error: u32, port: &str) {
    let request = error.to_string();
    let headers = |kind| [("streamType", kind), ("port", port), ("requestID", request.as_str())].map(|pair| pair);
    client.open(error, &headers("error")).await;
    client.write(error, "", true).await;
    client.open(error + 2, &headers("data")).await;
}

#[tokio::test]
async fn each_pair_is_a_connection_and_both_sides_may_finish_first() {
    let mut pod = Pod::new();
    let mut client = pod.spdy();
    pair(&mut client, 1, "80").await;
    let mut first = pod.connections.recv().await.unwrap();
    pair(&mut client, 5, "80").await;
    let mut second = pod.connections.recv().await.unwrap();

    client.write(7, "question", true).await;
    let mut asked = String::new();
    second.read_to_string(&mut asked).await.unwrap();
    assert_eq!(asked, "question");
    second.write_all(b"answer").await.unwrap();
    drop(second);
    assert_eq!(client.read(7).await, Ok("answer".into()));
    assert_eq!(client.read(5).await, Ok(String::new()));

    first.write_all(b"greeting").await.unwrap();
    drop(first);
    assert_eq!(client.read(3).await, Ok("greeting".into()));
    client.send(&[machinery_spdy::Frame::Reset { stream: 3, status: machinery_spdy::ResetStatus::CANCEL }]).await;
    assert_eq!(client.read(1).await, Ok(String::new()));
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_told_and_the_others_go_on() {
    let mut pod = Pod::new();
    let mut client = pod.spdy();
    pair(&mut client, 1, "81").await;
    let said = client.read(1).await.unwrap();
    assert_eq!(said, "error forwarding port 81 to pod s1, uid : dial s1: connection refused");
    pair(&mut client, 5, "80").await;
    pod.connections.recv().await.unwrap();
    pod.world.state.lock().unwrap().sandboxes.clear();
    pair(&mut client, 9, "80").await;
    assert_eq!(client.read(9).await.unwrap(), "error forwarding port 80 to pod web, uid u: no sandbox of it runs");
}

#[tokio::test(start_paused = true)]
async fn many_connections_share_a_client_that_reads_late() {
    const MANY: u32 = 60;
    let mut pod = Pod::new();
    let mut client = pod.spdy();
    tokio::spawn(async move {
        while let Some(mut connection) = pod.connections.recv().await {
            tokio::spawn(async move { connection.write_all(&[7; 20_000]).await });
        }
    });
    for number in 0..MANY {
        pair(&mut client, 4 * number + 1, "80").await;
    }
    let (mut finished, mut length) = (0, 0);
    while finished < MANY {
        if let machinery_spdy::Frame::Data { stream, fin, data } = client.next().await.unwrap() {
            finished += u32::from(fin && stream % 4 == 3);
            length += data.len();
        }
    }
    assert_eq!(length, 20_000 * MANY as usize);
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_its_other_half_is_given_up() {
    let pod = Pod::new();
    let mut client = pod.spdy();
    client.open(1, &[("streamType", "error"), ("port", "80"), ("requestID", "7")]).await;
    assert_eq!(client.read(1).await.unwrap(), "(request=7) timed out waiting for streams");
    client.open(3, &[("streamType", "data"), ("port", "80"), ("requestID", "8")]).await;
    assert_eq!(client.read(3).await, Err(String::new()));
}

#[tokio::test]
async fn streams_that_are_no_half_of_anything_are_reset() {
    let pod = Pod::new();
    let mut client = pod.spdy();
    for (stream, headers) in [
        (1, &[("streamType", "data")][..]),
        (3, &[("port", "80")]),
        (5, &[("port", "0"), ("streamType", "data")]),
        (7, &[("port", "http"), ("streamType", "data")]),
        (9, &[("port", "80"), ("streamType", "stdin")]),
    ] {
        client.open(stream, headers).await;
        assert_eq!(client.read(stream).await, Err(String::new()), "{headers:?}");
    }
    client.open(11, &[("streamType", "error"), ("port", "80"), ("requestID", "1")]).await;
    client.open(13, &[("streamType", "error"), ("port", "80"), ("requestID", "1")]).await;
    let mut told = String::new();
    loop {
        match client.next().await.unwrap() {
            machinery_spdy::Frame::Data { data, .. } => told.push_str(&String::from_utf8_lossy(&data)),
            machinery_spdy::Frame::Reset { stream, .. } => {
                assert_eq!(stream, 13);
                break;
            }
            _ => {}
        }
    }
    assert_eq!(told, "error processing stream for request 1: error stream already assigned");
}

#[tokio::test]
async fn the_oldest_clients_pair_by_the_streams_numbers() {
    let mut pod = Pod::new();
    let mut client = pod.spdy();
    client.open(1, &[("streamType", "error"), ("port", "80")]).await;
    client.open(3, &[("streamType", "data"), ("port", "80")]).await;
    pod.connections.recv().await.unwrap();
}

#[tokio::test]
async fn a_session_ends_with_its_pod() {
    let mut pod = Pod::new();
    let mut client = pod.spdy();
    pair(&mut client, 1, "80").await;
    let _held = pod.connections.recv().await.unwrap();
    drop(pod.view);
    while let Some(frame) = client.next().await {
        if matches!(frame, machinery_spdy::Frame::GoAway { .. }) {
            return;
        }
    }
    panic!("no farewell");
}

#[tokio::test(start_paused = true)]
async fn channels_begin_with_their_ports_number() {
    for protocol in [Subprotocol::V4, Subprotocol::V4Base64] {
        let mut pod = Pod::new();
        let mut client = pod.channels(protocol, &[80, 8080]).await;
        let mut connection = pod.connections.recv().await.unwrap();
        client.send(protocol.message(0, b"question")).await.unwrap();
        client.send(protocol.message(1, b"nothing")).await.unwrap();
        let mut asked = [0; 8];
        connection.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"question");
        connection.write_all(b"answer").await.unwrap();
        drop(connection);
        let mut said = vec![Vec::new(); 4];
        while let Some(Ok(message)) = client.next().await {
            if let Some(frame) = protocol.frame(message).unwrap() {
                said[usize::from(frame[0])].extend_from_slice(&frame[1..]);
            }
        }
        assert_eq!(said[0], b"\x50\0answer");
        assert_eq!(said[1], b"\x50\0");
        assert_eq!(said[2], b"\x90\x1f");
        let expected = "error forwarding port 8080 to pod s1, uid : dial s1: connection refused";
        assert_eq!(said[3], [b"\x90\x1f", expected.as_bytes()].concat());
    }
}

#[test]
fn ports_come_in_one_value_or_several() {
    assert_eq!(ports(["80,443", "8080"].into_iter()), Ok(vec![80, 443, 8080]));
    for (values, error) in [
        (&[][..], "query parameter \"port\" is required"),
        (&[""], "query parameter \"port\" cannot be empty"),
        (&["80", "0"], "port \"0\" must be > 0"),
        (&["80,"], "unable to parse \"\" as a port: strconv.ParseUint: parsing \"\": invalid syntax"),
        (&["+80"], "unable to parse \"+80\" as a port: strconv.ParseUint: parsing \"+80\": invalid syntax"),
        (&["70000"], "unable to parse \"70000\" as a port: strconv.ParseUint: parsing \"70000\": value out of range"),
    ] {
        assert_eq!(ports(values.iter().copied()).unwrap_err(), error);
    }
    assert_eq!(ports(["80"; 128].into_iter()).map(|ports| ports.len()), Ok(128));
    assert!(ports(["80"; 129].into_iter()).is_err());
}
