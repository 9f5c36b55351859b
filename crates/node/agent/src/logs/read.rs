//! Reading a log: where to begin, and what of each entry is shown.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::logs::LogOptions;
use crate::logs::files::{self, Identity};
use crate::logs::line::{Line, Stream, parse};

const CHUNK: usize = 64 * 1024;

/// Reads entries as they come, keeping what is not yet a whole entry.
pub struct Reader {
    path: PathBuf,
    file: File,
    /// The file after this one, once there is one: nothing is added to this one any more.
    after: Option<PathBuf>,
    /// Where the first entry that was not taken begins, in all files together.
    position: u64,
    pending: Vec<u8>,
    options: LogOptions,
    /// Per stream: the entry before was part of a longer line, so the next begins none.
    within_line: [bool; 2],
    left: Option<u64>,
}

impl Reader {
    /// Opens the log at the first entry the options ask for. `path` is the file that is written.
    pub fn open(path: &Path, options: LogOptions) -> io::Result<Self> {
        let start = match (options.tail, options.since) {
            (Some(lines), _) => tail_offset(path, lines)?,
            (None, Some(since)) => newer_than(path, since)?,
            (None, None) => 0,
        };
        Self::open_at(path, options, start)
    }

    /// Opens the log at an entry, whatever `tail` says; `position` counts the bytes of all files.
    pub fn open_at(path: &Path, options: LogOptions, position: u64) -> io::Result<Self> {
        let mut files = files::list(path)?.into_iter();
        let mut file = File::open(files.next().ok_or(io::ErrorKind::NotFound)?)?;
        let mut within = position;
        for next in files {
            let length = file.metadata()?.len();
            if within < length {
                break;
            }
            within -= length;
            file = File::open(next)?;
        }
        file.seek(SeekFrom::Start(within))?;
        let (left, path) = (options.limit_bytes, path.to_owned());
        Ok(Self { path, file, after: None, position, pending: Vec::new(), options, within_line: [false; 2], left })
    }

    /// The next piece of output; empty at the end of the log as it is now.
    pub fn next(&mut self) -> io::Result<Vec<u8>> {
        let mut output = Vec::new();
        let mut chunk = vec![0; CHUNK];
        while output.is_empty() && !self.exhausted() {
            let count = self.file.read(&mut chunk)?;
            if count == 0 {
                // Asked before the last look at a file: what was added until it was moved is not missed.
                if let Some(next) = self.after.take() {
                    self.file = File::open(next)?;
                    self.pending.clear();
                } else {
                    self.after = files::after(&self.path, Identity::of(&self.file)?)?;
                    if self.after.is_none() {
                        break;
                    }
                }
                continue;
            }
            self.pending.extend_from_slice(&chunk[..count]);
            self.take_entries(&mut output);
        }
        if let Some(left) = &mut self.left {
            output.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= output.len() as u64;
        }
        Ok(output)
    }

    /// How far into the log the entries have been taken.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// `limitBytes` has been reached.
    pub fn exhausted(&self) -> bool {
        self.left == Some(0)
    }

    fn take_entries(&mut self, output: &mut Vec<u8>) {
        let pending = std::mem::take(&mut self.pending);
        let mut rest = pending.as_slice();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            if let Some(line) = parse(&rest[..end]) {
                self.show(&line, output);
            }
            rest = &rest[end + 1..];
            self.position += end as u64 + 1;
        }
        self.pending = rest.to_vec();
    }

    fn show(&mut self, line: &Line<'_>, output: &mut Vec<u8>) {
        let within = &mut self.within_line[usize::from(line.stream == Stream::Stderr)];
        let begins = !std::mem::replace(within, line.partial);
        let wanted = self.options.since.is_none_or(|since| line.at >= since)
            && self.options.stream.is_none_or(|only| only.0 == line.stream);
        if !wanted {
            return;
        }
        if self.options.timestamps && begins {
            output.extend_from_slice(line.time.as_bytes());
            output.push(b' ');
        }
        output.extend_from_slice(line.content);
        if !line.partial {
            output.push(b'\n');
        }
    }
}

