//! How a packet to a front end gets its endpoint: the number that the counts map holds and that names a chain.

use crate::frontend::Affinity;

/// The most endpoints of one front end: what the lower bits of [`Pick::code`] hold.
pub(crate) const MOST_ENDPOINTS: usize = (1 << COUNT_BITS) - 1;
const COUNT_BITS: u32 = 15;
// The affinity's seconds are above the count.
const _: () = assert!(Affinity::LONGEST < 1 << (u32::BITS - COUNT_BITS));

/// Among so many endpoints; with an affinity, any of them only for a client that has none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pick {
    count: u32,
    affinity: Option<Affinity>,
}

impl Pick {
    /// Without endpoints there is nothing to stick to: one refusal serves all.
    ///
    /// # Panics
    /// When `count` is more than the plan lets through.
    pub(crate) fn new(count: usize, affinity: Option<Affinity>) -> Self {
        assert!(count <= MOST_ENDPOINTS, "plans hold at most {MOST_ENDPOINTS} endpoints");
        let count = u32::try_from(count).expect("the most is far below 2^32");
        Self { count, affinity: affinity.filter(|_| count > 0) }
    }

    pub(crate) fn count(self) -> u32 {
        self.count
    }

    pub(crate) fn affinity(self) -> Option<Affinity> {
        self.affinity
    }

    pub(crate) fn without_affinity(self) -> Self {
        Self { affinity: None, ..self }
    }

    /// As the maps hold it. Without an affinity it is the count.
    pub(crate) fn code(self) -> u32 {
        self.count | self.affinity.map_or(0, Affinity::seconds) << COUNT_BITS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_tell_counts_and_affinities_apart() {
        let affinity = Affinity::of_seconds;
        assert_eq!(Pick::new(3, None).code(), 3);
        assert_eq!(Pick::new(0, affinity(60)), Pick::new(0, None));
        let all = [(1, None), (2, None), (1, affinity(1)), (2, affinity(1)), (1, affinity(2)), (1, affinity(86_400))];
        let codes: std::collections::BTreeSet<u32> = all.iter().map(|(n, a)| Pick::new(*n, *a).code()).collect();
        assert_eq!(codes.len(), all.len());
        assert_eq!((affinity(0), affinity(86_401)), (None, None));
    }
}
