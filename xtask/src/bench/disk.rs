//! What a durable write costs on this disk at this moment: the floor under every row that includes one.
//!
//! At those rows' pace: a disk that is asked now and then takes longer than one that is kept busy.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::stats::{median, milliseconds};

const WRITES: usize = 100;
const PACE: Duration = Duration::from_millis(10);
/// What changing a small object writes: a page of the table and one of its index.
const BLOCK: [u8; 8192] = [0x5a; 8192];

/// The median milliseconds of writing 8 KiB and waiting for the disk, over a file that has its space already.
pub(super) fn durable_write(folder: &Path) -> Result<f64> {
    let path = folder.join("durable-write");
    let mut file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    for _ in 0..WRITES {
        file.write_all(&BLOCK).context("filling a file")?;
    }
    file.sync_all().context("waiting for the disk")?;
    let mut samples = Vec::with_capacity(WRITES);
    for write in 0..WRITES {
        std::thread::sleep(PACE);
        let begin = Instant::now();
        file.write_all_at(&BLOCK, (write * BLOCK.len()) as u64).context("writing a block")?;
        file.sync_data().context("waiting for the disk")?;
        samples.push(milliseconds(begin.elapsed()));
    }
    std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
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
