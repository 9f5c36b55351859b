//! The last word on a write: upstream's built-in plug-ins, in upstream's order.

mod default_tolerations;
pub(crate) mod expressions;
pub(crate) mod late;
mod matching;
mod namespace_lifecycle;
mod node_restriction;
mod policies;
mod rounds;
mod service_account;
mod shown;
mod webhooks;

use std::sync::Arc;

use base_meta::{Gvr, Status};
use machinery_registry::{Admission, Attributes, Resource};
use serde_json::Value;

use crate::authorization::{Chain, before_rbac};
use crate::rbac::{Escalation, Rbac};
use late::Late;
pub use policies::{Policies, Served};
pub use webhooks::Webhooks;

/// The chain, and the handles to give it once the resources that it reads have started.
pub struct Plugins {
    pub chain: Vec<Arc<dyn Admission>>,
    pub lookups: Arc<Lookups>,
    pub webhooks: Webhooks,
    pub policies: Policies,
}

/// What of the API is looked up by name while a request is admitted or its token checked.
pub struct Lookups {
    pub(crate) namespaces: Arc<Late>,
    pub(crate) service_accounts: Arc<Late>,
    pub(crate) pods: Arc<Late>,
    pub(crate) secrets: Arc<Late>,
    pub(crate) nodes: Arc<Late>,
}

impl Default for Lookups {
    fn default() -> Self {
        let late = |name| Arc::new(Late::new(name));
        Self {
            namespaces: late("namespaces"),
            service_accounts: late("serviceaccounts"),
            pods: late("pods"),
            secrets: late("secrets"),
            nodes: late("nodes"),
        }
    }
}

impl Lookups {
    /// Before the first request is served. Held weakly: the resources hold the chain.
    pub fn bind(&self, all: &[Arc<dyn Resource>]) {
        for late in [&self.namespaces, &self.service_accounts, &self.pods, &self.secrets, &self.nodes] {
            let found = all.iter().find(|resource| is(&resource.def().gvr(), "", late.name()));
            match found {
                Some(resource) => late.bind(resource),
                None => tracing::error!(resource = late.name(), "admission needs a resource that is not served"),
            }
        }
    }
}

/// In upstream's order; the check of grants, which upstream makes before admission, comes last of this server's own.
pub fn plugins(rbac: &Arc<Rbac>) -> Plugins {
    let lookups = Arc::new(Lookups::default());
    let authorizers = Arc::new(Chain::new(before_rbac(), rbac.clone()));
    let webhooks = Webhooks::new(lookups.namespaces.clone(), authorizers.clone());
    let policies = Policies::new(&lookups.namespaces, &authorizers);
    let chain: Vec<Arc<dyn Admission>> = vec![
        Arc::new(namespace_lifecycle::NamespaceLifecycle::new(lookups.namespaces.clone())),
        Arc::new(service_account::ServiceAccount::new(lookups.service_accounts.clone())),
        Arc::new(node_restriction::NodeRestriction::new(lookups.pods.clone())),
        Arc::new(default_tolerations::DefaultTolerationSeconds),
        Arc::new(Escalation(rbac.clone())),
        policies.mutating(),
        webhooks.mutating(),
        policies.validating(),
        webhooks.validating(),
    ];
    Plugins { chain, lookups, webhooks, policies }
}

/// A refusal that names the object, as upstream finds its name before one is generated.
pub(crate) fn forbidden(attributes: &Attributes<'_>, object: Option<&Value>, message: &str) -> Status {
    let metadata = |field: &str| {
        let text = object.and_then(|object| object.pointer(&format!("/metadata/{field}"))).and_then(Value::as_str);
        text.filter(|text| !text.is_empty())
    };
    let name = match attributes.name {
        "" => metadata("name").or_else(|| metadata("generateName")).unwrap_or("Unknown"),
        name => name,
    };
    Status::forbidden(attributes.gvr, name, message)
}

fn is(gvr: &Gvr, group: &str, resource: &str) -> bool {
    gvr.group == group && gvr.resource == resource
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

#[cfg(test)]
pub(crate) mod testing;
