//! Blocks of IPv4 addresses, as routes and rules name them.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an IPv4 block such as 10.42.0.0/16")]
pub struct InvalidCidr;

/// An IPv4 block; host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ipv4Cidr {
    network: Ipv4Addr,
    prefix: u8,
}

impl Ipv4Cidr {
    /// The block that holds `address`. Fails on a prefix above 32.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Result<Self, InvalidCidr> {
        if prefix > 32 {
            return Err(InvalidCidr);
        }
        Ok(Self { network: Ipv4Addr::from(u32::from(address) & mask(prefix)), prefix })
    }

    pub fn network(&self) -> Ipv4Addr {
        self.network
    }

    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from(mask(self.prefix))
    }

    /// The block's last address.
    pub fn last(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) | !mask(self.prefix))
    }

    /// The `n`-th address; `None` beyond the block.
    pub fn nth(&self, n: u32) -> Option<Ipv4Addr> {
        let address = Ipv4Addr::from(u32::from(self.network).checked_add(n)?);
        self.contains(address).then_some(address)
    }

    pub fn overlaps(&self, other: Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }

    pub fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == u32::from(self.network)
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl FromStr for Ipv4Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let (address, prefix) = text.split_once('/').ok_or(InvalidCidr)?;
        Self::new(address.parse().map_err(|_| InvalidCidr)?, prefix.parse().map_err(|_| InvalidCidr)?)
    }
}

impl fmt::Display for Ipv4Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn blocks_parse_and_contain() {
        let block: Ipv4Cidr = "10.42.1.7/16".parse().unwrap();
        assert_eq!(block.to_string(), "10.42.0.0/16");
        assert_eq!(block.last(), Ipv4Addr::new(10, 42, 255, 255));
        assert!(block.contains(Ipv4Addr::new(10, 42, 3, 4)) && !block.contains(Ipv4Addr::new(10, 43, 0, 0)));
        assert!("0.0.0.0/0".parse::<Ipv4Cidr>().unwrap().contains(Ipv4Addr::BROADCAST));
    }

    #[test]
    fn bad_blocks_are_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "fd00::/8", "10.0.0.0/x"] {
            assert_eq!(text.parse::<Ipv4Cidr>(), Err(InvalidCidr), "{text}");
        }
    }
}
