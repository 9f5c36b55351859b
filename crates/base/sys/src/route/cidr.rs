//! Blocks of addresses, as routes and rules name them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a block of addresses such as 10.42.0.0/16 or fd42::/56")]
pub struct InvalidCidr;

/// An address as a number of so many bits.
pub trait Address: Copy + Eq + FromStr + fmt::Display {
    const BITS: u8;

    fn number(self) -> u128;

    /// Of the number's lower bits.
    fn of_number(number: u128) -> Self;
}

impl Address for Ipv4Addr {
    const BITS: u8 = 32;

    fn number(self) -> u128 {
        u32::from(self).into()
    }

    fn of_number(number: u128) -> Self {
        Self::from(number as u32)
    }
}

impl Address for Ipv6Addr {
    const BITS: u8 = 128;

    fn number(self) -> u128 {
        self.into()
    }

    fn of_number(number: u128) -> Self {
        number.into()
    }
}

/// A block of one family; host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr<A> {
    network: A,
    prefix: u8,
}

pub type Ipv4Cidr = Cidr<Ipv4Addr>;
pub type Ipv6Cidr = Cidr<Ipv6Addr>;

impl<A: Address> Cidr<A> {
    /// The block that holds `address`. Fails on a prefix longer than the address.
    pub fn new(address: A, prefix: u8) -> Result<Self, InvalidCidr> {
        if prefix > A::BITS {
            return Err(InvalidCidr);
        }
        Ok(Self { network: A::of_number(address.number() & mask::<A>(prefix)), prefix })
    }

    pub fn network(&self) -> A {
        self.network
    }

    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    pub fn mask(&self) -> A {
        A::of_number(mask::<A>(self.prefix))
    }

    /// The block's last address.
    pub fn last(&self) -> A {
        A::of_number(self.network.number() | !mask::<A>(self.prefix))
    }

    /// The `n`-th address; `None` beyond the block.
    pub fn nth(&self, n: u128) -> Option<A> {
        let number = self.network.number().checked_add(n)?;
        (number <= self.last().number()).then(|| A::of_number(number))
    }

    pub fn overlaps(&self, other: Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }

    pub fn contains(&self, address: A) -> bool {
        address.number() & mask::<A>(self.prefix) == self.network.number()
    }
}

/// Ones above the host bits, also above the address's own width, which nobody reads.
fn mask<A: Address>(prefix: u8) -> u128 {
    u128::MAX.checked_shl(u32::from(A::BITS - prefix)).unwrap_or(0)
}

impl<A: Address> FromStr for Cidr<A> {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let (address, prefix) = text.split_once('/').ok_or(InvalidCidr)?;
        Self::new(address.parse().map_err(|_| InvalidCidr)?, prefix.parse().map_err(|_| InvalidCidr)?)
    }
}

impl<A: Address> fmt::Display for Cidr<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

/// A block of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpCidr {
    V4(Ipv4Cidr),
    V6(Ipv6Cidr),
}

impl IpCidr {
    /// The block that holds `address`. Fails on a prefix longer than the address.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, InvalidCidr> {
        match address {
            IpAddr::V4(address) => Cidr::new(address, prefix).map(Self::V4),
            IpAddr::V6(address) => Cidr::new(address, prefix).map(Self::V6),
        }
    }

    pub fn network(&self) -> IpAddr {
        match self {
            Self::V4(block) => block.network().into(),
            Self::V6(block) => block.network().into(),
        }
    }

    pub fn prefix(&self) -> u8 {
        match self {
            Self::V4(block) => block.prefix(),
            Self::V6(block) => block.prefix(),
        }
    }

    pub fn mask(&self) -> IpAddr {
        match self {
            Self::V4(block) => block.mask().into(),
            Self::V6(block) => block.mask().into(),
        }
    }

    /// The block's last address.
    pub fn last(&self) -> IpAddr {
        match self {
            Self::V4(block) => block.last().into(),
            Self::V6(block) => block.last().into(),
        }
    }

    /// The `n`-th address; `None` beyond the block.
    pub fn nth(&self, n: u128) -> Option<IpAddr> {
        match self {
            Self::V4(block) => block.nth(n).map(Into::into),
            Self::V6(block) => block.nth(n).map(Into::into),
        }
    }

    pub fn is_ipv4(&self) -> bool {
        matches!(self, Self::V4(_))
    }

    /// Those of different families never do.
    pub fn overlaps(&self, other: Self) -> bool {
        self.contains(other.network()) || other.contains(self.network())
    }

    /// An address of the other family is in no block.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::V4(block), IpAddr::V4(address)) => block.contains(address),
            (Self::V6(block), IpAddr::V6(address)) => block.contains(address),
            _ => false,
        }
    }
}

impl From<Ipv4Cidr> for IpCidr {
    fn from(block: Ipv4Cidr) -> Self {
        Self::V4(block)
    }
}

impl From<Ipv6Cidr> for IpCidr {
    fn from(block: Ipv6Cidr) -> Self {
        Self::V6(block)
    }
}

impl FromStr for IpCidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        text.parse().map(Self::V4).or_else(|_| text.parse().map(Self::V6))
    }
}

impl fmt::Display for IpCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(block) => block.fmt(f),
            Self::V6(block) => block.fmt(f),
        }
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
        assert_eq!(block.mask(), Ipv4Addr::new(255, 255, 0, 0));
        assert_eq!(block.last(), Ipv4Addr::new(10, 42, 255, 255));
        assert_eq!((block.nth(7), block.nth(65_536)), (Some(Ipv4Addr::new(10, 42, 0, 7)), None));
        assert!(block.contains(Ipv4Addr::new(10, 42, 3, 4)) && !block.contains(Ipv4Addr::new(10, 43, 0, 0)));
        let all: Ipv4Cidr = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains(Ipv4Addr::BROADCAST) && all.last() == Ipv4Addr::BROADCAST);
    }

    #[test]
    fn so_do_those_of_the_other_family() {
        let block: IpCidr = "fd42:0:0:1::9/64".parse().unwrap();
        assert_eq!((block.to_string().as_str(), block.prefix()), ("fd42:0:0:1::/64", 64));
        assert_eq!(block.mask().to_string(), "ffff:ffff:ffff:ffff::");
        assert!(block.contains("fd42:0:0:1::7".parse().unwrap()) && !block.contains("fd42:0:0:2::".parse().unwrap()));
        assert!(!block.contains(Ipv4Addr::LOCALHOST.into()));
        let all: Ipv6Cidr = "::/0".parse().unwrap();
        assert!(all.contains(Ipv6Addr::LOCALHOST));
        assert_eq!("fd00::/128".parse::<Ipv6Cidr>().unwrap().nth(1), None);
        assert_eq!("10.42.0.0/16".parse::<IpCidr>().unwrap(), IpCidr::V4("10.42.0.0/16".parse().unwrap()));
    }

    #[test]
    fn bad_blocks_are_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/x", "fd00::/129", "fd00::"] {
            assert_eq!(text.parse::<IpCidr>(), Err(InvalidCidr), "{text}");
        }
        assert_eq!("fd00::/8".parse::<Ipv4Cidr>(), Err(InvalidCidr));
    }
}
