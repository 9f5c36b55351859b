//! Decoding of JSON into types, always from text: a decoder is compiled for each reader it is asked to read from, and the
//! API's types have large ones.

use serde::de::{DeserializeOwned, Error as _};
use serde_json::{Error, Result, Value};

/// # Errors
/// What is not UTF-8, not JSON, or no `T`.
pub fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T> {
    serde_json::from_str(std::str::from_utf8(json).map_err(Error::custom)?)
}

/// By way of text, which costs a few microseconds.
///
/// # Errors
/// What is no `T`.
pub fn decode_value<T: DeserializeOwned>(value: &Value) -> Result<T> {
    serde_json::from_str(&value.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_text_is_decoded() {
        assert_eq!(decode::<Vec<String>>(br#"["a"]"#).ok(), Some(vec!["a".to_owned()]));
        assert_eq!(decode_value::<Vec<u8>>(&json!([1, 2])).ok(), Some(vec![1, 2]));
        assert!(decode::<Value>(b"[\"\xff\"]").is_err());
        assert!(decode::<Vec<u8>>(b"[1").is_err());
        assert!(decode_value::<Vec<u8>>(&json!("a")).is_err());
    }
}
