//! `format`: those upstream checks. An unknown one is no restriction.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use base_meta::names;
use regex::Regex;

/// A pattern of our own, which compiles.
fn pattern(text: &'static str) -> Regex {
    Regex::new(text).expect("a constant pattern compiles")
}

static EMAIL: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[^@\s<>,;:()\[\]]+@[A-Za-z0-9.-]+$"));
static UUID: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$"));
static HEX_COLOR: LazyLock<Regex> = LazyLock::new(|| pattern(r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"));
static RGB_COLOR: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^rgb\(\s*(0|[1-9]\d?|1\d\d|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d|2[0-4]\d|25[0-5])\s*\)$",
    )
});
static BASE64: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"));
static SSN: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\d{3}[- ]?\d{2}[- ]?\d{4}$"));
static OBJECT_ID: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[0-9a-fA-F]{24}$"));
static MAC: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:[0-9A-Fa-f]{2}([:-]))(?:[0-9A-Fa-f]{2}[:-]){4,6}[0-9A-Fa-f]{2}$|^(?:[0-9A-Fa-f]{4}\.){2,3}[0-9A-Fa-f]{4}$",
    )
});
static DURATION: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^[+-]?(?:\d+(?:\.\d*)?|\.\d+)\s*(?:ns|us|µs|μs|ms|s|m|h|d|w|nanoseconds?|nanos?|microseconds?|micros?|milliseconds?|millis?|seconds?|secs?|minutes?|mins?|hours?|hrs?|days?|weeks?|wks?)(?:\s*(?:\d+(?:\.\d*)?|\.\d+)\s*(?:ns|us|µs|μs|ms|s|m|h|d|w))*$",
    )
});
static DATE_TIME: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)^\d{4}-\d{2}-\d{2}t\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:z|[+-]\d{2}:\d{2})$"));

pub(crate) fn fits(format: &str, text: &str) -> bool {
    match format.replace('-', "").as_str() {
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "hostname" => names::is_dns1123_subdomain(&text.to_ascii_lowercase()) && text.len() < 256,
        "email" => EMAIL.is_match(text),
        "uri" => is_uri(text),
        "mac" => MAC.is_match(text),
        "uuid" => UUID.is_match(text),
        "uuid3" => UUID.is_match(text) && version(text) == Some('3'),
        "uuid4" => UUID.is_match(text) && version(text) == Some('4'),
        "uuid5" => UUID.is_match(text) && version(text) == Some('5'),
        "hexcolor" => HEX_COLOR.is_match(text),
        "rgbcolor" => RGB_COLOR.is_match(text),
        "byte" => BASE64.is_match(text),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "datetime" => DATE_TIME.is_match(text) && text.to_ascii_uppercase().parse::<jiff::Timestamp>().is_ok(),
        "duration" => text == "0" || DURATION.is_match(text),
        "ssn" => SSN.is_match(text),
        "bsonobjectid" => OBJECT_ID.is_match(text),
        "creditcard" => is_card(text),
        "isbn" => is_isbn10(text) || is_isbn13(text),
        "isbn10" => is_isbn10(text),
        "isbn13" => is_isbn13(text),
        "k8sshortname" => names::is_dns1123_label(text),
        "k8slongname" => names::is_dns1123_subdomain(text),
        _ => true,
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

/// As Go's `ParseRequestURI`: an absolute path or a scheme.
fn is_uri(text: &str) -> bool {
    if text.chars().any(|c| c.is_control() || c == ' ') {
        return false;
    }
    text.starts_with('/')
        || text.split_once(':').is_some_and(|(scheme, rest)| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
                && !rest.is_empty()
        })
}

fn version(uuid: &str) -> Option<char> {
    uuid.chars().filter(|c| *c != '-').nth(12)
}

fn is_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    if !(13..=19).contains(&digits.len()) {
        return false;
    }
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, digit)| match (index % 2, digit * 2) {
            (0, _) => *digit,
            (_, doubled) if doubled > 9 => doubled - 9,
            (_, doubled) => doubled,
        })
        .sum();
    sum.is_multiple_of(10)
}

fn isbn_characters(text: &str) -> Vec<char> {
    text.chars().filter(|c| *c != '-' && *c != ' ').collect()
}

fn is_isbn10(text: &str) -> bool {
    let digits = isbn_characters(text);
    let value = |(index, c): (usize, &char)| match (index, c) {
        (9, 'X' | 'x') => Some(10),
        (_, c) => c.to_digit(10),
    };
    let values: Vec<u32> = digits.iter().enumerate().filter_map(value).collect();
    digits.len() == 10
        && values.len() == 10
        && values.iter().zip(1..).map(|(value, weight)| value * weight).sum::<u32>() % 11 == 0
}

fn is_isbn13(text: &str) -> bool {
    let digits: Vec<char> = isbn_characters(text);
    let values: Vec<u32> = digits.iter().filter_map(|c| c.to_digit(10)).collect();
    digits.len() == 13
        && values.len() == 13
        && values.iter().zip([1, 3].iter().cycle()).map(|(value, weight)| value * weight).sum::<u32>() % 10 == 0
}
