//! Consecutive results to a verdict.

/// Counts results in a row.
#[derive(Clone, Debug)]
pub struct Threshold {
    success: u32,
    failure: u32,
    last: Option<bool>,
    run: u32,
    settled: Option<bool>,
}

impl Threshold {
    pub fn new(success: u32, failure: u32) -> Self {
        Self { success: success.max(1), failure: failure.max(1), last: None, run: 0, settled: None }
    }

    /// The verdict, when this result changes it.
    pub fn record(&mut self, healthy: bool) -> Option<bool> {
        self.run = if self.last == Some(healthy) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(healthy);
        let needed = if healthy { self.success } else { self.failure };
        if self.run < needed || self.settled == Some(healthy) {
            return None;
        }
        self.settled = Some(healthy);
        Some(healthy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_runs_of_the_set_length_change_the_verdict() {
        let mut threshold = Threshold::new(2, 3);
        let verdicts: Vec<_> = [true, false, true, true, true, false, false, true, false, false, false, false]
            .into_iter()
            .map(|healthy| threshold.record(healthy))
            .collect();
        let mut want = vec![None; 12];
        want[3] = Some(true);
        want[10] = Some(false);
        assert_eq!(verdicts, want);
    }

    #[test]
    fn thresholds_below_one_count_as_one() {
        let mut threshold = Threshold::new(0, 0);
        assert_eq!(threshold.record(false), Some(false));
        assert_eq!(threshold.record(true), Some(true));
    }
}
