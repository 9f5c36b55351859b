//! What IP packets say of what they carry.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_have_names() {
        let names = [None, Some("TCP"), Some("UDP"), Some("SCTP"), Some("tcp"), Some("ICMP")];
        let numbers = names.map(|name| Protocol::parse(name).map(|protocol| protocol as u8));
        assert_eq!(numbers, [Some(6), Some(6), Some(17), Some(132), None, None]);
        assert_eq!((Protocol::of_number(17), Protocol::of_number(1)), (Some(Protocol::Udp), None));
    }
}
