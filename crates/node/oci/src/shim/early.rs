//! What a container with a single input printed before the one client that it waits for came.

use super::output::Stream;

/// What surely fits into the client's pipes.
const LIMIT: usize = 16 << 10;

/// Output that is still complete.
#[derive(Default)]
pub(super) struct Early {
    pieces: Vec<Piece>,
    size: usize,
}

struct Piece {
    stream: Stream,
    data: Vec<u8>,
    /// The size of the log with all of this in it; `None` while its line is unfinished, or without a log.
    logged: Option<u64>,
}

impl Early {
    /// Keeps output that has just been logged as far as its lines are whole. False when there is too much: nobody is
    /// told a part of a story.
    pub(super) fn push(&mut self, stream: Stream, data: &[u8], log: Option<u64>) -> bool {
        self.size += data.len();
        let whole = data.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let (head, tail) = data.split_at(whole);
        if !head.is_empty() {
            for piece in self.pieces.iter_mut().filter(|piece| piece.stream == stream) {
                piece.logged = piece.logged.or(log);
            }
            self.pieces.push(Piece { stream, data: head.to_vec(), logged: log });
        }
        if !tail.is_empty() {
            self.pieces.push(Piece { stream, data: tail.to_vec(), logged: None });
        }
        self.size <= LIMIT
    }

    /// What a client that has read the log up to `seen` does not know.
    pub(super) fn after(self, seen: u64) -> impl Iterator<Item = (Stream, Vec<u8>)> {
        let unknown = self.pieces.into_iter().filter(move |piece| piece.logged.is_none_or(|logged| logged > seen));
        unknown.map(|piece| (piece.stream, piece.data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(early: Early, seen: u64) -> String {
        early
            .after(seen)
            .map(|(stream, data)| format!("{}:{}|", stream.name(), String::from_utf8_lossy(&data)))
            .collect()
    }

    fn story() -> Early {
        let mut early = Early::default();
        assert!(early.push(Stream::Stdout, b"one\ntw", Some(10)));
        assert!(early.push(Stream::Stderr, b"bad\n", Some(20)));
        assert!(early.push(Stream::Stdout, b"o\nthr", Some(30)));
        early
    }

    #[test]
    fn what_the_log_has_shown_is_left_out() {
        assert_eq!(text(story(), 0), "stdout:one\n|stdout:tw|stderr:bad\n|stdout:o\n|stdout:thr|");
        assert_eq!(text(story(), 10), "stdout:tw|stderr:bad\n|stdout:o\n|stdout:thr|");
        assert_eq!(text(story(), 30), "stdout:thr|");
    }

    #[test]
    fn too_much_is_told_and_a_missing_log_shows_nothing() {
        let mut early = Early::default();
        assert!(early.push(Stream::Stdout, b"a\n", None));
        assert!(!early.push(Stream::Stdout, &[b'x'; LIMIT], None));
        let mut early = Early::default();
        early.push(Stream::Stdout, b"a\n", None);
        assert_eq!(text(early, u64::MAX), "stdout:a\n|");
    }
}
