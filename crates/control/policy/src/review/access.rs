//! SubjectAccessReview and its two kin: may somebody do something?

use std::sync::Arc;

use base_meta::field::{Error, Path};
use base_meta::{Status, decode_value};
use k8s_openapi::api::authorization::v1::SubjectAccessReviewSpec;
use machinery_apiserver::{Action, Attributes};
use machinery_registry::{RequestContext, UserInfo};
use serde_json::{Value, json};

use super::{Answering, invalid, selectors};
use crate::authorization::Chain;

/// About whom a review is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Anyone,
    AnyoneHere,
    Caller,
}

pub(super) struct Access {
    pub(super) chain: Arc<Chain>,
    pub(super) of: Of,
}

#[async_trait::async_trait]
impl Answering for Access {
    async fn answer(&self, ctx: &RequestContext, mut asked: Value) -> Result<Value, Status> {
        let here = ctx.namespace.as_deref().unwrap_or("");
        if self.of == Of::AnyoneHere {
            let said = asked["metadata"]["namespace"].as_str().unwrap_or("");
            if !said.is_empty() && said != here {
                return Err(Status::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
            asked["metadata"]["namespace"] = json!(here);
        }
        let spec: SubjectAccessReviewSpec = decode_value(&asked["spec"])
            .map_err(|error| Status::bad_request(format!("the review's spec does not decode: {error}")))?;
        invalid(&asked, &problems(&asked, &spec, self.of, here))?;
        let user = match self.of {
            Of::Caller => ctx.user.clone(),
            Of::Anyone | Of::AnyoneHere => Arc::new(UserInfo {
                name: spec.user.clone().unwrap_or_default(),
                uid: spec.uid.clone().unwrap_or_default(),
                groups: spec.groups.clone().unwrap_or_default(),
                extra: spec.extra.clone().unwrap_or_default(),
            }),
        };
        let verdict = match (&spec.resource_attributes, &spec.non_resource_attributes) {
            (Some(wanted), _) => {
                let action = Action::Resource {
                    group: said(&wanted.group),
                    version: said(&wanted.version),
                    resource: said(&wanted.resource),
                    subresource: said(&wanted.subresource),
                    namespace: said(&wanted.namespace),
                    name: said(&wanted.name),
                };
                self.chain.decide(&Attributes { user: &user, verb: said(&wanted.verb), action }).await
            }
            (None, Some(wanted)) => {
                let action = Action::Path(said(&wanted.path));
                self.chain.decide(&Attributes { user: &user, verb: said(&wanted.verb), action }).await
            }
            (None, None) => return Err(Status::bad_request("nothing was asked")),
        };
        let mut status = json!({"allowed": verdict.allowed});
        if verdict.denied {
            status["denied"] = json!(true);
        }
        if !verdict.reason.is_empty() {
            status["reason"] = json!(verdict.reason);
        }
        let ignored = spec.resource_attributes.as_ref().map(|wanted| selectors::ignored(wanted, &resource_path()));
        if let Some(ignored) = ignored.filter(|ignored| !ignored.is_empty()) {
            status["evaluationError"] = json!(ignored);
        }
        asked["status"] = status;
        Ok(asked)
    }
}

fn said(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or("")
}

fn resource_path() -> Path {
    Path::new("spec").child("resourceAttributes")
}

/// Upstream's `ValidateSubjectAccessReview` and its kin.
fn problems(asked: &Value, spec: &SubjectAccessReviewSpec, of: Of, here: &str) -> Vec<Error> {
    let mut errors = Vec::new();
    let path = Path::new("spec");
    let (resource, other) = (&asked["spec"]["resourceAttributes"], &asked["spec"]["nonResourceAttributes"]);
    match (&spec.resource_attributes, &spec.non_resource_attributes) {
        (Some(_), Some(_)) => errors.push(Error::invalid(
            &path.child("nonResourceAttributes"),
            other,
            "cannot be specified in combination with resourceAttributes",
        )),
        (None, None) => errors.push(Error::invalid(
            &path.child("resourceAttributes"),
            resource,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
    if let Some(wanted) = &spec.resource_attributes {
        errors.extend(selectors::problems(wanted, &resource_path()));
    }
    if of != Of::Caller && said(&spec.user).is_empty() && spec.groups.as_ref().is_none_or(Vec::is_empty) {
        errors.push(Error::invalid(
            &path.child("user"),
            said(&spec.user),
            "at least one of user or group must be specified",
        ));
    }
    let metadata = asked["metadata"].as_object().into_iter().flatten();
    let stray = metadata.filter(|(field, _)| of != Of::AnyoneHere || *field != "namespace").count();
    if of != Of::Caller && stray > 0 {
        let but = if of == Of::AnyoneHere { "must be empty except for namespace" } else { "must be empty" };
        errors.push(Error::invalid(&Path::new("metadata"), &asked["metadata"], but));
    }
    if of == Of::AnyoneHere {
        let namespace = spec.resource_attributes.as_ref().map_or(here, |wanted| said(&wanted.namespace));
        if namespace != here {
            let path = path.child("resourceAttributes").child("namespace");
            errors.push(Error::invalid(&path, namespace, "must match metadata.namespace"));
        }
        if spec.non_resource_attributes.is_some() {
            errors.push(Error::invalid(
                &path.child("nonResourceAttributes"),
                other,
                "disallowed on this kind of request",
            ));
        }
    }
    errors
}
