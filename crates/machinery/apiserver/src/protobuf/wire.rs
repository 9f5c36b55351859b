//! The protobuf wire format: numbered fields.

/// Why bytes are not the object they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("it does not start with the Kubernetes prefix")]
    Prefix,
    #[error("it is encoded within its encoding")]
    Encoding,
    #[error("it ends within a field")]
    Truncated,
    #[error("wire type {0} is not known")]
    WireType(u8),
    #[error("a field is of another wire type than its schema's")]
    Mismatch,
    #[error("a text is not UTF-8")]
    Text,
    #[error("an embedded JSON value is not JSON")]
    Json,
    #[error("a time is out of range")]
    Time,
    #[error("it is nested too deeply")]
    Depth,
    #[error("a field has a type that is not sent as protobuf")]
    Unsupported,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

impl<'a> Wire<'a> {
    pub(crate) fn bytes(self) -> Result<&'a [u8], Malformed> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err(Malformed::Mismatch) }
    }

    pub(super) fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::Text)
    }

    pub(super) fn integer(self) -> Result<i64, Malformed> {
        if let Self::Varint(bits) = self { Ok(bits.cast_signed()) } else { Err(Malformed::Mismatch) }
    }
}

/// The fields of a message in order; the first failure ends them.
pub(crate) fn fields(message: &[u8]) -> impl Iterator<Item = Result<(u32, Wire<'_>), Malformed>> {
    let mut rest = message;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = field(&mut rest);
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    })
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<(u32, Wire<'a>), Malformed> {
    let tag = varint(rest)?;
    let number = u32::try_from(tag >> 3).map_err(|_| Malformed::Truncated)?;
    let wire = match (tag & 7) as u8 {
        0 => Wire::Varint(varint(rest)?),
        1 => Wire::Fixed64(u64::from_le_bytes(array(rest)?)),
        2 => {
            let length = usize::try_from(varint(rest)?).map_err(|_| Malformed::Truncated)?;
            Wire::Bytes(take(rest, length)?)
        }
        5 => Wire::Fixed32(u32::from_le_bytes(array(rest)?)),
        other => return Err(Malformed::WireType(other)),
    };
    Ok((number, wire))
}

pub(super) fn varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let [byte] = array(rest)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Malformed::Truncated)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (taken, left) = rest.split_at_checked(length).ok_or(Malformed::Truncated)?;
    *rest = left;
    Ok(taken)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (taken, left) = rest.split_first_chunk().ok_or(Malformed::Truncated)?;
    *rest = left;
    Ok(*taken)
}

pub(crate) fn put_varint(out: &mut Vec<u8>, number: u32, value: u64) {
    varint_into(out, u64::from(number) << 3);
    varint_into(out, value);
}

pub(crate) fn put_fixed64(out: &mut Vec<u8>, number: u32, bits: u64) {
    varint_into(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&bits.to_le_bytes());
}

/// A field whose message `write` appends; its length goes before it once it is known.
pub(crate) fn put_message<E>(
    out: &mut Vec<u8>,
    number: u32,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    varint_into(out, u64::from(number) << 3 | 2);
    let start = out.len();
    // Most are shorter than 128 bytes, and so is their length than two.
    out.push(0);
    write(out)?;
    let length = out.len() - start - 1;
    if length < 0x80 {
        out[start] = length as u8;
    } else {
        let mut prefix = Vec::with_capacity(10);
        varint_into(&mut prefix, length as u64);
        out.splice(start..=start, prefix);
    }
    Ok(())
}

/// What goes before a field of this many bytes that the caller appends.
pub(crate) fn put_length(out: &mut Vec<u8>, number: u32, length: usize) {
    varint_into(out, u64::from(number) << 3 | 2);
    varint_into(out, length as u64);
}

/// How long a field of this many bytes is with what goes before it.
pub(crate) fn framed_len(number: u32, length: usize) -> usize {
    let varint = |value: u64| (64 - (value | 1).leading_zeros() as usize).div_ceil(7);
    varint(u64::from(number) << 3) + varint(length as u64) + length
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_length(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

fn varint_into(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
