//! SelfSubjectRulesReview: everything the caller may do in a namespace (`kubectl auth can-i --list`).

use std::sync::Arc;

use base_meta::Status;
use machinery_registry::RequestContext;
use serde_json::{Value, json};

use super::Answering;
use crate::authorization::node;
use crate::rbac::Rbac;

pub(super) struct Rules(pub(super) Arc<Rbac>);

#[async_trait::async_trait]
impl Answering for Rules {
    async fn answer(&self, ctx: &RequestContext, mut asked: Value) -> Result<Value, Status> {
        let namespace = asked["spec"]["namespace"].as_str().unwrap_or("").to_owned();
        if namespace.is_empty() {
            return Err(Status::bad_request("no namespace on request"));
        }
        let (rules, mut problems) = self.0.rules_for(&ctx.user, &namespace);
        let is_node = node::name_of(&ctx.user).is_some();
        if is_node {
            problems.insert(0, "node authorizer does not support user rule resolution".to_owned());
        }
        let (mut resources, mut paths) = (Vec::new(), Vec::new());
        for rule in rules {
            if rule.resources.as_ref().is_some_and(|list| !list.is_empty()) {
                let mut shown = json!({"verbs": rule.verbs});
                let lists = [
                    ("apiGroups", rule.api_groups),
                    ("resources", rule.resources),
                    ("resourceNames", rule.resource_names),
                ];
                for (name, list) in lists {
                    if let Some(list) = list.filter(|list| !list.is_empty()) {
                        shown[name] = json!(list);
                    }
                }
                resources.push(shown);
            }
            if let Some(urls) = rule.non_resource_urls.filter(|list| !list.is_empty()) {
                paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": urls}));
            }
        }
        let incomplete = !problems.is_empty();
        let mut status = json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": incomplete});
        if incomplete {
            status["evaluationError"] = json!(problems.join(", "));
        }
        asked["spec"] = json!({});
        asked["status"] = status;
        Ok(asked)
    }
}
