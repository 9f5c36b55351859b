//! What the first round of mutating plug-ins leaves to the second.

use std::collections::BTreeSet;
use std::hash::BuildHasher as _;
use std::sync::LazyLock;

use machinery_registry::Attributes;
use serde_json::Value;

/// Of one plug-in, for one request.
#[derive(Default)]
pub(super) struct Memory {
    /// The object as its last webhook or policy left it.
    left: Option<u64>,
    /// Who has asked to see it again, should it change.
    called: BTreeSet<String>,
    /// Of those, who is to see it again.
    again: BTreeSet<String>,
}

fn fingerprint(object: &Value) -> u64 {
    static KEYS: LazyLock<std::hash::RandomState> = LazyLock::new(Default::default);
    KEYS.hash_one(object)
}

impl Memory {
    pub(super) fn of(attributes: &Attributes<'_>, plugin: &'static str, object: Option<&Value>) -> Self {
        let mut memory: Self = attributes.rounds.take(plugin);
        if attributes.rounds.is_second() && memory.left != object.map(fingerprint) {
            // Other plug-ins have changed it since.
            memory.again.append(&mut memory.called);
        }
        memory
    }

    pub(super) fn keep(mut self, attributes: &Attributes<'_>, plugin: &'static str, object: Option<&Value>) {
        self.left = object.map(fingerprint);
        attributes.rounds.keep(plugin, self);
    }

    /// Who was not asked in the first round is not in the second.
    pub(super) fn wants(&self, attributes: &Attributes<'_>, id: &str) -> bool {
        !attributes.rounds.is_second() || self.again.contains(id)
    }

    pub(super) fn changed(&mut self, attributes: &Attributes<'_>) {
        self.again.append(&mut self.called);
        attributes.rounds.want_second();
    }

    pub(super) fn called(&mut self, id: String) {
        self.called.insert(id);
    }
}