/// Where the last `lines` entries begin; searched from the end, so a long log costs nothing.
fn tail_offset(path: &Path, lines: usize) -> io::Result<u64> {
    let files = files::list(path)?;
    let lengths = files.iter().map(|file| file.metadata().map(|meta| meta.len())).collect::<io::Result<Vec<_>>>()?;
    let mut before: u64 = lengths.iter().sum();
    let mut wanted = lines;
    for (file, length) in files.iter().zip(lengths).rev() {
        before -= length;
        match last_entries(&mut File::open(file)?, length, wanted)? {
            Ok(offset) => return Ok(before + offset),
            Err(found) => wanted -= found,
        }
    }
    Ok(0)
}

/// Where the last `lines` entries of a file begin, or how many there are.
fn last_entries(file: &mut File, end: u64, lines: usize) -> io::Result<Result<u64, usize>> {
    if lines == 0 {
        return Ok(Ok(end));
    }
    let mut newlines = 0;
    let mut position = end;
    while position > 0 {
        let size = position.min(CHUNK as u64);
        position -= size;
        let mut chunk = vec![0; usize::try_from(size).unwrap_or(CHUNK)];
        file.seek(SeekFrom::Start(position))?;
        file.read_exact(&mut chunk)?;
        for (index, byte) in chunk.iter().enumerate().rev() {
            let at = position + index as u64;
            // The newline that ends the last entry begins none.
            if *byte == b'\n' && at + 1 < end {
                newlines += 1;
                if newlines == lines {
                    return Ok(Ok(at + 1));
                }
            }
        }
    }
    let entries = newlines + usize::from(end > 0);
    Ok(if entries == lines { Ok(0) } else { Err(entries) })
}

/// Where the first file begins that was written at `since` or later.
fn newer_than(path: &Path, since: Timestamp) -> io::Result<u64> {
    let mut before = 0;
    for file in files::list(path)? {
        let meta = file.metadata()?;
        if Timestamp::try_from(meta.modified()?).is_ok_and(|written| written >= since) {
            break;
        }
        before += meta.len();
    }
    Ok(before)
}

