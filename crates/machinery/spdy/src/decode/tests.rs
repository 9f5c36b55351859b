//! Round trips, and what hostile peers send.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::encode::Encoder;

fn headers() -> impl Strategy<Value = Headers> {
    vec(("[a-z-]{1,20}", "[ -~]{0,40}"), 0..8).prop_map(Headers::from_iter)
}

fn frame() -> impl Strategy<Value = Frame> {
    let id = 1..=ID;
    prop_oneof![
        (id.clone(), any::<bool>(), headers()).prop_map(|(stream, fin, headers)| Frame::SynStream {
            stream,
            fin,
            headers
        }),
        (id.clone(), any::<bool>(), headers()).prop_map(|(stream, fin, headers)| Frame::SynReply {
            stream,
            fin,
            headers
        }),
        (id.clone(), any::<bool>(), headers()).prop_map(|(stream, fin, headers)| Frame::Headers {
            stream,
            fin,
            headers
        }),
        (id.clone(), any::<u32>()).prop_map(|(stream, status)| Frame::Reset { stream, status: ResetStatus(status) }),
        any::<Option<u32>>().prop_map(|initial_window| Frame::Settings { initial_window }),
        any::<u32>().prop_map(Frame::Ping),
        (id.clone(), any::<u32>())
            .prop_map(|(last_good, status)| Frame::GoAway { last_good, status: GoAwayStatus(status) }),
        (0..=ID, 0..=ID).prop_map(|(stream, delta)| Frame::WindowUpdate { stream, delta }),
        (id, any::<bool>(), vec(any::<u8>(), 0..300)).prop_map(|(stream, fin, data)| Frame::Data {
            stream,
            fin,
            data: data.into()
        }),
    ]
}

/// Everything that can be read from bytes that come in pieces of that size; pieces of one data frame joined again.
fn read(bytes: &[u8], piece: usize) -> Result<Vec<Frame>, DecodeError> {
    let (mut decoder, mut buffer, mut frames) = (Decoder::default(), BytesMut::new(), Vec::new());
    let mut joined = BytesMut::new();
    for piece in bytes.chunks(piece.max(1)) {
        buffer.extend_from_slice(piece);
        while let Some(frame) = decoder.decode(&mut buffer)? {
            match frame {
                Frame::Data { data, .. } if decoder.data.is_some() => joined.extend_from_slice(&data),
                Frame::Data { stream, fin, data } => {
                    joined.extend_from_slice(&data);
                    frames.push(Frame::Data { stream, fin, data: std::mem::take(&mut joined).freeze() });
                }
                other => frames.push(other),
            }
        }
        assert!(buffer.len() < HEADER + CONTROL);
    }
    Ok(frames)
}

fn written(frames: &[Frame]) -> BytesMut {
    let (mut encoder, mut bytes) = (Encoder::default(), BytesMut::new());
    frames.iter().for_each(|frame| encoder.encode(frame, &mut bytes));
    bytes
}

proptest! {
    #[test]
    fn frames_survive_the_wire_in_any_pieces(frames in vec(frame(), 0..12), piece in 1..200_usize) {
        prop_assert_eq!(read(&written(&frames), piece).expect("frames"), frames);
    }

    #[test]
    fn noise_is_refused_or_read_and_never_more(bytes in vec(any::<u8>(), 0..600), piece in 1..600_usize) {
        let _ = read(&bytes, piece);
    }

    #[test]
    fn a_damaged_conversation_is_refused_or_read(
        frames in vec(frame(), 1..6), at in any::<prop::sample::Index>(), with in any::<u8>(), piece in 1..200_usize,
    ) {
        let mut bytes = written(&frames);
        let at = at.index(bytes.len());
        bytes[at] = with;
        let _ = read(&bytes, piece);
    }
}

#[test]
fn what_is_no_frame_of_this_version_is_refused() {
    for (bytes, error) in [
        (&b"\x80\x02\0\x01\0\0\0\0"[..], DecodeError::Version(2)),
        (b"\0\0\0\0\0\0\0\x01", DecodeError::NoStream),
        (b"\x80\x03\0\x01\0\xff\xff\xff", DecodeError::TooLong { kind: 1, length: 0xff_ffff }),
        (b"\x80\x03\0\x0a\0\0\x40\x01", DecodeError::TooLong { kind: 10, length: 16 * 1024 + 1 }),
        (b"\x80\x03\0\x01\0\0\0\x04\0\0\0\x01", DecodeError::TooShort { kind: 1 }),
        (b"\x80\x03\0\x03\0\0\0\x04\0\0\0\x01", DecodeError::TooShort { kind: 3 }),
        (b"\x80\x03\0\x06\0\0\0\0", DecodeError::TooShort { kind: 6 }),
        // A thousand million settings, of which none is there.
        (b"\x80\x03\0\x04\0\0\0\x04\x3b\x9a\xca\0", DecodeError::TooShort { kind: 4 }),
        (b"\x80\x03\0\x02\0\0\0\x04\0\0\0\x01", DecodeError::Compression(CompressionError::Header)),
        (b"\x80\x03\0\x02\0\0\0\x0a\0\0\0\x01PLAIN!", DecodeError::Compression(CompressionError::Header)),
    ] {
        assert_eq!(read(bytes, bytes.len()), Err(error), "{bytes:?}");
    }
}

#[test]
fn a_few_bytes_that_unpack_to_endless_headers_are_refused() {
    // 64 KiB of zeros, deflated: a stored one, then copies of it.
    let mut block = vec![0x78, 0x01];
    block.extend(miniz_oxide::deflate::compress_to_vec(&[0; 64 * 1024], 9));
    let mut bytes = b"\x80\x03\0\x08\0".to_vec();
    bytes.extend(&(block.len() as u32 + 4).to_be_bytes()[1..]);
    bytes.extend([0, 0, 0, 1]);
    assert!(block.len() < 200);
    bytes.extend(block);
    assert_eq!(read(&bytes, 64), Err(DecodeError::Compression(CompressionError::TooLong(BLOCK))));
}

#[test]
fn unknown_frames_are_passed_over_and_long_data_is_given_out_as_it_comes() {
    let mut bytes = b"\x80\x03\0\x0a\0\0\0\x02hi".to_vec();
    bytes.extend(b"\0\0\0\x05\x01\xff\xff\xff");
    let (mut decoder, mut buffer) = (Decoder::default(), BytesMut::from(&bytes[..]));
    assert_eq!(decoder.decode(&mut buffer), Ok(None));
    buffer.extend_from_slice(b"abc");
    let piece = Frame::Data { stream: 5, fin: false, data: Bytes::from_static(b"abc") };
    assert_eq!(decoder.decode(&mut buffer), Ok(Some(piece)));
    assert_eq!(decoder.decode(&mut buffer), Ok(None));
    assert!(buffer.is_empty());
}
