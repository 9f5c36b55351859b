//! `autoscaling/v1`: the same autoscalers as their users first knew them.

use std::sync::Arc;

use api::conversion::autoscaling::{V1, to_v1, to_v2};
use base_meta::{GroupVersion, Gvk, Status};
use k8s_openapi::api::autoscaling::v1::HorizontalPodAutoscaler;
use machinery_registry::{Conversion, Core, ResourceDef, View};
use serde_json::Value;

use super::horizontal_pod_autoscaler::COLUMNS;
use crate::define;

#[derive(Debug)]
struct Versions;

#[async_trait::async_trait]
impl Conversion for Versions {
    async fn convert(&self, objects: Vec<Value>, to: &GroupVersion) -> Result<Vec<Value>, Status> {
        let convert = if to.to_string() == V1 { to_v1 } else { to_v2 };
        Ok(objects.into_iter().map(convert).collect())
    }
}

pub(super) fn view(stored: &Arc<Core>) -> Arc<View> {
    let def = ResourceDef {
        short_names: &["hpa"],
        categories: &["all"],
        subresources: vec![define::status::<HorizontalPodAutoscaler>()],
        stored_as: Some(Gvk::of("autoscaling", "v2", "HorizontalPodAutoscaler")),
        ..define::resource::<HorizontalPodAutoscaler>("horizontalpodautoscalers", "horizontalpodautoscaler", COLUMNS)
    };
    View::new(stored.clone(), def, None, Arc::new(Versions))
}
