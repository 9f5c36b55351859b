//! Versions of the specification.

use std::fmt;

/// Those that are spoken. Older ones answer in another form, and no plug-in needs them any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    V030,
    V031,
    /// With CHECK, and with the result of ADD told to DEL.
    V040,
    V100,
    /// With STATUS and GC.
    V110,
}

const ALL: [(&str, Version); 5] = [
    ("0.3.0", Version::V030),
    ("0.3.1", Version::V031),
    ("0.4.0", Version::V040),
    ("1.0.0", Version::V100),
    ("1.1.0", Version::V110),
];

impl Version {
    pub fn parse(text: &str) -> Option<Self> {
        ALL.iter().find(|(name, _)| *name == text).map(|(_, version)| *version)
    }

    pub fn checks(self) -> bool {
        self >= Self::V040
    }

    pub fn tells_del_the_result(self) -> bool {
        self >= Self::V040
    }

    pub fn has_status_and_gc(self) -> bool {
        self >= Self::V110
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = ALL.iter().find(|(_, version)| version == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}
