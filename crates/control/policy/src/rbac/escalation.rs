//! Nobody grants what it does not hold: the check of every write of a role or a binding. Who may `escalate` or `bind`
//! need not hold it.

use std::sync::Arc;

use base_meta::{Gvr, Status, decode_value};
use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef};
use machinery_apiserver::{Action, Attributes as Question, Authorizer as _, Decision};
use machinery_registry::{Admission, Attributes, Operation};
use serde_json::Value;

use super::{Rbac, cover};
use crate::admission::forbidden;
use crate::authorization::MASTERS;

pub(crate) struct Escalation(pub(crate) Arc<Rbac>);

#[async_trait::async_trait]
impl Admission for Escalation {
    fn name(&self) -> &'static str {
        "RbacEscalation"
    }

    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        gvr.group == api::rbac::GROUP
            && subresource.is_none()
            && matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        if attributes.ctx.user.groups.iter().any(|group| group == MASTERS) {
            return Ok(());
        }
        let same = |field: &str| attributes.old.is_some_and(|old| old.get(field) == object.get(field));
        let problem = if object.get("roleRef").is_some() {
            // What only lets go of an object, or owns it, grants nothing.
            if same("roleRef") && same("subjects") { None } else { self.binding(attributes, object).await }
        } else if same("rules") && same("aggregationRule") {
            None
        } else {
            self.role(attributes, object).await
        };
        problem.map_or(Ok(()), |problem| Err(forbidden(attributes, Some(object), &problem)))
    }
}

impl Escalation {
    async fn role(&self, attributes: &Attributes<'_>, role: &Value) -> Option<String> {
        if self.may(attributes, "escalate", &attributes.gvr.resource, attributes.name).await {
            return None;
        }
        if role.get("aggregationRule").is_some_and(|rule| !rule.is_null()) {
            let all = || Some(vec!["*".to_owned()]);
            let verbs = vec!["*".to_owned()];
            let everything = [
                PolicyRule { api_groups: all(), resources: all(), verbs: verbs.clone(), ..PolicyRule::default() },
                PolicyRule { non_resource_urls: all(), verbs, ..PolicyRule::default() },
            ];
            if self.excess(attributes, &everything).is_some() {
                return Some("must have cluster-admin privileges to use the aggregationRule".to_owned());
            }
        }
        let rules =
            role.get("rules").filter(|rules| !rules.is_null()).cloned().unwrap_or_else(|| Value::Array(Vec::new()));
        match decode_value::<Vec<PolicyRule>>(&rules) {
            Ok(rules) => self.excess(attributes, &rules),
            Err(error) => Some(error.to_string()),
        }
    }

    async fn binding(&self, attributes: &Attributes<'_>, binding: &Value) -> Option<String> {
        let role: RoleRef = match decode_value(&binding["roleRef"]) {
            Ok(role) => role,
            Err(error) => return Some(error.to_string()),
        };
        let plural = if role.kind == "Role" { "roles" } else { "clusterroles" };
        if self.may(attributes, "bind", plural, &role.name).await {
            return None;
        }
        match self.0.rules_of(&role, attributes.ctx.namespace.as_deref().unwrap_or("")) {
            Ok(rules) => self.excess(attributes, &rules),
            Err(missing) => Some(missing),
        }
    }

    async fn may(&self, attributes: &Attributes<'_>, verb: &str, resource: &str, name: &str) -> bool {
        let namespace = attributes.ctx.namespace.as_deref().unwrap_or("");
        let group = api::rbac::GROUP;
        let action = Action::Resource { group, version: "v1", resource, subresource: "", namespace, name };
        self.0.authorize(&Question { user: &attributes.ctx.user, verb, action }).await == Decision::Allow
    }

    /// What of `rules` the caller does not hold, in upstream's words.
    fn excess(&self, attributes: &Attributes<'_>, rules: &[PolicyRule]) -> Option<String> {
        let user = &attributes.ctx.user;
        let (held, problems) = self.0.rules_for(user, attributes.ctx.namespace.as_deref().unwrap_or(""));
        let missing = cover::missing(&held, rules);
        if missing.is_empty() {
            return None;
        }
        let groups: Vec<String> = user.groups.iter().map(|group| format!("{group:?}")).collect();
        let mut message = format!(
            "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
            user.name,
            groups.join(" "),
            cover::describe(missing)
        );
        if !problems.is_empty() {
            message.push_str(&format!("; resolution errors: [{}]", problems.join(" ")));
        }
        Some(message)
    }
}
