//! `resource.Quantity`: fixed-point amounts with a suffix, printed in Go's canonical form.

use std::cmp::Ordering;
use std::fmt;

/// How a quantity prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `12e6`
    DecimalExponent,
    /// `12Mi`
    BinarySi,
    /// `12M`
    DecimalSi,
}

/// Upstream's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// An amount in billionths, so that nothing between `n` and `E` loses precision. Equality, order and hash are the
/// amount's alone: `1Gi` equals `1024Mi`. Amounts beyond ±10²⁷ are cut to that.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

const NANO: i128 = 1_000_000_000;
const CEILING: i128 = NANO * 1_000_000_000_000_000_000_000_000_000;
const BINARY_CEILING: i128 = NANO * i64::MAX as i128;

impl Quantity {
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    pub fn from_value(value: i64, format: Format) -> Self {
        Self { nanos: i128::from(value) * NANO, format }
    }

    pub fn from_milli(milli: i64, format: Format) -> Self {
        Self { nanos: i128::from(milli) * (NANO / 1000), format }
    }

    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let parts = Parts::split(text)?;
        let (scale, format) = suffix(parts.suffix)?;
        let nanos = parts.nanos(scale)?;
        // A binary fraction below one prints better in decimal.
        let format = match format {
            Format::BinarySi if nanos > 0 && nanos < NANO => Format::DecimalSi,
            other => other,
        };
        let magnitude = nanos.min(if format == Format::BinarySi { BINARY_CEILING } else { CEILING });
        Ok(Self { nanos: if parts.negative { -magnitude } else { magnitude }, format })
    }

    pub fn format(self) -> Format {
        self.format
    }

    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// In whole units, rounded away from zero.
    pub fn value(self) -> i64 {
        self.scaled(NANO)
    }

    /// In thousandths, rounded away from zero.
    pub fn milli_value(self) -> i64 {
        self.scaled(NANO / 1000)
    }

    fn scaled(self, unit: i128) -> i64 {
        let whole = self.nanos / unit + if self.nanos % unit == 0 { 0 } else { self.nanos.signum() };
        i64::try_from(whole).unwrap_or(if whole < 0 { i64::MIN } else { i64::MAX })
    }

    /// No finer than thousandths, as `ResourceList` defaulting leaves amounts.
    #[must_use]
    pub fn rounded_to_milli(self) -> Self {
        let unit = NANO / 1000;
        let rest = self.nanos % unit;
        let up = if rest == 0 { 0 } else { self.nanos.signum() * unit };
        Self { nanos: self.nanos - rest + up, format: self.format }
    }

    fn combined(self, nanos: i128, other: Self) -> Self {
        Self { nanos: nanos.clamp(-CEILING, CEILING), format: if self.is_zero() { other.format } else { self.format } }
    }
}

impl std::ops::Add for Quantity {
    type Output = Self;

    /// Keeps the left format, unless the left is zero.
    fn add(self, other: Self) -> Self {
        self.combined(self.nanos + other.nanos, other)
    }
}

impl std::ops::Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.combined(self.nanos - other.nanos, other)
    }
}

impl std::ops::Neg for Quantity {
    type Output = Self;

    fn neg(self) -> Self {
        Self { nanos: -self.nanos, format: self.format }
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::ZERO, |total, one| total + one)
    }
}

