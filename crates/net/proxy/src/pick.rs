//! How a packet to a front end gets its endpoint: the number that the counts map holds and that names a chain.

use crate::frontend::{Affinity, Backends, Otherwise};

/// The most endpoints of one front end: what the lower bits of [`Pick::code`] hold.
pub(crate) const MOST_ENDPOINTS: usize = DROP as usize - 1;
const COUNT_BITS: u32 = 14;
/// In place of a count.
const DROP: u32 = (1 << COUNT_BITS) - 1;
/// Above the affinity's seconds, which are above the count.
const GUARDED: u32 = 1 << (u32::BITS - 1);
const _: () = assert!(Affinity::LONGEST < 1 << (u32::BITS - 1 - COUNT_BITS));

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Choice {
    /// There is no endpoint.
    None(Otherwise),
    /// Among so many endpoints.
    Among { count: u32, affinity: Option<Affinity> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pick {
    choice: Choice,
    /// Only clients of the front end's blocks get that far; the others' packets are dropped.
    guarded: bool,
}

impl Pick {
    pub(crate) fn of(backends: &Backends) -> Self {
        let choice = match backends.endpoints.len() {
            0 => Choice::None(backends.otherwise),
            count => Choice::Among { count: checked(count), affinity: backends.affinity },
        };
        Self { choice, guarded: backends.sources.is_some() }
    }

    /// Any of so many.
    ///
    /// # Panics
    /// When `count` is more than the plan lets through.
    pub(crate) fn plain(count: usize) -> Self {
        Self { choice: Choice::Among { count: checked(count), affinity: None }, guarded: false }
    }

    pub(crate) fn none(otherwise: Otherwise) -> Self {
        Self { choice: Choice::None(otherwise), guarded: false }
    }

    pub(crate) fn choice(self) -> Choice {
        self.choice
    }

    pub(crate) fn affinity(self) -> Option<Affinity> {
        match self.choice {
            Choice::Among { affinity, .. } => affinity,
            Choice::None(_) => None,
        }
    }

    pub(crate) fn is_guarded(self) -> bool {
        self.guarded
    }

    /// The chains that this one's leads on to, which must be there before it: those of plainer picks.
    pub(crate) fn simpler(self) -> Option<Self> {
        match self {
            Self { guarded: true, .. } => Some(Self { guarded: false, ..self }),
            Self { choice: Choice::Among { count, affinity: Some(_) }, .. } => {
                Some(Self { choice: Choice::Among { count, affinity: None }, ..self })
            }
            _ => None,
        }
    }

    /// As the maps hold it. Where nothing is special it is the count.
    pub(crate) fn code(self) -> u32 {
        let choice = match self.choice {
            Choice::None(Otherwise::Refuse) => 0,
            Choice::None(Otherwise::Drop) => DROP,
            Choice::Among { count, affinity } => count | affinity.map_or(0, Affinity::seconds) << COUNT_BITS,
        };
        choice | if self.guarded { GUARDED } else { 0 }
    }
}

impl Pick {
    /// [`Pick::code`] backwards; `None` for a number that is none.
    pub(crate) fn of_code(code: u32) -> Option<Self> {
        let (count, seconds) = (code & DROP, (code & !GUARDED) >> COUNT_BITS);
        let affinity = if seconds == 0 { None } else { Some(Affinity::of_seconds(seconds)?) };
        let choice = match count {
            0 | DROP if affinity.is_some() => return None,
            0 => Choice::None(Otherwise::Refuse),
            DROP => Choice::None(Otherwise::Drop),
            count => Choice::Among { count, affinity },
        };
        Some(Self { choice, guarded: code & GUARDED != 0 })
    }
}

fn checked(count: usize) -> u32 {
    assert!(count <= MOST_ENDPOINTS, "plans hold at most {MOST_ENDPOINTS} endpoints");
    u32::try_from(count).expect("the most is far below 2^32")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_tell_picks_apart() {
        let affinities = [None, Affinity::of_seconds(1), Affinity::of_seconds(2), Affinity::of_seconds(86_400)];
        let among = |affinity| [1, 2, 16_382].map(|count| Choice::Among { count, affinity });
        let none = [Otherwise::Refuse, Otherwise::Drop].map(Choice::None);
        let choices: Vec<Choice> = affinities.into_iter().flat_map(among).chain(none).collect();
        let all = choices.iter().flat_map(|choice| [false, true].map(|guarded| Pick { choice: *choice, guarded }));
        let all: Vec<Pick> = all.collect();
        let codes: std::collections::BTreeSet<u32> = all.iter().map(|pick| pick.code()).collect();
        assert_eq!(codes.len(), choices.len() * 2);
        assert!(all.iter().all(|pick| Pick::of_code(pick.code()) == Some(*pick)));
        assert_eq!((Pick::of_code(u32::MAX), Pick::of_code(1 << COUNT_BITS)), (None, None));
        assert_eq!(Pick::plain(3).code(), 3);
        assert_eq!((Affinity::of_seconds(0), Affinity::of_seconds(86_401)), (None, None));
    }

    #[test]
    fn every_pick_leads_to_a_plain_one() {
        let sticky = Choice::Among { count: 2, affinity: Some(Affinity::DEFAULT) };
        let steps: Vec<Pick> =
            std::iter::successors(Some(Pick { choice: sticky, guarded: true }), |pick| pick.simpler()).collect();
        assert_eq!(steps.len(), 3);
        assert_eq!(steps[2], Pick::plain(2));
    }
}
