//! The authorizers that requests pass, asked for their reasons.

use std::sync::Arc;

use machinery_apiserver::{Attributes, Authorizer, Decision};

use crate::rbac::Rbac;

/// The server's authorizers: RBAC is the last.
pub(crate) struct Chain {
    before: Vec<Arc<dyn Authorizer>>,
    rbac: Arc<Rbac>,
}

pub(crate) struct Verdict {
    pub(crate) allowed: bool,
    pub(crate) denied: bool,
    pub(crate) reason: String,
}

impl Chain {
    pub(crate) fn new(before: Vec<Arc<dyn Authorizer>>, rbac: Arc<Rbac>) -> Self {
        Self { before, rbac }
    }

    pub(crate) async fn decide(&self, attributes: &Attributes<'_>) -> Verdict {
        let mut reasons = Vec::new();
        for authorizer in &self.before {
            match authorizer.authorize(attributes).await {
                Decision::Allow => return Verdict { allowed: true, denied: false, reason: String::new() },
                Decision::Deny { reason } => return Verdict { allowed: false, denied: true, reason },
                Decision::NoOpinion { reason } => reasons.push(reason),
            }
        }
        if let Some(reason) = self.rbac.allows(attributes) {
            return Verdict { allowed: true, denied: false, reason: reason.to_string() };
        }
        reasons.push(self.rbac.unresolved(attributes));
        reasons.retain(|reason| !reason.is_empty());
        Verdict { allowed: false, denied: false, reason: reasons.join("\n") }
    }
}
