//! Endpoints and EndpointSlices: TCP unless said; a slice's port has a name, if only the empty one.

use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::{pointer, text};

pub fn endpoints(endpoints: &mut Endpoints) {
    for subset in endpoints.subsets.iter_mut().flatten() {
        for port in subset.ports.iter_mut().flatten() {
            text(&mut port.protocol, "TCP");
        }
    }
}

pub fn endpoint_slice(slice: &mut EndpointSlice) {
    for port in slice.ports.iter_mut().flatten() {
        pointer(&mut port.name, String::new());
        pointer(&mut port.protocol, "TCP".to_owned());
    }
}
