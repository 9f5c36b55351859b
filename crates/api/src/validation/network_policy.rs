//! NetworkPolicies.

use std::net::IpAddr;

use base_meta::field::{Error, Path};
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Errors, formats, labels};

pub fn network_policy(policy: &NetworkPolicy) -> Errors {
    let mut errors = Errors::new();
    let Some(spec) = &policy.spec else { return errors };
    let path = Path::new("spec");
    if let Some(selector) = &spec.pod_selector {
        labels::selector(selector, &path.child("podSelector"), &mut errors);
    }
    for (index, rule) in spec.ingress.iter().flatten().enumerate() {
        let path = path.child("ingress").index(index);
        ports(rule.ports.as_deref(), &path, &mut errors);
        peers(rule.from.as_deref(), &path.child("from"), &mut errors);
    }
    for (index, rule) in spec.egress.iter().flatten().enumerate() {
        let path = path.child("egress").index(index);
        ports(rule.ports.as_deref(), &path, &mut errors);
        peers(rule.to.as_deref(), &path.child("to"), &mut errors);
    }
    let types = spec.policy_types.as_deref().unwrap_or_default();
    let path = path.child("policyTypes");
    if types.len() > 2 {
        errors.push(Error::invalid(&path, &super::json(&types), "may not specify more than two policyTypes"));
        return errors;
    }
    for (index, kind) in types.iter().enumerate().filter(|(_, kind)| !matches!(kind.as_str(), "Ingress" | "Egress")) {
        errors.push(Error::not_supported(&path.index(index), kind, &["Ingress", "Egress"]));
    }
    errors
}

fn ports(list: Option<&[NetworkPolicyPort]>, path: &Path, errors: &mut Errors) {
    for (index, port) in list.into_iter().flatten().enumerate() {
        let path = path.child("ports").index(index);
        if let Some(protocol) = port.protocol.as_deref().filter(|name| !matches!(*name, "TCP" | "UDP" | "SCTP")) {
            errors.push(Error::not_supported(&path.child("protocol"), protocol, &["TCP", "UDP", "SCTP"]));
        }
        let mut bad_end = |detail: &str| {
            if let Some(end) = port.end_port {
                errors.push(Error::invalid(&path.child("endPort"), end, detail));
            }
        };
        match &port.port {
            None => bad_end("may not be specified when `port` is not specified"),
            Some(IntOrString::String(_)) => bad_end("may not be specified when `port` is non-numeric"),
            Some(IntOrString::Int(_)) => {}
        }
        let Some(first) = &port.port else { continue };
        formats::port_number_or_name(first, &path.child("port"), errors);
        if let (IntOrString::Int(first), Some(end)) = (first, port.end_port) {
            if end < *first {
                errors.push(Error::invalid(&path.child("endPort"), end, "must be greater than or equal to `port`"));
            }
            formats::port_number(end, &path.child("endPort"), errors);
        }
    }
}

fn peers(list: Option<&[NetworkPolicyPeer]>, path: &Path, errors: &mut Errors) {
    for (index, peer) in list.into_iter().flatten().enumerate() {
        let path = path.index(index);
        for (name, selector) in [("podSelector", &peer.pod_selector), ("namespaceSelector", &peer.namespace_selector)] {
            if let Some(selector) = selector {
                labels::selector(selector, &path.child(name), errors);
            }
        }
        if let Some(block) = &peer.ip_block {
            ip_block(block, &path.child("ipBlock"), errors);
        }
        let selects = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        match (selects, peer.ip_block.is_some()) {
            (false, false) => errors.push(Error::required(&path, "must specify a peer")),
            (true, true) => errors.push(Error::forbidden(&path, "may not specify both ipBlock and another peer")),
            _ => {}
        }
    }
}

