//! Admission: the last word on a write, after authorization, before storage. Plug-ins live in `control/policy`.

use base_meta::{Gvk, Gvr, Status};
use serde_json::Value;

use crate::RequestContext;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// What a plug-in may look at.
#[derive(Debug)]
pub struct Attributes<'a> {
    pub ctx: &'a RequestContext,
    pub operation: Operation,
    pub gvk: &'a Gvk,
    pub gvr: &'a Gvr,
    pub name: &'a str,
    pub dry_run: bool,
    /// The stored object, for update and delete.
    pub old: Option<&'a Value>,
}

/// One plug-in. A write passes all `mutate`s in order, is validated, then passes all `validate`s.
#[async_trait::async_trait]
pub trait Admission: Send + Sync {
    fn name(&self) -> &'static str;

    /// Whether this plug-in looks at such requests; the object is not even converted for one that does not.
    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool;

    async fn mutate(&self, _attributes: &Attributes<'_>, _object: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    /// `object` is `None` for delete.
    async fn validate(&self, _attributes: &Attributes<'_>, _object: Option<&Value>) -> Result<(), Status> {
        Ok(())
    }
}
