//! Which users of the node pods get that have their own: each a range that no other pod has. What is taken is read from
//! the sandboxes themselves, so that nothing has to be given back, and no end of the agent loses or keeps a range.

use crate::seams::{IdRange, SeamError};

/// The ranges of one node, one beside the other, each of [`Self::IDS`] users and as many groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRanges {
    first: u32,
    count: u32,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRanges {
    #[error("the user kubelet must have exactly one range of users, and the same of groups")]
    NotOne,
    #[error("the ids from {0} on that the user kubelet has are not whole multiples of {ids}", ids = UserRanges::IDS)]
    NotWhole(u32),
    #[error("the {0} ids that the user kubelet has are not enough for {1} pods")]
    TooFew(u32, u32),
}

#[derive(Debug, thiserror::Error)]
#[error("create user namespace: could not find an empty slot to allocate a user namespace")]
struct NoneFree;

impl UserRanges {
    pub const IDS: u32 = 65_536;
    /// How many blocks of ranges there are below the user ids that some programs take for negative.
    const BLOCKS: u32 = 255;
    const BLOCK: u32 = 128;

    /// Whether the kernel makes user namespaces.
    pub fn supported() -> bool {
        let most = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").ok();
        most.and_then(|text| text.trim().parse::<u64>().ok()).is_some_and(|most| most > 0)
    }

    /// Where nobody has said which: a block of them by number, so that several nodes on one host can have different ones.
    pub fn block(number: u32, max_pods: u32) -> Self {
        Self { first: Self::IDS * (1 + number % Self::BLOCKS * Self::BLOCK), count: max_pods.min(Self::BLOCK) }
    }

    /// Those that the host has set aside for the user kubelet, by what `getsubids` prints of its users and its groups
    /// (`0: kubelet 65536 7208960`), which are to be the same.
    ///
    /// # Errors
    /// As upstream's kubelet, when they are not whole ranges, or not enough of them.
    pub fn set_aside(users: &str, groups: &str, max_pods: u32) -> Result<Self, BadRanges> {
        let (first, ids) = the_one(users).filter(|one| the_one(groups) == Some(*one)).ok_or(BadRanges::NotOne)?;
        if first == 0 || !first.is_multiple_of(Self::IDS) || !ids.is_multiple_of(Self::IDS) {
            return Err(BadRanges::NotWhole(first));
        }
        let count = ids / Self::IDS;
        if count < max_pods || first.checked_add(ids).is_none() {
            return Err(BadRanges::TooFew(ids, max_pods));
        }
        Ok(Self { first, count })
    }

    /// One that none of `taken` touches.
    pub(crate) fn free(self, taken: impl IntoIterator<Item = IdRange>) -> Result<IdRange, SeamError> {
        let taken: Vec<_> = taken.into_iter().collect();
        let all = (0..self.count).map(|index| IdRange { first: self.first + index * Self::IDS, length: Self::IDS });
        let mut free = all.filter(|range| !taken.iter().any(|other| overlap(*range, *other)));
        free.next().ok_or_else(|| SeamError::new("find", "users for the pod", NoneFree))
    }
}

fn overlap(one: IdRange, other: IdRange) -> bool {
    let end = |range: IdRange| u64::from(range.first) + u64::from(range.length);
    u64::from(one.first) < end(other) && u64::from(other.first) < end(one)
}

fn the_one(printed: &str) -> Option<(u32, u32)> {
    let mut lines = printed.lines().filter(|line| !line.trim().is_empty());
    let fields: Vec<&str> = lines.next()?.split_whitespace().collect();
    let [_, _, first, ids] = fields[..] else { return None };
    let one = (first.parse().ok()?, ids.parse().ok()?);
    lines.next().is_none().then_some(one)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_pod_gets_the_first_free_range_until_none_is_left() {
        let ranges = UserRanges::block(0, 3);
        let mut taken = Vec::new();
        for first in [65_536, 131_072, 196_608] {
            let range = ranges.free(taken.clone()).unwrap();
            assert_eq!(range, IdRange { first, length: 65_536 });
            taken.push(range);
        }
        let error = ranges.free(taken.clone()).unwrap_err();
        assert!(crate::seams::chain(&error).ends_with("could not find an empty slot to allocate a user namespace"));
        taken.remove(1);
        assert_eq!(ranges.free(taken).unwrap().first, 131_072);
        // Of other ranges than ours what they cover counts.
        assert_eq!(ranges.free([IdRange { first: 100_000, length: 50_000 }]).unwrap().first, 196_608);
    }

    #[test]
    fn blocks_do_not_meet_and_stay_among_the_plain_numbers() {
        let last = UserRanges::block(UserRanges::BLOCKS - 1, 110);
        assert!(last.first + last.count * UserRanges::IDS < i32::MAX.cast_unsigned());
        assert_eq!(UserRanges::block(1, 110).first, UserRanges::block(0, 110).first + 128 * 65_536);
        assert_eq!(UserRanges::block(255, 110), UserRanges::block(0, 110));
    }

    #[test]
    fn what_is_set_aside_must_be_whole_and_enough() {
        let good = "0: kubelet 65536 7208960\n";
        assert_eq!(UserRanges::set_aside(good, good, 110), Ok(UserRanges { first: 65_536, count: 110 }));
        assert_eq!(UserRanges::set_aside(good, good, 111), Err(BadRanges::TooFew(7_208_960, 111)));
        for bad in ["", "0: kubelet 65536\n", "0: kubelet x y\n", "0: kubelet 65536 65536\n1: kubelet 262144 65536\n"] {
            assert_eq!(UserRanges::set_aside(bad, bad, 1), Err(BadRanges::NotOne), "{bad}");
        }
        assert_eq!(UserRanges::set_aside(good, "0: kubelet 131072 7208960\n", 1), Err(BadRanges::NotOne));
        for (text, first) in [("0: kubelet 0 65536", 0), ("0: kubelet 65537 65536", 65_537)] {
            assert_eq!(UserRanges::set_aside(text, text, 1), Err(BadRanges::NotWhole(first)));
        }
        let part = "0: kubelet 65536 65537";
        assert_eq!(UserRanges::set_aside(part, part, 1), Err(BadRanges::NotWhole(65_536)));
    }
}
