//! `events.k8s.io/v1`: the core group's events under the names that the new group gives their members.

use std::borrow::Cow;
use std::sync::Arc;

use api::conversion::event::{self, NEW, to_core, to_new};
use base_meta::{GroupVersion, Gvk, Status};
use k8s_openapi::api::events::v1::Event;
use machinery_registry::{Conversion, Core, ResourceDef, View};
use serde_json::Value;

use crate::define;

const FIELDS: &[&str] = &[
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reason",
    "reportingController",
    "type",
];

#[derive(Debug)]
struct Names;

#[async_trait::async_trait]
impl Conversion for Names {
    async fn convert(&self, objects: Vec<Value>, to: &GroupVersion) -> Result<Vec<Value>, Status> {
        let convert = if to.to_string() == NEW { to_new } else { to_core };
        Ok(objects.into_iter().map(convert).collect())
    }

    fn field<'a>(&self, field: &'a str) -> Cow<'a, str> {
        event::field(field).into()
    }
}

pub(super) fn view(stored: &Arc<Core>) -> Arc<View> {
    let def = ResourceDef {
        short_names: &["ev"],
        fields: FIELDS,
        stored_as: Some(Gvk::of("", "v1", "Event")),
        ..define::resource::<Event>("events", "event", super::event::COLUMNS)
    };
    View::new(stored.clone(), def, None, Arc::new(Names))
}
