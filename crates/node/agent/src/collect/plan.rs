//! Which images go, and in which order. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

/// The kubelet's settings of the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImagePolicy {
    /// Percent of the disk in use from which on images are removed.
    pub high: u8,
    /// Down to which they are.
    pub low: u8,
    /// Younger than this an image on the node is left alone.
    pub min_age: SignedDuration,
    /// Unused for longer than this it goes anyhow; 0: never.
    pub max_age: SignedDuration,
}

impl Default for ImagePolicy {
    fn default() -> Self {
        Self { high: 85, low: 80, min_age: SignedDuration::from_mins(2), max_age: SignedDuration::ZERO }
    }
}

/// An image that is on the node now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Present {
    pub(super) id: String,
    /// Bytes.
    pub(super) size: u64,
    pub(super) used: bool,
    /// Imported by the operator: nothing could bring it back.
    pub(super) pinned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    first_seen: Timestamp,
    last_used: Timestamp,
}

/// What was seen of images so far.
#[derive(Debug, Default)]
pub(super) struct History {
    known: BTreeMap<String, Known>,
    /// What is there at the first look is older than this program.
    begun: bool,
}

/// Bytes of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) capacity: u64,
    pub(super) available: u64,
}

/// How much goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// What the policy asks for.
    Policy,
    /// All that nobody needs.
    All,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) remove: Vec<String>,
    /// Bytes that these are.
    pub(super) freed: u64,
    /// Bytes that are wanted and that no image can give.
    pub(super) short: u64,
}

impl History {
    pub(super) fn note(&mut self, images: &[Present], now: Timestamp) {
        self.known.retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in images {
            let first_seen = if self.begun { now } else { Timestamp::UNIX_EPOCH };
            let fresh = Known { first_seen, last_used: Timestamp::UNIX_EPOCH };
            let known = self.known.entry(image.id.clone()).or_insert(fresh);
            if image.used {
                known.last_used = now;
            }
        }
        self.begun = true;
    }

    pub(super) fn plan(
        &self,
        images: &[Present],
        (policy, extent): (ImagePolicy, Extent),
        disk: Disk,
        now: Timestamp,
    ) -> Plan {
        let age = |since: Timestamp| now.duration_since(since);
        let mut free: Vec<(&Present, Known)> = images
            .iter()
            .filter(|image| !image.used && !image.pinned)
            .filter_map(|image| Some((image, *self.known.get(&image.id)?)))
            .filter(|(_, known)| age(known.first_seen) >= policy.min_age)
            .collect();
        // Unused for the longest first.
        free.sort_by_key(|(image, known)| (known.last_used, known.first_seen, image.id.clone()));
        let mut wanted = match extent {
            Extent::Policy => wanted(policy, disk),
            Extent::All => u64::MAX,
        };
        let mut plan = Plan::default();
        for (image, known) in free {
            let unused = age(known.last_used.max(known.first_seen));
            // How long those of the first look have been unused, nobody knows.
            let measured = known.last_used.max(known.first_seen) > Timestamp::UNIX_EPOCH;
            let expired = policy.max_age > SignedDuration::ZERO && measured && unused > policy.max_age;
            if wanted > 0 || expired {
                wanted = wanted.saturating_sub(image.size.max(1));
                plan.freed += image.size;
                plan.remove.push(image.id.clone());
            }
        }
        plan.short = wanted;
        plan
    }
}

