//! One request, before webhooks: whom of them it concerns, and as what they see it.

use std::sync::Arc;

use base_meta::Status;
use machinery_registry::Attributes;
use machinery_registry::admission::Version;
use serde_json::Value;

use super::super::expressions::{Asking, Document, Facts};
use super::super::late::Late;
use super::super::matching::Request;
use super::hook::Hook;
use crate::authorization::Chain;

/// What selectors and conditions ask.
#[derive(Clone)]
pub(super) struct World {
    pub(super) namespaces: Arc<Late>,
    pub(super) authorizers: Arc<Chain>,
}

/// All of a request but the object, which mutations change.
pub(super) struct Asked<'a> {
    pub(super) attributes: &'a Attributes<'a>,
    world: &'a World,
    asking: Asking,
}

/// What a webhook is shown.
pub(super) struct Shown<'r> {
    /// The resource and kind that one of its rules named.
    pub(super) version: &'r Version,
    /// Both in that version.
    pub(super) object: Option<Value>,
    pub(super) old: Option<Value>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(attributes: &'a Attributes<'a>, world: &'a World) -> Self {
        Self { attributes, world, asking: Asking::new(world.authorizers.clone(), attributes.ctx.user.clone()) }
    }

    /// `None`: the webhook has no business with the request.
    pub(super) async fn shown<'r>(&self, hook: &Hook, request: &'r Request<'_>) -> Result<Option<Shown<'r>>, Status> {
        let Some(version) = hook.criteria.matches(request, &self.world.namespaces).await? else { return Ok(None) };
        let shown = Shown {
            version,
            object: self.converted(request.object, version).await?,
            old: self.converted(self.attributes.old, version).await?,
        };
        let facts = Facts::new(self.attributes, &version.gvk, &version.gvr, shown.old.as_ref(), None);
        let held = hook.conditions.hold(&facts, &Document::new(shown.object.as_ref()), &self.asking).await;
        match held {
            Ok(true) => Ok(Some(shown)),
            Ok(false) => Ok(None),
            Err(problem) => Err(Status::forbidden(&request.requested().gvr, self.attributes.name, &problem)),
        }
    }

    async fn converted(&self, object: Option<&Value>, version: &Version) -> Result<Option<Value>, Status> {
        match object {
            Some(object) if super::super::text(object, "/apiVersion") != version.gvk.api_version() => {
                self.attributes.versions.convert(object.clone(), &version.gvk.group_version()).await.map(Some)
            }
            object => Ok(object.cloned()),
        }
    }
}
