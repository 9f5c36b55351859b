//! What a client connects to, and what answers.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp = 6,
    Udp = 17,
    Sctp = 132,
}

impl Protocol {
    /// The API's name; absent means TCP.
    pub fn parse(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }
}

/// Where a packet comes from. Traffic policies differ by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A pod or this node; and, for cluster IPs, anybody.
    Cluster,
    External,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrontendAddress {
    Ip(Ipv4Addr),
    /// Any address of this node but loopback.
    Node,
}

/// One address and port that is balanced over endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    pub origin: Origin,
    pub address: FrontendAddress,
    pub protocol: Protocol,
    pub port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    pub ip: Ipv4Addr,
    pub port: u16,
}

/// What answers at a front end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backends {
    pub endpoints: BTreeSet<Endpoint>,
    /// `None`: every connection goes to any endpoint.
    pub affinity: Option<Affinity>,
}

impl From<BTreeSet<Endpoint>> for Backends {
    fn from(endpoints: BTreeSet<Endpoint>) -> Self {
        Self { endpoints, affinity: None }
    }
}

/// A client address keeps its endpoint until it has not connected for so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Affinity {
    seconds: u32,
}

impl Affinity {
    /// The longest that the API takes: a day.
    pub const LONGEST: u32 = 86_400;
    /// Where the Service does not say: three hours.
    pub const DEFAULT: Self = Self { seconds: 10_800 };

    /// `None` when out of the API's range.
    pub fn of_seconds(seconds: u32) -> Option<Self> {
        (1..=Self::LONGEST).contains(&seconds).then_some(Self { seconds })
    }

    pub fn seconds(self) -> u32 {
        self.seconds
    }

    pub fn timeout(self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}
