//! The audit log: who asked for what, and what became of it, as `audit.k8s.io/v1 Event`s.
//!
//! ```text
//!  request ─▶ policy: level ─ None ─▶ nothing
//!               │ RequestReceived
//!               ▼
//!             the body is copied as it is read (from level Request on)
//!               │ ResponseStarted, of a stream
//!               ▼
//!             the answer's object (level RequestResponse) ─▶ ResponseComplete, or Panic ─▶ Sink
//! ```
//! Bodies are recorded as JSON, whatever they came as.

mod body;
mod event;
mod file;
mod policy;

use std::sync::Arc;

pub(crate) use body::{Ending, Tee};
pub(crate) use event::Record;
pub use file::{LogError, LogFile, Rotation};
pub use policy::{Level, Policy, PolicyError, Stage};

use crate::authorization::Attributes;

/// Where events go; it must not wait.
pub trait Sink: Send + Sync + 'static {
    /// One event as a line of JSON, with its end.
    fn write(&self, line: Vec<u8>);
}

/// What is recorded, and where.
#[derive(Clone)]
pub struct Audit {
    policy: Arc<Policy>,
    sink: Arc<dyn Sink>,
}

impl Audit {
    pub fn new(policy: Policy, sink: Arc<dyn Sink>) -> Self {
        Self { policy: Arc::new(policy), sink }
    }

    /// The record of one request; `None` where the policy wants none.
    pub(crate) fn open(&self, attributes: &Attributes<'_>, request: event::Asked<'_>) -> Option<Record> {
        let wanted = self.policy.wanted(attributes);
        (wanted.level > Level::None).then(|| Record::open(self.sink.clone(), wanted, attributes, request))
    }
}

pub(crate) use event::Asked;

#[cfg(test)]
mod tests;
