//! An earlier run's table, read back as front ends with their slots.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use base_sys::nft::{self, Nft, StoredElement};
use base_sys::route::IpCidr;

use crate::diff::Slots;
use crate::frontend::{Endpoint, Family, Frontend, FrontendAddress, Origin, Protocol};
use crate::kernel::FAMILY;
use crate::layout;
use crate::network::ProxyConfig;
use crate::pick::Pick;
use crate::rules::EXTERNAL;
use crate::shape::{Kind, Shape};

#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) slots: HashMap<Frontend, Slots>,
    pub(crate) picks: HashSet<(Shape, Pick)>,
    pub(crate) hairpins: BTreeSet<IpAddr>,
}

/// `None` where there is no table of this layout, or where it holds something that we would not have written.
pub(crate) fn read(nft: &mut Nft, config: &ProxyConfig) -> Result<Option<Stored>, nft::Error> {
    if nft.table_comment(FAMILY, &config.table)? != Some(layout::version(config)) {
        return Ok(None);
    }
    let mut elements = |set: &str| nft.elements(FAMILY, &config.table, set);
    let mut stored = Stored::default();
    for shape in Shape::ALL {
        let (counts, slots) = (elements(&shape.counts())?, elements(&shape.slots())?);
        let (picks, sources) = (elements(&shape.picks())?, elements(&shape.sources())?);
        if stored.add(shape, &counts, &slots, &picks, &sources).is_none() {
            return Ok(None);
        }
    }
    for family in Family::ALL {
        for element in elements(family.hairpins())? {
            match address(family, &element.key) {
                Some((ip, _)) => stored.hairpins.insert(ip),
                None => return Ok(None),
            };
        }
    }
    Ok(Some(stored))
}

impl Stored {
    fn add(
        &mut self,
        shape: Shape,
        counts: &[StoredElement],
        slots: &[StoredElement],
        picks: &[StoredElement],
        sources: &[StoredElement],
    ) -> Option<()> {
        for element in picks {
            self.picks.insert((shape, Pick::of_code(number(&element.key)?.0)?));
        }
        for element in counts {
            let (frontend, _) = frontend(shape, &element.key)?;
            self.slots.entry(frontend).or_default().pick = Some(Pick::of_code(number(element.data.as_ref()?)?.0)?);
        }
        let mut numbered: BTreeMap<(Frontend, u32), Endpoint> = BTreeMap::new();
        for element in slots {
            let (frontend, rest) = frontend(shape, &element.key)?;
            let (ip, port) = address(shape.family, element.data.as_ref()?)?;
            let port = u16::from_be_bytes(port.get(..2)?.try_into().ok()?);
            numbered.insert((frontend, number(rest)?.0), Endpoint { ip, port });
        }
        for ((frontend, slot), endpoint) in numbered {
            let endpoints = &mut self.slots.entry(frontend).or_default().endpoints;
            // Slots are numbered without gaps.
            (endpoints.len() == slot as usize).then(|| endpoints.push(endpoint))?;
        }
        for element in sources {
            let (frontend, first) = frontend(shape, &element.key)?;
            let (_, last) = self::frontend(shape, element.last.as_ref()?)?;
            let block = block(address(shape.family, first)?.0, address(shape.family, last)?.0)?;
            self.slots.entry(frontend).or_default().sources.insert(block);
        }
        Some(())
    }
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_ne_bytes(*number), rest))
}

fn address(family: Family, bytes: &[u8]) -> Option<(IpAddr, &[u8])> {
    match family {
        Family::V4 => bytes.split_first_chunk::<4>().map(|(octets, rest)| (IpAddr::from(*octets), rest)),
        Family::V6 => bytes.split_first_chunk::<16>().map(|(octets, rest)| (IpAddr::from(*octets), rest)),
    }
}

/// The front end that a key begins with, and what follows.
fn frontend(shape: Shape, key: &[u8]) -> Option<(Frontend, &[u8])> {
    let (class, rest) = number(key)?;
    let origin = match class {
        0 => Origin::Cluster,
        EXTERNAL => Origin::External,
        _ => return None,
    };
    let (address, rest) = match shape.kind {
        Kind::Address => address(shape.family, rest).map(|(ip, rest)| (FrontendAddress::Ip(ip), rest))?,
        Kind::NodePort => (FrontendAddress::Node(shape.family), rest),
    };
    let ([protocol, ..], rest) = rest.split_first_chunk::<4>()?;
    let ([high, low, ..], rest) = rest.split_first_chunk::<4>()?;
    let protocol = Protocol::of_number(*protocol)?;
    Some((Frontend { origin, address, protocol, port: u16::from_be_bytes([*high, *low]) }, rest))
}

/// The block from one address to another.
fn block(first: IpAddr, last: IpAddr) -> Option<IpCidr> {
    let longest = if first.is_ipv4() { 32 } else { 128 };
    let blocks = (0..=longest).filter_map(|prefix| IpCidr::new(first, prefix).ok());
    blocks.into_iter().find(|block| block.network() == first && block.last() == last)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        for (origin, address, protocol) in [
            (Origin::Cluster, FrontendAddress::Ip("10.43.0.9".parse().unwrap()), Protocol::Tcp),
            (Origin::External, FrontendAddress::Ip("fd43::9".parse().unwrap()), Protocol::Udp),
            (Origin::External, FrontendAddress::Node(Family::V4), Protocol::Sctp),
            (Origin::Cluster, FrontendAddress::Node(Family::V6), Protocol::Tcp),
        ] {
            let written = Frontend { origin, address, protocol, port: 30_080 };
            let key = Shape::key(&written, Some(7));
            let (read, rest) = frontend(Shape::of(&written), &key).unwrap();
            assert_eq!((read, number(rest).unwrap().0), (written, 7));
        }
    }

    #[test]
    fn what_we_would_not_have_written_is_nothing() {
        let shape = Shape::ALL[0];
        let good = Frontend {
            origin: Origin::Cluster,
            address: FrontendAddress::Ip([10, 43, 0, 9].into()),
            protocol: Protocol::Tcp,
            port: 80,
        };
        let element = |key: Vec<u8>, data: Option<Vec<u8>>| StoredElement { key, last: None, data, expiry: None };
        let slot = |slot| element(Shape::key(&good, Some(slot)), Some(vec![10, 42, 0, 2, 0, 80, 0, 0]));
        assert_eq!(Stored::default().add(shape, &[], &[slot(0), slot(1)], &[], &[]), Some(()));
        assert_eq!(Stored::default().add(shape, &[], &[slot(1)], &[], &[]), None, "a gap");
        for key in [vec![], vec![1; 16], vec![0; 15]] {
            assert_eq!(Stored::default().add(shape, &[element(key, Some(vec![0; 4]))], &[], &[], &[]), None);
        }
        let unknown_pick = element(vec![0xff; 4], None);
        assert_eq!(Stored::default().add(shape, &[], &[], &[unknown_pick], &[]), None);
        assert_eq!(block("10.0.0.0".parse().unwrap(), "10.0.0.9".parse().unwrap()), None);
        assert_eq!(block("10.0.0.0".parse().unwrap(), "10.0.0.7".parse().unwrap()).unwrap().to_string(), "10.0.0.0/29");
    }
}
