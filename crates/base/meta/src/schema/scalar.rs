//! Canonical texts of the scalars that Go encodes by methods of their own.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Shape;
use crate::quantity;

pub(super) enum Refusal {
    /// The position does not take texts.
    Mismatch,
    /// It does, but not this one.
    Message(String),
}

/// How Go would print the text it read at a position; `None` for a zero instant, which prints as null.
pub(super) fn canonical(shape: Shape, text: String) -> Result<Option<String>, Refusal> {
    Ok(Some(match shape {
        Shape::String | Shape::IntOrString | Shape::Duration => text,
        Shape::Quantity => match quantity::reprint(&text).map_err(|error| Refusal::Message(error.to_string()))? {
            std::borrow::Cow::Borrowed(same) if same.len() == text.len() => text,
            other => other.into_owned(),
        },
        Shape::Bytes => base64(text)?,
        // Upstream reads the empty text as the zero instant in neither type, but null in both.
        Shape::Time => instant(&text, "%Y-%m-%dT%H:%M:%SZ", "2006-01-02T15:04:05Z07:00")?,
        Shape::MicroTime => instant(&text, "%Y-%m-%dT%H:%M:%S.%6fZ", "2006-01-02T15:04:05.000000Z07:00")?,
        _ => return Err(Refusal::Mismatch),
    }))
}

/// `layout` is Go's way to spell the format, which its message repeats.
fn instant(text: &str, print: &str, layout: &str) -> Result<String, Refusal> {
    let shaped = text.len() >= 20 && text.as_bytes()[10] == b'T' && !text.ends_with(']');
    let instant: Option<Timestamp> = if shaped { text.parse().ok() } else { None };
    match instant {
        Some(instant) => {
            let floor = floor_to_microsecond(instant);
            Ok(floor.to_zoned(TimeZone::UTC).strftime(print).to_string())
        }
        None => {
            Err(Refusal::Message(format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\"")))
        }
    }
}

/// Printing cuts digits off; before 1970 jiff's negative nanoseconds would make that a rounding up.
fn floor_to_microsecond(instant: Timestamp) -> Timestamp {
    let nanos = instant.as_nanosecond();
    Timestamp::from_nanosecond(nanos - nanos.rem_euclid(1000)).unwrap_or(instant)
}

/// Standard base64 with padding; line ends are skipped, as Go does.
fn base64(text: String) -> Result<String, Refusal> {
    let text = if text.contains(['\r', '\n']) { text.replace(['\r', '\n'], "") } else { text };
    let illegal = |at: usize| Refusal::Message(format!("illegal base64 data at input byte {at}"));
    let data = text.trim_end_matches('=').len();
    let alphabet = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    if let Some(at) = text.as_bytes()[..data].iter().position(|byte| !alphabet(byte)) {
        return Err(illegal(at));
    }
    let padding = text.len() - data;
    if data % 4 == 1 || !text.len().is_multiple_of(4) || padding > 2 {
        return Err(illegal(if padding > 2 { data } else { text.len() }));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(shape: Shape, text: &str) -> Result<String, String> {
        match canonical(shape, text.to_owned()) {
            Ok(text) => Ok(text.unwrap_or_default()),
            Err(Refusal::Mismatch) => Err("mismatch".into()),
            Err(Refusal::Message(message)) => Err(message),
        }
    }

    #[test]
    fn instants_print_in_utc() {
        assert_eq!(print(Shape::Time, "2024-05-01T12:00:00.9+02:00").as_deref(), Ok("2024-05-01T10:00:00Z"));
        assert_eq!(print(Shape::MicroTime, "2024-05-01T12:00:00Z").as_deref(), Ok("2024-05-01T12:00:00.000000Z"));
        assert_eq!(
            print(Shape::MicroTime, "1969-12-31T23:59:59.123456Z").as_deref(),
            Ok("1969-12-31T23:59:59.123456Z")
        );
        for bad in ["", "yesterday", "2024-05-01", "2024-05-01T12:00:00", "2024-13-01T12:00:00Z"] {
            assert!(print(Shape::Time, bad).is_err_and(|message| message.starts_with("parsing time")), "{bad}");
        }
    }

    #[test]
    fn base64_is_checked() {
        assert_eq!(print(Shape::Bytes, "aGVs\nbG8=").as_deref(), Ok("aGVsbG8="));
        for (bad, at) in [("a", 1), ("aGVsbG8", 7), ("aG!s", 2), ("a===", 1), ("====", 0)] {
            assert_eq!(print(Shape::Bytes, bad), Err(format!("illegal base64 data at input byte {at}")), "{bad}");
        }
    }
}
