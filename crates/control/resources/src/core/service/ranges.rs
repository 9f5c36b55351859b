//! The two ranges that allocations come from: service addresses and node ports. Pure.

use std::hash::{BuildHasher as _, Hasher as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    #[error("service range {0} is no address range: expected ADDRESS/LENGTH")]
    Service(String),
    #[error("service range {0} is too small: it needs room for at least the API server's and the DNS service")]
    TooSmall(String),
    #[error("node port range {0} is no port range: expected FIRST-LAST within 1 and 65535")]
    NodePorts(String),
}

/// Numbers from 0; the first `reserved` of them are left to users who ask for one by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    pub size: u64,
    pub reserved: u64,
}

impl Band {
    /// A sixteenth of the addresses, at least 16 and at most 256; none of a range that small.
    fn of_addresses(size: u64) -> Self {
        Self { size, reserved: if size < 16 { 0 } else { (size / 16).clamp(16, 256) } }
    }

    /// A thirty-second of the ports, at least 16 and at most 128.
    fn of_ports(size: u64) -> Self {
        Self { size, reserved: if size < 16 { 0 } else { (size / 32).clamp(16, 128) } }
    }

    /// Every number once: from a random start around the upper band, then around the lower.
    pub fn candidates(self) -> impl Iterator<Item = u64> {
        let around = |from: u64, count: u64| {
            let start = if count == 0 { 0 } else { random() % count };
            (0..count).map(move |step| from + (start + step) % count)
        };
        let reserved = self.reserved.min(self.size);
        around(reserved, self.size - reserved).chain(around(0, reserved))
    }

    /// A random number of the upper band.
    pub fn guess(self) -> u64 {
        self.candidates().next().unwrap_or(0)
    }
}

/// Not for secrets: the standard library seeds each hasher anew.
fn random() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

/// Addresses that services may have: the range without its first and, for IPv4, its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceRange {
    network: IpAddr,
    length: u8,
}

impl ServiceRange {
    pub fn parse(text: &str) -> Result<Self, RangeError> {
        let bad = || RangeError::Service(text.to_owned());
        let (address, length) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let length: u8 = length.parse().map_err(|_| bad())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if length > bits {
            return Err(bad());
        }
        if length > bits - 3 {
            return Err(RangeError::TooSmall(text.to_owned()));
        }
        let network = match address {
            IpAddr::V4(v4) => {
                IpAddr::V4(Ipv4Addr::from(u32::from(v4) & (u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0))))
            }
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(
                u128::from(v6) & (u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)),
            )),
        };
        Ok(Self { network, length })
    }

    pub fn family(&self) -> &'static str {
        if self.network.is_ipv4() { "IPv4" } else { "IPv6" }
    }

    pub fn band(&self) -> Band {
        let (bits, ends) = if self.network.is_ipv4() { (32, 2) } else { (128, 1) };
        // More than 2^16 addresses are never all looked at; upstream cuts IPv6 ranges likewise.
        let size = 1_u64 << u32::from(bits - self.length).min(if bits == 32 { 32 } else { 16 });
        Band::of_addresses(size - ends)
    }

    /// The address with this number; number 0 is the first that can be had.
    pub fn address(&self, number: u64) -> IpAddr {
        match self.network {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from(
                u32::from(v4).wrapping_add(1).wrapping_add(u32::try_from(number).unwrap_or(0)),
            )),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) + 1 + u128::from(number))),
        }
    }

    /// The API server's own service.
    pub fn first(&self) -> IpAddr {
        self.address(0)
    }

    /// Whether a service may have this address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let offset = u32::from(address).wrapping_sub(u32::from(network));
                let size = 1_u64 << (32 - u32::from(self.length));
                offset != 0 && u64::from(offset) + 1 < size
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let offset = u128::from(address).wrapping_sub(u128::from(network));
                let size = 1_u128.checked_shl(128 - u32::from(self.length)).unwrap_or(u128::MAX);
                offset != 0 && offset < size
            }
            _ => false,
        }
    }
}

impl std::fmt::Display for ServiceRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePortRange {
    first: u16,
    last: u16,
}

impl NodePortRange {
    pub fn parse(text: &str) -> Result<Self, RangeError> {
        let bad = || RangeError::NodePorts(text.to_owned());
        let (first, last) = text.split_once('-').ok_or_else(bad)?;
        let (first, last) = (first.trim().parse().map_err(|_| bad())?, last.trim().parse().map_err(|_| bad())?);
        if first == 0 || first > last { Err(bad()) } else { Ok(Self { first, last }) }
    }

    pub fn band(&self) -> Band {
        Band::of_ports(u64::from(self.last - self.first) + 1)
    }

    pub fn port(&self, number: u64) -> u16 {
        self.first.saturating_add(u16::try_from(number).unwrap_or(0))
    }

    pub fn contains(&self, port: i32) -> bool {
        (i32::from(self.first)..=i32::from(self.last)).contains(&port)
    }
}

impl std::fmt::Display for NodePortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_bands_are_upstreams() {
        let range = ServiceRange::parse("10.43.0.0/16").expect("a range");
        assert_eq!(range.band(), Band { size: 65534, reserved: 256 });
        assert_eq!(range.first().to_string(), "10.43.0.1");
        assert_eq!(range.address(range.band().size - 1).to_string(), "10.43.255.254");
        assert_eq!(ServiceRange::parse("10.0.0.0/24").expect("a range").band(), Band { size: 254, reserved: 16 });
        assert_eq!(ServiceRange::parse("10.0.0.0/28").expect("a range").band(), Band { size: 14, reserved: 0 });
        let ports = NodePortRange::parse("30000-32767").expect("a range");
        assert_eq!(ports.band(), Band { size: 2768, reserved: 86 });
        assert_eq!(ports.port(2767), 32767);
    }

    #[test]
    fn ends_and_strangers_are_outside() {
        let range = ServiceRange::parse("10.43.0.7/16").expect("a range");
        for (text, inside) in [
            ("10.43.0.0", false),
            ("10.43.0.1", true),
            ("10.43.255.254", true),
            ("10.43.255.255", false),
            ("10.44.0.1", false),
            ("10.42.255.255", false),
            ("::1", false),
        ] {
            assert_eq!(range.contains(text.parse().expect("an address")), inside, "{text}");
        }
        let six = ServiceRange::parse("fd00:43::/112").expect("a range");
        assert_eq!((six.family(), six.first().to_string().as_str()), ("IPv6", "fd00:43::1"));
        assert!(six.contains("fd00:43::ffff".parse().expect("an address")));
        assert!(!six.contains("fd00:43::1:0".parse().expect("an address")));
    }

    #[test]
    fn candidates_are_every_number_once_with_the_reserved_last() {
        let band = Band { size: 40, reserved: 16 };
        let all: Vec<u64> = band.candidates().collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 40);
        assert!(all[..24].iter().all(|number| *number >= 16));
        assert_eq!(Band { size: 0, reserved: 0 }.candidates().count(), 0);
    }

    #[test]
    fn bad_ranges() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0.0/30", "10.0.0.0/-1"] {
            assert!(ServiceRange::parse(text).is_err(), "{text}");
        }
        for text in ["", "30000", "0-1", "2-1", "1-65536", "a-b"] {
            assert!(NodePortRange::parse(text).is_err(), "{text}");
        }
    }
}
