//! The parts of a quantity's text.

use super::{CEILING, Format, QuantityError};

pub(super) const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
pub(super) const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

#[derive(Clone, Copy)]
pub(super) enum Scale {
    /// Times ten to this.
    Ten(i32),
    /// Times two to this.
    Two(u32),
}

pub(super) fn suffix(text: &str) -> Result<(Scale, Format), QuantityError> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == text) {
        return Ok((Scale::Ten(*exponent), Format::DecimalSi));
    }
    if let Some(power) = BINARY.iter().position(|name| *name == text) {
        return Ok((Scale::Two(10 * power as u32), Format::BinarySi));
    }
    let exponent = text.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
    let exponent: i32 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
    Ok((Scale::Ten(exponent), Format::DecimalExponent))
}

pub(super) struct Parts<'a> {
    pub(super) negative: bool,
    pub(super) whole: &'a str,
    pub(super) fraction: &'a str,
    pub(super) suffix: &'a str,
}

impl<'a> Parts<'a> {
    pub(super) fn split(text: &'a str) -> Result<Self, QuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            None => return Err(QuantityError::Format),
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
        };
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, mut rest) = unsigned.split_at(digits(unsigned));
        let mut fraction = "";
        if let Some(after) = rest.strip_prefix('.') {
            (fraction, rest) = after.split_at(digits(after));
        }
        let letters = rest.bytes().take_while(|byte| b"eEinumkKMGTP".contains(byte)).count();
        let exponent = &rest[letters..];
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        if !exponent.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(QuantityError::Format);
        }
        if whole.is_empty() && fraction.is_empty() {
            return Err(QuantityError::Format);
        }
        Ok(Self { negative, whole, fraction, suffix: rest })
    }

    /// The magnitude in billionths, rounded up, at most [`CEILING`].
    pub(super) fn nanos(&self, scale: Scale) -> Result<i128, QuantityError> {
        let mut digits: Vec<u8> = self.whole.bytes().chain(self.fraction.bytes()).map(|byte| byte - b'0').collect();
        let fraction = i64::try_from(self.fraction.len()).map_err(|_| QuantityError::Numeric)?;
        let (ten, two) = match scale {
            Scale::Ten(exponent) => (i64::from(exponent), 0),
            Scale::Two(exponent) => (0, exponent),
        };
        // digits × 10^shift × 2^two is the amount in billionths.
        let mut shift = ten - fraction + 9;
        let zeros = digits.iter().take_while(|digit| **digit == 0).count();
        digits.drain(..zeros);
        if digits.is_empty() {
            return Ok(0);
        }
        let mut rounded = false;
        // Enough precision for the largest amount; what is cut here lies far below a billionth of it.
        let room = if two == 0 { 37 } else { 20 };
        while digits.len() > room {
            rounded |= digits.pop() != Some(0);
            shift += 1;
        }
        let mut amount = digits.iter().fold(0i128, |amount, digit| amount * 10 + i128::from(*digit));
        amount = amount.checked_mul(1i128 << two).unwrap_or(i128::MAX);
        while shift > 0 {
            if amount >= CEILING {
                return Ok(CEILING);
            }
            amount *= 10;
            shift -= 1;
        }
        while shift < 0 && amount > 0 {
            rounded |= amount % 10 != 0;
            amount /= 10;
            shift += 1;
        }
        Ok(amount.saturating_add(i128::from(rounded)).min(CEILING))
    }
}
