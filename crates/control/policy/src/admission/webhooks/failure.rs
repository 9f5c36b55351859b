//! Why a webhook's say ends a request, and how a client is told.

use base_meta::status::Details;
use base_meta::{Reason, Status};
use serde::Deserialize as _;
use serde_json::Value;

use super::super::metrics::Outcome;

/// What came of a call.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no answer; `failurePolicy` says what that means.
    Calling {
        /// What upstream's metrics count it under.
        code: u16,
        reason: String,
    },
    /// It said no.
    Denied(Status),
    /// Whatever the policy: the request itself cannot be.
    Refused(Status),
}

impl Failure {
    pub(super) fn outcome<T>(of: &Result<T, Self>, fails_open: bool) -> Outcome {
        match of {
            Ok(_) => Outcome::Allowed,
            Err(Self::Calling { code, .. }) => Outcome::Unanswered { code: *code, fails_open },
            Err(Self::Denied(status)) => Outcome::Denied { code: status.code },
            Err(Self::Refused(_)) => Outcome::Refused,
        }
    }

    /// As a client is told, where the policy does not ignore it.
    pub(super) fn status(self, webhook: &str) -> Status {
        match self {
            Self::Calling { reason, .. } => Status::internal(format!("failed calling webhook {webhook:?}: {reason}")),
            Self::Denied(status) | Self::Refused(status) => status,
        }
    }
}

/// A refusal's own `Status`, completed.
pub(super) fn denied(webhook: &str, result: &Value) -> Status {
    let text = |field: &str| result.get(field).and_then(Value::as_str).unwrap_or_default();
    let by = format!("admission webhook {webhook:?} denied the request");
    let message = match (text("message"), text("reason")) {
        ("", "") => format!("{by} without explanation"),
        ("", said) | (said, _) => format!("{by}: {said}"),
    };
    let reason = result.get("reason").and_then(|reason| Reason::deserialize(reason).ok()).unwrap_or(Reason::Unknown);
    let mut status = Status::new(reason, message);
    let code = result.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    // Whatever it says, it is a refusal.
    status.code = code.filter(|code| (400..600).contains(code)).unwrap_or(400);
    status.details = result.get("details").and_then(|details| Details::deserialize(details).ok()).map(Box::new);
    status
}

/// What client-go makes of an answer that is none.
pub(super) fn unexpected(code: u16, body: &[u8]) -> String {
    let said = match code {
        400 => "the server rejected our request for an unknown reason",
        401 => "the server has asked for the client to provide credentials",
        403 => "forbidden",
        404 => "the server could not find the requested resource",
        405 => "the server does not allow this method on the requested resource",
        409 => "the server reported a conflict",
        410 => "the server has told us that the resource is gone",
        413 => "the request is too large",
        415 => "the server does not support the media type of the request",
        422 => "the server rejected our request due to an error in our request",
        429 => "the server has received too many requests and has asked us to try again later",
        503 => "the server is currently unable to handle the request",
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing the request"
        }
        500.. => {
            let text = String::from_utf8_lossy(body);
            let text = text.trim().chars().take(MOST).collect::<String>();
            let text = if text.is_empty() { "unknown" } else { &text };
            return format!("an error on the server ({text:?}) has prevented the request from succeeding");
        }
        _ => return format!("the server responded with the status code {code} but did not return more information"),
    };
    said.to_owned()
}

/// Characters of a body that a message shows.
const MOST: usize = 2048;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refusals_are_completed() {
        let table = [
            (Value::Null, 400, "admission webhook \"w\" denied the request without explanation"),
            (json!({"message": "no"}), 400, "admission webhook \"w\" denied the request: no"),
            (json!({"reason": "Forbidden"}), 400, "admission webhook \"w\" denied the request: Forbidden"),
            (json!({"message": "no", "code": 403}), 403, "admission webhook \"w\" denied the request: no"),
            (json!({"message": "yes", "code": 200}), 400, "admission webhook \"w\" denied the request: yes"),
            (json!({"message": "?", "code": 70000}), 400, "admission webhook \"w\" denied the request: ?"),
        ];
        for (result, code, message) in table {
            let status = denied("w", &result);
            assert_eq!((status.code, status.message.as_str()), (code, message), "{result}");
            assert_eq!(status.status, "Failure");
        }
        let whole = denied(
            "w",
            &json!({"reason": "Invalid", "code": 422, "details": {"name": "x", "causes": [
            {"reason": "FieldValueInvalid", "message": "m", "field": "spec"}]}}),
        );
        assert_eq!(whole.reason, Reason::Invalid);
        assert_eq!(whole.details.expect("details").causes[0].field, "spec");
        assert_eq!(denied("w", &json!({"reason": "OfMyOwn"})).reason, Reason::Unknown);
    }

    #[test]
    fn answers_that_are_none() {
        assert_eq!(unexpected(404, b"404 page not found"), "the server could not find the requested resource");
        assert_eq!(
            unexpected(500, b"boom\n"),
            "an error on the server (\"boom\") has prevented the request from succeeding"
        );
        assert_eq!(
            unexpected(502, b""),
            "an error on the server (\"unknown\") has prevented the request from succeeding"
        );
        assert!(unexpected(302, b"").contains("302"));
    }
}
