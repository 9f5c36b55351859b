//! Services that want one address and port of the outside. Pure. Every data plane comes to the same result by itself: the
//! older one has it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use machinery_client::ObjectKey;

use super::plan::Balanced;

/// What the younger ones are told.
pub fn conflicts(services: &BTreeMap<ObjectKey, Balanced>) -> BTreeMap<ObjectKey, String> {
    let mut oldest_first: Vec<(&ObjectKey, &Balanced)> = services.iter().collect();
    oldest_first.sort_by_key(|(key, service)| (&service.created, *key));
    let mut holders: BTreeMap<(IpAddr, &(String, i32)), &ObjectKey> = BTreeMap::new();
    let mut conflicts = BTreeMap::new();
    for (key, service) in oldest_first {
        for address in service.external.iter().chain(&service.has) {
            for port in &service.ports {
                let holder = *holders.entry((*address, port)).or_insert(key);
                if holder != key {
                    let (protocol, number) = port;
                    let message =
                        format!("{address} port {number}/{protocol} leads to the Service {holder}, which is older");
                    conflicts.entry(key.clone()).or_insert(message);
                }
            }
        }
    }
    conflicts
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn service(created: &str, port: i32, external: &str) -> Balanced {
        Balanced {
            ports: [("TCP".to_owned(), port)].into(),
            created: created.to_owned(),
            external: vec![external.parse().unwrap()],
            ..Balanced::default()
        }
    }

    #[test]
    fn the_younger_of_two_is_told_whose_the_address_is() {
        let of = |services: &[(&str, Balanced)]| {
            let services = services.iter().map(|(name, one)| (ObjectKey::new("d", *name), one.clone())).collect();
            conflicts(&services)
                .into_iter()
                .map(|(key, message)| format!("{}: {message}", key.name))
                .collect::<Vec<_>>()
        };
        let shared = "203.0.113.1";
        assert_eq!(
            of(&[("a", service("2", 80, shared)), ("b", service("1", 80, shared))]),
            ["a: 203.0.113.1 port 80/TCP leads to the Service d/b, which is older"]
        );
        assert_eq!(of(&[("a", service("1", 80, shared)), ("b", service("1", 443, shared))]), Vec::<String>::new());
        assert_eq!(of(&[("a", service("1", 80, shared)), ("b", service("1", 80, "fd00::1"))]), Vec::<String>::new());
        let balanced =
            Balanced { has: vec![shared.parse().unwrap()], external: Vec::new(), ..service("1", 80, shared) };
        assert_eq!(of(&[("a", service("2", 80, shared)), ("b", balanced)]).len(), 1);
    }
}
