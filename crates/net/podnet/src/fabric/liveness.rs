//! Whether another node is there, from echoes asked and answered. Pure: time comes from the caller.
//!
//! ```text
//!            unanswered for PATIENCE            TRIES more unanswered
//!   Fine ───────────────────────────▶ Doubted ───────────────────────▶ Suspect
//!     ▲                                  │ any answer                      │ any answer
//!     └──────────────────────────────────┴────────────────────────────────┘
//! ```
//!
//! From a node's end to its suspicion pass at most [`TICK`] + [`PATIENCE`] + a tick + [`TRIES`] × [`FAST`], 0.9 s. The
//! kernel answers echoes, so an agent that restarts, or that is busy, is not suspected; nor is one cut off from the API.

use std::time::{Duration, Instant};

/// Between two rounds of echoes.
pub(super) const TICK: Duration = Duration::from_millis(250);
/// Between the echoes to a node in doubt.
pub(super) const FAST: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_millis(200);
const TRIES: u32 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Liveness {
    /// With the time of the oldest echo that was not answered yet.
    Fine {
        asked: Option<Instant>,
    },
    /// How many echoes were asked in doubt.
    Doubted {
        tries: u32,
    },
    Suspect,
}

impl Liveness {
    /// What it is at `now`, once every answer that has come is counted.
    pub(super) fn judge(self, now: Instant) -> Self {
        match self {
            Self::Fine { asked: Some(asked) } if now.saturating_duration_since(asked) >= PATIENCE => {
                Self::Doubted { tries: 0 }
            }
            Self::Doubted { tries } if tries >= TRIES => Self::Suspect,
            other => other,
        }
    }

    pub(super) fn asked(self, now: Instant) -> Self {
        match self {
            Self::Fine { asked } => Self::Fine { asked: asked.or(Some(now)) },
            Self::Doubted { tries } => Self::Doubted { tries: tries + 1 },
            Self::Suspect => Self::Suspect,
        }
    }

    pub(super) fn answered() -> Self {
        Self::Fine { asked: None }
    }

    pub(super) fn is_fine(self) -> bool {
        matches!(self, Self::Fine { .. })
    }

    pub(super) fn is_doubted(self) -> bool {
        matches!(self, Self::Doubted { .. })
    }

    pub(super) fn is_suspect(self) -> bool {
        self == Self::Suspect
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_node_is_suspected_within_a_second_and_forgiven_at_once() {
        let start = Instant::now();
        let mut state = Liveness::answered();
        let mut now = start;
        while !state.is_suspect() {
            state = state.judge(now).asked(now);
            now += if state.is_doubted() { FAST } else { TICK };
            state = state.judge(now);
        }
        assert!(now - start + TICK < Duration::from_secs(1), "{:?}", now - start);
        assert!(now - start > Duration::from_millis(300));
        assert!(Liveness::answered().judge(now).is_fine());
    }

    #[test]
    fn one_lost_echo_is_no_suspicion() {
        let now = Instant::now();
        let doubted = Liveness::answered().asked(now).judge(now + TICK);
        assert!(doubted.is_doubted() && !doubted.judge(now + TICK).is_suspect());
        assert!(Liveness::answered().asked(now).judge(now + FAST).is_fine());
    }
}
