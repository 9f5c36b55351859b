//! Frames of the channel subprotocols: the first byte names the channel.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::Deserialize;
use tokio_tungstenite::tungstenite::Message;

use crate::seams::TerminalSize;

/// How channels are spoken over a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subprotocol {
    /// Adds the closing of single channels to v4.
    V5,
    /// The end of a command comes as a Status.
    V4,
    /// Text frames: a digit for the channel, then base64.
    V4Base64,
    /// The end of a command comes as text, and only if it is a bad one.
    V1,
    V1Base64,
}

impl Subprotocol {
    pub(crate) fn tells_status(self) -> bool {
        matches!(self, Self::V5 | Self::V4 | Self::V4Base64)
    }

    fn is_text(self) -> bool {
        matches!(self, Self::V4Base64 | Self::V1Base64)
    }

    pub(crate) fn message(self, channel: u8, data: &[u8]) -> Message {
        if self.is_text() {
            return Message::text(format!("{channel}{}", BASE64.encode(data)));
        }
        let mut frame = Vec::with_capacity(data.len() + 1);
        frame.push(channel);
        frame.extend_from_slice(data);
        Message::binary(frame)
    }

    /// The channel's number and its data, in one; `None` for messages that carry none.
    pub(crate) fn frame(self, message: Message) -> Result<Option<Bytes>, FrameError> {
        let data: Bytes = match message {
            Message::Binary(data) => data,
            Message::Text(text) => text.into(),
            Message::Close(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Ok(None),
        };
        if !self.is_text() {
            return Ok(Some(data));
        }
        let Some((channel, encoded)) = data.split_first() else { return Ok(None) };
        let channel = channel.checked_sub(b'0').ok_or(FrameError::Channel(*channel))?;
        let mut frame = vec![channel];
        BASE64.decode_vec(encoded, &mut frame).map_err(|_| FrameError::Base64)?;
        Ok(Some(frame.into()))
    }
}

pub(super) const STDIN: u8 = 0;
pub(super) const STDOUT: u8 = 1;
pub(super) const STDERR: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const RESIZE: u8 = 4;
/// v5 only: the next byte names a channel that its sender has closed.
pub(super) const CLOSE: u8 = 255;

/// What a client may send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Inbound<'a> {
    Stdin(&'a [u8]),
    StdinClosed,
    Resize(TerminalSize),
    /// Nothing to do: empty frames and closed channels that carry nothing from the client.
    Nothing,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame for channel {0}, which the client does not write")]
    Channel(u8),
    #[error("a terminal size that does not parse")]
    Size,
    #[error("a text frame that is not base64")]
    Base64,
}

pub(super) fn decode(protocol: Subprotocol, frame: &[u8]) -> Result<Inbound<'_>, FrameError> {
    match frame.split_first() {
        None => Ok(Inbound::Nothing),
        Some((&STDIN, data)) => Ok(Inbound::Stdin(data)),
        Some((&RESIZE, [])) => Ok(Inbound::Nothing),
        Some((&RESIZE, data)) => size(data).map(Inbound::Resize),
        Some((&CLOSE, data)) if protocol == Subprotocol::V5 => {
            Ok(if data.first() == Some(&STDIN) { Inbound::StdinClosed } else { Inbound::Nothing })
        }
        Some((&channel, _)) => Err(FrameError::Channel(channel)),
    }
}

pub(super) fn size(data: &[u8]) -> Result<TerminalSize, FrameError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Size {
        width: u16,
        height: u16,
    }
    // Go's client ends each size with a newline.
    let Size { width, height } = serde_json::from_slice(data).map_err(|_| FrameError::Size)?;
    Ok(TerminalSize { width, height })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Subprotocol::{V4, V4Base64, V5};

    #[test]
    fn frames_decode() {
        assert_eq!(decode(V4, b"\x00hi"), Ok(Inbound::Stdin(b"hi")));
        assert_eq!(
            decode(V4, b"\x04{\"Width\":80,\"Height\":24}\n"),
            Ok(Inbound::Resize(TerminalSize { width: 80, height: 24 }))
        );
        assert_eq!(decode(V5, b"\xff\x00"), Ok(Inbound::StdinClosed));
        assert_eq!(decode(V5, b"\xff\x01"), Ok(Inbound::Nothing));
        assert_eq!(decode(V5, b""), Ok(Inbound::Nothing));
    }

    #[test]
    fn messages_carry_a_channel_as_a_byte_or_as_a_digit() {
        for (protocol, message) in [(V4, Message::binary(&b"\x01x\xff"[..])), (V4Base64, Message::text("1eP8="))] {
            assert_eq!(protocol.message(STDOUT, b"x\xff"), message);
            assert_eq!(protocol.frame(message).unwrap().unwrap(), b"\x01x\xff"[..]);
            assert_eq!(protocol.frame(Message::Ping(Bytes::new())), Ok(None));
        }
        assert_eq!(V4Base64.frame(Message::text("0!")), Err(FrameError::Base64));
        assert_eq!(V4Base64.frame(Message::text("\x01")), Err(FrameError::Channel(1)));
        assert_eq!(V4Base64.frame(Message::text("")), Ok(None));
    }

    #[test]
    fn bad_frames_are_refused() {
        assert_eq!(decode(V4, b"\xff\x00"), Err(FrameError::Channel(255)));
        assert_eq!(decode(V5, b"\x01x"), Err(FrameError::Channel(1)));
        assert_eq!(decode(V5, b"\x09"), Err(FrameError::Channel(9)));
        assert_eq!(decode(V5, b"\x04{\"Width\":-1,\"Height\":24}"), Err(FrameError::Size));
        assert_eq!(decode(V5, b"\x04not json"), Err(FrameError::Size));
    }
}
