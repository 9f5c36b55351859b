//! How much history stays. Decided when something is written: an idle store has nothing new to forget.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::Revision;

/// History older than `age` goes, and whatever goes beyond `revisions`.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    pub age: Duration,
    pub revisions: u64,
    /// Forgotten at once: large enough to make the extra commit cheap, small enough not to hold up a write.
    pub step: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Duration::from_secs(300), revisions: 20_000, step: 256 }
    }
}

/// When revisions were reached, at a coarse grain.
#[derive(Debug, Default)]
pub(super) struct Marks(VecDeque<(Instant, Revision)>);

impl Marks {
    /// Notes that `head` was reached, and says up to where history should go now, if far enough.
    pub(super) fn due(
        &mut self,
        rule: &Retention,
        now: Instant,
        head: Revision,
        compacted: Revision,
    ) -> Option<Revision> {
        let grain = rule.age / 16;
        if self.0.back().is_none_or(|(at, _)| now.duration_since(*at) >= grain) {
            self.0.push_back((now, head));
        }
        // Of the marks that are old enough only the newest counts.
        while self.0.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= rule.age) {
            self.0.pop_front();
        }
        let aged =
            self.0.front().filter(|(at, _)| now.duration_since(*at) >= rule.age).map_or(0, |(_, revision)| revision.0);
        let floor = aged.max(head.0.saturating_sub(rule.revisions));
        let target = compacted.0 + rule.step;
        (floor >= target).then_some(Revision(target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Retention = Retention { age: Duration::from_secs(300), revisions: 1000, step: 10 };

    #[test]
    fn what_was_written_before_the_age_goes_step_by_step() {
        let (mut marks, start) = (Marks::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(marks.due(&RULE, at(0), Revision(25), Revision(0)), None);
        assert_eq!(marks.due(&RULE, at(200), Revision(40), Revision(0)), None);
        assert_eq!(marks.due(&RULE, at(301), Revision(41), Revision(0)), Some(Revision(10)));
        assert_eq!(marks.due(&RULE, at(302), Revision(42), Revision(10)), Some(Revision(20)));
        assert_eq!(marks.due(&RULE, at(303), Revision(43), Revision(20)), None);
        assert_eq!(marks.due(&RULE, at(501), Revision(44), Revision(20)), Some(Revision(30)));
    }

    #[test]
    fn a_burst_is_bounded_by_number() {
        let (mut marks, now) = (Marks::default(), Instant::now());
        assert_eq!(marks.due(&RULE, now, Revision(1009), Revision(0)), None);
        assert_eq!(marks.due(&RULE, now, Revision(1010), Revision(0)), Some(Revision(10)));
    }
}
