//! Webhooks that have a say in writes: `MutatingWebhookConfiguration`, `ValidatingWebhookConfiguration`.
//!
//! ```text
//!  configurations ─ watch ─▶ Index ─▶ hooks, by their configuration's name
//!                                       │ matching: rules, selectors
//!                                       ▼
//!  object, old ─ converted to the version a rule named ─▶ AdmissionReview ─▶ machinery-dial ─▶ the webhook
//!                                                                                                │
//!    mutating: its patch, decoded and defaulted; another round of all plug-ins if it changed ◀───┤
//!    validating: all at once                                                                     │
//!                                       failurePolicy, where there is no answer ◀────────────────┘
//! ```
//! While there is no configuration, `handles` says no and a write pays nothing.

mod asked;
mod call;
mod failure;
mod follow;
mod hook;
mod mutate;
mod review;
mod validate;

use std::sync::Arc;

use base_meta::{Gvr, Status};
use base_tasks::Tasks;
use machinery_dial::Dialer;
use machinery_registry::{Admission, Attributes, Operation, Resource};
use serde_json::Value;

use super::late::Late;
use super::matching::is_exempt;
use super::metrics::AdmissionMetrics;
use crate::authorization::Chain;
use asked::{Asked, World};
use follow::Index;
use hook::Flavour;

/// The indexes under both plug-ins, to be filled before the first request.
pub struct Webhooks {
    mutating: Arc<Index>,
    validating: Arc<Index>,
    world: World,
}

impl Webhooks {
    pub(super) fn new(namespaces: Arc<Late>, authorizers: Arc<Chain>, metrics: Arc<AdmissionMetrics>) -> Self {
        let world = World { namespaces, authorizers, metrics };
        Self { mutating: Index::new(Flavour::Mutating), validating: Index::new(Flavour::Validating), world }
    }

    /// Takes in the configurations, and follows them under `tasks`.
    pub async fn follow(&self, all: &[Arc<dyn Resource>], dialer: &Dialer, tasks: &Tasks) -> Result<(), Status> {
        self.mutating.follow(all, dialer, tasks).await?;
        self.validating.follow(all, dialer, tasks).await
    }

    pub(super) fn mutating(&self) -> Arc<dyn Admission> {
        Arc::new(Mutating { index: self.mutating.clone(), world: self.world.clone() })
    }

    pub(super) fn validating(&self) -> Arc<dyn Admission> {
        Arc::new(Validating { index: self.validating.clone(), world: self.world.clone() })
    }
}

fn concerned(index: &Index, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
    let hooks = index.hooks();
    !is_exempt(gvr) && hooks.iter().any(|hook| hook.criteria.may_match(gvr, subresource, operation))
}

struct Mutating {
    index: Arc<Index>,
    world: World,
}

#[async_trait::async_trait]
impl Admission for Mutating {
    fn name(&self) -> &'static str {
        "MutatingAdmissionWebhook"
    }

    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        concerned(&self.index, gvr, subresource, operation)
    }

    async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        mutate::mutate(&self.index.hooks(), &Asked::new(attributes, &self.world), Some(object)).await
    }

    /// A deletion has nothing to mutate, but passes these webhooks too.
    async fn validate(&self, attributes: &Attributes<'_>, _: Option<&Value>) -> Result<(), Status> {
        match attributes.operation {
            Operation::Delete => mutate::mutate(&self.index.hooks(), &Asked::new(attributes, &self.world), None).await,
            _ => Ok(()),
        }
    }
}

struct Validating {
    index: Arc<Index>,
    world: World,
}

#[async_trait::async_trait]
impl Admission for Validating {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        concerned(&self.index, gvr, subresource, operation)
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        validate::validate(&self.index.hooks(), &Asked::new(attributes, &self.world), object).await
    }
}

/// What an answer of any bytes, to a review of `uid`, makes of the object that a mutating and a validating webhook was shown: its patch's
/// outcome, or a refusal. For fuzzing.
#[cfg(feature = "test-util")]
pub fn webhook_answer(body: &[u8], uid: &str, object: &Value) -> Vec<Result<Option<Value>, Status>> {
    let spoken = [hook::ReviewVersion::V1, hook::ReviewVersion::V1Beta1];
    let each = spoken.into_iter().flat_map(|speaks| [(speaks, Flavour::Mutating), (speaks, Flavour::Validating)]);
    let made = each.map(|(speaks, flavour)| {
        let response = review::verify(body, speaks, flavour, uid)
            .map_err(|reason| failure::Failure::Calling { code: 503, reason })?;
        match response.allowed {
            true => {
                mutate::patched("webhook", Some(object.clone()), &response).map(|made| made.map(|made| made.object))
            }
            false => Err(failure::Failure::Denied(failure::denied("webhook", &response.result))),
        }
    });
    made.map(|made| made.map_err(|failure| failure.status("webhook"))).collect()
}

#[cfg(test)]
mod tests;