/// The end of a log as text, at most `lines` and `bytes`; empty when there is none.
pub fn tail_text(path: &Path, lines: usize, bytes: usize) -> String {
    let options = LogOptions { tail: Some(lines), ..LogOptions::default() };
    let Ok(mut reader) = Reader::open(path, options) else { return String::new() };
    let mut text = Vec::new();
    while let Ok(piece) = reader.next() {
        if piece.is_empty() {
            break;
        }
        text.extend(piece);
    }
    let start = text.len().saturating_sub(bytes);
    String::from_utf8_lossy(&text[start..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
2026-01-01T00:00:01Z stdout F one
2026-01-01T00:00:02Z stderr F two
torn
2026-01-01T00:00:03Z stdout P thr
2026-01-01T00:00:03Z stdout F ee
2026-01-01T00:00:04Z stdout F four
2026-01-01T00:00:05Z stdout F not yet whole";

    fn show(options: LogOptions) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let mut reader = Reader::open(&path, options).unwrap();
        let mut text = Vec::new();
        loop {
            let piece = reader.next().unwrap();
            if piece.is_empty() {
                return String::from_utf8(text).unwrap();
            }
            text.extend(piece);
        }
    }

    #[test]
    fn whole_entries_are_shown_joined() {
        assert_eq!(show(LogOptions::default()), "one\ntwo\nthree\nfour\n");
    }

    #[test]
    fn options_choose() {
        let timestamps = LogOptions { timestamps: true, ..LogOptions::default() };
        assert!(show(timestamps).contains("\n2026-01-01T00:00:03Z three\n"));
        let since = Some("2026-01-01T00:00:03Z".parse().unwrap());
        assert_eq!(show(LogOptions { since, ..LogOptions::default() }), "three\nfour\n");
        assert_eq!(show(LogOptions { limit_bytes: Some(6), ..LogOptions::default() }), "one\ntw");
        assert_eq!(show(LogOptions { tail: Some(2), ..LogOptions::default() }), "four\n");
        assert_eq!(show(LogOptions { tail: Some(0), ..LogOptions::default() }), "");
        assert_eq!(show(LogOptions { tail: Some(100), ..LogOptions::default() }), "one\ntwo\nthree\nfour\n");
    }

    /// Three files of two entries each, 1 to 6.
    fn rotated() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        for (name, first) in [("0.log.9", 1), ("0.log.10", 3), ("0.log", 5)] {
            let line = |number| format!("2026-01-01T00:00:0{number}Z stdout F {number}\n");
            std::fs::write(dir.path().join(name), line(first) + &line(first + 1)).unwrap();
        }
        std::fs::write(dir.path().join("0.log.old"), "2026-01-01T00:00:00Z stdout F not ours\n").unwrap();
        (dir, path)
    }

    fn rest(reader: &mut Reader) -> String {
        let mut text = String::new();
        loop {
            let piece = reader.next().unwrap();
            if piece.is_empty() {
                return text.replace('\n', "");
            }
            text += std::str::from_utf8(&piece).unwrap();
        }
    }

    #[test]
    fn the_files_of_a_log_are_read_as_one() {
        let (_dir, path) = rotated();
        for (tail, text) in [(None, "123456"), (Some(0), ""), (Some(2), "56"), (Some(3), "456"), (Some(5), "23456")] {
            let mut reader = Reader::open(&path, LogOptions { tail, ..LogOptions::default() }).unwrap();
            assert_eq!(rest(&mut reader), text, "{tail:?}");
        }
        let mut reader = Reader::open(&path, LogOptions::default()).unwrap();
        rest(&mut reader);
        let whole = reader.position();
        assert_eq!(rest(&mut Reader::open_at(&path, LogOptions::default(), whole / 6 * 4).unwrap()), "56");
        assert_eq!(rest(&mut Reader::open_at(&path, LogOptions::default(), whole).unwrap()), "");
        let since = Some("2026-01-01T00:00:04Z".parse().unwrap());
        assert_eq!(rest(&mut Reader::open(&path, LogOptions { since, ..LogOptions::default() }).unwrap()), "456");
        let future = Some("2999-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(rest(&mut Reader::open(&path, LogOptions { since: future, ..LogOptions::default() }).unwrap()), "");
    }

    #[test]
    fn a_reader_follows_its_file_when_it_is_moved() {
        use std::io::Write;
        let (dir, path) = rotated();
        let mut reader = Reader::open(&path, LogOptions::default()).unwrap();
        assert_eq!(rest(&mut reader), "123456");
        let add = |file: &Path, text: &str| {
            let mut file = File::options().append(true).create(true).open(file).unwrap();
            writeln!(file, "2026-01-01T00:00:07Z stdout F {text}").unwrap();
        };
        add(&path, "7");
        let moved = dir.path().join("0.log.11");
        std::fs::rename(&path, &moved).unwrap();
        assert_eq!(rest(&mut reader), "7", "between two moments there is no next file");
        add(&path, "8");
        std::fs::rename(&path, dir.path().join("0.log.12")).unwrap();
        add(&path, "9");
        assert_eq!(rest(&mut reader), "89");
        // Whoever is too slow goes on with what is left.
        add(&path, "lost");
        std::fs::remove_file(&path).unwrap();
        for old in ["0.log.9", "0.log.10", "0.log.11", "0.log.12"] {
            std::fs::remove_file(dir.path().join(old)).unwrap();
        }
        add(&dir.path().join("0.log.13"), "a");
        add(&path, "b");
        assert_eq!(rest(&mut reader), "lostab", "an open file is read to its end");
    }

    #[test]
    fn the_tail_as_text_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        assert_eq!(tail_text(&path, 80, 5), "four\n");
        assert_eq!(tail_text(&dir.path().join("none"), 80, 5), "");
    }
}
