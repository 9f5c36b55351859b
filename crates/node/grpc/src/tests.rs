//! Against a server at a real socket.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;

use crate::messages::csi::{NODE_GET_INFO, NodeGetInfoResponse};
use crate::messages::registration::InfoRequest;
use crate::{Code, Message, Status, call, framed, server, unframed};

const SOON: Duration = Duration::from_secs(10);

fn serve(dir: &std::path::Path, handler: server::Handler) -> (std::path::PathBuf, tokio::task::JoinHandle<()>) {
    let socket = dir.join("s.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    (socket, tokio::spawn(server::serve(listener, handler)))
}

async fn info(socket: &std::path::Path, within: Duration) -> Result<NodeGetInfoResponse, Status> {
    call(socket, NODE_GET_INFO, &InfoRequest {}, within).await
}

#[tokio::test]
async fn an_answer_comes_back_and_a_failure_keeps_its_code_and_words() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, _server) = serve(
        dir.path(),
        Arc::new(|method, _| {
            Box::pin(async move {
                match &*method {
                    NODE_GET_INFO => {
                        Ok(NodeGetInfoResponse { node_id: "n".into(), ..Default::default() }.encode_to_vec())
                    }
                    _ => Err(Status::new(Code::NotFound, "no volume \"ä\" 100%")),
                }
            })
        }),
    );
    assert_eq!(info(&socket, SOON).await.unwrap().node_id, "n");
    let failed = call::<InfoRequest>(&socket, "a.B/C", &InfoRequest {}, SOON).await.unwrap_err();
    assert_eq!(failed.to_string(), "rpc error: code = NotFound desc = no volume \"ä\" 100%");
    assert!(!failed.is_uncertain());
}

#[tokio::test]
async fn who_does_not_answer_is_late_and_who_is_not_there_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, server) = serve(dir.path(), Arc::new(|_, _| Box::pin(std::future::pending())));
    let late = info(&socket, Duration::from_millis(50)).await.unwrap_err();
    assert_eq!((late.code, late.is_uncertain()), (Code::DeadlineExceeded, true));
    server.abort();
    let _ = server.await;
    let gone = info(&socket, SOON).await.unwrap_err();
    assert_eq!(gone.code, Code::Unavailable, "{gone}");
}

#[tokio::test]
async fn what_speaks_something_else_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    assert_eq!(info(&socket, SOON).await.unwrap_err().code, Code::Unavailable);
    server.await.unwrap();
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, _server) = serve(dir.path(), Arc::new(|_, _| Box::pin(async { Ok(vec![0; 5 << 20]) })));
    assert_eq!(info(&socket, SOON).await.unwrap_err().code, Code::ResourceExhausted);
}

#[test]
fn a_body_is_one_whole_message() {
    assert_eq!(unframed(&framed(b"abc")).unwrap(), b"abc");
    for bad in [&[][..], &[0, 0, 0, 0], &[0, 0, 0, 0, 2, 1], &[0, 0, 0, 0, 1, 1, 1], &[1, 0, 0, 0, 0]] {
        assert_eq!(unframed(bad).unwrap_err().code, Code::Internal, "{bad:?}");
    }
}
