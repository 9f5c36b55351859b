//! The cluster that the tests ask about: the examples of the specification, and their neighbours.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use machinery_client::ObjectKey;

use crate::facts::{Endpoint, Port, Protocol, ServiceFacts, ServiceKind, SliceFacts, View};
use crate::zone::Zone;

#[derive(Default)]
pub struct Fixture {
    services: BTreeMap<(&'static str, &'static str), Arc<ServiceFacts>>,
    slices: Vec<Arc<SliceFacts>>,
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub fn port(name: &str, protocol: Protocol, number: u16) -> Port {
    Port { name: name.into(), protocol, number }
}

fn cluster(ips: &[&str]) -> ServiceKind {
    ServiceKind::Cluster(ips.iter().map(|text| ip(text)).collect())
}

pub fn zone() -> Zone {
    let ranges = ["10.42.0.0/16", "10.3.0.0/16", "fd00:42::/56"].map(|range| range.parse().expect("a block"));
    Zone::new("Cluster.Local", vec![ip("10.3.0.10")], ranges.to_vec()).expect("a domain")
}

impl Fixture {
    pub fn new() -> Self {
        let mut all = Self::default();
        let https = || port("https", Protocol::Tcp, 443);
        all.add_service("default", "kubernetes", cluster(&["10.3.0.1"]), [https()]);
        let dns = [port("dns", Protocol::Udp, 53), port("dns-tcp", Protocol::Tcp, 53)];
        all.add_service("kube-system", "kube-dns", cluster(&["10.3.0.10"]), dns);
        all.add_service("default", "both", cluster(&["10.3.0.7", "fd00:42::7"]), [port("", Protocol::Tcp, 80)]);
        all.add_service("default", "headless", ServiceKind::Headless, [https()]);
        let pets = [("10.3.0.100", Some("my-pet")), ("10.3.0.101", Some("my-pet-2")), ("10.3.0.102", None)];
        all.add_slice("headless", &pets, [port("https", Protocol::Tcp, 443)]);
        // The other family of the same pods, and a port that the pods have elsewhere.
        all.add_slice("headless", &[("fd00:42::64", Some("my-pet"))], [port("https", Protocol::Tcp, 443)]);
        all.add_service("default", "empty", ServiceKind::Headless, [https()]);
        all.add_service("default", "no-ports", ServiceKind::Headless, []);
        all.add_slice("no-ports", &[("10.42.0.9", None)], []);
        all.add_service("default", "web", cluster(&["10.3.0.8"]), [port("http", Protocol::Tcp, 80), https()]);
        all.add_slice("web", &[("10.42.0.5", None)], [port("http", Protocol::Tcp, 8080)]);
        for (name, target) in [
            ("foo", "www.example.com"),
            ("alias", "web.default.svc.cluster.local"),
            ("alias-of-alias", "alias.default.svc.cluster.local."),
            ("to-nothing", "gone.default.svc.cluster.local"),
            ("loop", "pool.default.svc.cluster.local"),
            ("pool", "loop.default.svc.cluster.local"),
            ("number", "192.0.2.1"),
        ] {
            all.add_service("default", name, ServiceKind::External(target.into()), []);
        }
        all.add_service("other", "db", cluster(&["10.3.0.9"]), [port("", Protocol::Tcp, 5432)]);
        all
    }

    fn add_service<const N: usize>(
        &mut self,
        namespace: &'static str,
        name: &'static str,
        kind: ServiceKind,
        ports: [Port; N],
    ) {
        self.services.insert((namespace, name), Arc::new(ServiceFacts { kind, ports: ports.into() }));
    }

    fn add_slice<const N: usize>(&mut self, service: &str, endpoints: &[(&str, Option<&str>)], ports: [Port; N]) {
        let endpoint = |(address, hostname): &(&str, Option<&str>)| Endpoint {
            address: ip(address),
            hostname: hostname.map(Into::into),
        };
        let endpoints = endpoints.iter().map(endpoint).collect();
        let service = ObjectKey::new("default", service);
        self.slices.push(Arc::new(SliceFacts { service, endpoints, ports: ports.into() }));
    }
}

impl View for Fixture {
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<ServiceFacts>> {
        self.services.iter().find(|(key, _)| **key == (namespace, name)).map(|(_, facts)| Arc::clone(facts))
    }

    fn namespace_exists(&self, namespace: &str) -> bool {
        // The last has no Services.
        ["default", "kube-system", "other", "bare"].contains(&namespace)
    }

    fn slices(&self, namespace: &str, name: &str) -> Vec<Arc<SliceFacts>> {
        let key = ObjectKey::new(namespace, name);
        self.slices.iter().filter(|slice| slice.service == key).cloned().collect()
    }

    fn service_at(&self, address: IpAddr) -> Option<ObjectKey> {
        let has = |facts: &ServiceFacts| matches!(&facts.kind, ServiceKind::Cluster(ips) if ips.contains(&address));
        self.services
            .iter()
            .find(|(_, facts)| has(facts))
            .map(|((namespace, name), _)| ObjectKey::new(*namespace, *name))
    }

    fn slices_at(&self, address: IpAddr) -> Vec<Arc<SliceFacts>> {
        let has = |slice: &&Arc<SliceFacts>| slice.endpoints.iter().any(|endpoint| endpoint.address == address);
        self.slices.iter().filter(has).cloned().collect()
    }

    fn searches_from(&self, address: IpAddr) -> Option<Arc<str>> {
        (address == ip("10.42.0.5")).then(|| "default".into())
    }

    fn serial(&self) -> u32 {
        7
    }
}
