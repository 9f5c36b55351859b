//! Header blocks are pieces of one zlib stream a direction, which begins with the protocol's dictionary.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, TINFL_LZ_DICT_SIZE, decompress};

use crate::dictionary;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    #[error("no zlib header")]
    Header,
    #[error("another dictionary than SPDY's")]
    Dictionary,
    #[error("broken deflate data")]
    Data,
    #[error("more than {0} bytes of headers")]
    TooLong(usize),
}

/// Reads the peer's zlib stream.
pub(crate) struct Inflate {
    core: Box<DecompressorOxide>,
    /// The last 32 KiB that came out, as a ring. The dictionary lies in it before anything has: that is all that a
    /// preset dictionary does, and the inflater itself need not know of one.
    window: Box<[u8]>,
    at: usize,
    begun: bool,
}

impl Inflate {
    pub(crate) fn new() -> Self {
        let window = vec![0; TINFL_LZ_DICT_SIZE].into_boxed_slice();
        Self { core: Box::default(), window, at: 0, begun: false }
    }

    /// What one frame's block unpacks to, of at most `limit` bytes.
    pub(crate) fn block(&mut self, mut packed: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
        if !self.begun {
            packed = self.begin(packed)?;
        }
        let mut unpacked = Vec::new();
        loop {
            let (status, read, written) =
                decompress(&mut self.core, packed, &mut self.window, self.at, TINFL_FLAG_HAS_MORE_INPUT);
            unpacked.extend_from_slice(&self.window[self.at..self.at + written]);
            if unpacked.len() > limit {
                return Err(CompressionError::TooLong(limit));
            }
            self.at = (self.at + written) % self.window.len();
            packed = &packed[read..];
            match status {
                TINFLStatus::NeedsMoreInput if packed.is_empty() => return Ok(unpacked),
                TINFLStatus::HasMoreOutput if written > 0 => {}
                _ => return Err(CompressionError::Data),
            }
        }
    }

    /// Past the header of the zlib stream.
    fn begin<'a>(&mut self, packed: &'a [u8]) -> Result<&'a [u8], CompressionError> {
        let Some((&[method, flags], rest)) = packed.split_first_chunk() else { return Err(CompressionError::Header) };
        let deflate = method & 0x0f == 8 && method >> 4 <= 7;
        if !deflate || !u16::from_be_bytes([method, flags]).is_multiple_of(31) {
            return Err(CompressionError::Header);
        }
        self.begun = true;
        if flags & 0x20 == 0 {
            return Ok(rest);
        }
        let Some((name, rest)) = rest.split_first_chunk() else { return Err(CompressionError::Header) };
        if u32::from_be_bytes(*name) != dictionary::ADLER32 {
            return Err(CompressionError::Dictionary);
        }
        let text = dictionary::text();
        self.window[..text.len()].copy_from_slice(&text);
        self.at = text.len();
        Ok(rest)
    }
}

/// Writes our zlib stream, without making anything smaller: what a server sends are replies without headers. Every
/// inflater reads that, with or without the dictionary.
#[derive(Default)]
pub(crate) struct Deflate {
    begun: bool,
}

impl Deflate {
    pub(crate) fn block(&mut self, block: &[u8]) -> Vec<u8> {
        let mut packed = Vec::with_capacity(block.len() + 16);
        if !self.begun {
            packed.extend([0x78, 0x01]);
            self.begun = true;
        }
        for piece in block.chunks(usize::from(u16::MAX)) {
            stored(&mut packed, piece);
        }
        // An empty one at the end is a flush: Go's inflater gives nothing out before it.
        stored(&mut packed, &[]);
        packed
    }
}

/// A block that is not the last, and not compressed.
fn stored(packed: &mut Vec<u8>, piece: &[u8]) {
    let length = piece.len() as u16;
    packed.push(0);
    packed.extend(length.to_le_bytes());
    packed.extend((!length).to_le_bytes());
    packed.extend(piece);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two blocks that zlib 1.3 made at its highest level with the dictionary: the same two headers, of which
    /// one has another value.
    const FIRST: &[u8] = b"x\xf9\xe3\xc6\xa7\xc2\x02\xe5\x0ep\x3a\x2b\x29JM\xcc\x85\x16\x25\xac\xa9\xa0\x80\xc6\xcc\x07\xa0B\x03\x00\x00\x00\xff\xff";
    const SECOND: &[u8] = b"\xc2\xaa\x01T\xf6\x24bW\x0f\x00\x00\x00\xff\xff";

    #[test]
    fn a_stream_with_the_dictionary_unpacks_block_by_block() {
        let mut inflate = Inflate::new();
        let first = inflate.block(FIRST, 1024).expect("a block");
        assert_eq!(first, b"\0\0\0\x02\0\0\0\x0astreamtype\0\0\0\x05error\0\0\0\x0auser-agent\0\0\0\x04host");
        let second = inflate.block(SECOND, 1024).expect("a block");
        assert_eq!(second, b"\0\0\0\x02\0\0\0\x0astreamtype\0\0\0\x04data\0\0\0\x0auser-agent\0\0\0\x04host");
    }

    #[test]
    fn what_we_pack_unpacks_to_itself() {
        let (mut deflate, mut inflate) = (Deflate::default(), Inflate::new());
        for block in [&b""[..], b"one", &[7; 70_000], b"two"] {
            assert_eq!(inflate.block(&deflate.block(block), 100_000).expect("a block"), block);
        }
    }

    #[test]
    fn broken_and_endless_streams_are_refused() {
        let fresh = |packed: &[u8]| Inflate::new().block(packed, 1024).expect_err("refused");
        assert_eq!(fresh(b""), CompressionError::Header);
        assert_eq!(fresh(b"\x78"), CompressionError::Header);
        assert_eq!(fresh(b"\x78\x02"), CompressionError::Header);
        assert_eq!(fresh(b"\x79\xbb\0\0"), CompressionError::Header);
        assert_eq!(fresh(b"\x78\xbb\0\0\0\x01"), CompressionError::Dictionary);
        // A block type that there is not.
        assert_eq!(fresh(b"\x78\x01\x07"), CompressionError::Data);
        assert_eq!(fresh(&Deflate::default().block(&[0; 2000])), CompressionError::TooLong(1024));
        // The peer ends its stream: what comes after cannot be read.
        let mut inflate = Inflate::new();
        assert_eq!(inflate.block(b"\x78\x01\x01\0\0\xff\xff", 1024), Err(CompressionError::Data));
    }
}
