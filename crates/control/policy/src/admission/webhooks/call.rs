//! One call: what is sent, and what of the answer counts.

use std::time::Duration;

use base_meta::Status;
use machinery_registry::new_uid;
use serde_json::Value;

use super::super::matching::Request;
use super::super::shown::Shown;
use super::failure::{Failure, denied, unexpected};
use super::hook::{Flavour, Hook, ReviewVersion};
use super::review::{self, Response};

/// A patch is hardly longer than the objects that may be stored.
const MAX_ANSWER: usize = 8 << 20;

/// Answers only where the webhook allows the request.
pub(super) async fn call(
    hook: &Hook,
    flavour: Flavour,
    request: &Request<'_>,
    shown: &Shown<'_>,
) -> Result<Response, Failure> {
    if request.attributes.dry_run && !hook.dry_runs {
        let message = format!("admission webhook {:?} does not support dry run", hook.name);
        return Err(Failure::Refused(Status::bad_request(message)));
    }
    let Some(speaks) = hook.speaks else {
        let message = "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, \
                       v1beta1)";
        return Err(Failure::Calling { code: 400, reason: message.into() });
    };
    let uid = new_uid().map_err(Failure::Refused)?;
    let review = review::request(speaks, &uid, request, shown);
    let response = exchange(hook, flavour, speaks, &uid, &review).await;
    let response = response.map_err(|(code, reason)| Failure::Calling { code, reason })?;
    let told = &request.attributes.ctx.warnings;
    for (key, value) in response.audit_annotations.iter().flatten() {
        told.annotate(format!("{}/{key}", hook.name), value.clone());
    }
    for warning in response.warnings.iter().flatten() {
        told.add(warning);
    }
    match response.allowed {
        true => Ok(response),
        false => Err(Failure::Denied(denied(&hook.name, &response.result))),
    }
}

/// `Err`: the code that the failure is counted under, and why.
async fn exchange(
    hook: &Hook,
    flavour: Flavour,
    speaks: ReviewVersion,
    uid: &str,
    review: &Value,
) -> Result<Response, (u16, String)> {
    let server = hook.server.as_ref();
    let server = server.map_err(|problem| (500, format!("could not get REST client: {problem}")))?;
    let body = serde_json::to_vec(review).map_err(|error| (400, error.to_string()))?;
    let path = server.path_within(hook.timeout.max(Duration::from_secs(1)));
    let failed = |reason: &dyn std::fmt::Display| format!("failed to call webhook: {reason}");
    let answer = server.call(&path, body.into(), hook.timeout, MAX_ANSWER).await;
    let unreached = |reason| (503, failed(&format_args!("Post {:?}: {reason}", server.url(&path))));
    let (status, bytes) = answer.map_err(unreached)?;
    if !status.is_success() {
        return Err((status.as_u16(), failed(&unexpected(status.as_u16(), &bytes))));
    }
    review::verify(&bytes, speaks, flavour, uid).map_err(|problem| {
        let reason = match serde_json::from_slice::<Value>(&bytes) {
            Ok(_) => format!("received invalid webhook response: {problem}"),
            Err(_) => failed(&format_args!("couldn't get version/kind; json parse error: {problem}")),
        };
        (503, reason)
    })
}
