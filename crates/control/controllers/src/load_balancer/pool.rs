//! The addresses that Services of type LoadBalancer may have.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use base_sys::route::Ipv4Cidr;

/// Ranges of addresses, both ends included, in the order they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool(Vec<(Ipv4Addr, Ipv4Addr)>);

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

fn range(text: &str) -> Option<(Ipv4Addr, Ipv4Addr)> {
    if let Some((first, last)) = text.split_once('-') {
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        return (first <= last).then_some((first, last));
    }
    if text.contains('/') {
        let block: Ipv4Cidr = text.parse().ok()?;
        // The first and the last address of a network are nobody's.
        return match block.prefix() {
            31.. => Some((block.network(), block.last())),
            _ => Some((block.nth(1)?, Ipv4Addr::from(u32::from(block.last()) - 1))),
        };
    }
    text.parse().ok().map(|address| (address, address))
}

impl Pool {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(address) if self.0.iter().any(|(first, last)| (first..=last).contains(&&address)))
    }

    /// The first address that is not in use.
    pub fn free(&self, used: &BTreeSet<IpAddr>) -> Option<IpAddr> {
        let all = self.0.iter().flat_map(|(first, last)| u32::from(*first)..=u32::from(*last));
        all.map(|number| IpAddr::V4(number.into())).find(|address| !used.contains(address))
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
        let pool = pool("192.0.2.9, 192.0.2.16/30,192.0.2.20-192.0.2.21");
        let mut used = BTreeSet::new();
        while let Some(address) = pool.free(&used) {
            assert!(pool.contains(address));
            used.insert(address);
        }
        let all: Vec<String> = used.iter().map(ToString::to_string).collect();
        assert_eq!(all, ["192.0.2.9", "192.0.2.17", "192.0.2.18", "192.0.2.20", "192.0.2.21"]);
        assert!(!pool.contains("192.0.2.16".parse().unwrap()) && !pool.contains("fd00::1".parse().unwrap()));
    }

    #[test]
    fn bad_ranges_are_named() {
        for bad in ["", "x", "192.0.2.9-192.0.2.1", "192.0.2.0/33", "192.0.2.1-", "192.0.2.1,,192.0.2.2"] {
            assert!(bad.parse::<Pool>().is_err(), "{bad}");
        }
        let error = "192.0.2.1,x".parse::<Pool>().unwrap_err();
        assert!(error.to_string().starts_with("\"x\" is no range"), "{error}");
    }
}
