//! A header block: names and values, each with its length before it.

/// More headers than this on one stream are an attack, not a request.
const MOST: u32 = 128;

/// The headers of a stream, in the order they came in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadersError {
    #[error("{0} headers on one stream")]
    TooMany(u32),
    #[error("a header block that ends in the middle")]
    Truncated,
    #[error("a header without a name")]
    Nameless,
}

impl Headers {
    /// The first value of that name; names have no case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(have, _)| have.eq_ignore_ascii_case(name))?;
        // Several values of one name are joined by NUL.
        Some(value.split_once('\0').map_or(value, |(first, _)| first))
    }

    /// # Errors
    /// When a length does not fit what is there. Bytes after the last header are let be.
    pub(crate) fn parse(block: &[u8]) -> Result<Self, HeadersError> {
        let mut rest = block;
        let count = number(&mut rest)?;
        if count > MOST {
            return Err(HeadersError::TooMany(count));
        }
        let mut headers = Vec::new();
        for _ in 0..count {
            let (name, value) = (text(&mut rest)?, text(&mut rest)?);
            if name.is_empty() {
                return Err(HeadersError::Nameless);
            }
            headers.push((name, value));
        }
        Ok(Self(headers))
    }

    pub(crate) fn block(&self) -> Vec<u8> {
        let mut block = (self.0.len() as u32).to_be_bytes().to_vec();
        for text in self.0.iter().flat_map(|(name, value)| [name.to_ascii_lowercase(), value.clone()]) {
            block.extend((text.len() as u32).to_be_bytes());
            block.extend(text.bytes());
        }
        block
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        Self(headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

fn number(rest: &mut &[u8]) -> Result<u32, HeadersError> {
    let (number, after) = rest.split_first_chunk().ok_or(HeadersError::Truncated)?;
    *rest = after;
    Ok(u32::from_be_bytes(*number))
}

fn text(rest: &mut &[u8]) -> Result<String, HeadersError> {
    let length = number(rest)?;
    let length = usize::try_from(length).map_err(|_| HeadersError::Truncated)?;
    let (text, after) = rest.split_at_checked(length).ok_or(HeadersError::Truncated)?;
    *rest = after;
    Ok(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_case_and_values_may_be_several() {
        let headers: Headers = [("streamType", "data"), ("port", "80\x0081")].into_iter().collect();
        let read = Headers::parse(&headers.block()).expect("headers");
        assert_eq!(read.get("StreamType"), Some("data"));
        assert_eq!(read.get("port"), Some("80"));
        assert_eq!(read.get("requestID"), None);
        assert_eq!(Headers::parse(b"\0\0\0\0 and more"), Ok(Headers::default()));
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for (block, error) in [
            (&b""[..], HeadersError::Truncated),
            (b"\0\0\0", HeadersError::Truncated),
            (b"\0\0\0\x01", HeadersError::Truncated),
            (b"\0\0\0\x01\0\0\0\x02a", HeadersError::Truncated),
            (b"\0\0\0\x01\0\0\0\x01a", HeadersError::Truncated),
            (b"\0\0\0\x01\xff\xff\xff\xffa", HeadersError::Truncated),
            (b"\0\0\0\x01\0\0\0\0\0\0\0\x01a", HeadersError::Nameless),
            (b"\xff\xff\xff\xff", HeadersError::TooMany(u32::MAX)),
        ] {
            assert_eq!(Headers::parse(block), Err(error), "{block:?}");
        }
    }
}
