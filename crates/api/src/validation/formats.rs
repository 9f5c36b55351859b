//! The formats of single values that only the core API has; the rest are `base_meta::names`.

use std::net::IpAddr;

use base_meta::field::{Error, Path};
use base_meta::names;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Errors;

pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// Problems as `Invalid` errors of one field.
pub fn invalid(path: &Path, value: &str, problems: Vec<String>, errors: &mut Errors) {
    errors.extend(problems.into_iter().map(|problem| Error::invalid(path, value, problem)));
}

/// A number an application may listen on.
pub fn port_number(port: i32, path: &Path, errors: &mut Errors) {
    for problem in names::port_number(i64::from(port)) {
        errors.push(Error::invalid(path, port, problem));
    }
}

pub fn port_number_or_name(port: &IntOrString, path: &Path, errors: &mut Errors) {
    match port {
        IntOrString::Int(number) => port_number(*number, path, errors),
        IntOrString::String(name) => invalid(path, name, names::port_name(name), errors),
    }
}

/// Leading zeros are refused, as Go's parser has done since 1.17.
pub fn ip(text: &str) -> Option<&'static str> {
    text.parse::<IpAddr>().is_err().then_some("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
}

/// An address and a prefix length.
pub fn cidr(text: &str) -> Option<&'static str> {
    let valid = text.split_once('/').is_some_and(|(address, length)| {
        let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
        match (address.parse::<IpAddr>(), length.parse::<u8>()) {
            (Ok(IpAddr::V4(_)), Ok(length)) => digits && length <= 32,
            (Ok(IpAddr::V6(_)), Ok(length)) => digits && length <= 128,
            _ => false,
        }
    });
    (!valid).then_some("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")
}

/// An address that something other than its own host could reach: endpoints must not name these.
pub fn reachable_ip(text: &str) -> Vec<&'static str> {
    let Ok(address) = text.parse::<IpAddr>() else {
        return ip(text).into_iter().collect();
    };
    let mut problems = Vec::new();
    if address.is_unspecified() {
        problems.push(match address {
            IpAddr::V4(_) => "may not be unspecified (0.0.0.0)",
            IpAddr::V6(_) => "may not be unspecified (::)",
        });
    }
    if address.is_loopback() {
        problems.push("may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (link_local, multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] == 0xff02),
    };
    if link_local {
        problems.push("may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        problems.push("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
    problems
}

/// `25%`.
pub fn percent(text: &str) -> Option<u32> {
    let digits = text.strip_suffix('%')?;
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(ip("10.0.0.1"), None);
        for text in ["", "10.0.0.01", "10.0.0", "10.0.0.256", "x"] {
            assert!(ip(text).is_some(), "{text:?}");
        }
        assert_eq!(cidr("10.0.0.0/8"), None);
        for text in ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/+8", "/8"] {
            assert!(cidr(text).is_some(), "{text:?}");
        }
        assert!(reachable_ip("10.0.0.1").is_empty());
        for text in ["127.0.0.1", "0.0.0.0", "169.254.0.1", "224.0.0.1", "::1", "fe80::1", "nonsense"] {
            assert_eq!(reachable_ip(text).len(), 1, "{text}");
        }
        assert_eq!((percent("25%"), percent("%"), percent("-5%"), percent("5")), (Some(25), None, None, None));
    }
}
