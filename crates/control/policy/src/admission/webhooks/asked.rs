//! One request, before webhooks: whom of them it concerns, and as what they see it.

use std::sync::Arc;
use std::time::Duration;

use base_meta::Status;
use machinery_registry::Attributes;

use super::super::expressions::{Asking, Document, Facts};
use super::super::late::Late;
use super::super::matching::Request;
use super::super::metrics::{AdmissionMetrics, Call};
use super::super::shown::Shown;
use super::failure::Failure;
use super::hook::{Flavour, Hook};
use crate::authorization::Chain;

/// What selectors and conditions ask.
#[derive(Clone)]
pub(super) struct World {
    pub(super) namespaces: Arc<Late>,
    pub(super) authorizers: Arc<Chain>,
    pub(super) metrics: Arc<AdmissionMetrics>,
}

/// All of a request but the object, which mutations change.
pub(super) struct Asked<'a> {
    pub(super) attributes: &'a Attributes<'a>,
    world: &'a World,
    asking: Asking,
}

impl<'a> Asked<'a> {
    pub(super) fn new(attributes: &'a Attributes<'a>, world: &'a World) -> Self {
        Self { attributes, world, asking: Asking::new(world.authorizers.clone(), attributes.ctx.user.clone()) }
    }

    pub(super) fn count<T>(&self, hook: &Hook, flavour: Flavour, took: Duration, outcome: &Result<T, Failure>) {
        let kind = match flavour {
            Flavour::Mutating => "admit",
            Flavour::Validating => "validating",
        };
        let call = Call { webhook: &hook.name, kind, operation: self.attributes.operation };
        self.world.metrics.called(&call, took, Failure::outcome(outcome, hook.fails_open));
    }

    /// `None`: the webhook has no business with the request.
    pub(super) async fn shown<'r>(&self, hook: &Hook, request: &'r Request<'a>) -> Result<Option<Shown<'r>>, Status> {
        let Some(version) = hook.criteria.matches(request, &self.world.namespaces).await? else { return Ok(None) };
        let shown = Shown::of(self.attributes, request.object, version).await?;
        let facts = Facts::new(self.attributes, &version.gvk, &version.gvr, shown.old(), None);
        let held = hook.conditions.hold(&facts, &Document::new(shown.object()), &self.asking).await;
        match held {
            Ok(true) => Ok(Some(shown)),
            Ok(false) => Ok(None),
            Err(problem) => Err(Status::forbidden(&request.requested().gvr, self.attributes.name, &problem)),
        }
    }
}
