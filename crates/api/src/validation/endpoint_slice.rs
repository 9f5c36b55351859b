//! EndpointSlices.

use std::collections::BTreeSet;

use base_meta::field::{Error, Path};
use base_meta::names;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

use super::{Errors, formats, immutable, said};

const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20_000;
const MAX_ADDRESSES: usize = 100;

pub fn endpoint_slice(slice: &EndpointSlice) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("addressType");
    match slice.address_type.as_str() {
        "" => errors.push(Error::required(&path, "")),
        "IPv4" | "IPv6" | "FQDN" => {}
        other => errors.push(Error::not_supported(&path, other, &["FQDN", "IPv4", "IPv6"])),
    }
    let list = slice.endpoints.as_deref().unwrap_or_default();
    let path = Path::new("endpoints");
    if list.len() > MAX_ENDPOINTS {
        errors.push(too_many(&path, list.len(), MAX_ENDPOINTS));
    } else {
        for (index, each) in list.iter().enumerate() {
            endpoint(each, &slice.address_type, &path.index(index), &mut errors);
        }
    }
    ports(slice.ports.as_deref().unwrap_or_default(), &Path::new("ports"), &mut errors);
    errors
}

pub fn endpoint_slice_update(new: &EndpointSlice, old: &EndpointSlice) -> Errors {
    let mut errors = endpoint_slice(new);
    immutable(&new.address_type, &old.address_type, &Path::new("addressType"), &mut errors);
    errors
}

fn too_many(path: &Path, count: usize, max: usize) -> Error {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    Error::too_many(path, number(count), number(max))
}

fn endpoint(endpoint: &Endpoint, address_type: &str, path: &Path, errors: &mut Errors) {
    let addresses = path.child("addresses");
    if endpoint.addresses.is_empty() {
        errors.push(Error::required(&addresses, "must contain at least 1 address"));
    } else if endpoint.addresses.len() > MAX_ADDRESSES {
        errors.push(too_many(&addresses, endpoint.addresses.len(), MAX_ADDRESSES));
    }
    for (index, address) in endpoint.addresses.iter().enumerate() {
        let path = addresses.index(index);
        match address_type {
            "IPv4" | "IPv6" => {
                let wrong = match address.parse::<std::net::IpAddr>() {
                    Ok(ip) => ip.is_ipv4() != (address_type == "IPv4"),
                    Err(_) => true,
                };
                if wrong {
                    errors.push(Error::invalid(&path, address, format!("must be a valid {address_type} address")));
                } else {
                    for problem in formats::reachable_ip(address) {
                        errors.push(Error::invalid(&path, address, problem));
                    }
                }
            }
            "FQDN" => formats::invalid(&path, address, names::dns1123_subdomain(address), errors),
            _ => {}
        }
    }
    if let Some(node) = &endpoint.node_name {
        formats::invalid(&path.child("nodeName"), node, names::dns1123_subdomain(node), errors);
    }
    if let Some(hostname) = &endpoint.hostname {
        formats::invalid(&path.child("hostname"), hostname, names::dns1123_label(hostname), errors);
    }
    let mut zones = BTreeSet::new();
    let hints = endpoint.hints.iter().flat_map(|hints| hints.for_zones.iter().flatten());
    for (index, zone) in hints.enumerate() {
        let path = path.child("hints").child("forZones").index(index).child("name");
        if !zones.insert(&zone.name) {
            errors.push(Error::duplicate(&path, &zone.name));
        }
        formats::invalid(&path, &zone.name, names::qualified_name(&zone.name), errors);
    }
}

fn ports(list: &[EndpointPort], path: &Path, errors: &mut Errors) {
    if list.len() > MAX_PORTS {
        errors.push(too_many(path, list.len(), MAX_PORTS));
        return;
    }
    let mut port_names = BTreeSet::new();
    for (index, port) in list.iter().enumerate() {
        let path = path.index(index);
        let name = said(&port.name);
        if !name.is_empty() {
            formats::invalid(&path.child("name"), name, names::dns1123_label(name), errors);
        }
        if !port_names.insert(name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
        if let Some(number) = port.port {
            formats::port_number(number, &path.child("port"), errors);
        }
        match port.protocol.as_deref() {
            None => errors.push(Error::required(&path.child("protocol"), "")),
            Some("TCP" | "UDP" | "SCTP") => {}
            Some(other) => {
                errors.push(Error::not_supported(&path.child("protocol"), other, &["SCTP", "TCP", "UDP"]));
            }
        }
        if let Some(protocol) = &port.app_protocol {
            formats::invalid(&path.child("appProtocol"), protocol, names::qualified_name(protocol), errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    fn made(changes: &[(&str, Value)]) -> EndpointSlice {
        let base = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.42.0.5"]}], "ports": [{"port": 80}]});
        let mut made = object(with(&base, changes));
        crate::defaults::endpoint_slice(&mut made);
        made
    }

    #[test]
    fn each_rule_names_its_field() {
        let table = [
            ("/addressType", json!(""), "addressType: Required value"),
            (
                "/addressType",
                json!("X"),
                "addressType: Unsupported value: \"X\": supported values: \"FQDN\", \"IPv4\", \"IPv6\"",
            ),
            (
                "/addressType",
                json!("IPv6"),
                "endpoints[0].addresses[0]: Invalid value: \"10.42.0.5\": must be a valid IPv6 address",
            ),
            (
                "/endpoints/0/addresses",
                json!([]),
                "endpoints[0].addresses: Required value: must contain at least 1 address",
            ),
            ("/endpoints/0/hostname", json!("A"), "endpoints[0].hostname: Invalid value: \"A\""),
            ("/ports/0/port", json!(0), "ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"),
            ("/ports/0/protocol", json!("X"), "ports[0].protocol: Unsupported value: \"X\""),
            ("/ports/1", json!({"port": 81}), "ports[1].name: Duplicate value: \"\""),
        ];
        assert!(endpoint_slice(&made(&[])).is_empty());
        for (pointer, value, expected) in table {
            let found = printed(endpoint_slice(&made(&[(pointer, value)])));
            assert!(found.len() == 1 && found[0].starts_with(expected), "{pointer}: {found:?}");
        }
        let full = made(&[("/endpoints", json!(vec![json!({"addresses": ["10.0.0.1"]}); 1001]))]);
        assert_eq!(printed(endpoint_slice(&full)), ["endpoints: Too many: 1001: must have at most 1000 items"]);
    }

    #[test]
    fn the_address_type_stays() {
        let new = made(&[("/addressType", json!("FQDN")), ("/endpoints", json!([]))]);
        assert_eq!(
            printed(endpoint_slice_update(&new, &made(&[]))),
            ["addressType: Invalid value: \"FQDN\": field is immutable"]
        );
    }
}
