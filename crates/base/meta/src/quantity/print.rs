//! A quantity as Go prints it.

use std::fmt;

use super::text::{BINARY, DECIMAL, Parts, Scale, suffix};
use super::{Format, NANO, Quantity, QuantityError};

/// The canonical form: no fraction, the largest suffix that loses nothing.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos % NANO == 0;
        if self.format == Format::BinarySi && whole && self.nanos.abs() >= 1024 * NANO {
            let mut amount = self.nanos / NANO;
            let mut power = 0;
            while power + 1 < BINARY.len() && amount % 1024 == 0 {
                amount /= 1024;
                power += 1;
            }
            return write!(f, "{amount}{}", BINARY[power]);
        }
        let mut amount = self.nanos;
        let mut exponent = -9;
        let largest = if self.format == Format::DecimalExponent { i32::MAX } else { 18 };
        while exponent + 3 <= largest && amount % 1000 == 0 {
            amount /= 1000;
            exponent += 3;
        }
        if self.format == Format::DecimalExponent {
            if exponent == 0 { write!(f, "{amount}") } else { write!(f, "{amount}e{exponent}") }
        } else {
            let (suffix, _) = DECIMAL.iter().find(|(_, power)| *power == exponent).unwrap_or(&("", 0));
            write!(f, "{amount}{suffix}")
        }
    }
}

/// The text that Go prints for a decoded quantity: the one that came where it already was in canonical form (Go keeps
/// some that are not quite: `0100m`, `1.500`), else the canonical one.
pub fn reprint(text: &str) -> Result<std::borrow::Cow<'_, str>, QuantityError> {
    let text = text.trim();
    let quantity = Quantity::parse(text)?;
    if kept_by_go(text) { Ok(text.into()) } else { Ok(quantity.to_string().into()) }
}

/// Mirrors the condition under which upstream's parser remembers the text.
fn kept_by_go(text: &str) -> bool {
    if text == "0" {
        return true;
    }
    let Ok(parts) = Parts::split(text) else { return false };
    let Ok((scale, _)) = suffix(parts.suffix) else { return false };
    let whole = parts.whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let count = whole.len() + parts.fraction.len();
    match scale {
        Scale::Ten(exponent) => {
            let Ok(fraction) = i32::try_from(parts.fraction.len()) else { return false };
            let Some(scale) = exponent.checked_sub(fraction) else { return false };
            let ends_in_zeros = if parts.fraction.is_empty() {
                whole.ends_with("000")
            } else {
                format!("{whole}{}", parts.fraction).ends_with("000")
            };
            count <= 18 && scale >= -9 && scale % 3 == 0 && !ends_in_zeros && !whole.starts_with('0')
        }
        Scale::Two(exponent) => {
            let digits = exponent as usize * 3 / 10;
            parts.fraction.is_empty()
                && whole.len() + digits < 15
                && whole.parse::<i64>().is_ok_and(|value| value & 7 != 0 && value.checked_mul(1 << exponent).is_some())
        }
    }
}
