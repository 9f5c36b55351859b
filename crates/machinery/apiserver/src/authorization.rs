//! Whether the caller may. The API server asks; `control/policy` answers.

use std::sync::Arc;

use base_meta::{Gvr, Status};
use machinery_registry::UserInfo;

/// What is asked for, as `authorization.k8s.io SubjectAccessReview` spells it.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    pub user: &'a UserInfo,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; the lower-case method for
    /// a path that is no resource.
    pub verb: &'a str,
    pub action: Action<'a>,
}

#[derive(Clone, Copy, Debug)]
pub enum Action<'a> {
    Resource {
        group: &'a str,
        version: &'a str,
        resource: &'a str,
        /// Empty: the object itself.
        subresource: &'a str,
        /// Empty: all namespaces, or a cluster-scoped resource.
        namespace: &'a str,
        /// Empty: the collection.
        name: &'a str,
    },
    Path(&'a str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    /// Ends the chain.
    Deny {
        reason: String,
    },
    /// The next one is asked; nobody allowing is a refusal.
    NoOpinion {
        reason: String,
    },
}

/// One rule of who may do what; asked in the order of the server's table.
#[async_trait::async_trait]
pub trait Authorizer: Send + Sync + 'static {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision;
}

/// `Err` has the reasons of those who would not.
async fn decide(authorizers: &[Arc<dyn Authorizer>], attributes: &Attributes<'_>) -> Result<(), String> {
    let mut reasons = Vec::new();
    for authorizer in authorizers {
        match authorizer.authorize(attributes).await {
            Decision::Allow => return Ok(()),
            Decision::Deny { reason } => {
                reasons.push(reason);
                break;
            }
            Decision::NoOpinion { reason } => reasons.push(reason),
        }
    }
    reasons.retain(|reason| !reason.is_empty());
    Err(reasons.join("\n"))
}

pub(crate) async fn authorize(authorizers: &[Arc<dyn Authorizer>], attributes: &Attributes<'_>) -> Result<(), Status> {
    decide(authorizers, attributes).await.map_err(|reason| forbidden(attributes, &reason))
}

/// What is answered to an update of an object that does not exist, where the kind would make it: `None` if the caller
/// may create it as well.
pub(crate) async fn no_create(
    authorizers: &[Arc<dyn Authorizer>],
    user: &UserInfo,
    gvr: &Gvr,
    namespace: &str,
    name: &str,
) -> Option<Box<Status>> {
    let (group, version, resource) = (&*gvr.group, &*gvr.version, &*gvr.resource);
    let action = Action::Resource { group, version, resource, subresource: "", namespace, name };
    let reason = decide(authorizers, &Attributes { user, verb: "create", action }).await.err()?;
    Some(Box::new(Status::forbidden(gvr, name, &reason)))
}

/// In upstream's words.
fn forbidden(attributes: &Attributes<'_>, reason: &str) -> Status {
    let Attributes { user, verb, action } = attributes;
    let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    match action {
        Action::Path(path) => {
            let message = format!("User {:?} cannot {verb} path {path:?}{because}", user.name);
            let mut status = Status::new(base_meta::Reason::Forbidden, format!("forbidden: {message}"));
            status.details = Some(Box::default());
            status
        }
        Action::Resource { group, version, resource, subresource, namespace, name } => {
            let gvr = Gvr {
                group: group.to_string().into(),
                version: version.to_string().into(),
                resource: resource.to_string().into(),
            };
            let what =
                if subresource.is_empty() { (*resource).to_owned() } else { format!("{resource}/{subresource}") };
            let place = if namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace {namespace:?}")
            };
            let message =
                format!("User {:?} cannot {verb} resource {what:?} in API group {group:?} {place}{because}", user.name);
            Status::forbidden(&gvr, name, &message)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Fixed(Decision);

    #[async_trait::async_trait]
    impl Authorizer for Fixed {
        async fn authorize(&self, _: &Attributes<'_>) -> Decision {
            self.0.clone()
        }
    }

    async fn ask(chain: Vec<Decision>, action: Action<'_>) -> Result<(), Status> {
        let chain: Vec<Arc<dyn Authorizer>> =
            chain.into_iter().map(|decision| Arc::new(Fixed(decision)) as Arc<dyn Authorizer>).collect();
        let user = UserInfo { name: "x".into(), ..UserInfo::default() };
        authorize(&chain, &Attributes { user: &user, verb: "list", action }).await
    }

    const PODS: Action<'static> = Action::Resource {
        group: "",
        version: "v1",
        resource: "pods",
        subresource: "",
        namespace: "default",
        name: "",
    };

    #[tokio::test]
    async fn the_first_opinion_counts_and_silence_forbids() {
        let none = || Decision::NoOpinion { reason: String::new() };
        let deny = || Decision::Deny { reason: "no".into() };
        assert!(ask(vec![none(), Decision::Allow, deny()], PODS).await.is_ok());
        assert!(ask(vec![deny(), Decision::Allow], PODS).await.is_err());
        let status = ask(vec![none()], PODS).await.unwrap_err();
        assert_eq!(status.code, 403);
        assert_eq!(
            status.message,
            r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "default""#
        );
    }

    #[tokio::test]
    async fn an_update_that_would_create_is_told_so() {
        let gvr = Gvr::of("coordination.k8s.io", "v1", "leases");
        let ask = async |decision: Decision| {
            let chain: Vec<Arc<dyn Authorizer>> = vec![Arc::new(Fixed(decision))];
            no_create(&chain, &UserInfo::default(), &gvr, "a", "x").await.map(|status| status.message)
        };
        assert_eq!(ask(Decision::Allow).await, None);
        let refused = ask(Decision::NoOpinion { reason: "only updates".into() }).await;
        assert_eq!(refused.as_deref(), Some("leases.coordination.k8s.io \"x\" is forbidden: only updates"));
    }

    #[tokio::test]
    async fn paths_and_reasons_are_told() {
        let status = ask(vec![Decision::Deny { reason: "closed".into() }], Action::Path("/x")).await.unwrap_err();
        assert_eq!(status.message, r#"forbidden: User "x" cannot list path "/x": closed"#);
    }
}
