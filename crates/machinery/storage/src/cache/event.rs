//! One change, shared by all watchers.

use std::sync::Arc;

use crate::object::Forms;
use crate::{ChangeKind, Object, Revision};

pub type EventKind = ChangeKind;

#[derive(Debug)]
pub struct Event {
    pub kind: EventKind,
    /// As the change left it; of a deletion, the object as it was deleted, at the deletion's revision.
    pub object: Arc<Object>,
    /// As it was before the change: what a selector that it leaves or enters is judged by.
    pub previous: Option<Arc<Object>>,
    forms: Forms,
}

impl Event {
    pub fn new(kind: EventKind, object: Arc<Object>, previous: Option<Arc<Object>>) -> Self {
        Self { kind, object, previous, forms: Forms::default() }
    }

    pub fn revision(&self) -> Revision {
        self.object.revision
    }

    /// A representation of the event (its JSON watch frame), made once for all watchers.
    pub fn form<T: Send + Sync + 'static>(&self, key: &'static str, make: impl FnOnce() -> T) -> Arc<T> {
        self.forms.get(key, make)
    }

    /// As [`Self::form`]; a failure is returned and not kept.
    pub fn try_form<T: Send + Sync + 'static, E>(
        &self,
        key: &'static str,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        self.forms.try_get(key, make)
    }
}