/// Bytes to free.
fn wanted(policy: ImagePolicy, disk: Disk) -> u64 {
    let used = disk.capacity.saturating_sub(disk.available);
    if disk.capacity == 0 || u128::from(used) * 100 < u128::from(disk.capacity) * u128::from(policy.high) {
        return 0;
    }
    let left = u128::from(disk.capacity) * u128::from(100 - policy.low.min(100)) / 100;
    u64::try_from(left).unwrap_or(u64::MAX).saturating_sub(disk.available)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Disk = Disk { capacity: 1000, available: 100 };
    const EMPTY: Disk = Disk { capacity: 1000, available: 900 };

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + 60 * minute).unwrap()
    }

    fn image(id: &str, size: u64, used: bool) -> Present {
        Present { id: id.into(), size, used, pinned: false }
    }

    #[test]
    fn nothing_goes_while_there_is_room() {
        let mut history = History::default();
        let images = [image("a", 500, false)];
        history.note(&images, at(0));
        assert_eq!(history.plan(&images, (ImagePolicy::default(), Extent::Policy), EMPTY, at(1)), Plan::default());
        let edge = Disk { capacity: 1000, available: 151 };
        assert_eq!(history.plan(&images, (ImagePolicy::default(), Extent::Policy), edge, at(1)), Plan::default());
    }

    #[test]
    fn the_longest_unused_go_first_and_no_more_than_needed() {
        let mut history = History::default();
        let used = [image("old", 60, true), image("new", 60, true), image("never", 30, false), image("busy", 60, true)];
        history.note(&used, at(0));
        let later =
            [image("old", 60, false), image("new", 60, true), image("never", 30, false), image("busy", 60, true)];
        history.note(&later, at(1));
        let now =
            [image("old", 60, false), image("new", 60, false), image("never", 30, false), image("busy", 60, true)];
        history.note(&now, at(2));
        // From 90 to 80 percent: a hundred bytes.
        let plan = history.plan(&now, (ImagePolicy::default(), Extent::Policy), FULL, at(3));
        assert_eq!(plan, Plan { remove: vec!["never".into(), "old".into(), "new".into()], freed: 150, short: 0 });
        let fewer = Disk { capacity: 1000, available: 120 };
        let plan = history.plan(&now, (ImagePolicy::default(), Extent::Policy), fewer, at(3));
        assert_eq!(plan.remove, ["never", "old"]);
    }

    #[test]
    fn used_pinned_and_young_images_stay_and_the_lack_is_told() {
        let mut history = History::default();
        history.note(&[], at(0));
        let pinned = Present { pinned: true, ..image("pinned", 500, false) };
        let images = [image("used", 500, true), pinned, image("young", 70, false)];
        history.note(&images, at(10));
        assert_eq!(
            history.plan(&images, (ImagePolicy::default(), Extent::Policy), FULL, at(11)),
            Plan { remove: vec![], freed: 0, short: 100 }
        );
        let plan = history.plan(&images, (ImagePolicy::default(), Extent::Policy), FULL, at(12));
        assert_eq!(plan, Plan { remove: vec!["young".into()], freed: 70, short: 30 });
    }

    #[test]
    fn a_node_that_is_short_keeps_what_is_needed_or_young() {
        let mut history = History::default();
        let pinned = Present { pinned: true, ..image("pinned", 1, false) };
        let old = [image("used", 1, true), image("a", 1, false), image("b", 1, false), pinned];
        history.note(&old, at(0));
        let all = [old.as_slice(), &[image("young", 1, false)]].concat();
        history.note(&all, at(10));
        let plan = history.plan(&all, (ImagePolicy::default(), Extent::All), EMPTY, at(11));
        assert_eq!(plan.remove, ["a", "b"]);
    }

    #[test]
    fn what_nobody_used_for_too_long_goes_from_an_empty_disk_too() {
        let policy = ImagePolicy { max_age: SignedDuration::from_mins(30), ..ImagePolicy::default() };
        let mut history = History::default();
        let images = [image("a", 10, true), image("stranger", 10, false)];
        history.note(&images, at(0));
        let images = [image("a", 10, false), image("stranger", 10, false)];
        history.note(&images, at(20));
        assert_eq!(history.plan(&images, (policy, Extent::Policy), EMPTY, at(30)), Plan::default());
        assert_eq!(history.plan(&images, (policy, Extent::Policy), EMPTY, at(31)).remove, ["a"]);
    }

    #[test]
    fn a_disk_without_size_is_no_reason() {
        assert_eq!(wanted(ImagePolicy::default(), Disk { capacity: 0, available: 0 }), 0);
        assert_eq!(wanted(ImagePolicy { high: 0, low: 0, ..ImagePolicy::default() }, EMPTY), 100);
    }
}
