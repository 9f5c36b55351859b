//! YAML bodies, bounded before they are parsed.
//!
//! The parser looks at every bracket that is still open for each further token, and only its result says that it went
//! too deep: a megabyte of brackets would keep it busy for an hour. So open brackets are counted first. Where text could be read
//! in more than one way (brackets in a block of text look like any other), the count is of the way that opens most:
//! never too small, and too large only for texts that are all opening brackets.

use serde::de::DeserializeOwned;

/// How many brackets may be open. The parser's own result is refused from 128 on.
const MAX_OPEN: usize = 1000;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("exceeded max depth of {MAX_OPEN}")]
    Depth,
    #[error(transparent)]
    Syntax(#[from] serde_norway::Error),
}

pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    if open_at_most(bytes) > MAX_OPEN {
        return Err(Error::Depth);
    }
    Ok(serde_norway::from_slice(bytes)?)
}

/// Where in a flow collection a reader may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Between two tokens.
    Between,
    Plain,
    /// In an anchor or an alias.
    Anchor,
    Tag,
    Comment,
    Single,
    Double,
    /// After a backslash within double quotes.
    Escaped,
}

const PLACES: usize = 8;

/// For each place, how many brackets are open at most if the reader is there; `None`: it is not.
#[derive(Clone, Copy, Default)]
struct Readers([Option<usize>; PLACES]);

impl Readers {
    fn may_be(&mut self, at: At, open: usize) {
        let most = &mut self.0[at as usize];
        *most = Some(most.unwrap_or(0).max(open));
    }
}

fn open_at_most(bytes: &[u8]) -> usize {
    const ALL: [At; PLACES] =
        [At::Between, At::Plain, At::Anchor, At::Tag, At::Comment, At::Single, At::Double, At::Escaped];
    let (mut readers, mut most, mut before) = (Readers::default(), 0, b'\n');
    for (index, &byte) in bytes.iter().enumerate() {
        let next = bytes.get(index + 1).copied().unwrap_or(b'\n');
        let mut after = Readers::default();
        for at in ALL {
            if let Some(open) = readers.0[at as usize] {
                read(at, open, (before, byte, next), &mut after);
            }
        }
        // Outside of any collection there is always somebody, whom every bracket takes in.
        if matches!(byte, b'[' | b'{') {
            after.may_be(At::Between, 1);
        }
        most = after.0.iter().flatten().copied().fold(most, usize::max);
        (readers, before) = (after, byte);
    }
    most
}

