//! Medians and percentiles of a few hundred samples.

use std::time::Duration;

/// The value below which `fraction` (0 to 1) of the samples lie; the nearest sample, not an interpolation.
pub(super) fn percentile(samples: &[f64], fraction: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * fraction.clamp(0.0, 1.0)).round() as usize).copied()
}

pub(super) fn median(samples: &[f64]) -> Option<f64> {
    percentile(samples, 0.5)
}

pub(super) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let samples = [5.0, 1.0, 3.0, 2.0, 4.0];
        assert_eq!(median(&samples), Some(3.0));
        assert_eq!(percentile(&samples, 0.99), Some(5.0));
        assert_eq!(percentile(&samples, 0.0), Some(1.0));
        assert_eq!(percentile(&samples, 7.0), Some(5.0));
        assert_eq!(median(&[]), None);
    }
}
