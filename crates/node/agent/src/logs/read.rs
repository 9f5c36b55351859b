//! Reading a log file: where to begin, and what of each entry is shown.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::logs::LogOptions;
use crate::logs::line::{Line, Stream, parse};

const CHUNK: usize = 64 * 1024;

/// Reads entries as they come, keeping what is not yet a whole entry.
pub struct Reader {
    file: File,
    /// Where the first entry that was not taken begins.
    position: u64,
    pending: Vec<u8>,
    options: LogOptions,
    /// Per stream: the entry before was part of a longer line, so the next begins none.
    within_line: [bool; 2],
    left: Option<u64>,
}

impl Reader {
    /// Opens the file at the first entry the options ask for.
    pub fn open(path: &Path, options: LogOptions) -> io::Result<Self> {
        let start = match options.tail {
            Some(lines) => tail_offset(&mut File::open(path)?, lines)?,
            None => 0,
        };
        Self::open_at(path, options, start)
    }

    /// Opens the file at an entry, whatever `tail` says.
    pub fn open_at(path: &Path, options: LogOptions, position: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(position))?;
        let left = options.limit_bytes;
        Ok(Self { file, position, pending: Vec::new(), options, within_line: [false; 2], left })
    }

    /// The next piece of output; empty at the end of the file as it is now.
    pub fn next(&mut self) -> io::Result<Vec<u8>> {
        let mut output = Vec::new();
        let mut chunk = vec![0; CHUNK];
        while output.is_empty() && !self.exhausted() {
            let count = self.file.read(&mut chunk)?;
            if count == 0 {
                break;
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

    /// How far into the file the entries have been taken.
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
fn tail_offset(file: &mut File, lines: usize) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(end);
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
                    return Ok(at + 1);
                }
            }
        }
    }
    Ok(0)
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

    #[test]
    fn the_tail_as_text_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        assert_eq!(tail_text(&path, 80, 5), "four\n");
        assert_eq!(tail_text(&dir.path().join("none"), 80, 5), "");
    }
}
