//! What clients may send, over a real socket.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Barrier;

use super::*;
use crate::call;
use crate::messages::registration::InfoRequest;

const SOON: Duration = Duration::from_secs(10);

/// Answers `a.B/Meet` when two are there, `a.B/Never` never, and everything else with what was sent.
fn start(dir: &Path) -> std::path::PathBuf {
    let socket = dir.join("s.sock");
    let meeting = Arc::new(Barrier::new(2));
    let handler: Handler = Arc::new(move |method, message| {
        let meeting = Arc::clone(&meeting);
        Box::pin(async move {
            match &*method {
                "a.B/Meet" => {
                    meeting.wait().await;
                }
                "a.B/Never" => std::future::pending().await,
                _ => {}
            }
            Ok(message.into())
        })
    });
    tokio::spawn(serve(bind(&socket).unwrap(), handler));
    socket
}

type Sender = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

async fn connect(socket: &Path) -> Sender {
    let stream = UnixStream::connect(socket).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn send(mut sender: Sender, headers: &[(&str, &str)], body: Vec<u8>) -> Status {
    let request = headers
        .iter()
        .fold(Request::post("http://localhost/a.B/C"), |request, (name, value)| request.header(*name, *value));
    let answer = sender.send_request(request.body(Full::from(body)).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    Status::of(answer.into_body().collect().await.unwrap().trailers().unwrap())
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");

#[tokio::test]
async fn the_socket_is_its_owners_and_replaces_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    drop(bind(&path).unwrap());
    let _again = bind(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(bind(&dir.path().join("no/s.sock")).is_err());
}

#[tokio::test]
async fn calls_of_one_connection_run_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let sender = connect(&start(dir.path())).await;
    let meet = |mut sender: Sender| async move {
        let request = Request::post("http://localhost/a.B/Meet").header(GRPC.0, GRPC.1);
        sender.send_request(request.body(Full::from(framed(b""))).unwrap()).await.unwrap().status()
    };
    let both = async { tokio::join!(meet(sender.clone()), meet(sender.clone())) };
    assert_eq!(tokio::time::timeout(SOON, both).await.unwrap(), (StatusCode::OK, StatusCode::OK));
}

#[tokio::test]
async fn a_call_ends_when_its_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let sender = connect(&start(dir.path())).await;
    let never = Request::post("http://localhost/a.B/Never").header(GRPC.0, GRPC.1).header("grpc-timeout", "10m");
    let answer = sender.clone().send_request(never.body(Full::from(framed(b""))).unwrap()).await.unwrap();
    let status = Status::of(answer.into_body().collect().await.unwrap().trailers().unwrap());
    assert_eq!(status, Status::new(Code::DeadlineExceeded, "context deadline exceeded"));
    assert_eq!(send(sender.clone(), &[GRPC, ("grpc-timeout", "1S")], framed(b"x")).await.code, Code::Ok);
    assert_eq!(send(sender, &[GRPC, ("grpc-timeout", "soon")], framed(b"x")).await.code, Code::Internal);
}

#[tokio::test]
async fn what_is_no_message_is_a_status_and_the_connection_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let sender = connect(&start(dir.path())).await;
    let announced = |length: u32| [&[0][..], &length.to_be_bytes()].concat();
    for (body, code) in [
        (vec![], Code::Internal),
        (vec![0, 0, 0], Code::Internal),
        ([announced(4), vec![1, 2]].concat(), Code::Internal),
        ([framed(b"one"), framed(b"two")].concat(), Code::Internal),
        (vec![1, 0, 0, 0, 0], Code::Unimplemented),
        (vec![7, 0, 0, 0, 0], Code::Internal),
        (announced(u32::MAX), Code::ResourceExhausted),
        (framed(&vec![0; LIMIT + 1]), Code::ResourceExhausted),
        (framed(&vec![0; LIMIT]), Code::Ok),
        (framed(b""), Code::Ok),
    ] {
        let head = body[..body.len().min(8)].to_vec();
        assert_eq!(send(sender.clone(), &[GRPC], body).await.code, code, "{head:?}");
    }
    let request = Request::post("http://localhost/a.B/C").body(Full::from(Bytes::new())).unwrap();
    assert_eq!(sender.clone().send_request(request).await.unwrap().status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn who_speaks_something_else_is_hung_up_on_and_others_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let socket = start(dir.path());
    let mut stranger = UnixStream::connect(&socket).await.unwrap();
    stranger.write_all(&[b'x'; 4096]).await.unwrap();
    let mut said = Vec::new();
    // However it ends, it ends.
    let _ = tokio::time::timeout(SOON, stranger.read_to_end(&mut said)).await.unwrap();
    let answer: InfoRequest = call(&socket, "a.B/C", &InfoRequest {}, SOON).await.unwrap();
    assert_eq!(answer, InfoRequest {});
}
