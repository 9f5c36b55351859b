//! Addresses, protocols and ports as ranges that do not overlap: the kernel's sets of ranges take no others. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base_sys::route::IpCidr;

use crate::view::Protocol;

/// Some ports of one protocol, or everything of every protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    Everything,
    Ports(Protocol, u16, u16),
}

/// What a rule allows of some addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub first: IpAddr,
    pub last: IpAddr,
    pub service: Service,
}

/// An element of the kernel's set, each pair from first to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    pub addresses: (IpAddr, IpAddr),
    pub protocols: (u8, u8),
    pub ports: (u16, u16),
}

/// A block without some others, from first to last address.
pub fn without(block: IpCidr, except: &[IpCidr]) -> Vec<(IpAddr, IpAddr)> {
    let bounds = |block: IpCidr| (number(block.network()), number(block.last()));
    let v4 = block.network().is_ipv4();
    let mut left = vec![bounds(block)];
    for other in except.iter().filter(|other| other.network().is_ipv4() == v4) {
        let (first, last) = bounds(*other);
        left = left
            .into_iter()
            .flat_map(|(from, to)| {
                let before = (from < first).then(|| (from, to.min(first.wrapping_sub(1))));
                let after = (to > last).then(|| (from.max(last.wrapping_add(1)), to));
                before.into_iter().chain(after)
            })
            .collect();
    }
    left.into_iter().map(|(from, to)| (address(from, v4), address(to, v4))).collect()
}

/// The same as `blocks` together, without overlaps, and merged where that is possible.
pub fn disjoint(blocks: &[Block]) -> Vec<Range> {
    let mut ranges = Vec::new();
    for v4 in [true, false] {
        ranges.extend(of_family(blocks.iter().filter(|block| block.first.is_ipv4() == v4), v4));
    }
    ranges
}

fn of_family<'b>(blocks: impl Iterator<Item = &'b Block>, v4: bool) -> Vec<Range> {
    // At each address: what begins there and what ended before it.
    let mut events: BTreeMap<u128, Vec<(Service, bool)>> = BTreeMap::new();
    for block in blocks {
        events.entry(number(block.first)).or_default().push((block.service, true));
        // What reaches the last of all addresses never ends.
        if let Some(end) = number(block.last).checked_add(1) {
            events.entry(end).or_default().push((block.service, false));
        }
    }
    let highest = if v4 { u128::from(u32::MAX) } else { u128::MAX };
    let mut active: BTreeMap<Service, usize> = BTreeMap::new();
    let mut segments: Vec<(u128, u128, Vec<Service>)> = Vec::new();
    let starts: Vec<u128> = events.keys().copied().collect();
    for (index, start) in starts.iter().enumerate() {
        for (service, begins) in events.get(start).into_iter().flatten() {
            let count = active.entry(*service).or_default();
            *count = if *begins { *count + 1 } else { count.saturating_sub(1) };
        }
        active.retain(|_, count| *count > 0);
        let end = starts.get(index + 1).map_or(highest, |next| next - 1);
        let services = merged(active.keys().copied());
        match segments.last_mut() {
            Some((_, last, before)) if *before == services && last.checked_add(1) == Some(*start) => *last = end,
            _ if services.is_empty() => {}
            _ => segments.push((*start, end, services)),
        }
    }
    let elements = segments.into_iter().flat_map(|(first, last, services)| {
        let addresses = (address(first, v4), address(last, v4));
        services.into_iter().map(move |service| match service {
            Service::Everything => Range { addresses, protocols: (0, u8::MAX), ports: (0, u16::MAX) },
            Service::Ports(protocol, first, last) => {
                Range { addresses, protocols: (protocol as u8, protocol as u8), ports: (first, last) }
            }
        })
    });
    elements.collect()
}

/// In order, without overlaps.
fn merged(services: impl Iterator<Item = Service>) -> Vec<Service> {
    let mut merged: Vec<Service> = Vec::new();
    // Everything comes first, then each protocol's ports by their first.
    for service in services {
        match (merged.last_mut(), service) {
            (Some(Service::Everything), _) => break,
            (Some(Service::Ports(before, _, last)), Service::Ports(protocol, from, to))
                if *before == protocol && u32::from(from) <= u32::from(*last) + 1 =>
            {
                *last = to.max(*last);
            }
            _ => merged.push(service),
        }
    }
    merged
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

fn address(number: u128, v4: bool) -> IpAddr {
    // A number of that family fits it.
    if v4 { IpAddr::V4((number as u32).into()) } else { IpAddr::V6(number.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn block(text: &str) -> IpCidr {
        text.parse().expect("a block")
    }

    fn text(ranges: &[(IpAddr, IpAddr)]) -> Vec<String> {
        ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect()
    }

    #[test]
    fn exceptions_are_cut_out_wherever_they_lie() {
        let cut =
            |from, except: &[&str]| text(&without(block(from), &except.iter().map(|b| block(b)).collect::<Vec<_>>()));
        assert_eq!(cut("172.17.0.0/16", &["172.17.1.0/24"]), ["172.17.0.0-172.17.0.255", "172.17.2.0-172.17.255.255"]);
        assert_eq!(cut("10.0.0.0/30", &["10.0.0.0/31", "10.0.0.3/32"]), ["10.0.0.2-10.0.0.2"]);
        assert_eq!(cut("10.0.0.0/30", &["10.0.0.0/8"]), Vec::<String>::new());
        assert_eq!(cut("0.0.0.0/0", &["255.255.255.255/32", "0.0.0.0/32"]), ["0.0.0.1-255.255.255.254"]);
        assert_eq!(cut("::/0", &["8000::/1", "10.0.0.0/8"]), ["::-7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]);
    }

    #[test]
    fn what_overlaps_is_told_apart_and_what_touches_is_merged() {
        let allow = |first: &str, last: &str, service| Block { first: ip(first), last: ip(last), service };
        let web = Service::Ports(Protocol::Tcp, 80, 80);
        let low = Service::Ports(Protocol::Tcp, 81, 1023);
        let ranges = disjoint(&[
            allow("10.0.0.0", "10.0.0.255", web),
            allow("10.0.0.128", "10.0.1.255", low),
            allow("10.0.0.128", "10.0.0.255", Service::Ports(Protocol::Udp, 53, 53)),
            allow("10.0.2.0", "10.0.2.255", low),
        ]);
        let lines: Vec<String> = ranges
            .iter()
            .map(|Range { addresses: (first, last), protocols, ports }| {
                format!("{first}-{last} {protocols:?} {ports:?}")
            })
            .collect();
        assert_eq!(
            lines,
            [
                "10.0.0.0-10.0.0.127 (6, 6) (80, 80)",
                "10.0.0.128-10.0.0.255 (6, 6) (80, 1023)",
                "10.0.0.128-10.0.0.255 (17, 17) (53, 53)",
                "10.0.1.0-10.0.2.255 (6, 6) (81, 1023)",
            ]
        );
    }

    #[test]
    fn everything_swallows_the_rest_up_to_the_last_address() {
        let all = |service| Block { first: ip("0.0.0.0"), last: ip("255.255.255.255"), service };
        let six = Block {
            first: ip("::"),
            last: ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            service: Service::Everything,
        };
        let ranges = disjoint(&[all(Service::Everything), all(Service::Ports(Protocol::Tcp, 1, 2)), six]);
        let wanted = |first, last| Range { addresses: (first, last), protocols: (0, 255), ports: (0, 65535) };
        assert_eq!(ranges, [wanted(ip("0.0.0.0"), ip("255.255.255.255")), wanted(six.first, six.last)]);
    }
}
