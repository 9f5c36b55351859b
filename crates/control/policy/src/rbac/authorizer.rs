//! The index as an authorizer, and as an answer to "what may I do?".

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef};
use machinery_apiserver::{Action, Attributes, Authorizer, Decision};
use machinery_registry::UserInfo;

use super::index::Key;
use super::{Rbac, matching};

impl Rbac {
    /// Why this is allowed, in upstream's words; `None` where no rule allows it.
    pub fn allows(&self, attributes: &Attributes<'_>) -> Option<Arc<str>> {
        let Attributes { user, verb, action } = attributes;
        let mut reason = None;
        self.read().visit(user, namespace(action), |grant, rules| {
            let allowed = rules.is_ok_and(|rules| rules.iter().any(|rule| matching::allows(rule, verb, action)));
            if allowed {
                reason = Some(grant.reason.clone());
            }
            allowed
        });
        reason
    }

    /// Which roles that the caller's bindings name are not there: told with a refusal.
    pub fn unresolved(&self, attributes: &Attributes<'_>) -> String {
        match self.rules_for(attributes.user, namespace(&attributes.action)).1.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        }
    }

    /// Every rule that holds for this user in this namespace, and the roles that are missing.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<PolicyRule>, Vec<String>) {
        let (mut all, mut problems) = (Vec::new(), Vec::new());
        self.read().visit(user, namespace, |_, rules| {
            match rules {
                Ok(rules) => all.extend_from_slice(rules),
                Err(role) => problems.push(missing(role)),
            }
            false
        });
        problems.dedup();
        (all, problems)
    }

    /// The rules of the role that a binding in `namespace` names.
    pub(super) fn rules_of(&self, role: &RoleRef, namespace: &str) -> Result<Vec<PolicyRule>, String> {
        let key = Key::new(if role.kind == "Role" { namespace } else { "" }, &role.name);
        self.read().rules(&key).map(|rules| rules.to_vec()).ok_or_else(|| missing(&key))
    }
}

fn namespace<'a>(action: &Action<'a>) -> &'a str {
    match action {
        Action::Resource { namespace, .. } => namespace,
        Action::Path(_) => "",
    }
}

fn missing(role: &Key) -> String {
    let kind = if role.namespace.is_empty() { "clusterrole" } else { "role" };
    format!("{kind}.{} {:?} not found", api::rbac::GROUP, role.name)
}

#[async_trait::async_trait]
impl Authorizer for Rbac {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        match self.allows(attributes) {
            Some(_) => Decision::Allow,
            None => Decision::NoOpinion { reason: self.unresolved(attributes) },
        }
    }
}
