//! IPAddresses and ServiceCIDRs: newer kinds, which take addresses in canonical form alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base_meta::field::{Error, Path};
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};

use super::{Errors, formats, immutable, said, segments};

/// An IPAddress is named by its address.
pub fn name(name: &str) -> Vec<String> {
    match name.parse::<IpAddr>() {
        Err(_) => formats::ip(name).into_iter().map(str::to_owned).collect(),
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            vec!["must not be an IPv4-mapped IPv6 address".to_owned()]
        }
        Ok(address) if address.to_string() != name => vec![format!("must be in canonical form (\"{address}\")")],
        Ok(_) => Vec::new(),
    }
}

pub fn ip_address(object: &IPAddress) -> Errors {
    let mut errors = Errors::new();
    let parent = &object.spec.parent_ref;
    let path = Path::new("spec").child("parentRef");
    if parent.resource.is_empty() && parent.name.is_empty() && parent.group.is_none() && parent.namespace.is_none() {
        return vec![Error::required(&path, "")];
    }
    if let Some(group) = parent.group.as_deref().filter(|group| !group.is_empty()) {
        segments::subdomain(group, &path.child("group"), &mut errors);
    }
    segments::required_segment(&parent.resource, &path.child("resource"), &mut errors);
    segments::required_segment(&parent.name, &path.child("name"), &mut errors);
    let namespace = said(&parent.namespace);
    formats::invalid(&path.child("namespace"), namespace, segments::path_segment(namespace), &mut errors);
    errors
}

pub fn ip_address_update(new: &IPAddress, old: &IPAddress) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec").child("parentRef");
    immutable(&new.spec.parent_ref, &old.spec.parent_ref, &path, &mut errors);
    errors
}

pub fn service_cidr(object: &ServiceCIDR) -> Errors {
    let mut errors = Errors::new();
    let cidrs = ranges(object);
    let path = Path::new("spec").child("cidrs");
    if cidrs.is_empty() {
        errors.push(Error::required(&path, "at least one CIDR required"));
        return errors;
    }
    if cidrs.len() > 2 {
        errors.push(Error::invalid(&path, &super::json(&object.spec), "may only hold up to 2 values"));
        return errors;
    }
    for (index, cidr) in cidrs.iter().enumerate() {
        if let Some(problem) = canonical_cidr(cidr) {
            errors.push(Error::invalid(&path.index(index), cidr, problem));
        }
    }
    let family = |cidr: &str| Some(cidr.split_once('/')?.0.parse::<IpAddr>().ok()?.is_ipv4());
    if let [first, second] = cidrs
        && family(first).is_some()
        && family(first) == family(second)
    {
        errors.push(Error::invalid(
            &path,
            &super::json(&cidrs),
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        ));
    }
    errors
}

/// A range stays; a second, of the other family, may join it.
pub fn service_cidr_update(new: &ServiceCIDR, old: &ServiceCIDR) -> Errors {
    let mut errors = Errors::new();
    let (after, before) = (ranges(new), ranges(old));
    let path = Path::new("spec").child("cidrs");
    if after.len() != before.len() && (before.len(), after.len()) != (1, 2) {
        return vec![Error::invalid(&path, &super::json(&after), "field is immutable")];
    }
    for (index, (after, _)) in after.iter().zip(before).enumerate().filter(|(_, (after, before))| after != before) {
        errors.push(Error::invalid(&path.index(index), after, "field is immutable"));
    }
    if after.len() != before.len() {
        errors.extend(service_cidr(new));
    }
    errors
}

fn ranges(object: &ServiceCIDR) -> &[String] {
    object.spec.as_ref().and_then(|spec| spec.cidrs.as_deref()).unwrap_or_default()
}

fn canonical_cidr(text: &str) -> Option<String> {
    if let Some(problem) = formats::cidr(text) {
        return Some(problem.to_owned());
    }
    let (address, length) = text.split_once('/')?;
    let (address, bits) = (address.parse::<IpAddr>().ok()?, length.parse::<u32>().ok()?);
    let network: IpAddr = match address {
        IpAddr::V4(v4) => Ipv4Addr::from(u32::from(v4) & u32::MAX.checked_shl(32 - bits).unwrap_or(0)).into(),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            return Some("must not have an IPv4-mapped IPv6 address".to_owned());
        }
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & u128::MAX.checked_shl(128 - bits).unwrap_or(0)).into(),
    };
    if network != address {
        return Some("must not have bits set beyond the prefix length".to_owned());
    }
    let canonical = format!("{network}/{bits}");
    (canonical != text).then(|| format!("must be in canonical form (\"{canonical}\")"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed};
    use super::*;

    #[test]
    fn names_are_addresses() {
        for good in ["10.0.0.1", "fd00::1"] {
            assert!(name(good).is_empty(), "{good}");
        }
        for (bad, expected) in [
            ("x", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
            ("fd00:0::1", "must be in canonical form (\"fd00::1\")"),
            ("::ffff:10.0.0.1", "must not be an IPv4-mapped IPv6 address"),
        ] {
            assert_eq!(name(bad), [expected]);
        }
    }

    #[test]
    fn an_address_has_a_parent() {
        let made = |parent: Value| -> IPAddress { object(json!({"spec": {"parentRef": parent}})) };
        assert!(ip_address(&made(json!({"resource": "services", "namespace": "a", "name": "b"}))).is_empty());
        assert_eq!(printed(ip_address(&made(json!({})))), ["spec.parentRef: Required value"]);
        assert_eq!(
            printed(ip_address(&made(json!({"group": "A", "namespace": "a/b"})))).len(),
            4,
            "group, resource, name and namespace"
        );
        let (new, old) = (made(json!({"name": "a"})), made(json!({"name": "b"})));
        assert!(printed(ip_address_update(&new, &old))[0].ends_with("field is immutable"));
    }

    #[test]
    fn ranges_are_canonical_and_stay() {
        let made = |cidrs: Value| -> ServiceCIDR { object(json!({"spec": {"cidrs": cidrs}})) };
        let table = [
            (json!(["10.43.0.0/16"]), vec![]),
            (json!(["10.43.0.0/16", "fd00::/112"]), vec![]),
            (json!([]), vec!["spec.cidrs: Required value: at least one CIDR required"]),
            (
                json!(["10.43.0.1/16"]),
                vec!["spec.cidrs[0]: Invalid value: \"10.43.0.1/16\": must not have bits set beyond the prefix length"],
            ),
            (
                json!(["10.0.0.0/24", "10.1.0.0/24"]),
                vec![
                    "spec.cidrs: Invalid value: [\"10.0.0.0/24\",\"10.1.0.0/24\"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
                ],
            ),
        ];
        for (cidrs, expected) in table {
            assert_eq!(printed(service_cidr(&made(cidrs))), expected);
        }
        let one = made(json!(["10.43.0.0/16"]));
        assert!(service_cidr_update(&made(json!(["10.43.0.0/16", "fd00::/112"])), &one).is_empty());
        assert_eq!(
            printed(service_cidr_update(&made(json!(["10.44.0.0/16"])), &one)),
            ["spec.cidrs[0]: Invalid value: \"10.44.0.0/16\": field is immutable"]
        );
        assert_eq!(service_cidr_update(&made(json!([])), &one).len(), 1);
    }
}
