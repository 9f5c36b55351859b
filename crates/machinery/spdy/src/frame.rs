//! The frames of SPDY/3.1, and the numbers they have on the wire.

use bytes::Bytes;

use crate::Headers;

/// Odd: made by the client. 31 bits; 0 is the connection itself.
pub type StreamId = u32;

pub(crate) const VERSION: u16 = 3;
pub(crate) const HEADER: usize = 8;
/// The most that a frame's length field holds.
pub(crate) const LONGEST: usize = 0xff_ffff;

pub(crate) const SYN_STREAM: u16 = 1;
pub(crate) const SYN_REPLY: u16 = 2;
pub(crate) const RST_STREAM: u16 = 3;
pub(crate) const SETTINGS: u16 = 4;
pub(crate) const PING: u16 = 6;
pub(crate) const GOAWAY: u16 = 7;
pub(crate) const HEADERS: u16 = 8;
pub(crate) const WINDOW_UPDATE: u16 = 9;

pub(crate) const FIN: u8 = 1;
/// `SETTINGS_INITIAL_WINDOW_SIZE`.
pub(crate) const INITIAL_WINDOW: u32 = 7;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream. Priority, slot and the associated stream are not told: nothing here reads them.
    SynStream { stream: StreamId, fin: bool, headers: Headers },
    /// Accepts one.
    SynReply { stream: StreamId, fin: bool, headers: Headers },
    /// Ends a stream in both directions at once.
    Reset { stream: StreamId, status: ResetStatus },
    /// Of all settings, the only one that matters here: how much a stream may send unasked, in bytes.
    Settings { initial_window: Option<u32> },
    /// Comes back as it is from the side that did not begin it. Odd: the client's.
    Ping(u32),
    /// Its sender opens and accepts no more streams.
    GoAway { last_good: StreamId, status: GoAwayStatus },
    /// More headers of an open stream.
    Headers { stream: StreamId, fin: bool, headers: Headers },
    /// The stream (0: the connection) may send that many bytes more.
    WindowUpdate { stream: StreamId, delta: u32 },
    /// A piece of a stream's data. The decoder gives a long frame out in several pieces as they come.
    Data { stream: StreamId, fin: bool, data: Bytes },
}

/// Why a stream is reset, as its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetStatus(pub u32);

impl ResetStatus {
    pub const PROTOCOL_ERROR: Self = Self(1);
    pub const REFUSED_STREAM: Self = Self(3);
    pub const CANCEL: Self = Self(5);
}

/// Why a connection ends, as its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoAwayStatus(pub u32);

impl GoAwayStatus {
    pub const OK: Self = Self(0);
    pub const PROTOCOL_ERROR: Self = Self(1);
}
