//! Frames of the channel subprotocols: the first byte names the channel.

use serde::Deserialize;

use crate::seams::TerminalSize;
use crate::streams::Subprotocol;

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
pub(super) enum FrameError {
    #[error("a frame for channel {0}, which the client does not write")]
    Channel(u8),
    #[error("a terminal size that does not parse")]
    Size,
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

fn size(data: &[u8]) -> Result<TerminalSize, FrameError> {
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

pub(super) fn encode(channel: u8, data: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(data.len() + 1);
    frame.push(channel);
    frame.extend_from_slice(data);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use Subprotocol::{V4, V5};

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
        assert_eq!(encode(STDOUT, b"x"), b"\x01x");
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
