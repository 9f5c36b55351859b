//! The last word on a write: upstream's built-in plug-ins, in upstream's order.

mod default_tolerations;
mod late;
mod namespace_lifecycle;
mod node_restriction;
mod service_account;

use std::sync::Arc;

use base_meta::{Gvr, Status};
use machinery_registry::{Admission, Attributes, Resource};
use serde_json::Value;

use late::Late;

/// The chain, and the handles to give it once the resources that it reads have started.
pub struct Plugins {
    pub chain: Vec<Arc<dyn Admission>>,
    namespaces: Arc<Late>,
    service_accounts: Arc<Late>,
}

pub fn plugins() -> Plugins {
    let (namespaces, service_accounts) = (Arc::new(Late::new("namespaces")), Arc::new(Late::new("serviceaccounts")));
    let chain: Vec<Arc<dyn Admission>> = vec![
        Arc::new(namespace_lifecycle::NamespaceLifecycle::new(namespaces.clone())),
        Arc::new(service_account::ServiceAccount::new(service_accounts.clone())),
        Arc::new(node_restriction::NodeRestriction),
        Arc::new(default_tolerations::DefaultTolerationSeconds),
    ];
    Plugins { chain, namespaces, service_accounts }
}

impl Plugins {
    /// Before the first request is served. Held weakly: the resources hold the chain.
    pub fn bind(&self, namespaces: &Arc<dyn Resource>, service_accounts: &Arc<dyn Resource>) {
        self.namespaces.bind(namespaces);
        self.service_accounts.bind(service_accounts);
    }
}

/// A refusal that names the object, as upstream finds its name before one is generated.
fn forbidden(attributes: &Attributes<'_>, object: Option<&Value>, message: &str) -> Status {
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
mod testing;
