//! From a name to its records: pure, from a view of Services and their endpoints.

use std::net::IpAddr;
use std::sync::Arc;

/// Facts of a Service that names derive from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceFacts {
    pub headless: bool,
    /// Its ClusterIPs.
    pub addresses: Vec<IpAddr>,
    /// Its named ports; `number` is the Service's.
    pub ports: Vec<Port>,
    pub external_name: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    /// Lower case, as in `_http._tcp`.
    pub protocol: String,
    pub number: u16,
}

/// A ready endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: IpAddr,
    pub hostname: Option<String>,
}

impl Endpoint {
    /// Its label below the Service's name: its hostname, else its address with dashes.
    fn label(&self) -> String {
        self.hostname.clone().unwrap_or_else(|| self.address.to_string().replace(['.', ':'], "-"))
    }
}

/// What answers are derived from.
pub trait View: Send + Sync {
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<ServiceFacts>>;
    fn namespace_exists(&self, namespace: &str) -> bool;
    /// Ready endpoints of a Service, each with the ports of its slice.
    fn endpoints(&self, namespace: &str, name: &str) -> Vec<(Endpoint, Vec<Port>)>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    A,
    Aaaa,
    Srv,
    Txt,
    /// A type that this zone has no records of.
    Other,
}

/// A record below the cluster domain; names are relative to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Address(IpAddr),
    Srv { port: u16, target: String },
    Cname(String),
    Txt(&'static str),
}

/// An empty list is "the name exists, but not with that type"; `None` is "no such name".
pub type Answer = Option<Vec<Found>>;

/// The version of the specification that `dns-version.<domain>` announces.
const VERSION: &str = "1.1.0";

/// Answers for `labels`, the name's labels left of the cluster domain, lower case, in order.
pub fn resolve(view: &dyn View, labels: &[&str], wanted: Wanted) -> Answer {
    match labels {
        [] | ["svc" | "pod"] => Some(Vec::new()),
        ["dns-version"] => Some(if wanted == Wanted::Txt { vec![Found::Txt(VERSION)] } else { Vec::new() }),
        [namespace, "svc" | "pod"] => view.namespace_exists(namespace).then(Vec::new),
        [name, namespace, "svc"] => service(view, name, namespace, wanted),
        [endpoint, name, namespace, "svc"] if !endpoint.starts_with('_') => {
            one_endpoint(view, endpoint, name, namespace, wanted)
        }
        [protocol, name, namespace, "svc"] => {
            // `_tcp.name…` has no records of its own, but names below it may exist.
            let found = view.service(namespace, name)?;
            found.ports.iter().any(|port| *protocol == format!("_{}", port.protocol)).then(Vec::new)
        }
        [port, protocol, name, namespace, "svc"] => {
            let (port, protocol) = (port.strip_prefix('_')?, protocol.strip_prefix('_')?);
            srv(view, port, protocol, name, namespace, wanted)
        }
        [address, namespace, "pod"] => pod(view, address, namespace, wanted),
        _ => None,
    }
}

fn service(view: &dyn View, name: &str, namespace: &str, wanted: Wanted) -> Answer {
    let found = view.service(namespace, name)?;
    if let Some(target) = &found.external_name {
        return Some(vec![Found::Cname(target.clone())]);
    }
    if found.headless {
        let mut all: Vec<IpAddr> =
            view.endpoints(namespace, name).into_iter().map(|(endpoint, _)| endpoint.address).collect();
        all.sort_unstable();
        all.dedup();
        return Some(addresses(&all, wanted));
    }
    Some(addresses(&found.addresses, wanted))
}

fn addresses(all: &[IpAddr], wanted: Wanted) -> Vec<Found> {
    all.iter()
        .filter(|ip| (wanted == Wanted::A && ip.is_ipv4()) || (wanted == Wanted::Aaaa && ip.is_ipv6()))
        .map(|ip| Found::Address(*ip))
        .collect()
}

fn one_endpoint(view: &dyn View, label: &str, name: &str, namespace: &str, wanted: Wanted) -> Answer {
    view.service(namespace, name).filter(|service| service.headless)?;
    let all: Vec<IpAddr> = view
        .endpoints(namespace, name)
        .into_iter()
        .filter(|(endpoint, _)| endpoint.label() == label)
        .map(|(endpoint, _)| endpoint.address)
        .collect();
    (!all.is_empty()).then(|| addresses(&all, wanted))
}

fn srv(view: &dyn View, port: &str, protocol: &str, name: &str, namespace: &str, wanted: Wanted) -> Answer {
    let found = view.service(namespace, name)?;
    let is_it = |candidate: &&Port| candidate.name == port && candidate.protocol == protocol;
    let records: Vec<Found> = if found.headless {
        view.endpoints(namespace, name)
            .into_iter()
            .filter_map(|(endpoint, ports)| {
                let number = ports.iter().find(is_it)?.number;
                Some(Found::Srv { port: number, target: format!("{}.{name}.{namespace}.svc", endpoint.label()) })
            })
            .collect()
    } else {
        let port = found.ports.iter().find(is_it);
        port.map(|port| Found::Srv { port: port.number, target: format!("{name}.{namespace}.svc") })
            .into_iter()
            .collect()
    };
    if records.is_empty() {
        return None;
    }
    Some(if wanted == Wanted::Srv { records } else { Vec::new() })
}

