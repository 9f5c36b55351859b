//! What a client has said of its own sandbox or container. It is kept as JSON in one label, so that the runtime, which outlives
//! this process, keeps it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::seams::label;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Said {
    /// Of a sandbox.
    pub uid: String,
    pub attempt: u32,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Of a sandbox; empty: none.
    pub log_directory: String,
    /// Of a sandbox, whether its containers may be.
    pub privileged: bool,
    /// Modes of a sandbox's namespaces, in the interface's numbers.
    pub pid: i32,
    pub ipc: i32,
}

impl Said {
    pub fn of(labels: &BTreeMap<String, String>) -> Option<Self> {
        // Written by us; what an older binary wrote has defaults.
        serde_json::from_str(labels.get(label::FOREIGN)?).ok()
    }

    pub fn text(&self) -> String {
        serde_json::to_value(self).unwrap_or_default().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_kept_and_what_is_new_has_defaults() {
        let said = Said { uid: "u".into(), attempt: 2, privileged: true, ..Said::default() };
        let labels = BTreeMap::from([(label::FOREIGN.to_owned(), said.text())]);
        assert_eq!(Said::of(&labels), Some(said));
        let old = BTreeMap::from([(label::FOREIGN.to_owned(), "{}".to_owned())]);
        assert_eq!(Said::of(&old), Some(Said::default()));
        assert_eq!(Said::of(&BTreeMap::new()), None);
    }
}
