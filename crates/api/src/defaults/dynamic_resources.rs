//! `resource.k8s.io/v1`.

use k8s_openapi::api::resource::v1::{
    DeviceToleration, ResourceClaim, ResourceClaimSpec, ResourceClaimTemplate, ResourceSlice,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::text;

pub fn resource_claim(claim: &mut ResourceClaim) {
    spec(&mut claim.spec);
    let results = claim.status.iter_mut().filter_map(|status| status.allocation.as_mut());
    for result in
        results.flat_map(|allocation| allocation.devices.iter_mut()).flat_map(|d| d.results.iter_mut().flatten())
    {
        tolerations(&mut result.tolerations);
    }
}

pub fn resource_claim_template(template: &mut ResourceClaimTemplate) {
    spec(&mut template.spec.spec);
}

/// A taint has existed since it was first written.
pub fn resource_slice(slice: &mut ResourceSlice) {
    for taint in slice.spec.devices.iter_mut().flatten().flat_map(|device| device.taints.iter_mut().flatten()) {
        if taint.time_added.is_none() {
            let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH);
            taint.time_added = Some(Time(now));
        }
    }
}

fn spec(spec: &mut ResourceClaimSpec) {
    for request in spec.devices.iter_mut().flat_map(|devices| devices.requests.iter_mut().flatten()) {
        if let Some(exactly) = &mut request.exactly {
            amount(&mut exactly.allocation_mode, &mut exactly.count);
            tolerations(&mut exactly.tolerations);
        }
        for alternative in request.first_available.iter_mut().flatten() {
            amount(&mut alternative.allocation_mode, &mut alternative.count);
            tolerations(&mut alternative.tolerations);
        }
    }
}

fn amount(mode: &mut Option<String>, count: &mut Option<i64>) {
    text(mode, "ExactCount");
    if mode.as_deref() == Some("ExactCount") && count.is_none_or(|count| count == 0) {
        *count = Some(1);
    }
}

fn tolerations(list: &mut Option<Vec<DeviceToleration>>) {
    for toleration in list.iter_mut().flatten() {
        text(&mut toleration.operator, "Equal");
    }
}
