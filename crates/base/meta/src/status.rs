//! `metav1.Status`: what a client sees when a request fails.
//!
//! The constructors and their messages follow apimachinery's `pkg/api/errors`.

use serde::{Deserialize, Serialize};

use crate::field;
use crate::gvk::{Gvk, Gvr};

/// `metav1.StatusReason`, with the HTTP code upstream pairs it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    ServerTimeout,
    Timeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    Expired,
    ServiceUnavailable,
    StoreReadError,
    /// Upstream's empty reason: an error that nobody has classified.
    #[serde(rename = "")]
    Unknown,
}

impl Reason {
    pub const fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Gone | Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::InternalError | Self::ServerTimeout | Self::StoreReadError | Self::Unknown => 500,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
        }
    }
}

/// One cause in `details.causes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListMeta {
    #[serde(rename = "continue", default, skip_serializing_if = "String::is_empty")]
    pub continue_token: String,
}

/// A failure as it goes over the wire. Built here, serialised once at the edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    pub kind: String,
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    #[serde(default)]
    pub metadata: ListMeta,
    pub status: String,
    pub message: String,
    pub reason: Reason,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
    pub code: u16,
}

impl Status {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            kind: "Status".into(),
            api_version: "v1".into(),
            metadata: ListMeta::default(),
            status: "Failure".into(),
            message: message.into(),
            reason,
            details: None,
            code: reason.code(),
        }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        self.details =
            Some(Box::new(Details { name: name.into(), group: group.into(), kind: kind.into(), ..Details::default() }));
        self
    }

    pub fn with_causes(mut self, causes: Vec<Cause>) -> Self {
        self.details.get_or_insert_default().causes = causes;
        self
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    pub fn unauthorized() -> Self {
        Self::new(Reason::Unauthorized, "Unauthorized")
    }

    /// `message` is the authorizer's or the admission plug-in's own sentence.
    pub fn forbidden(gvr: &Gvr, name: &str, message: &str) -> Self {
        let subject =
            if name.is_empty() { gvr.group_resource() } else { format!("{} \"{name}\"", gvr.group_resource()) };
        Self::new(Reason::Forbidden, format!("{subject} is forbidden: {message}")).about(
            &gvr.group,
            &gvr.resource,
            name,
        )
    }

    pub fn not_found(gvr: &Gvr, name: &str) -> Self {
        Self::new(Reason::NotFound, format!("{} \"{name}\" not found", gvr.group_resource())).about(
            &gvr.group,
            &gvr.resource,
            name,
        )
    }

    /// A path that no route serves.
    pub fn no_such_path() -> Self {
        let mut status = Self::new(Reason::NotFound, "the server could not find the requested resource");
        status.details = Some(Box::default());
        status
    }

    pub fn already_exists(gvr: &Gvr, name: &str) -> Self {
        Self::new(Reason::AlreadyExists, format!("{} \"{name}\" already exists", gvr.group_resource())).about(
            &gvr.group,
            &gvr.resource,
            name,
        )
    }

    pub fn conflict(gvr: &Gvr, name: &str, message: &str) -> Self {
        Self::new(
            Reason::Conflict,
            format!("Operation cannot be fulfilled on {} \"{name}\": {message}", gvr.group_resource()),
        )
        .about(&gvr.group, &gvr.resource, name)
    }

    /// The conflict of an update whose resourceVersion is not the stored one.
    pub fn modified(gvr: &Gvr, name: &str) -> Self {
        Self::conflict(
            gvr,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub fn invalid(gvk: &Gvk, name: &str, errors: &[field::Error]) -> Self {
        let causes = errors
            .iter()
            .map(|error| Cause {
                reason: error.kind.as_str().into(),
                message: error.error_body(),
                field: error.field.clone(),
            })
            .collect();
        let kind = if gvk.group.is_empty() { gvk.kind.to_string() } else { format!("{}.{}", gvk.kind, gvk.group) };
        Self::new(Reason::Invalid, format!("{kind} \"{name}\" is invalid: {}", field::aggregate(errors)))
            .about(&gvk.group, &gvk.kind, name)
            .with_causes(causes)
    }

    /// A method that the route of a path does not take.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        let mut status = Self::new(Reason::MethodNotAllowed, message);
        status.details = Some(Box::default());
        status
    }

    /// A watch or list at a revision that is no longer kept.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(Reason::Expired, message)
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut status = Self::new(Reason::TooManyRequests, message);
        status.details.get_or_insert_default().retry_after_seconds = Some(retry_after_seconds);
        status
    }

    pub fn not_acceptable(accepted: &str) -> Self {
        Self::new(Reason::NotAcceptable, format!("only the following media types are accepted: {accepted}"))
    }

    pub fn unsupported_media_type(accepted: &str) -> Self {
        Self::new(
            Reason::UnsupportedMediaType,
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}"),
        )
    }

    pub fn request_entity_too_large(message: &str) -> Self {
        Self::new(Reason::RequestEntityTooLarge, format!("Request entity too large: {message}"))
    }

    /// `cause` goes to the client as well; keep secrets and paths out of it.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        let cause = cause.to_string();
        Self::new(Reason::InternalError, format!("Internal error occurred: {cause}")).with_causes(vec![Cause {
            reason: String::new(),
            message: cause,
            field: String::new(),
        }])
    }

    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(Reason::ServiceUnavailable, message)
    }

    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(Reason::Timeout, format!("Timeout: {}", message.into()))
    }
}
