//! How far each container's log has been read through this API, for those who attach after reading it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

#[derive(Default)]
pub struct ReadLogs(Mutex<HashMap<PathBuf, u64>>);

impl ReadLogs {
    /// Somebody was shown the whole log, which ended at `position`.
    pub fn note(&self, log: &Path, position: u64) {
        let mut read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Logs go with their pods.
        read.retain(|log, _| log.exists());
        read.insert(log.to_owned(), position);
    }

    pub fn of(&self, log: &Path) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(log).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_last_as_long_as_the_logs() {
        let (read, dir) = (ReadLogs::default(), tempfile::tempdir().unwrap());
        let (one, two) = (dir.path().join("0.log"), dir.path().join("1.log"));
        std::fs::write(&one, "x").unwrap();
        std::fs::write(&two, "x").unwrap();
        read.note(&one, 7);
        assert_eq!((read.of(&one), read.of(&two)), (7, 0));
        std::fs::remove_file(&one).unwrap();
        read.note(&two, 9);
        assert_eq!((read.of(&one), read.of(&two)), (0, 9));
    }
}
