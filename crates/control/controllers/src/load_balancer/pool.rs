//! The addresses that Services of type LoadBalancer may have.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;

use base_sys::route::{IpCidr, host_prefix};

use crate::endpoints::Family;

/// Ranges of addresses of either family, both ends included, in the order they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool(Vec<(IpAddr, IpAddr)>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no range of addresses: expected 192.0.2.10-192.0.2.20, 192.0.2.16/28 or one address")]
pub struct BadRange(String);

impl FromStr for Pool {
    type Err = BadRange;

    /// Several ranges stand with commas between them.
    fn from_str(text: &str) -> Result<Self, BadRange> {
        text.split(',')
            .map(|range| self::range(range.trim()).ok_or_else(|| BadRange(range.to_owned())))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn range(text: &str) -> Option<(IpAddr, IpAddr)> {
    if let Some((first, last)) = text.split_once('-') {
        let (first, last): (IpAddr, IpAddr) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        return (first.is_ipv4() == last.is_ipv4() && first <= last).then_some((first, last));
    }
    if text.contains('/') {
        let block: IpCidr = text.parse().ok()?;
        // The first and the last address of a network are nobody's; IPv6 has no broadcast, and its first one is the
        // routers'.
        let bits = host_prefix(block.network());
        return match block {
            _ if block.prefix() + 1 >= bits => Some((block.network(), block.last())),
            IpCidr::V4(block) => Some((block.nth(1)?.into(), IpAddr::V4((u32::from(block.last()) - 1).into()))),
            IpCidr::V6(block) => Some((block.nth(1)?.into(), block.last().into())),
        };
    }
    text.parse().ok().map(|address| (address, address))
}

fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(four) => u32::from(four).checked_add(1).map(|number| IpAddr::V4(number.into())),
        IpAddr::V6(six) => u128::from(six).checked_add(1).map(|number| IpAddr::V6(number.into())),
    }
}

impl Pool {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let within = |(first, last): &(IpAddr, IpAddr)| {
            first.is_ipv4() == address.is_ipv4() && (first..=last).contains(&&address)
        };
        self.0.iter().any(within)
    }

    /// The first address of a family that is not in use.
    pub fn free(&self, family: Family, used: &BTreeSet<IpAddr>) -> Option<IpAddr> {
        let ranges = self.0.iter().filter(|(first, _)| Family::of_address(*first) == family);
        let mut all = ranges.flat_map(|(first, last)| {
            std::iter::successors(Some(*first), |address| after(*address)).take_while(move |address| address <= last)
        });
        all.find(|address| !used.contains(address))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pool(text: &str) -> Pool {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_blocks_and_addresses_are_given_in_order() {
        let pool = pool("192.0.2.9, 192.0.2.16/30,fd00::8/126,192.0.2.20-192.0.2.21");
        let mut used = BTreeSet::new();
        while let Some(address) = pool.free(Family::V4, &used).or_else(|| pool.free(Family::V6, &used)) {
            assert!(pool.contains(address));
            used.insert(address);
        }
        let all: Vec<String> = used.iter().map(ToString::to_string).collect();
        assert_eq!(
            all,
            ["192.0.2.9", "192.0.2.17", "192.0.2.18", "192.0.2.20", "192.0.2.21", "fd00::9", "fd00::a", "fd00::b"]
        );
        assert!(!pool.contains("192.0.2.16".parse().unwrap()) && !pool.contains("fd00::1".parse().unwrap()));
    }

    #[test]
    fn bad_ranges_are_named() {
        for bad in [
            "",
            "x",
            "192.0.2.9-192.0.2.1",
            "192.0.2.0/33",
            "192.0.2.1-",
            "192.0.2.1,,192.0.2.2",
            "192.0.2.1-fd00::1",
            "fd00::/129",
        ] {
            assert!(bad.parse::<Pool>().is_err(), "{bad}");
        }
        let error = "192.0.2.1,x".parse::<Pool>().unwrap_err();
        assert!(error.to_string().starts_with("\"x\" is no range"), "{error}");
    }
}
