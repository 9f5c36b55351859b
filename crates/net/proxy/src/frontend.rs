//! What a client connects to, and what answers.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

pub use base_sys::ip::Protocol;
use base_sys::route::IpCidr;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
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
    Ip(IpAddr),
    /// Any address of this node, of one family.
    Node(Family),
}

/// One address and port that is balanced over endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    pub origin: Origin,
    pub address: FrontendAddress,
    pub protocol: Protocol,
    pub port: u16,
}

impl Frontend {
    pub fn family(&self) -> Family {
        match self.address {
            FrontendAddress::Ip(ip) => Family::of(ip),
            FrontendAddress::Node(family) => family,
        }
    }
}

/// Of its front end's family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    pub ip: IpAddr,
    pub port: u16,
}

/// What answers at a front end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backends {
    pub endpoints: BTreeSet<Endpoint>,
    /// What happens where there are none.
    pub otherwise: Otherwise,
    /// `None`: every connection goes to any endpoint.
    pub affinity: Option<Affinity>,
    /// Blocks that clients must be in, none within another; `None`: all may come.
    pub sources: Option<BTreeSet<IpCidr>>,
}

impl From<BTreeSet<Endpoint>> for Backends {
    fn from(endpoints: BTreeSet<Endpoint>) -> Self {
        Self { endpoints, ..Self::default() }
    }
}

/// What happens to a connection that no endpoint may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Otherwise {
    /// It is refused at once.
    #[default]
    Refuse,
    /// Nobody answers: another node may, to which the same address leads.
    Drop,
}

/// The blocks of one family without those within others, which the kernel would not take beside them; `None` where they
/// let everybody in.
pub(crate) fn outermost(blocks: &[IpCidr], family: Family) -> Option<BTreeSet<IpCidr>> {
    let ours = || blocks.iter().filter(|block| Family::of(block.network()) == family);
    if ours().any(|block| block.prefix() == 0) {
        return None;
    }
    let within_another =
        |block: &&IpCidr| ours().any(|other| other.prefix() < block.prefix() && other.contains(block.network()));
    Some(ours().filter(|block| !within_another(block)).copied().collect())
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn blocks_within_others_add_nothing() {
        let blocks: Vec<IpCidr> = ["10.1.0.0/16", "10.0.0.0/8", "10.0.0.0/8", "192.0.2.7/32", "fd00::/8"]
            .map(|text| text.parse().unwrap())
            .into();
        let of = |family| outermost(&blocks, family).unwrap().iter().map(IpCidr::to_string).collect::<Vec<_>>();
        assert_eq!(of(Family::V4), ["10.0.0.0/8", "192.0.2.7/32"]);
        assert_eq!(of(Family::V6), ["fd00::/8"]);
        let all: Vec<IpCidr> = vec!["10.0.0.0/8".parse().unwrap(), "0.0.0.0/0".parse().unwrap()];
        assert_eq!(outermost(&all, Family::V4), None);
        // Nobody of a family that no block is of.
        assert_eq!(outermost(&all, Family::V6), Some(BTreeSet::new()));
    }
}
