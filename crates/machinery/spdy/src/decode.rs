//! Bytes to frames, as they come.

use bytes::{Buf, BytesMut};

use crate::compression::{CompressionError, Inflate};
use crate::frame::{
    FIN, Frame, GOAWAY, GoAwayStatus, HEADER, HEADERS, INITIAL_WINDOW, PING, RST_STREAM, ResetStatus, SETTINGS,
    SYN_REPLY, SYN_STREAM, StreamId, VERSION, WINDOW_UPDATE,
};
use crate::headers::{Headers, HeadersError};

/// The longest control frame that is taken, in bytes: many times what any client sends.
const CONTROL: usize = 16 * 1024;
/// The longest header block, unpacked.
const BLOCK: usize = 16 * 1024;
/// Above the 31 bits of a stream's number.
const ID: u32 = 0x7fff_ffff;

/// Why a connection cannot be read on: after any of these, where the next frame begins or what its headers say is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("frame of SPDY version {0}")]
    Version(u16),
    #[error("control frame of type {kind} with {length} bytes")]
    TooLong { kind: u16, length: usize },
    #[error("control frame of type {kind} that is too short")]
    TooShort { kind: u16 },
    #[error("data for stream 0")]
    NoStream,
    #[error("unpack headers")]
    Compression(#[from] CompressionError),
    #[error("read headers")]
    Headers(#[from] HeadersError),
}

/// The receiving side of one connection.
pub struct Decoder {
    inflate: Inflate,
    data: Option<Unfinished>,
}

/// A data frame of which not everything has come.
struct Unfinished {
    stream: StreamId,
    fin: bool,
    /// In bytes.
    left: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { inflate: Inflate::new(), data: None }
    }
}

impl Decoder {
    /// Takes the next frame off the front of `buffer`; `None` when more must come first. It never needs more than
    /// about 16 KiB in the buffer: of a long data frame, what is there is given out.
    ///
    /// # Errors
    /// When the peer does not speak the protocol, or wants too much memory. The connection is over then.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        loop {
            if let Some(data) = &mut self.data {
                let piece = buffer.len().min(data.left);
                if piece == 0 && data.left > 0 {
                    return Ok(None);
                }
                data.left -= piece;
                let (stream, last) = (data.stream, data.left == 0);
                let frame = Frame::Data { stream, fin: data.fin && last, data: buffer.split_to(piece).freeze() };
                if last {
                    self.data = None;
                }
                return Ok(Some(frame));
            }
            let Some(&[a, b, c, d, flags, e, f, g]) = buffer.first_chunk::<HEADER>() else { return Ok(None) };
            let first = u32::from_be_bytes([a, b, c, d]);
            let length = u32::from_be_bytes([0, e, f, g]) as usize;
            if first & !ID == 0 {
                if first == 0 {
                    return Err(DecodeError::NoStream);
                }
                buffer.advance(HEADER);
                self.data = Some(Unfinished { stream: first, fin: flags & FIN != 0, left: length });
                continue;
            }
            let (version, kind) = ((first >> 16) as u16 & 0x7fff, first as u16);
            if version != VERSION {
                return Err(DecodeError::Version(version));
            }
            if length > CONTROL {
                return Err(DecodeError::TooLong { kind, length });
            }
            if buffer.len() < HEADER + length {
                return Ok(None);
            }
            buffer.advance(HEADER);
            let payload = buffer.split_to(length);
            if let Some(frame) = self.control(kind, flags & FIN != 0, &payload)? {
                return Ok(Some(frame));
            }
            // A type that this version does not have: passed over, as the protocol wants.
        }
    }

    fn control(&mut self, kind: u16, fin: bool, mut payload: &[u8]) -> Result<Option<Frame>, DecodeError> {
        let short = DecodeError::TooShort { kind };
        let mut number = || payload.try_get_u32().map_err(|_| short);
        Ok(Some(match kind {
            SYN_STREAM => {
                let stream = number()? & ID;
                let _associated = number()?;
                let block = payload.get(2..).ok_or(short)?;
                Frame::SynStream { stream, fin, headers: self.headers(block)? }
            }
            SYN_REPLY => Frame::SynReply { stream: number()? & ID, fin, headers: self.headers(payload)? },
            HEADERS => Frame::Headers { stream: number()? & ID, fin, headers: self.headers(payload)? },
            RST_STREAM => Frame::Reset { stream: number()? & ID, status: ResetStatus(number()?) },
            SETTINGS => {
                let mut initial_window = None;
                for _ in 0..number()? {
                    let (id, value) = (number()? & 0xff_ffff, number()?);
                    if id == INITIAL_WINDOW {
                        initial_window = Some(value);
                    }
                }
                Frame::Settings { initial_window }
            }
            PING => Frame::Ping(number()?),
            GOAWAY => Frame::GoAway { last_good: number()? & ID, status: GoAwayStatus(number()?) },
            WINDOW_UPDATE => Frame::WindowUpdate { stream: number()? & ID, delta: number()? & ID },
            _ => return Ok(None),
        }))
    }

    fn headers(&mut self, block: &[u8]) -> Result<Headers, DecodeError> {
        Ok(Headers::parse(&self.inflate.block(block, BLOCK)?)?)
    }
}

#[cfg(test)]
mod tests;
