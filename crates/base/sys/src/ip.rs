//! What IP packets say of what they carry, and the addresses of a host.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// By the numbers that packets hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp = 6,
    Udp = 17,
    Sctp = 132,
}

impl Protocol {
    /// By name, in capitals; none means TCP. `None`: it is another one.
    pub fn parse(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    pub fn of_number(number: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|protocol| *protocol as u8 == number)
    }
}

/// The addresses that a host is reached by: one, or one of each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostIps {
    pub primary: IpAddr,
    /// Of the other family.
    pub secondary: Option<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHostIps {
    #[error("{0:?} is no IP address")]
    Address(String),
    #[error("{0} and {1} are of one family: expected one address, or one of each family")]
    Family(IpAddr, IpAddr),
}

impl HostIps {
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + use<> {
        [self.primary].into_iter().chain(self.secondary)
    }

    /// The one of the same family as another address.
    pub fn beside(&self, other: IpAddr) -> Option<IpAddr> {
        self.iter().find(|address| address.is_ipv4() == other.is_ipv4())
    }
}

impl From<IpAddr> for HostIps {
    fn from(primary: IpAddr) -> Self {
        Self { primary, secondary: None }
    }
}

impl FromStr for HostIps {
    type Err = InvalidHostIps;

    /// Two have a comma between them.
    fn from_str(text: &str) -> Result<Self, InvalidHostIps> {
        let parse = |text: &str| text.trim().parse().map_err(|_| InvalidHostIps::Address(text.to_owned()));
        let Some((primary, secondary)) = text.split_once(',') else { return parse(text).map(Self::from) };
        let (primary, secondary): (IpAddr, IpAddr) = (parse(primary)?, parse(secondary)?);
        if primary.is_ipv4() == secondary.is_ipv4() {
            return Err(InvalidHostIps::Family(primary, secondary));
        }
        Ok(Self { primary, secondary: Some(secondary) })
    }
}

impl fmt::Display for HostIps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.secondary {
            None => self.primary.fmt(f),
            Some(secondary) => write!(f, "{},{secondary}", self.primary),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_one_address_of_a_family() {
        for good in ["192.0.2.1", "fd00::1", "192.0.2.1,fd00::1", "fd00::1,192.0.2.1"] {
            assert_eq!(good.parse::<HostIps>().unwrap().to_string(), good);
        }
        let both: HostIps = "fd00::1, 192.0.2.1".parse().unwrap();
        assert_eq!(both.beside([127, 0, 0, 1].into()), Some([192, 0, 2, 1].into()));
        assert_eq!("fd00::1".parse::<HostIps>().unwrap().beside([127, 0, 0, 1].into()), None);
        for bad in ["", "x", "192.0.2.1,", "192.0.2.1,192.0.2.2", "fd00::1,fd00::2,192.0.2.1", "192.0.2.0/24"] {
            assert!(bad.parse::<HostIps>().is_err(), "{bad}");
        }
    }

    #[test]
    fn protocols_have_names() {
        let names = [None, Some("TCP"), Some("UDP"), Some("SCTP"), Some("tcp"), Some("ICMP")];
        let numbers = names.map(|name| Protocol::parse(name).map(|protocol| protocol as u8));
        assert_eq!(numbers, [Some(6), Some(6), Some(17), Some(132), None, None]);
        assert_eq!((Protocol::of_number(17), Protocol::of_number(1)), (Some(Protocol::Udp), None));
    }
}
