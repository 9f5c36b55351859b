//! SPDY's frames.

use bytes::BytesMut;
use machinery_spdy::{DecodeError, Decoder, Encoder, Frame};

/// All frames of bytes that come in pieces of that size. Data of one stream in a row is joined: how a frame's data is cut
/// depends on how the bytes came.
fn read(bytes: &[u8], piece: usize) -> (Vec<Frame>, Option<DecodeError>) {
    let (mut decoder, mut buffer, mut frames) = (Decoder::default(), BytesMut::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(None) => break,
                Ok(Some(frame)) => join(&mut frames, frame),
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

fn join(frames: &mut Vec<Frame>, frame: Frame) {
    match (frames.last_mut(), frame) {
        (Some(Frame::Data { stream, fin, data }), Frame::Data { stream: next, fin: last, data: more })
            if *stream == next =>
        {
            *fin |= last;
            *data = [&data[..], &more[..]].concat().into();
        }
        (_, frame) => frames.push(frame),
    }
}

fn written(frames: &[Frame]) -> BytesMut {
    let (mut encoder, mut bytes) = (Encoder::default(), BytesMut::new());
    frames.iter().for_each(|frame| encoder.encode(frame, &mut bytes));
    bytes
}

/// Headers that come packed may be longer than what is taken once their bad bytes are replaced.
fn is_short(frame: &Frame) -> bool {
    match frame {
        Frame::SynStream { headers, .. } | Frame::SynReply { headers, .. } | Frame::Headers { headers, .. } => {
            format!("{headers:?}").len() < 8192
        }
        _ => true,
    }
}

/// The first byte says in what pieces the rest comes.
pub fn spdy(data: &[u8]) {
    let Some((piece, bytes)) = data.split_first() else { return };
    let whole = read(bytes, bytes.len().max(1));
    assert_eq!(read(bytes, usize::from(*piece).max(1)), whole, "frames depend on how they come");
    let frames = whole.0;
    if !frames.iter().all(is_short) {
        return;
    }
    // Names lose their case when written.
    let (once, error) = read(&written(&frames), usize::MAX);
    assert_eq!((once.len(), error), (frames.len(), None));
    assert_eq!(read(&written(&once), usize::MAX), (once, None));
}
