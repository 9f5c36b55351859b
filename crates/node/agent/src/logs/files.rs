//! The files of one instance's log: those it was before, `<path>.<number>`, then the one that is written.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file, whatever its name is by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

impl Identity {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        file.metadata().map(|meta| Self(meta.dev(), meta.ino()))
    }

    fn at(path: &Path) -> Option<Self> {
        path.metadata().ok().map(|meta| Self(meta.dev(), meta.ino()))
    }
}

/// Oldest first; between two moments of a rotation the last may be missing.
pub fn list(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in directory.read_dir()? {
        let entry = entry?;
        let file = entry.file_name();
        let Some(rest) = file.to_str().and_then(|file| file.strip_prefix(name)) else { continue };
        let number = if rest.is_empty() { Some(u64::MAX) } else { rest.strip_prefix('.').and_then(|n| n.parse().ok()) };
        found.extend(number.map(|number| (number, entry.path())));
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// What to read after a file that has been read to its end; `None` while it is the one that is written.
pub(super) fn after(path: &Path, read: Identity) -> io::Result<Option<PathBuf>> {
    if Identity::at(path) == Some(read) {
        return Ok(None);
    }
    let mut before = Vec::new();
    loop {
        let files = list(path)?;
        let known: Vec<_> = files.iter().map(|file| Identity::at(file)).collect();
        match known.iter().position(|known| *known == Some(read)) {
            Some(index) => return Ok(files.into_iter().nth(index + 1)),
            // Only what is missing twice in the same list was removed, not renamed between two looks.
            None if known == before => return Ok(files.into_iter().next()),
            None => before = known,
        }
    }
}

/// Moves the file that is written away, for another to be begun, and removes the oldest beyond so many.
pub fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    let mut old = list(path)?;
    old.retain(|file| file != path);
    let number = |file: &PathBuf| file.extension().and_then(|number| number.to_str()?.parse::<u64>().ok());
    let next = old.iter().filter_map(number).max().map_or(1, |last| last + 1);
    let mut moved = path.as_os_str().to_owned();
    moved.push(format!(".{next}"));
    std::fs::rename(path, &moved)?;
    old.push(moved.into());
    // With the one that is begun.
    let surplus = (old.len() + 1).saturating_sub(keep as usize);
    old.into_iter().take(surplus).try_for_each(std::fs::remove_file)
}

/// Removes all of them; none is no error.
pub fn remove(path: &Path) {
    for file in list(path).unwrap_or_default() {
        if let Err(error) = std::fs::remove_file(&file) {
            tracing::warn!(file = %file.display(), %error, "old log not removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_moved_away_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let names = || -> Vec<_> {
            list(&path).unwrap().iter().map(|file| file.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        for _ in 0..4 {
            std::fs::write(&path, "").unwrap();
            rotate(&path, 3).unwrap();
        }
        assert_eq!(names(), ["0.log.3", "0.log.4"]);
        assert!(rotate(&path, 3).is_err());
    }
}