impl Default for Quantity {
    fn default() -> Self {
        Self::ZERO
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl std::hash::Hash for Quantity {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl std::str::FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        Self::parse(text)
    }
}

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

const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

#[derive(Clone, Copy)]
enum Scale {
    /// Times ten to this.
    Ten(i32),
    /// Times two to this.
    Two(u32),
}

fn suffix(text: &str) -> Result<(Scale, Format), QuantityError> {
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

struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

impl<'a> Parts<'a> {
    fn split(text: &'a str) -> Result<Self, QuantityError> {
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
    fn nanos(&self, scale: Scale) -> Result<i128, QuantityError> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prints_gos_canonical_form() {
        for (text, canonical) in [
            ("0", "0"),
            ("0.0Ki", "0"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1.5", "1500m"),
            ("0.5", "500m"),
            ("1000", "1k"),
            ("1000m", "1"),
            ("100m", "100m"),
            ("0.1m", "100u"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("12e6", "12e6"),
            ("12000e3", "12e6"),
            ("1e2", "100"),
            ("512Ki", "512Ki"),
            ("1023", "1023"),
            ("0.5Ki", "512"),
            ("-1.5Gi", "-1536Mi"),
            ("+5", "5"),
            ("1.", "1"),
            (".5", "500m"),
            ("128974848", "128974848"),
            ("129e6", "129e6"),
            ("8Ei", "9223372036854775807"),
            ("123Mi", "123Mi"),
        ] {
            assert_eq!(Quantity::parse(text).expect(text).to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn refuses_what_upstream_refuses() {
        for (text, error) in [
            ("", QuantityError::Format),
            ("abc", QuantityError::Format),
            ("1x", QuantityError::Format),
            ("1.2.3", QuantityError::Format),
            ("1kk", QuantityError::Suffix),
            ("1e", QuantityError::Suffix),
            ("1Kii", QuantityError::Suffix),
            ("1 Gi", QuantityError::Format),
            ("é", QuantityError::Format),
            ("1e99999999999", QuantityError::Suffix),
        ] {
            assert_eq!(Quantity::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn reprints_what_go_remembers() {
        for (text, printed) in [
            ("1024Mi", "1Gi"),
            ("1.500", "1.500"),
            ("0100m", "0100m"),
            ("1000", "1k"),
            (" 1Gi ", "1Gi"),
            ("16Ki", "16Ki"),
        ] {
            assert_eq!(reprint(text).expect(text), printed);
        }
    }

    #[test]
    fn rounds_away_from_zero() {
        let parse = |text| Quantity::parse(text).expect(text);
        assert_eq!(parse("1100m").value(), 2);
        assert_eq!(parse("-1100m").value(), -2);
        assert_eq!(parse("1u").milli_value(), 1);
        assert_eq!(parse("1u").rounded_to_milli().to_string(), "1m");
        assert_eq!(parse("1e30").value(), i64::MAX);
        assert_eq!((parse("1Gi") - parse("512Mi")).to_string(), "512Mi");
        assert_eq!((Quantity::ZERO + parse("1Gi")).to_string(), "1Gi");
        assert!(parse("1Gi") == parse("1024Mi") && parse("1Gi") > parse("1G"));
    }

    proptest! {
        #[test]
        fn canonical_text_keeps_the_amount(
            amount in any::<i64>(), fraction in 0u32..1_000_000_000, suffix in "(|n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e3|E-2)"
        ) {
            for text in [format!("{amount}{suffix}"), format!("{}.{fraction:09}{suffix}", amount / 1000)] {
                let quantity = Quantity::parse(&text).expect("a quantity");
                let printed = quantity.to_string();
                let again = Quantity::parse(&printed).expect("what it printed");
                prop_assert_eq!(again, quantity, "{} {}", text, printed);
                prop_assert_eq!(again.to_string(), printed);
            }
        }

        #[test]
        fn sums_undo(a in any::<i64>(), b in any::<i64>()) {
            let (a, b) = (Quantity::from_milli(a, Format::DecimalSi), Quantity::from_milli(b, Format::BinarySi));
            prop_assert_eq!(a + b - b, a);
            prop_assert_eq!(a.cmp(&b), (a - b).cmp(&Quantity::ZERO));
        }

        #[test]
        fn any_text_parses_or_fails_without_panic(text in ".{0,24}", close in "[-+]?[0-9.]{0,45}[eEinumkKMGTP]{0,2}[-+]?[0-9]{0,12}") {
            for text in [text, close] {
                if let Ok(quantity) = Quantity::parse(&text) {
                    let printed = quantity.to_string();
                    prop_assert_eq!(Quantity::parse(&printed).expect("what it printed"), quantity, "{} {}", text, printed);
                }
                let _ = reprint(&text);
            }
        }
    }
}