/// `10-42-0-3.default.pod`: the address is in the name.
fn pod(view: &dyn View, label: &str, namespace: &str, wanted: Wanted) -> Answer {
    let address: IpAddr = label
        .replace('-', ".")
        .parse()
        .or_else(|_| label.replace('-', ":").parse())
        .ok()
        .filter(|_| view.namespace_exists(namespace))?;
    Some(addresses(&[address], wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture;

    fn port(name: &str, number: u16) -> Port {
        Port { name: name.into(), protocol: "tcp".into(), number }
    }

    impl View for Fixture {
        fn service(&self, namespace: &str, name: &str) -> Option<Arc<ServiceFacts>> {
            let facts = match (namespace, name) {
                ("default", "web") => ServiceFacts {
                    addresses: vec!["10.43.0.7".parse().expect("an address")],
                    ports: vec![port("http", 80)],
                    ..ServiceFacts::default()
                },
                ("default", "db") => {
                    ServiceFacts { headless: true, ports: vec![port("sql", 5432)], ..ServiceFacts::default() }
                }
                ("default", "out") => {
                    ServiceFacts { external_name: Some("example.org".into()), ..ServiceFacts::default() }
                }
                _ => return None,
            };
            Some(Arc::new(facts))
        }

        fn namespace_exists(&self, namespace: &str) -> bool {
            namespace == "default"
        }

        fn endpoints(&self, _: &str, name: &str) -> Vec<(Endpoint, Vec<Port>)> {
            if name != "db" {
                return Vec::new();
            }
            let endpoint = |last: u8, hostname: Option<&str>| {
                (
                    Endpoint { address: IpAddr::from([10, 42, 0, last]), hostname: hostname.map(str::to_owned) },
                    vec![port("sql", 15432)],
                )
            };
            vec![endpoint(3, Some("db-0")), endpoint(2, None)]
        }
    }

    fn ask(name: &str, wanted: Wanted) -> Answer {
        let labels: Vec<&str> = name.split('.').filter(|label| !label.is_empty()).collect();
        resolve(&Fixture, &labels, wanted)
    }

    fn address(text: &str) -> Found {
        Found::Address(text.parse().expect("an address"))
    }

    #[test]
    fn a_service_has_its_cluster_ip_and_no_other_type() {
        assert_eq!(ask("web.default.svc", Wanted::A), Some(vec![address("10.43.0.7")]));
        assert_eq!(ask("web.default.svc", Wanted::Aaaa), Some(vec![]));
        assert_eq!(ask("none.default.svc", Wanted::A), None);
        assert_eq!(ask("x.web.default.svc", Wanted::A), None);
    }

    #[test]
    fn a_headless_service_has_its_ready_endpoints_each_with_a_name() {
        assert_eq!(ask("db.default.svc", Wanted::A), Some(vec![address("10.42.0.2"), address("10.42.0.3")]));
        assert_eq!(ask("db-0.db.default.svc", Wanted::A), Some(vec![address("10.42.0.3")]));
        assert_eq!(ask("10-42-0-2.db.default.svc", Wanted::A), Some(vec![address("10.42.0.2")]));
        assert_eq!(ask("db-9.db.default.svc", Wanted::A), None);
    }

    #[test]
    fn named_ports_have_service_records() {
        let web = Found::Srv { port: 80, target: "web.default.svc".into() };
        assert_eq!(ask("_http._tcp.web.default.svc", Wanted::Srv), Some(vec![web]));
        let db = Found::Srv { port: 15432, target: "db-0.db.default.svc".into() };
        assert_eq!(ask("_sql._tcp.db.default.svc", Wanted::Srv).map(|all| all.contains(&db)), Some(true));
        assert_eq!(ask("_none._tcp.web.default.svc", Wanted::Srv), None);
        assert_eq!(ask("_tcp.web.default.svc", Wanted::Srv), Some(vec![]));
    }

    #[test]
    fn external_names_pods_and_the_names_above() {
        assert_eq!(ask("out.default.svc", Wanted::A), Some(vec![Found::Cname("example.org".into())]));
        assert_eq!(ask("10-42-0-9.default.pod", Wanted::A), Some(vec![address("10.42.0.9")]));
        assert_eq!(ask("nonsense.default.pod", Wanted::A), None);
        assert_eq!(ask("default.svc", Wanted::A), Some(vec![]));
        assert_eq!(ask("nowhere.svc", Wanted::A), None);
        assert_eq!(ask("dns-version", Wanted::Txt), Some(vec![Found::Txt(VERSION)]));
    }
}
