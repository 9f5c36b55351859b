//! Who may do what. Asked in order; whoever has no opinion leaves it to the next, and nobody allowing is a refusal.

mod chain;
pub mod node;
pub mod rules;

use std::sync::Arc;

pub use chain::Chain;
use machinery_apiserver::Authorizer;
use machinery_apiserver::{Attributes, Decision};

use crate::admission::Lookups;

/// The cluster's administrators, and the API server itself.
pub const MASTERS: &str = "system:masters";

/// Those that are asked before the roles.
fn before_rbac(lookups: &Lookups) -> Vec<Arc<dyn Authorizer>> {
    vec![Arc::new(Masters), Arc::new(node::Nodes::new(lookups))]
}

struct Masters;

#[async_trait::async_trait]
impl Authorizer for Masters {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.groups.iter().any(|group| group == MASTERS) { Decision::Allow } else { silent() }
    }
}

fn silent() -> Decision {
    Decision::NoOpinion { reason: String::new() }
}

#[cfg(test)]
pub(crate) mod testing {
    use machinery_apiserver::Action;
    use machinery_registry::UserInfo;

    use super::*;

    /// `what` is `resource[.group][/subresource]`; a leading `/` makes it a path.
    pub(crate) async fn allowed(user: &str, groups: &[&str], verb: &str, what: &str, place: (&str, &str)) -> bool {
        allowed_in(&Lookups::default(), user, groups, verb, what, place).await
    }

    /// As [`allowed`], in a world of objects.
    pub(crate) async fn allowed_in(
        lookups: &Lookups,
        user: &str,
        groups: &[&str],
        verb: &str,
        what: &str,
        place: (&str, &str),
    ) -> bool {
        let user = UserInfo {
            name: user.into(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..UserInfo::default()
        };
        let (namespace, name) = place;
        let action = if what.starts_with('/') {
            Action::Path(what)
        } else {
            let (qualified, subresource) = what.split_once('/').unwrap_or((what, ""));
            let (resource, group) = qualified.split_once('.').unwrap_or((qualified, ""));
            Action::Resource { group, version: "v1", resource, subresource, namespace, name }
        };
        let chain = Chain::new(lookups, &Arc::default());
        chain.decide(&Attributes { user: &user, verb, action }).await.allowed
    }

    #[tokio::test]
    async fn masters_may_do_everything_and_strangers_nothing() {
        assert!(allowed("admin", &[MASTERS], "delete", "nodes", ("", "n")).await);
        assert!(!allowed("jane", &["system:authenticated"], "get", "pods", ("default", "p")).await);
        assert!(!allowed("system:masters", &[], "get", "pods", ("default", "p")).await);
    }
}
