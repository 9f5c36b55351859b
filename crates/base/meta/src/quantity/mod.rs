//! `resource.Quantity`: fixed-point amounts with a suffix, printed in Go's canonical form.

use std::cmp::Ordering;

mod print;
mod text;

pub use print::reprint;
use text::{Parts, suffix};

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

#[cfg(test)]
mod tests;
