//! What a client is told of a policy's refusal.

use base_meta::status::Cause;
use base_meta::{Reason, Status};
use machinery_registry::Attributes;
use serde_json::Value;

use super::super::forbidden;

fn push_cause(status: &mut Status, message: &str) {
    let cause = Cause { message: message.to_owned(), ..Cause::default() };
    status.details.get_or_insert_default().causes.push(cause);
}

/// By a validating policy. `reason`: empty where the policy gives none.
pub(super) fn denied(
    attributes: &Attributes<'_>,
    object: Option<&Value>,
    policy: &str,
    binding: Option<&str>,
    message: &str,
    reason: &str,
) -> Status {
    let with = binding.map(|binding| format!(" with binding '{binding}'")).unwrap_or_default();
    let message = format!("ValidatingAdmissionPolicy '{policy}'{with} denied request: {message}");
    let mut status = forbidden(attributes, object, &message);
    (status.reason, status.code) = match reason {
        "Forbidden" => (Reason::Forbidden, 403),
        "Unauthorized" => (Reason::Unauthorized, 401),
        "RequestEntityTooLarge" => (Reason::RequestEntityTooLarge, 413),
        _ => (Reason::Invalid, 422),
    };
    push_cause(&mut status, &message);
    status
}

/// What went wrong with a mutating policy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) policy: String,
    pub(super) binding: Option<String>,
    pub(super) message: String,
    /// Of one of its expressions, not of how it is configured.
    pub(super) invalid: bool,
}

impl Failure {
    fn told(&self) -> String {
        let Self { policy, binding, message, .. } = self;
        match binding {
            Some(binding) => format!("policy '{policy}' with binding '{binding}' denied request: {message}"),
            None => format!("policy {policy:?} denied request: {message}"),
        }
    }
}

/// By mutating policies: the first failure is the answer, and all are its causes.
pub(super) fn failed(attributes: &Attributes<'_>, object: &Value, failures: &[Failure]) -> Result<(), Status> {
    let Some(first) = failures.first() else { return Ok(()) };
    let mut status = forbidden(attributes, Some(object), "admission request denied by policy");
    status.message = first.told();
    if first.invalid {
        // Upstream leaves the code as it was.
        status.reason = Reason::Invalid;
    }
    failures.iter().for_each(|failure| push_cause(&mut status, &failure.told()));
    Err(status)
}
