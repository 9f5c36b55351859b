//! What a durable write costs on this disk at this moment: the floor under every row that includes one.
//!
//! At those rows' pace: a disk that is asked now and then takes longer than one that is kept busy.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::stats::{median, milliseconds};

/// How many, and how far apart.
pub(super) const WRITES: usize = 100;
pub(super) const PACE: Duration = Duration::from_millis(10);
/// What changing a small object writes: a page of the table and one of its index.
const BLOCK: [u8; 8192] = [0x5a; 8192];

/// A file that has its space already.
pub(super) struct Room {
    file: File,
    path: PathBuf,
}

impl Room {
    pub(super) fn make(folder: &Path) -> Result<Self> {
        let path = folder.join("durable-write");
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        let room = Self { file, path };
        for _ in 0..WRITES {
            (&room.file).write_all(&BLOCK).context("filling a file")?;
        }
        room.file.sync_all().context("waiting for the disk")?;
        Ok(room)
    }

    /// Writes 8 KiB over what is there, and waits for the disk.
    pub(super) fn write(&self, place: usize) -> Result<()> {
        self.file.write_all_at(&BLOCK, (place % WRITES * BLOCK.len()) as u64).context("writing a block")?;
        self.file.sync_data().context("waiting for the disk")
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            eprintln!("removing {}: {error}", self.path.display());
        }
    }
}

/// The median milliseconds of such a write.
pub(super) fn durable_write(folder: &Path) -> Result<f64> {
    let room = Room::make(folder)?;
    let mut samples = Vec::with_capacity(WRITES);
    for write in 0..WRITES {
        std::thread::sleep(PACE);
        let begin = Instant::now();
        room.write(write)?;
        samples.push(milliseconds(begin.elapsed()));
    }
    median(&samples).context("no writes")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_durable_write_takes_time_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(durable_write(folder.path()).unwrap() > 0.0);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        assert!(durable_write(&folder.path().join("missing")).is_err());
    }
}