fn ip_block(block: &IPBlock, path: &Path, errors: &mut Errors) {
    if block.cidr.is_empty() {
        errors.push(Error::required(&path.child("cidr"), ""));
        return;
    }
    if let Some(problem) = formats::cidr(&block.cidr) {
        errors.push(Error::invalid(&path.child("cidr"), &block.cidr, problem));
        return;
    }
    for (index, except) in block.except.iter().flatten().enumerate() {
        let path = path.child("except").index(index);
        match formats::cidr(except) {
            Some(problem) => errors.push(Error::invalid(&path, except, problem)),
            None if !strictly_inside(except, &block.cidr) => {
                errors.push(Error::invalid(&path, except, "must be a strict subset of `cidr`"));
            }
            None => {}
        }
    }
}

/// Of two ranges that parse.
fn strictly_inside(inner: &str, outer: &str) -> bool {
    let parse = |text: &str| -> Option<(IpAddr, u32)> {
        let (address, length) = text.split_once('/')?;
        Some((address.parse().ok()?, length.parse().ok()?))
    };
    let (Some((inner, inner_length)), Some((outer, outer_length))) = (parse(inner), parse(outer)) else {
        return false;
    };
    let same_prefix = match (inner, outer) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (u32::from(a) ^ u32::from(b)).checked_shr(32 - outer_length).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            (u128::from(a) ^ u128::from(b)).checked_shr(128 - outer_length).unwrap_or(0) == 0
        }
        _ => false,
    };
    same_prefix && outer_length < inner_length
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    #[test]
    fn each_rule_names_its_field() {
        let base = json!({"spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{
            "ports": [{"protocol": "TCP", "port": 80, "endPort": 90}],
            "from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}]}});
        let table = [
            ("policyTypes/0", json!("X"), "policyTypes[0]: Unsupported value: \"X\""),
            (
                "policyTypes",
                json!(["Ingress", "Egress", "Ingress"]),
                "policyTypes: Invalid value: [\"Ingress\",\"Egress\",\"Ingress\"]: may not specify more than two policyTypes",
            ),
            ("podSelector", json!({"matchLabels": {"a b": "c"}}), "podSelector.matchLabels: Invalid value: \"a b\""),
            ("ingress/0/ports/0/protocol", json!("X"), "ingress[0].ports[0].protocol: Unsupported value: \"X\""),
            (
                "ingress/0/ports/0/endPort",
                json!(70),
                "ingress[0].ports[0].endPort: Invalid value: 70: must be greater than or equal to `port`",
            ),
            (
                "ingress/0/ports/0/port",
                json!("http"),
                "ingress[0].ports[0].endPort: Invalid value: 90: may not be specified when `port` is non-numeric",
            ),
            (
                "ingress/0/ports/0/port",
                Value::Null,
                "ingress[0].ports[0].endPort: Invalid value: 90: may not be specified when `port` is not specified",
            ),
            ("ingress/0/from/0", json!({}), "ingress[0].from[0]: Required value: must specify a peer"),
            (
                "ingress/0/from/0/podSelector",
                json!({}),
                "ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer",
            ),
            ("ingress/0/from/0/ipBlock/cidr", json!(""), "ingress[0].from[0].ipBlock.cidr: Required value"),
            (
                "ingress/0/from/0/ipBlock/cidr",
                json!("x"),
                "ingress[0].from[0].ipBlock.cidr: Invalid value: \"x\": must",
            ),
            (
                "ingress/0/from/0/ipBlock/except/0",
                json!("11.0.0.0/16"),
                "ingress[0].from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
            ),
        ];
        assert!(network_policy(&object(base.clone())).is_empty());
        for (pointer, value, expected) in table {
            let found = printed(network_policy(&object(with(&base, &[(&format!("/spec/{pointer}"), value)]))));
            assert!(found.len() == 1 && found[0].starts_with(&format!("spec.{expected}")), "{pointer}: {found:?}");
        }
        for (inner, outer, expected) in [
            ("10.0.0.0/8", "0.0.0.0/0", true),
            ("10.0.0.0/8", "10.0.0.0/8", false),
            ("fd00::/64", "fd00::/8", true),
            ("fd00::/64", "10.0.0.0/8", false),
        ] {
            assert_eq!(strictly_inside(inner, outer), expected, "{inner} in {outer}");
        }
    }
}
