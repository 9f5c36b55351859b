//! The last word on a write: upstream's built-in plug-ins, in upstream's order.

mod certificates;
mod default_class;
mod default_tolerations;
pub(crate) mod expressions;
pub(crate) mod late;
mod limit_ranger;
mod matching;
mod metrics;
mod namespace_lifecycle;
mod node_restriction;
mod pod_security;
mod pod_topology_labels;
mod policies;
mod priority;
mod resource_quota;
mod rounds;
mod runtime_class;
mod service_account;
mod shown;
mod storage_in_use;
mod taint_nodes;
mod volume_resize;
mod webhooks;

use std::sync::Arc;

use base_meta::{Gvr, Status};
use machinery_registry::{Admission, Attributes, Chain, Resource};
use serde_json::{Map, Value};

use crate::authorization;
use crate::rbac::{Escalation, Rbac};
use late::Late;
pub use metrics::AdmissionMetrics;
pub use policies::{Policies, Served};
pub use webhooks::Webhooks;
#[cfg(feature = "test-util")]
pub use webhooks::webhook_answer;

/// The chain, and the handles to give it once the resources that it reads have started.
pub struct Plugins {
    pub chain: Chain,
    pub lookups: Arc<Lookups>,
    pub authorizers: Arc<authorization::Chain>,
    pub webhooks: Webhooks,
    pub policies: Policies,
    /// To be registered.
    pub metrics: Arc<AdmissionMetrics>,
}

/// What of the API is looked up while a request is admitted or its token checked.
pub struct Lookups {
    pub(crate) namespaces: Arc<Late>,
    pub(crate) service_accounts: Arc<Late>,
    pub(crate) pods: Arc<Late>,
    pub(crate) secrets: Arc<Late>,
    pub(crate) nodes: Arc<Late>,
    pub(crate) limit_ranges: Arc<Late>,
    pub(crate) resource_quotas: Arc<Late>,
    pub(crate) priority_classes: Arc<Late>,
    pub(crate) storage_classes: Arc<Late>,
    pub(crate) ingress_classes: Arc<Late>,
    pub(crate) runtime_classes: Arc<Late>,
    pub(crate) persistent_volumes: Arc<Late>,
    pub(crate) volume_attachments: Arc<Late>,
}

impl Default for Lookups {
    fn default() -> Self {
        let late = |group, name| Arc::new(Late::new(group, name));
        Self {
            namespaces: late("", "namespaces"),
            service_accounts: late("", "serviceaccounts"),
            pods: late("", "pods"),
            secrets: late("", "secrets"),
            nodes: late("", "nodes"),
            limit_ranges: late("", "limitranges"),
            resource_quotas: late("", "resourcequotas"),
            priority_classes: late("scheduling.k8s.io", "priorityclasses"),
            storage_classes: late("storage.k8s.io", "storageclasses"),
            ingress_classes: late("networking.k8s.io", "ingressclasses"),
            runtime_classes: late("node.k8s.io", "runtimeclasses"),
            persistent_volumes: late("", "persistentvolumes"),
            volume_attachments: late("storage.k8s.io", "volumeattachments"),
        }
    }
}

impl Lookups {
    /// Before the first request is served. Held weakly: the resources hold the chain.
    pub fn bind(&self, all: &[Arc<dyn Resource>]) {
        for late in self.all() {
            let found = all.iter().find(|resource| late.is_of(&resource.def().gvr()));
            match found {
                Some(resource) => late.bind(resource),
                None => tracing::error!(resource = late.name(), "admission needs a resource that is not served"),
            }
        }
    }

    fn all(&self) -> [&Arc<Late>; 13] {
        [
            &self.namespaces,
            &self.service_accounts,
            &self.pods,
            &self.secrets,
            &self.nodes,
            &self.limit_ranges,
            &self.resource_quotas,
            &self.priority_classes,
            &self.storage_classes,
            &self.ingress_classes,
            &self.runtime_classes,
            &self.persistent_volumes,
            &self.volume_attachments,
        ]
    }
}

/// In upstream's order; the check of grants, which upstream makes before admission, comes last of this server's own.
pub fn plugins(rbac: &Arc<Rbac>) -> Plugins {
    let lookups = Arc::new(Lookups::default());
    let authorizers = Arc::new(authorization::Chain::new(&lookups, rbac));
    let metrics = Arc::<AdmissionMetrics>::default();
    let webhooks = Webhooks::new(lookups.namespaces.clone(), authorizers.clone(), metrics.clone());
    let policies = Policies::new(&lookups.namespaces, &authorizers, &metrics);
    let chain: Vec<Arc<dyn Admission>> = vec![
        Arc::new(namespace_lifecycle::NamespaceLifecycle::new(lookups.namespaces.clone())),
        Arc::new(limit_ranger::LimitRanger { ranges: lookups.limit_ranges.clone() }),
        Arc::new(service_account::ServiceAccount::new(lookups.service_accounts.clone())),
        Arc::new(node_restriction::NodeRestriction { nodes: lookups.nodes.clone(), pods: lookups.pods.clone() }),
        Arc::new(taint_nodes::TaintNodesByCondition),
        Arc::new(pod_security::PodSecurity { namespaces: lookups.namespaces.clone(), pods: lookups.pods.clone() }),
        Arc::new(priority::Priority { classes: lookups.priority_classes.clone() }),
        Arc::new(default_tolerations::DefaultTolerationSeconds),
        Arc::new(default_class::DefaultClass::storage(lookups.storage_classes.clone())),
        Arc::new(storage_in_use::StorageObjectInUseProtection),
        Arc::new(volume_resize::PersistentVolumeClaimResize { classes: lookups.storage_classes.clone() }),
        Arc::new(runtime_class::RuntimeClass { classes: lookups.runtime_classes.clone() }),
        Arc::new(certificates::Signers::approval(authorizers.clone())),
        Arc::new(certificates::Signers::signing(authorizers.clone())),
        Arc::new(certificates::CertificateSubjectRestriction),
        Arc::new(default_class::DefaultClass::ingress(lookups.ingress_classes.clone())),
        Arc::new(pod_topology_labels::PodTopologyLabels { nodes: lookups.nodes.clone() }),
        Arc::new(Escalation(rbac.clone())),
        policies.mutating(),
        webhooks.mutating(),
        policies.validating(),
        webhooks.validating(),
        Arc::new(resource_quota::ResourceQuota::new(lookups.resource_quotas.clone())),
    ];
    let chain = Chain::from(chain).observed(metrics.clone());
    Plugins { chain, lookups, authorizers, webhooks, policies, metrics }
}

/// Upstream's aggregate of several errors: each once.
fn aggregate(errors: Vec<String>) -> Option<String> {
    let mut all: Vec<String> = Vec::new();
    for error in errors {
        if !all.contains(&error) {
            all.push(error);
        }
    }
    match all.len() {
        0 => None,
        1 => all.pop(),
        _ => Some(format!("[{}]", all.join(", "))),
    }
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

/// The list at `pointer`; what is no list has nothing in it.
fn items<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    object.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// A member that is to be a map or a list: made where it is missing.
fn member<'a>(object: &'a mut Map<String, Value>, name: &str, empty: Value) -> &'a mut Value {
    let slot = object.entry(name).or_insert(Value::Null);
    if slot.is_null() {
        *slot = empty;
    }
    slot
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

#[cfg(test)]
pub(crate) mod testing;
