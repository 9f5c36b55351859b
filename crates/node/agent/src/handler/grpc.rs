//! The gRPC health protocol (`grpc.health.v1.Health/Check`), as one request over HTTP/2 without TLS.

use std::net::SocketAddr;

use node_grpc::messages::health::{CHECK, HealthCheckRequest, HealthCheckResponse};
use node_grpc::{Call, Code, Message, Status};

use super::dial;

/// Bytes: far more than a health answer takes.
const ANSWER: usize = 4096;
/// By number.
const STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

/// Asks whether the service serves. Failures are in upstream's words.
pub async fn health(address: SocketAddr, service: &str, agent: &'static str) -> Result<(), String> {
    let unreachable = |error: String| format!("error: failed to connect service at {:?}: {error}", address.to_string());
    let stream = dial(address).await.map_err(unreachable)?;
    let request = HealthCheckRequest { service: service.to_owned() }.encode_to_vec();
    let call = Call { method: CHECK, authority: &address.to_string(), agent, limit: ANSWER };
    let answer = call.over(Box::new(stream), &request).await.map_err(failed)?;
    serving(&answer)
}

fn failed(status: Status) -> String {
    match status.code {
        Code::Unimplemented => format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            status.message
        ),
        _ => format!("error: health rpc probe failed: {status}"),
    }
}

fn serving(answer: &[u8]) -> Result<(), String> {
    let unread = |_| failed(Status::new(Code::Internal, "the answer is not a HealthCheckResponse"));
    let status = HealthCheckResponse::decode(answer).map_err(unread)?.status;
    match usize::try_from(status).ok().and_then(|number| STATUSES.get(number)) {
        Some(&"SERVING") => Ok(()),
        Some(status) => Err(format!("service unhealthy (responded with {status:?})")),
        None => Err(format!("service unhealthy (responded with \"{status}\")")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_serving_is_healthy() {
        assert_eq!(serving(&[8, 1]), Ok(()));
        for (answer, said) in [
            (&[8, 2][..], "service unhealthy (responded with \"NOT_SERVING\")"),
            (&[], "service unhealthy (responded with \"UNKNOWN\")"),
            (&[8, 9], "service unhealthy (responded with \"9\")"),
        ] {
            assert_eq!(serving(answer), Err(said.to_owned()));
        }
        for bad in [&[8][..], &[10, 9, 1]] {
            assert!(serving(bad).unwrap_err().contains("not a HealthCheckResponse"), "{bad:?}");
        }
    }
}
