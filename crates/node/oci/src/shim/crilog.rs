//! The CRI log format: `TIME STREAM F|P TEXT`, one line of output per line, long lines in parts.

use std::fmt::Write;

use jiff::Timestamp;

/// Longer lines are written in parts of this size, all but the last tagged `P`.
const MAX_LINE: usize = 16 << 10;

/// Turns one stream's bytes into log lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Appends to `log` what can be written after more output.
    pub(super) fn push(&mut self, stream: &str, now: Timestamp, mut data: &[u8], log: &mut Vec<u8>) {
        let mut head = String::new();
        // Infallible: writing to a string.
        let _ = write!(head, "{now} {stream} ");
        while !data.is_empty() {
            let room = MAX_LINE - self.partial.len();
            let window = &data[..data.len().min(room)];
            let (line, tag, used) = match window.iter().position(|b| *b == b'\n') {
                Some(end) => (&window[..end], 'F', end + 1),
                None if window.len() == room => (window, 'P', room),
                None => {
                    self.partial.extend_from_slice(window);
                    return;
                }
            };
            log.extend_from_slice(head.as_bytes());
            log.extend_from_slice(&[tag as u8, b' ']);
            log.append(&mut self.partial);
            log.extend_from_slice(line);
            log.push(b'\n');
            data = &data[used..];
        }
        if self.partial.is_empty() {
            self.partial = Vec::new(); // a quiet stream keeps no buffer
        }
    }

    /// The stream has ended: an unfinished line is a line.
    pub(super) fn finish(&mut self, stream: &str, now: Timestamp, log: &mut Vec<u8>) {
        if !self.partial.is_empty() {
            self.push(stream, now, b"\n", log);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn logged(chunks: &[&[u8]]) -> String {
        let now: Timestamp = "2026-01-02T03:04:05.000000678Z".parse().unwrap();
        let (mut lines, mut log) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.push("stdout", now, chunk, &mut log);
        }
        lines.finish("stdout", now, &mut log);
        String::from_utf8(log).unwrap()
    }

    const HEAD: &str = "2026-01-02T03:04:05.000000678Z stdout";

    #[test]
    fn lines_are_joined_over_reads() {
        assert_eq!(logged(&[b"a\nb", b"c\n\n"]), format!("{HEAD} F a\n{HEAD} F bc\n{HEAD} F \n"));
    }

    #[test]
    fn an_unfinished_last_line_is_written_at_the_end() {
        assert_eq!(logged(&[b"prompt> "]), format!("{HEAD} F prompt> \n"));
        assert_eq!(logged(&[b""]), "");
    }

    #[test]
    fn long_lines_are_split() {
        let long = vec![b'x'; MAX_LINE + 1];
        let x = "x".repeat(MAX_LINE);
        assert_eq!(logged(&[&long, b"\n"]), format!("{HEAD} P {x}\n{HEAD} F x\n"));
        // A line of exactly the limit whose end comes later: the end is an empty last part.
        assert_eq!(logged(&[&long[1..], b"\n"]), format!("{HEAD} P {x}\n{HEAD} F \n"));
    }
}
