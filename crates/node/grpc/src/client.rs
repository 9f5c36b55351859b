//! One call over a connection of its own.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use crate::frame::{HEAD, framed, unframed};
use crate::status::{Code, Status};

/// Both directions of a connection. Boxed: the code that speaks HTTP/2 over it exists once.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}
pub type Stream = Box<dyn Duplex>;

/// What is called, and its bounds.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// `package.Service/Method`.
    pub method: &'a str,
    pub authority: &'a str,
    pub agent: &'a str,
    /// Bytes of the answer at most.
    pub limit: usize,
}

/// The largest answer of a driver: Go's clients take as much.
const LIMIT: usize = 4 << 20;

/// Calls a method at a socket of this host, and waits for the answer at most that long.
pub async fn call<A: Message + Default>(
    socket: &Path,
    method: &str,
    request: &impl Message,
    within: Duration,
) -> Result<A, Status> {
    let answer = at(socket, method, request.encode_to_vec(), within).await?;
    A::decode(&*answer).map_err(|error| Status::new(Code::Internal, format!("the answer cannot be read: {error}")))
}

async fn at(socket: &Path, method: &str, request: Vec<u8>, within: Duration) -> Result<Bytes, Status> {
    let answer = async {
        let stream = UnixStream::connect(socket).await.map_err(|error| {
            let target = format!("dial unix {}", socket.display());
            Status::new(
                Code::Unavailable,
                format!("connection error: desc = \"transport: Error while dialing: {target}: {error}\""),
            )
        })?;
        let call = Call { method, authority: "localhost", agent: "sampan", limit: LIMIT };
        call.over(Box::new(stream), &request).await
    };
    let late = |_| Err(Status::new(Code::DeadlineExceeded, "context deadline exceeded"));
    tokio::time::timeout(within, answer).await.unwrap_or_else(late)
}

impl Call<'_> {
    /// Sends the message and waits for the one of the answer. Dropping it closes the connection.
    pub async fn over(&self, stream: Stream, message: &[u8]) -> Result<Bytes, Status> {
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(unavailable)?;
        let request = Request::post(format!("http://{}/{}", self.authority, self.method))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", self.agent)
            .body(Full::<Bytes>::from(framed(message)))
            .map_err(|error| Status::new(Code::Internal, error.to_string()))?;
        let answer = async {
            let answer = sender.send_request(request).await.map_err(unavailable)?;
            self.read(answer).await
        };
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            _ = connection => answer.await,
        }
    }

    async fn read(&self, answer: Response<Incoming>) -> Result<Bytes, Status> {
        let (head, body) = answer.into_parts();
        if head.status != StatusCode::OK {
            return Err(of_http(head.status));
        }
        let body = Limited::new(body, self.limit + HEAD).collect().await.map_err(|error| {
            match error.downcast_ref::<LengthLimitError>() {
                Some(_) => Status::new(
                    Code::ResourceExhausted,
                    format!("received message larger than max ({} bytes)", self.limit),
                ),
                None => Status::new(Code::Unavailable, chain(&*error)),
            }
        })?;
        // Without a message the status comes with the headers.
        let status = Status::of(body.trailers().unwrap_or(&head.headers));
        if status.code != Code::Ok {
            return Err(status);
        }
        let body = body.to_bytes();
        let message = unframed(&body)?;
        Ok(body.slice_ref(message))
    }
}

/// As the protocol's guide maps them.
fn of_http(status: StatusCode) -> Status {
    let code = match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    Status::new(code, format!("unexpected HTTP status code received from server: {status}"))
}

fn unavailable(error: hyper::Error) -> Status {
    Status::new(Code::Unavailable, chain(&error))
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
