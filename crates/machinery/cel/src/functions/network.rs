//! Addresses, networks, URLs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Result, fail};
use crate::value::{Key, Val};

pub fn call(name: &str, args: &[Val]) -> Option<Result> {
    Some(match (name, args) {
        ("ip", [Val::String(text)]) => match address(text) {
            Some(address) => Ok(Val::Ip(address)),
            None => fail(format!(
                "IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse IP"
            )),
        },
        ("isIP", [Val::String(text)]) => Ok(Val::Bool(address(text).is_some())),
        ("ip.isCanonical", [Val::String(text)]) => match address(text) {
            Some(address) => Ok(Val::Bool(address.to_string() == text.as_ref())),
            None => fail(format!("IP Address {text:?} parse error during conversion from string")),
        },
        ("cidr", [Val::String(text)]) => match network(text) {
            Some((address, bits)) => Ok(Val::Cidr(address, bits)),
            None => {
                fail(format!("network address parse error during conversion from string: netip.ParsePrefix({text:?})"))
            }
        },
        ("isCIDR", [Val::String(text)]) => Ok(Val::Bool(network(text).is_some())),
        ("url", [Val::String(text)]) => match parse_url(text) {
            Some(url) => Ok(Val::Url(url.into())),
            None => {
                fail(format!("URL parse error during conversion from string: parse {text:?}: invalid URI for request"))
            }
        },
        ("isURL", [Val::String(text)]) => Ok(Val::Bool(parse_url(text).is_some())),
        (_, [Val::Ip(address)]) => Ok(of_address(name, *address)?),
        (_, [Val::Cidr(address, bits), rest @ ..]) => of_network(name, *address, *bits, rest)?,
        (_, [Val::Url(url)]) => Ok(of_url(name, url)?),
        _ => return None,
    })
}

/// No zones, and no IPv4 in the clothes of IPv6.
fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().filter(|address| !matches!(address, IpAddr::V6(six) if six.to_ipv4_mapped().is_some()))
}

fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (host, bits) = text.split_once('/')?;
    let address = address(host)?;
    let bits = bits.parse::<u8>().ok().filter(|parsed| parsed.to_string() == bits)?;
    (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, bits))
}

pub fn cidr_text(address: IpAddr, bits: u8) -> String {
    format!("{address}/{bits}")
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    let keep = |width: u32| u128::MAX.checked_shl(width - u32::from(bits)).unwrap_or(0);
    match address {
        #[allow(clippy::cast_possible_truncation)]
        IpAddr::V4(four) => IpAddr::V4((u32::from(four) & keep(32) as u32).into()),
        IpAddr::V6(six) => IpAddr::V6((u128::from(six) & keep(128)).into()),
    }
}

fn of_address(name: &str, address: IpAddr) -> Option<Val> {
    Some(match name {
        "family" => Val::Int(if address.is_ipv4() { 4 } else { 6 }),
        "isUnspecified" => Val::Bool(address.is_unspecified()),
        "isLoopback" => Val::Bool(address.is_loopback()),
        "isLinkLocalMulticast" => Val::Bool(match address {
            IpAddr::V4(four) => four.octets()[..3] == [224, 0, 0],
            IpAddr::V6(six) => six.segments()[0] & 0xff0f == 0xff02,
        }),
        "isLinkLocalUnicast" => Val::Bool(link_local(address)),
        "isGlobalUnicast" => {
            let broadcast = matches!(address, IpAddr::V4(four) if four.is_broadcast());
            Val::Bool(
                !broadcast
                    && !address.is_unspecified()
                    && !address.is_loopback()
                    && !address.is_multicast()
                    && !link_local(address),
            )
        }
        _ => return None,
    })
}

fn link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => four.is_link_local(),
        IpAddr::V6(six) => six.is_unicast_link_local(),
    }
}

fn of_network(name: &str, net: IpAddr, bits: u8, rest: &[Val]) -> Option<Result> {
    let contains = |other: IpAddr, other_bits: u8| {
        net.is_ipv4() == other.is_ipv4() && other_bits >= bits && masked(other, bits) == masked(net, bits)
    };
    let whole = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
    Some(Ok(match (name, rest) {
        ("ip", []) => Val::Ip(net),
        ("masked", []) => Val::Cidr(masked(net, bits), bits),
        ("prefixLength", []) => Val::Int(bits.into()),
        ("containsIP", [Val::Ip(other)]) => Val::Bool(contains(*other, whole(*other))),
        ("containsIP", [Val::String(text)]) => match address(text) {
            Some(other) => Val::Bool(contains(other, whole(other))),
            None => return Some(fail(format!("IP Address {text:?} parse error during conversion from string"))),
        },
        ("containsCIDR", [Val::Cidr(other, other_bits)]) => Val::Bool(contains(*other, *other_bits)),
        ("containsCIDR", [Val::String(text)]) => match network(text) {
            Some((other, other_bits)) => Val::Bool(contains(other, other_bits)),
            None => return Some(fail("network address parse error during conversion from string")),
        },
        _ => return None,
    }))
}

/// As Go's `ParseRequestURI`: absolute, or a path.
fn parse_url(text: &str) -> Option<url::Url> {
    if text.starts_with('/') {
        // A base without a name of its own; `of_url` leaves it out.
        return url::Url::parse(PATH_ONLY).ok()?.join(text.trim_start_matches("//")).ok();
    }
    url::Url::parse(text).ok().filter(|_| text.contains(':'))
}

const PATH_ONLY: &str = "path-only://x/";

fn of_url(name: &str, url: &url::Url) -> Option<Val> {
    let path_only = url.scheme() == "path-only";
    let host = || if path_only { "" } else { url.host_str().unwrap_or_default() };
    let port = || url.port().map(|port| port.to_string()).unwrap_or_default();
    Some(match name {
        "getScheme" => Val::from(if path_only { "" } else { url.scheme() }),
        "getHost" => match port() {
            port if port.is_empty() => Val::from(host()),
            port => Val::from(format!("{}:{port}", host())),
        },
        "getHostname" => Val::from(host().trim_start_matches('[').trim_end_matches(']')),
        "getPort" => Val::from(port()),
        "getEscapedPath" => Val::from(url.path()),
        "getQuery" => {
            let mut query: BTreeMap<Key, Vec<Val>> = BTreeMap::new();
            for (key, value) in url.query_pairs() {
                query.entry(Key::String(key.as_ref().into())).or_default().push(Val::from(value.as_ref()));
            }
            Val::map(query.into_iter().map(|(key, values)| (key, Val::list(values))))
        }
        _ => return None,
    })
}
