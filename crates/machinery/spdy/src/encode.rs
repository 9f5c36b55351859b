//! Frames to bytes.

use bytes::{BufMut, BytesMut};

use crate::compression::Deflate;
use crate::frame::{
    FIN, Frame, GOAWAY, HEADERS, INITIAL_WINDOW, LONGEST, PING, RST_STREAM, SETTINGS, SYN_REPLY, SYN_STREAM, StreamId,
    VERSION, WINDOW_UPDATE,
};
use crate::headers::Headers;

/// The sending side of one connection: its header blocks are one zlib stream, so frames go out in the order they are
/// encoded in.
#[derive(Default)]
pub struct Encoder {
    deflate: Deflate,
}

impl Encoder {
    /// Appends the frame to `out`.
    pub fn encode(&mut self, frame: &Frame, out: &mut BytesMut) {
        match frame {
            Frame::SynStream { stream, fin, headers } => {
                // Nothing associated, highest priority, no slot.
                self.with_headers(out, SYN_STREAM, *stream, &[0; 6], (*fin, headers));
            }
            Frame::SynReply { stream, fin, headers } => {
                self.with_headers(out, SYN_REPLY, *stream, &[], (*fin, headers))
            }
            Frame::Headers { stream, fin, headers } => self.with_headers(out, HEADERS, *stream, &[], (*fin, headers)),
            Frame::Reset { stream, status } => control(out, RST_STREAM, 0, &[*stream, status.0]),
            Frame::Settings { initial_window: None } => control(out, SETTINGS, 0, &[0]),
            Frame::Settings { initial_window: Some(window) } => {
                control(out, SETTINGS, 0, &[1, INITIAL_WINDOW, *window]);
            }
            Frame::Ping(id) => control(out, PING, 0, &[*id]),
            Frame::GoAway { last_good, status } => control(out, GOAWAY, 0, &[*last_good, status.0]),
            Frame::WindowUpdate { stream, delta } => control(out, WINDOW_UPDATE, 0, &[*stream, *delta]),
            Frame::Data { stream, fin, data } => {
                let last = data.len().div_ceil(LONGEST).saturating_sub(1);
                for (index, piece) in data.chunks(LONGEST).enumerate() {
                    head(out, *stream, flags(*fin && index == last), piece.len());
                    out.put_slice(piece);
                }
                if data.is_empty() {
                    head(out, *stream, flags(*fin), 0);
                }
            }
        }
    }

    fn with_headers(
        &mut self,
        out: &mut BytesMut,
        kind: u16,
        stream: StreamId,
        between: &[u8],
        (fin, headers): (bool, &Headers),
    ) {
        let block = self.deflate.block(&headers.block());
        head(out, first(kind), flags(fin), size_of::<StreamId>() + between.len() + block.len());
        out.put_u32(stream);
        out.put_slice(between);
        out.put_slice(&block);
    }
}

/// A control frame that is nothing but numbers.
fn control(out: &mut BytesMut, kind: u16, flags: u8, numbers: &[u32]) {
    head(out, first(kind), flags, size_of_val(numbers));
    numbers.iter().for_each(|number| out.put_u32(*number));
}

/// The first word of a control frame.
fn first(kind: u16) -> u32 {
    1 << 31 | u32::from(VERSION) << 16 | u32::from(kind)
}

fn flags(fin: bool) -> u8 {
    if fin { FIN } else { 0 }
}

fn head(out: &mut BytesMut, first: u32, flags: u8, length: usize) {
    out.put_u32(first);
    out.put_u32(u32::from(flags) << 24 | length as u32);
}
