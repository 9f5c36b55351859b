//! What names derive from: Services and their endpoints, as far as DNS shows them.

use std::net::IpAddr;
use std::sync::Arc;

use machinery_client::ObjectKey;

/// Facts of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFacts {
    pub kind: ServiceKind,
    /// All of them, unnamed ones with an empty name; `number` is the Service's.
    pub ports: Box<[Port]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// With its ClusterIPs.
    Cluster(Box<[IpAddr]>),
    Headless,
    /// With the name it is an alias of.
    External(Box<str>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: Box<str>,
    pub protocol: Protocol,
    pub number: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// As the API spells it, in any case; TCP where nothing is said.
    pub fn parse(text: &str) -> Option<Self> {
        [(Self::Tcp, "tcp"), (Self::Udp, "udp"), (Self::Sctp, "sctp")]
            .into_iter()
            .find(|(_, name)| name.eq_ignore_ascii_case(text))
            .map(|(protocol, _)| protocol)
    }
}

/// The ready endpoints of one EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceFacts {
    pub service: ObjectKey,
    pub endpoints: Box<[Endpoint]>,
    pub ports: Box<[Port]>,
}

/// A ready endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: IpAddr,
    /// Lower case.
    pub hostname: Option<Box<str>>,
}

impl Endpoint {
    /// Its label below the Service's name: its hostname, else its address with dashes.
    pub fn label(&self) -> String {
        match &self.hostname {
            Some(hostname) => hostname.to_string(),
            None => self.address.to_string().replace(['.', ':'], "-"),
        }
    }
}

/// The cluster as the answers need it.
pub trait View: Send + Sync {
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<ServiceFacts>>;
    fn namespace_exists(&self, namespace: &str) -> bool;
    /// The slices of a Service, in a stable order.
    fn slices(&self, namespace: &str, name: &str) -> Vec<Arc<SliceFacts>>;
    /// Whose ClusterIP an address is.
    fn service_at(&self, address: IpAddr) -> Option<ObjectKey>;
    /// The slices that have an address among their endpoints.
    fn slices_at(&self, address: IpAddr) -> Vec<Arc<SliceFacts>>;
    /// The namespace of the pod of this node that has an address and searches names as the cluster tells it to.
    fn searches_from(&self, address: IpAddr) -> Option<Arc<str>>;
    /// Changes with the records: seconds since 1970 of their last change.
    fn serial(&self) -> u32;
}
