//! The embedded engine: SQLite behind one writer thread.

use std::path::Path;

use crate::Result;

#[derive(Clone)]
pub struct Embedded;

impl Embedded {
    /// Opens or makes the store in `dir`; fails when another process has it open.
    pub async fn open(dir: &Path) -> Result<Self> {
        let _ = dir;
        todo!("signatures first")
    }

    /// A store that is gone when dropped.
    pub async fn in_memory() -> Result<Self> {
        todo!("signatures first")
    }

    /// Commits what is queued, answers it, and lets go of the files.
    pub async fn close(&self) {
        todo!("signatures first")
    }
}
