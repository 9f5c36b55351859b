//! Numbers as Go compares and prints them.

use serde_json::{Number, Value};

/// Whether a JSON number is a whole one; `1.0` is.
pub(crate) fn is_whole(number: &Number) -> bool {
    number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|float| float.fract() == 0.0)
}

/// Equality that knows `1` and `1.0` to be the same.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

pub(crate) fn is_multiple(number: f64, factor: f64) -> bool {
    if factor <= 0.0 {
        return true;
    }
    let quotient = number / factor;
    (quotient - quotient.round()).abs() < 1e-9 * quotient.abs().max(1.0)
}
