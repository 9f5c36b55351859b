//! How long a registry may take to be reached, and which ones were not a moment ago.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Nothing but the registry has the image.
    Long,
    /// Another image can stand in.
    Short,
}

impl Patience {
    /// For the name, the connection and its TLS.
    pub fn connect(self) -> Duration {
        match self {
            Self::Long => Duration::from_secs(5),
            Self::Short => Duration::from_secs(1),
        }
    }

    /// Until the registry has said what the name means.
    pub fn answer(self) -> Duration {
        match self {
            Self::Long => Duration::from_secs(120),
            Self::Short => Duration::from_secs(4),
        }
    }
}

/// How long a registry that could not be reached is taken to be out of reach, where an image can stand in: the pods of
/// one deployment shall not each find out by themselves.
const MEMORY: Duration = Duration::from_secs(10);

/// Registries that could not be reached, by name, and when that turned out.
#[derive(Default)]
pub struct Silent(Mutex<HashMap<String, Instant>>);

impl Silent {
    pub fn note(&self, registry: &str, reached: bool) {
        self.note_at(registry, reached, Instant::now());
    }

    /// Whether the registry could not be reached a moment ago.
    pub fn knows(&self, registry: &str) -> bool {
        self.knows_at(registry, Instant::now())
    }

    fn note_at(&self, registry: &str, reached: bool, now: Instant) {
        let mut silent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        silent.retain(|_, since| now.duration_since(*since) < MEMORY);
        if reached {
            silent.remove(registry);
        } else {
            silent.insert(registry.to_owned(), now);
        }
    }

    fn knows_at(&self, registry: &str, now: Instant) -> bool {
        let silent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        silent.get(registry).is_some_and(|since| now.duration_since(*since) < MEMORY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_remembered_for_a_while_and_until_an_answer() {
        let (silent, start) = (Silent::default(), Instant::now());
        silent.note_at("a.test", false, start);
        assert!(silent.knows_at("a.test", start + MEMORY / 2));
        assert!(!silent.knows_at("b.test", start));
        assert!(!silent.knows_at("a.test", start + MEMORY));
        silent.note_at("a.test", true, start + MEMORY / 2);
        assert!(!silent.knows_at("a.test", start + MEMORY / 2));
    }
}
