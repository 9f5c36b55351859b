//! The admission plug-ins, in upstream's order.

mod default_tolerations;
mod lookup;
mod namespace_lifecycle;
mod node_restriction;
mod service_account;

use std::sync::Arc;

use machinery_registry::Admission;

pub use lookup::Lookup;

/// Every plug-in. `lookup` is filled once the resources it reads exist: their registries need the plug-ins first.
pub fn plugins(lookup: &Arc<Lookup>) -> Vec<Arc<dyn Admission>> {
    vec![
        Arc::new(namespace_lifecycle::NamespaceLifecycle::new(Arc::clone(lookup))),
        Arc::new(service_account::ServiceAccount::new(Arc::clone(lookup))),
        Arc::new(node_restriction::NodeRestriction),
        Arc::new(default_tolerations::DefaultTolerationSeconds),
    ]
}
