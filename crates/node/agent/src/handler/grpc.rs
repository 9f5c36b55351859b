//! The gRPC health protocol (`grpc.health.v1.Health/Check`), as one request over HTTP/2 without TLS.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::dial;
use crate::seams::chain;

/// Far more than a health answer takes.
const ANSWER: usize = 4096;
const UNIMPLEMENTED: &str = "12";
/// By number.
const STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

/// Asks whether the service serves. Failures are in upstream's words.
pub async fn health(address: SocketAddr, service: &str, agent: &'static str) -> Result<(), String> {
    let unreachable = |error: String| format!("error: failed to connect service at {:?}: {error}", address.to_string());
    let stream = dial(address).await.map_err(unreachable)?;
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|error| unreachable(chain(&error)))?;
    let request = http::Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", agent)
        .body(Full::<Bytes>::from(framed(&request(service))))
        .map_err(|error| chain(&error))?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|error| failed("Unavailable", &chain(&error)))?;
        read(answer).await
    };
    tokio::pin!(answer);
    // Dropping both closes the socket.
    tokio::select! {
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}

fn failed(code: &str, text: &str) -> String {
    format!("error: health rpc probe failed: rpc error: code = {code} desc = {text}")
}

/// `HealthCheckRequest`: the name is field 1.
fn request(service: &str) -> Vec<u8> {
    if service.is_empty() {
        return Vec::new();
    }
    let mut message = vec![0x0a];
    let mut length = service.len();
    while length >= 0x80 {
        message.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    message.push(length as u8);
    message.extend_from_slice(service.as_bytes());
    message
}

/// A message of gRPC: not compressed, its length, itself.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0][..], &length, message].concat()
}

async fn read(answer: http::Response<Incoming>) -> Result<(), String> {
    let (head, body) = answer.into_parts();
    if head.status != http::StatusCode::OK {
        return Err(failed("Unknown", &format!("unexpected HTTP status code received from server: {}", head.status)));
    }
    let body = Limited::new(body, ANSWER).collect().await.map_err(|error| failed("Internal", &error.to_string()))?;
    // Without a message the status comes with the headers.
    let trailers = body.trailers().cloned().unwrap_or(head.headers);
    let header = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match (header("grpc-status"), header("grpc-message")) {
        ("0", _) => serving(&body.to_bytes()),
        (UNIMPLEMENTED, text) => Err(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {text}"
        )),
        (code, text) => Err(failed(code, text)),
    }
}

/// `HealthCheckResponse`: the status is field 1; without it, unknown.
fn serving(frame: &[u8]) -> Result<(), String> {
    let status = match frame.get(5..) {
        Some([0x08, status, ..]) => usize::from(*status),
        Some([]) => 0,
        _ => return Err(failed("Internal", "the answer is not a HealthCheckResponse")),
    };
    match STATUSES.get(status) {
        Some(&"SERVING") => Ok(()),
        Some(status) => Err(format!("service unhealthy (responded with {status:?})")),
        None => Err(format!("service unhealthy (responded with \"{status}\")")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_framed() {
        assert_eq!(framed(&request("")), [0, 0, 0, 0, 0]);
        assert_eq!(framed(&request("db")), [0, 0, 0, 0, 4, 0x0a, 2, b'd', b'b']);
        assert_eq!(request(&"x".repeat(200))[..3], [0x0a, 0xc8, 0x01]);
    }

    #[test]
    fn only_serving_is_healthy() {
        assert_eq!(serving(&[0, 0, 0, 0, 2, 8, 1]), Ok(()));
        for (answer, said) in [
            (&[0, 0, 0, 0, 2, 8, 2][..], "service unhealthy (responded with \"NOT_SERVING\")"),
            (&[0, 0, 0, 0, 0], "service unhealthy (responded with \"UNKNOWN\")"),
            (&[0, 0, 0, 0, 2, 8, 9], "service unhealthy (responded with \"9\")"),
        ] {
            assert_eq!(serving(answer), Err(said.to_owned()));
        }
        for bad in [&[][..], &[0, 0], &[0, 0, 0, 0, 1, 8], &[0, 0, 0, 0, 2, 9, 1]] {
            assert!(serving(bad).unwrap_err().contains("not a HealthCheckResponse"), "{bad:?}");
        }
    }
}
