//! A container's log: one file that grows, and those that it was before, `<file>.<number>`, the highest the newest.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::output::Output;
use crate::spec::LogLimit;

/// What cannot be written (a full disk) is lost: a container never waits for its log.
pub(super) struct Log {
    path: PathBuf,
    limit: Option<LogLimit>,
    file: File,
    /// Bytes in the file.
    length: u64,
    /// Bytes in all.
    size: u64,
    lines: Vec<u8>,
}

impl Log {
    /// Opens the file for appending, with its directory.
    pub(super) fn open(path: PathBuf, limit: Option<LogLimit>) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = append(&path)?;
        let length = file.metadata()?.len();
        Ok(Self { path, limit, file, length, size: length, lines: Vec::new() })
    }

    /// Bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn append(&mut self, output: &mut Output, data: &[u8]) {
        output.lines.push(output.stream.name(), Timestamp::now(), data, &mut self.lines);
        self.write();
    }

    pub(super) fn finish(&mut self, output: &mut Output) {
        output.lines.finish(output.stream.name(), Timestamp::now(), &mut self.lines);
        self.write();
    }

    fn write(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        if let Some(limit) = self.limit
            && self.length > 0
            && self.length + lines.len() as u64 > limit.bytes
        {
            // A file that cannot be replaced grows on; the next write tries again.
            let _ = self.rotate(limit.files);
        }
        if self.file.write_all(&lines).is_ok() {
            self.length += lines.len() as u64;
            self.size += lines.len() as u64;
        }
    }

    /// Lines are written whole, so each file holds whole lines.
    fn rotate(&mut self, keep: u32) -> io::Result<()> {
        let mut old = rotated(&self.path)?;
        let next = old.last().map_or(1, |(number, _)| number + 1);
        let moved = numbered(&self.path, next);
        match fs::rename(&self.path, &moved) {
            // An attempt before moved it, and could not make another.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => {
                other?;
                old.push((next, moved));
            }
        }
        self.file = append(&self.path)?;
        self.length = 0;
        let surplus = (old.len() + 1).saturating_sub(keep as usize);
        old.into_iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
    }
}

fn append(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).open(path)
}

fn numbered(path: &Path, number: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// What the log was before, oldest first.
fn rotated(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let number =
            entry.file_name().to_str().and_then(|other| other.strip_prefix(name)?.strip_prefix('.')?.parse().ok());
        found.extend(number.map(|number| (number, entry.path())));
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use nix::unistd::pipe;

    use super::super::output::Stream;
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_full_file_makes_room_for_another_and_the_oldest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c/0.log");
        let mut output = Output::new(Stream::Stdout, pipe().unwrap().0).unwrap();
        let line = b"0123456789\n";
        let logged = "2026-01-02T03:04:05.000000678Z stdout F 0123456789\n".len() as u64;
        // Two lines a file; time may have fewer digits.
        let limit = LogLimit { bytes: 2 * logged, files: 3 };
        let mut log = Log::open(path.clone(), Some(limit)).unwrap();
        for _ in 0..9 {
            log.append(&mut output, line);
        }
        assert_eq!(names(path.parent().unwrap()), ["0.log", "0.log.3", "0.log.4"]);
        for name in ["0.log.3", "0.log.4"] {
            let text = fs::read_to_string(path.with_file_name(name)).unwrap();
            assert_eq!(text.lines().filter(|line| line.ends_with("F 0123456789")).count(), 2, "{text}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
        drop(log);
        let mut log = Log::open(path.clone(), Some(limit)).unwrap();
        log.append(&mut output, &line.repeat(2));
        assert_eq!(names(path.parent().unwrap()), ["0.log", "0.log.4", "0.log.5"]);
    }

    #[test]
    fn without_a_limit_a_file_grows() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let mut output = Output::new(Stream::Stderr, pipe().unwrap().0).unwrap();
        let mut log = Log::open(path.clone(), None).unwrap();
        for _ in 0..100 {
            log.append(&mut output, b"x\n");
        }
        assert_eq!(names(directory.path()), ["0.log"]);
        assert_eq!(log.size(), fs::metadata(&path).unwrap().len());
    }
}