/// Where the reader is after a byte.
fn read(at: At, open: usize, (before, byte, next): (u8, u8, u8), after: &mut Readers) {
    // Line breaks have spellings outside ASCII, too.
    let blank = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0);
    let foreign = |byte: u8| !byte.is_ascii();
    let token = |after: &mut Readers| {
        match byte {
            b'[' | b'{' => after.may_be(At::Between, open + 1),
            // Nobody is left in what the last one closes.
            b']' | b'}' if open > 1 => after.may_be(At::Between, open - 1),
            b']' | b'}' => {}
            b'"' => after.may_be(At::Double, open),
            b'\'' => after.may_be(At::Single, open),
            b'#' => after.may_be(At::Comment, open),
            b'&' | b'*' => after.may_be(At::Anchor, open),
            b'!' => after.may_be(At::Tag, open),
            b',' | b':' | b'?' => after.may_be(At::Between, open),
            _ if blank(byte) => after.may_be(At::Between, open),
            _ => {
                after.may_be(At::Plain, open);
                if foreign(byte) {
                    after.may_be(At::Between, open);
                }
            }
        }
    };
    match at {
        At::Between => token(after),
        At::Plain => match byte {
            b',' | b'[' | b']' | b'{' | b'}' => token(after),
            b':' if blank(next) => after.may_be(At::Between, open),
            b'#' if blank(before) => after.may_be(At::Comment, open),
            _ => {
                after.may_be(At::Plain, open);
                if byte == b':' && foreign(next) {
                    after.may_be(At::Between, open);
                }
                if byte == b'#' && foreign(before) {
                    after.may_be(At::Comment, open);
                }
            }
        },
        At::Anchor if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') => after.may_be(At::Anchor, open),
        At::Anchor => token(after),
        // A tag may have brackets in it, which then close nothing.
        At::Tag if blank(byte) => after.may_be(At::Between, open),
        At::Tag => {
            after.may_be(At::Tag, open);
            if !matches!(byte, b']' | b'}') {
                token(after);
            }
        }
        At::Comment => {
            if !matches!(byte, b'\n' | b'\r') {
                after.may_be(At::Comment, open);
            }
            if !byte.is_ascii() || matches!(byte, b'\n' | b'\r') {
                after.may_be(At::Between, open);
            }
        }
        At::Single => after.may_be(if byte == b'\'' { At::Between } else { At::Single }, open),
        At::Double => match byte {
            b'"' => after.may_be(At::Between, open),
            b'\\' => after.may_be(At::Escaped, open),
            _ => after.may_be(At::Double, open),
        },
        At::Escaped => after.may_be(At::Double, open),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn depth(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    #[test]
    fn brackets_are_counted_wherever_they_hide() {
        let hidden = |piece: &str| open_at_most(piece.repeat(5000).as_bytes());
        for piece in [
            "[",
            "{\"a\":",
            "[\"]\", ",
            "[']', ",
            "[ # ]]\n",
            "['it''s ]', ",
            "[\"\\\"]\", ",
            "[!<]> ",
            "[!t ",
            "[&a ",
            "[a \"b, \"]\", ",
            "[a'b, ",
            "{? [",
            "[\"]\" , # ]\n",
            "[\u{2028}",
            "[ #\u{2028}",
            "a: [",
            "- [\n",
        ] {
            assert!(hidden(piece) > MAX_OPEN, "{piece:?}: {}", hidden(piece));
        }
        let start = std::time::Instant::now();
        assert!(matches!(from_slice::<Value>("{\"a\":".repeat(600_000).as_bytes()), Err(Error::Depth)));
        assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
    }

    #[test]
    fn ordinary_texts_stay_far_below() {
        let list: String =
            (0..5000).map(|n| format!("- {{name: 'a {n}', \"b\": [x, {{}}], c: \"it's [\"}} # it's [\n")).collect();
        let script: String =
            (0..5000).map(|n| format!("  if [ -n \"$a\" ]; then echo \"it's {{{n}}}\" '['; fi # don't\n")).collect();
        let dashboard = serde_json::to_string_pretty(&Value::from_iter(
            (0..3000).map(|n| serde_json::json!({"a": [n, {"b": "c"}]})),
        ));
        let dashboard: String = dashboard.expect("JSON").lines().map(|line| format!("  {line}\n")).collect();
        for text in [
            list,
            format!("a: |\n{script}"),
            format!("a: |\n{dashboard}b: [c]\n"),
            "a: [&x b, *x, !t c]\n".repeat(2000),
        ] {
            let most = open_at_most(text.as_bytes());
            assert!(most < 20, "{most}: {}", &text[..200]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

        #[test]
        fn no_collection_is_missed(text in r#"\[([\[\]{}"'#&!*:,?a \n-]|, |: |\]|\[|"a"|\{a: ){0,24}"#) {
            // Closed, so that it may parse.
            for closed in [text.clone(), format!("{text}]"), format!("{text}]]"), format!("{text}}}]"), format!("{text}\"]")] {
                if let Ok(value) = serde_norway::from_str::<Value>(&closed) {
                    // A pair alone in a list is a map without brackets.
                    prop_assert!(2 * open_at_most(closed.as_bytes()) >= depth(&value), "{closed:?} is {value}");
                }
            }
        }
    }
}
