//! Which IPAddresses Services should have, and what becomes of a ServiceCIDR. Pure.

use std::net::IpAddr;

use base_sys::route::IpCidr;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{IPAddress, IPAddressSpec, ParentReference, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use machinery_client::ObjectKey;

pub const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
pub const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
/// Upstream's allocator, whose objects these look like.
pub const ALLOCATOR: &str = "ipallocator.k8s.io";
pub const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

/// What is kept of an IPAddress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressFacts {
    /// Made for a Service, with the family's label.
    pub managed: bool,
    /// The Service that it names; `None` where it names something else.
    pub service: Option<ObjectKey>,
}

impl AddressFacts {
    pub fn of(address: &IPAddress) -> Self {
        let label = |name| address.metadata.labels.as_ref()?.get(name).map(String::as_str);
        let family = address.metadata.name.as_ref().and_then(|name| name.parse().ok()).map(family);
        let parent = &address.spec.parent_ref;
        let service = parent.group.as_deref().unwrap_or("").is_empty() && parent.resource == "services";
        let named = || ObjectKey::new(parent.namespace.clone().unwrap_or_default(), parent.name.clone());
        Self { managed: label(MANAGED_BY) == Some(ALLOCATOR) && label(FAMILY) == family, service: service.then(named) }
    }
}

/// What to do about one address of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Nothing,
    Create,
    /// It names something else than a Service that has the address.
    Recreate,
    /// Another Service has the address as well.
    Disputed,
}

/// `other_holds` tells whether a Service has this address.
pub fn address(service: &ObjectKey, stored: Option<&AddressFacts>, other_holds: impl Fn(&ObjectKey) -> bool) -> Wanted {
    match stored {
        None => Wanted::Create,
        Some(facts) if facts.service.as_ref() == Some(service) => {
            if facts.managed {
                Wanted::Nothing
            } else {
                Wanted::Recreate
            }
        }
        Some(facts) if facts.service.as_ref().is_some_and(other_holds) => Wanted::Disputed,
        Some(_) => Wanted::Recreate,
    }
}

pub fn make(ip: IpAddr, service: &ObjectKey) -> IPAddress {
    let labels = [(MANAGED_BY, ALLOCATOR), (FAMILY, family(ip))];
    IPAddress {
        metadata: ObjectMeta {
            name: Some(ip.to_string()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        spec: IPAddressSpec {
            parent_ref: ParentReference {
                group: Some(String::new()),
                resource: "services".into(),
                namespace: Some(service.namespace.clone()),
                name: service.name.clone(),
            },
        },
    }
}

/// Its own addresses, without "None".
pub fn addresses(service: &Service) -> Vec<IpAddr> {
    let listed = service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
    listed.filter_map(|ip| ip.parse().ok()).collect()
}

pub fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn blocks(cidr: &ServiceCIDR) -> impl Iterator<Item = IpCidr> {
    cidr.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten()).filter_map(|block| block.parse().ok())
}

pub fn contains(cidr: &ServiceCIDR, ip: IpAddr) -> bool {
    blocks(cidr).any(|block| block.contains(ip))
}

/// Whether nobody misses it: each of its blocks is within another's, or no Service's address is in it alone.
pub fn may_go<'a>(cidr: &ServiceCIDR, others: &[&ServiceCIDR], held: impl Iterator<Item = &'a IpAddr>) -> bool {
    let within = |block: IpCidr| {
        let wider = |other: IpCidr| other.prefix() <= block.prefix() && other.contains(block.network());
        others.iter().any(|other| blocks(other).any(wider))
    };
    let mut held = held;
    blocks(cidr).all(within) || held.all(|ip| !contains(cidr, *ip) || others.iter().any(|other| contains(other, *ip)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_address_follows_its_service() {
        let (web, other) = (ObjectKey::new("default", "web"), ObjectKey::new("default", "other"));
        let ip: IpAddr = "fd43::9".parse().unwrap();
        let made = make(ip, &web);
        let facts = AddressFacts::of(&made);
        assert_eq!(facts, AddressFacts { managed: true, service: Some(web.clone()) });
        let holds = |key: &ObjectKey| *key == web;
        assert_eq!(address(&web, None, holds), Wanted::Create);
        assert_eq!(address(&web, Some(&facts), holds), Wanted::Nothing);
        assert_eq!(address(&other, Some(&facts), holds), Wanted::Disputed);
        assert_eq!(address(&other, Some(&facts), |_| false), Wanted::Recreate);
        let mut foreign = made;
        foreign.spec.parent_ref.group = Some("gateway.networking.k8s.io".into());
        assert_eq!(address(&web, Some(&AddressFacts::of(&foreign)), holds), Wanted::Recreate);
        foreign.metadata.labels = None;
        assert_eq!(AddressFacts::of(&foreign), AddressFacts { managed: false, service: None });
    }

    #[test]
    fn a_range_goes_when_nobody_misses_it() {
        let cidr = |blocks: &[&str]| -> ServiceCIDR {
            serde_json::from_value(json!({"metadata": {"name": "c"}, "spec": {"cidrs": blocks}})).unwrap()
        };
        let ips: Vec<IpAddr> = ["10.43.0.9", "10.44.0.9"].map(|ip| ip.parse().unwrap()).into();
        let (first, second, wide) = (cidr(&["10.43.0.0/16"]), cidr(&["10.44.0.0/16"]), cidr(&["10.40.0.0/13"]));
        assert!(!may_go(&second, &[&first], ips.iter()));
        assert!(may_go(&second, &[&first], ips[..1].iter()));
        assert!(may_go(&second, &[&first, &wide], ips.iter()));
        assert!(!may_go(&wide, &[&first], ips.iter()));
        assert!(may_go(&wide, &[&first, &second], ips.iter()));
        // One of its two blocks would be missed.
        let both = cidr(&["10.44.0.0/16", "fd43::/108"]);
        let six: IpAddr = "fd43::7".parse().unwrap();
        assert!(!may_go(&both, &[&second], [six].iter()));
    }
}
