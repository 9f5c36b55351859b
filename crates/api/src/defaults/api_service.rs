//! `apiregistration.k8s.io/v1`.

use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

use super::pointer;

pub fn api_service(object: &mut APIService) {
    if let Some(service) = object.spec.as_mut().and_then(|spec| spec.service.as_mut()) {
        pointer(&mut service.port, 443);
    }
}
