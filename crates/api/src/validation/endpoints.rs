//! Endpoints.

use base_meta::field::{Error, Path};
use base_meta::names;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, Endpoints};

use super::container::one_of;
use super::{Errors, formats, said};

pub fn endpoints(endpoints: &Endpoints) -> Errors {
    let mut errors = Errors::new();
    for (index, subset) in endpoints.subsets.iter().flatten().enumerate() {
        let path = Path::new("subsets").index(index);
        let ready = subset.addresses.as_deref().unwrap_or_default();
        let not_ready = subset.not_ready_addresses.as_deref().unwrap_or_default();
        if ready.is_empty() && not_ready.is_empty() {
            errors.push(Error::required(&path, "must specify `addresses` or `notReadyAddresses`"));
        }
        for (name, list) in [("addresses", ready), ("notReadyAddresses", not_ready)] {
            for (index, each) in list.iter().enumerate() {
                address(each, &path.child(name).index(index), &mut errors);
            }
        }
        let ports = subset.ports.as_deref().unwrap_or_default();
        for (index, each) in ports.iter().enumerate() {
            port(each, ports.len() > 1, &path.child("ports").index(index), &mut errors);
        }
    }
    errors
}

fn address(address: &EndpointAddress, path: &Path, errors: &mut Errors) {
    for problem in formats::reachable_ip(&address.ip) {
        errors.push(Error::invalid(&path.child("ip"), &address.ip, problem));
    }
    if let Some(hostname) = address.hostname.as_deref().filter(|hostname| !hostname.is_empty()) {
        formats::invalid(&path.child("hostname"), hostname, names::dns1123_label(hostname), errors);
    }
    if let Some(node) = &address.node_name {
        formats::invalid(&path.child("nodeName"), node, names::dns1123_subdomain(node), errors);
    }
}

fn port(port: &EndpointPort, named: bool, path: &Path, errors: &mut Errors) {
    let name = said(&port.name);
    if named && name.is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    } else if !name.is_empty() {
        formats::invalid(&path.child("name"), name, names::dns1123_label(name), errors);
    }
    formats::port_number(port.port, &path.child("port"), errors);
    one_of(said(&port.protocol), &["SCTP", "TCP", "UDP"], errors, || path.child("protocol"));
    if let Some(protocol) = &port.app_protocol {
        formats::invalid(&path.child("appProtocol"), protocol, names::qualified_name(protocol), errors);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{object, printed};
    use super::*;

    #[test]
    fn bad_subsets_name_their_field() {
        let made: Endpoints = object(json!({"subsets": [
            {"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80, "protocol": "TCP"}]},
            {"ports": [{"port": 0, "protocol": "TCP"}, {"name": "b", "port": 1, "protocol": "X"}]},
            {"addresses": [{"ip": "127.0.0.1", "hostname": "A"}]}]}));
        let found = printed(endpoints(&made));
        let expected = [
            "subsets[1]: Required value: must specify `addresses` or `notReadyAddresses`",
            "subsets[1].ports[0].name: Required value",
            "subsets[1].ports[0].port: Invalid value: 0",
            "subsets[1].ports[1].protocol: Unsupported value: \"X\"",
            "subsets[2].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range",
            "subsets[2].addresses[0].hostname: Invalid value: \"A\"",
        ];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}");
        }
    }
}
