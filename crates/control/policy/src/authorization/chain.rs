//! The authorizers that requests pass, asked for their reasons.

use std::sync::Arc;

use machinery_apiserver::{Attributes, Authorizer, Decision};

use crate::admission::Lookups;
use crate::rbac::Rbac;

/// The server's authorizers: RBAC is the last.
pub struct Chain {
    before: Vec<Arc<dyn Authorizer>>,
    rbac: Arc<Rbac>,
}

pub(crate) struct Verdict {
    pub(crate) allowed: bool,
    pub(crate) denied: bool,
    pub(crate) reason: String,
}

impl Chain {
    pub(crate) fn new(lookups: &Lookups, rbac: &Arc<Rbac>) -> Self {
        Self { before: super::before_rbac(lookups), rbac: rbac.clone() }
    }

    /// Each, for a server that asks them in turn.
    pub fn all(&self) -> Vec<Arc<dyn Authorizer>> {
        let mut all = self.before.clone();
        all.push(self.rbac.clone());
        all
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
