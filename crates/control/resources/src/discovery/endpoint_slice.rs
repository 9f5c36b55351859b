//! EndpointSlices.

use base_meta::field;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use machinery_registry::{Column, RequestContext, ResourceDef, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::text("AddressType", "IPv4, IPv6 or FQDN."),
    columns::text("Ports", "Ports that every endpoint serves."),
    columns::text("Endpoints", "Addresses of the endpoints."),
    AGE,
];

pub struct EndpointSliceStrategy;

impl Strategy for EndpointSliceStrategy {
    type Object = EndpointSlice;

    fn def(&self) -> ResourceDef {
        define::resource::<EndpointSlice>("endpointslices", "endpointslice", COLUMNS)
    }

    fn default(&self, object: &mut EndpointSlice) {
        api::defaults::endpoint_slice(object);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, _: &RequestContext, object: &EndpointSlice) -> Vec<field::Error> {
        api::validation::endpoint_slice::endpoint_slice(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &EndpointSlice, old: &EndpointSlice) -> Vec<field::Error> {
        api::validation::endpoint_slice::endpoint_slice_update(new, old)
    }

    fn row(&self, object: &EndpointSlice) -> Vec<Value> {
        let port = |port: Option<i32>| port.map_or_else(|| "*".to_owned(), |port| port.to_string());
        let ports = object.ports.iter().flatten().map(|each| port(each.port)).collect();
        let endpoints = object.endpoints.iter().flatten().flat_map(|endpoint| endpoint.addresses.clone()).collect();
        vec![
            columns::name(&object.metadata),
            json!(object.address_type),
            columns::first_three(ports, "<unset>"),
            columns::first_three(endpoints, "<unset>"),
            columns::age(&object.metadata),
        ]
    }
}
