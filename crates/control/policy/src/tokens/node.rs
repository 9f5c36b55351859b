//! For which pods a node may have tokens: upstream's NodeRestriction of `serviceaccounts/token`.

use base_meta::{Gvr, Status};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::Pod;

/// `pod` is the one that the request is bound to, if there is one.
pub(super) fn restrict(node: &str, account: &str, request: &TokenRequest, pod: Option<&Pod>) -> Result<(), Status> {
    let refuse = |message: &str| Err(Status::forbidden(&Gvr::of("", "v1", "serviceaccounts"), account, message));
    let bound = request.spec.as_ref().and_then(|spec| spec.bound_object_ref.as_ref());
    let said = |text: &Option<String>| text.clone().unwrap_or_default();
    let Some(bound) = bound.filter(|bound| {
        said(&bound.api_version) == "v1" && said(&bound.kind) == "Pod" && !said(&bound.name).is_empty()
    }) else {
        return refuse("node requested token not bound to a pod");
    };
    if said(&bound.uid).is_empty() {
        return refuse("node requested token with a pod binding without a uid");
    }
    let on = pod.and_then(|pod| pod.spec.as_ref()).and_then(|spec| spec.node_name.as_deref());
    if on != Some(node) {
        return refuse("node requested token bound to a pod scheduled on a different node");
    }
    Ok(())
}
