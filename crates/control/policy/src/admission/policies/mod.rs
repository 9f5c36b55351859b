//! Policies in the Common Expression Language: `ValidatingAdmissionPolicy`, `MutatingAdmissionPolicy`.
//!
//! ```text
//!  policies, bindings ─ watch ─▶ Index ─▶ Active: a compiled policy and what binds it
//!                                           │ matching: rules, selectors, of the policy and of each binding
//!                                           ▼
//!  caches of any kind ─ Served ─ params ─▶ Invocation ─ once for each parameter ─┬─▶ judge: conditions, validations,
//!                                                                                │   messages, annotations
//!                                                                                └─▶ patch: one change after the other
//! ```
//! While nothing is bound, `handles` says no and a write pays nothing. The status of validating policies tells what their
//! expressions name and no object has.

mod index;
mod invocation;
mod judge;
mod mutate;
mod params;
mod patch;
mod policy;
mod refusal;
mod served;
mod status;
mod type_check;
mod validate;

use std::sync::Arc;

use base_meta::{Gvr, Status};
use base_tasks::Tasks;
use machinery_registry::{Admission, Attributes, Operation, Resource};
use serde_json::Value;

use super::late::Late;
use super::metrics::AdmissionMetrics;
use crate::authorization::Chain;
use index::{Flavour, Index};
use invocation::World;
pub use served::Served;

/// The indexes under both plug-ins, to be filled before the first request.
pub struct Policies {
    mutating: Arc<World>,
    validating: Arc<World>,
    pub served: Arc<Served>,
}

impl Policies {
    pub(super) fn new(namespaces: &Arc<Late>, authorizers: &Arc<Chain>, metrics: &Arc<AdmissionMetrics>) -> Self {
        let served = Arc::new(Served::default());
        let world = |flavour| {
            let (namespaces, chain, metrics) = (namespaces.clone(), authorizers.clone(), metrics.clone());
            let index = Index::new(flavour, served.clone());
            Arc::new(World { index, namespaces, served: served.clone(), chain, metrics })
        };
        Self { mutating: world(Flavour::Mutating), validating: world(Flavour::Validating), served }
    }

    /// Takes in the policies, and follows them under `tasks`.
    pub async fn follow(&self, all: &[Arc<dyn Resource>], tasks: &Tasks) -> Result<(), Status> {
        self.served.set_built_in(all);
        self.mutating.index.follow(all, tasks).await?;
        self.validating.index.follow(all, tasks).await
    }

    pub(super) fn mutating(&self) -> Arc<dyn Admission> {
        Arc::new(Mutating(self.mutating.clone()))
    }

    pub(super) fn validating(&self) -> Arc<dyn Admission> {
        Arc::new(Validating(self.validating.clone()))
    }
}

struct Mutating(Arc<World>);

#[async_trait::async_trait]
impl Admission for Mutating {
    fn name(&self) -> &'static str {
        "MutatingAdmissionPolicy"
    }

    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        // There is nothing to change of what is deleted.
        operation != Operation::Delete && self.0.index.concerns(gvr, subresource, operation)
    }

    async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        mutate::mutate(&self.0, attributes, object).await
    }
}

struct Validating(Arc<World>);

#[async_trait::async_trait]
impl Admission for Validating {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        self.0.index.concerns(gvr, subresource, operation)
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        validate::validate(&self.0, attributes, object).await
    }
}

#[cfg(test)]
mod tests;
