//! Quantities and versions.

use base_meta::quantity::{Format, Quantity};
use semver::Version;

use super::{Result, fail};
use crate::eval::EvalError;
use crate::value::Val;

pub fn call(name: &str, args: &[Val]) -> Option<Result> {
    Some(match (name, args) {
        ("quantity", [Val::String(text)]) => match Quantity::parse(text) {
            Ok(quantity) => Ok(Val::Quantity(quantity)),
            Err(_) => {
                fail("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
            }
        },
        ("isQuantity", [Val::String(text)]) => Ok(Val::Bool(Quantity::parse(text).is_ok())),
        (_, [Val::Quantity(quantity), rest @ ..]) => of_quantity(name, *quantity, rest)?,
        ("semver", [Val::String(text)]) => version(text, false),
        ("semver", [Val::String(text), Val::Bool(normalize)]) => version(text, *normalize),
        ("isSemver", [Val::String(text)]) => Ok(Val::Bool(version(text, false).is_ok())),
        ("isSemver", [Val::String(text), Val::Bool(normalize)]) => Ok(Val::Bool(version(text, *normalize).is_ok())),
        (_, [Val::Semver(found), rest @ ..]) => of_version(name, found, rest)?,
        _ => return None,
    })
}

fn whole(quantity: Quantity) -> Option<i64> {
    let value = quantity.value();
    (Quantity::from_value(value, Format::DecimalSi) == quantity).then_some(value)
}

fn of_quantity(name: &str, quantity: Quantity, rest: &[Val]) -> Option<Result> {
    let number = |number: i64| Quantity::from_value(number, quantity.format());
    Some(Ok(match (name, rest) {
        ("isInteger", []) => Val::Bool(whole(quantity).is_some()),
        ("asInteger", []) => match whole(quantity) {
            Some(value) => Val::Int(value),
            None => return Some(fail("cannot convert value to integer")),
        },
        #[allow(clippy::cast_precision_loss)]
        ("asApproximateFloat", []) => Val::Double(quantity.milli_value() as f64 / 1000.0),
        ("sign", []) => Val::Int(if quantity.is_zero() {
            0
        } else if quantity.is_negative() {
            -1
        } else {
            1
        }),
        ("add", [Val::Quantity(other)]) => Val::Quantity(quantity + *other),
        ("add", [Val::Int(other)]) => Val::Quantity(quantity + number(*other)),
        ("sub", [Val::Quantity(other)]) => Val::Quantity(quantity - *other),
        ("sub", [Val::Int(other)]) => Val::Quantity(quantity - number(*other)),
        ("isLessThan", [Val::Quantity(other)]) => Val::Bool(quantity < *other),
        ("isGreaterThan", [Val::Quantity(other)]) => Val::Bool(quantity > *other),
        ("compareTo", [Val::Quantity(other)]) => Val::Int(quantity.cmp(other) as i64),
        _ => return None,
    }))
}

fn version(text: &str, normalize: bool) -> Result {
    let cleaned = if normalize { normal(text) } else { text.to_owned() };
    match Version::parse(&cleaned) {
        Ok(version) => Ok(Val::Semver(version.into())),
        Err(error) => fail(error.to_string()),
    }
}

/// `v1.2` is `1.2.0`.
fn normal(text: &str) -> String {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (core, rest) = text.split_at(end);
    let mut parts: Vec<&str> = core
        .split('.')
        .map(|part| match part.trim_start_matches('0') {
            "" => "0",
            part => part,
        })
        .collect();
    while parts.len() < 3 {
        parts.push("0");
    }
    format!("{}{rest}", parts.join("."))
}

fn of_version(name: &str, version: &Version, rest: &[Val]) -> Option<Result> {
    let number = |number: u64| i64::try_from(number).map(Val::Int).map_err(|_| EvalError::Overflow);
    Some(match (name, rest) {
        ("major", []) => number(version.major),
        ("minor", []) => number(version.minor),
        ("patch", []) => number(version.patch),
        ("isLessThan", [Val::Semver(other)]) => Ok(Val::Bool(version.cmp_precedence(other).is_lt())),
        ("isGreaterThan", [Val::Semver(other)]) => Ok(Val::Bool(version.cmp_precedence(other).is_gt())),
        ("compareTo", [Val::Semver(other)]) => Ok(Val::Int(version.cmp_precedence(other) as i64)),
        _ => return None,
    })
}
