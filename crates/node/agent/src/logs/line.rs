//! One line of a CRI log: `TIME STREAM TAGS CONTENT\n`, where tag `P` marks a part of a longer line.

use jiff::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// As written, so that it is shown with all its digits.
    pub time: &'a str,
    pub at: Timestamp,
    pub stream: Stream,
    /// The line goes on with the next entry of its stream.
    pub partial: bool,
    pub content: &'a [u8],
}

/// Parses one entry without its newline; `None` when it is malformed (a line torn by a crash).
pub fn parse(entry: &[u8]) -> Option<Line<'_>> {
    let mut parts = entry.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let at = time.parse().ok()?;
    let stream = match parts.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let partial = match parts.next()?.split(|byte| *byte == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    Some(Line { time, at, stream, partial, content: parts.next().unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_parse() {
        let line = parse(b"2026-01-02T03:04:05.123456789Z stderr F hello  world ").unwrap();
        assert_eq!((line.stream, line.partial, line.content), (Stream::Stderr, false, &b"hello  world "[..]));
        assert_eq!(line.time, "2026-01-02T03:04:05.123456789Z");
        assert!(parse(b"2026-01-02T03:04:05+01:00 stdout P x").unwrap().partial);
        assert_eq!(parse(b"2026-01-02T03:04:05Z stdout F ").unwrap().content, b"");
        assert_eq!(parse(b"2026-01-02T03:04:05Z stdout F").unwrap().content, b"");
    }

    #[test]
    fn torn_and_foreign_lines_do_not() {
        for bad in [
            &b""[..],
            b"x",
            b"2026-01-02T03:04:05Z",
            b"2026-01-02T03:04:05Z out F x",
            b"now stdout F x",
            b"2026-01-02T03:04:05Z stdout Q x",
            b"\xff\xfe stdout F x",
        ] {
            assert_eq!(parse(bad), None, "{:?}", String::from_utf8_lossy(bad));
        }
    }
}
