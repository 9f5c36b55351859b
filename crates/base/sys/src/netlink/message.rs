//! Writing and reading netlink messages: a header, a family header, then nested type-length-value attributes.

use std::net::IpAddr;

/// Attributes whose payload is a list of attributes carry this bit.
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;
const HEADER: usize = 16;

/// One message being written. Lengths are filled in as attributes are closed, so the bytes are valid at any time.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// `family_header` is the fixed struct after the netlink header (`ifinfomsg`, `nfgenmsg`, …).
    pub fn new(kind: u16, flags: u16, family_header: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]); // sequence and port: the socket's business
        bytes.extend_from_slice(family_header);
        let mut message = Self { bytes };
        message.close();
        message
    }

    /// Adds one attribute.
    pub fn put(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        self.attribute(kind, |message| message.bytes.extend_from_slice(payload))
    }

    pub fn put_ip(&mut self, kind: u16, address: IpAddr) -> &mut Self {
        match address {
            IpAddr::V4(four) => self.put(kind, &four.octets()),
            IpAddr::V6(six) => self.put(kind, &six.octets()),
        }
    }

    pub fn put_u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.put(kind, &[value])
    }

    /// Host byte order, as rtnetlink reads integers.
    pub fn put_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// Network byte order, as nfnetlink reads integers.
    pub fn put_be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    pub fn put_be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// A string with its terminating zero.
    pub fn put_str(&mut self, kind: u16, value: &str) -> &mut Self {
        self.attribute(kind, |message| {
            message.bytes.extend_from_slice(value.as_bytes());
            message.bytes.push(0);
        })
    }

    /// An attribute that holds the attributes that `fill` adds.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.attribute(kind | NESTED, fill)
    }

    /// An attribute whose payload `fill` appends: a fixed struct by [`Message::raw`], then attributes.
    pub fn attribute(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        fill(self);
        let length = u16::try_from(self.bytes.len() - start).expect("callers split what exceeds an attribute's 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
        self.close();
        self
    }

    /// Appends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Sets bits of the header's flags.
    pub fn add_flags(&mut self, flags: u16) {
        let old = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]);
        self.bytes[6..8].copy_from_slice(&(old | flags).to_ne_bytes());
    }

    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn set_sequence(&mut self, sequence: u32) {
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn close(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        let length = u32::try_from(self.bytes.len()).expect("a message is far below 4 GiB");
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
    }
}

/// One attribute read from the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Attribute<'a> {
    pub kind: u16,
    pub payload: &'a [u8],
}

impl<'a> Attribute<'a> {
    pub fn nested(&self) -> Attributes<'a> {
        Attributes(self.payload)
    }

    /// `None` when the payload is no address of either family.
    pub fn ip(&self) -> Option<IpAddr> {
        match self.payload.len() {
            4 => Some(IpAddr::from(<[u8; 4]>::try_from(self.payload).ok()?)),
            16 => Some(IpAddr::from(<[u8; 16]>::try_from(self.payload).ok()?)),
            _ => None,
        }
    }

    /// `None` when the payload is not four bytes long.
    pub fn u32(&self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.payload.try_into().ok()?))
    }

    pub fn be32(&self) -> Option<u32> {
        Some(u32::from_be_bytes(self.payload.try_into().ok()?))
    }

    pub fn be64(&self) -> Option<u64> {
        Some(u64::from_be_bytes(self.payload.try_into().ok()?))
    }

    pub fn be16(&self) -> Option<u16> {
        Some(u16::from_be_bytes(self.payload.try_into().ok()?))
    }

    /// Up to the first zero byte; `None` when that is not UTF-8.
    pub fn str(&self) -> Option<&'a str> {
        std::str::from_utf8(self.payload.split(|b| *b == 0).next()?).ok()
    }
}

/// Walks attributes; stops at the first malformed one.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// The attributes after a family header of `header` bytes.
    pub fn after(body: &'a [u8], header: usize) -> Self {
        Self(body.get(header.next_multiple_of(4)..).unwrap_or(&[]))
    }

    /// The first attribute of this kind.
    pub fn find(mut self, kind: u16) -> Option<Attribute<'a>> {
        Iterator::find(&mut self, |attribute| attribute.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let length = usize::from(u16::from_ne_bytes(self.0.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let payload = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Attribute { kind, payload })
    }
}

/// One message read from the kernel: type, flags, sequence number and what follows the header.
#[derive(Debug)]
pub(crate) struct Received<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

/// Splits a datagram into (type, body) pairs; stops at the first malformed header.
pub fn parse_messages(datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    received(datagram).map(|message| (message.kind, message.body))
}

pub(crate) fn received(mut datagram: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(datagram.get(0..4)?.try_into().ok()?) as usize;
        let message = Received {
            kind: u16::from_ne_bytes(datagram.get(4..6)?.try_into().ok()?),
            flags: u16::from_ne_bytes(datagram.get(6..8)?.try_into().ok()?),
            sequence: u32::from_ne_bytes(datagram.get(8..12)?.try_into().ok()?),
            body: datagram.get(HEADER..length)?,
        };
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(message)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn attributes_round_trip_with_padding_and_nesting() {
        let mut message = Message::new(7, 1, &[9; 4]);
        message.put_str(1, "ab").nest(2, |inner| {
            inner.put_be32(3, 0x0102_0304).put(4, &[1]);
        });
        assert_eq!(message.size() % 4, 0);
        let (kind, body) = parse_messages(message.bytes()).next().unwrap();
        assert_eq!(kind, 7);
        let attributes = Attributes::after(body, 4);
        assert_eq!(attributes.find(1).unwrap().str(), Some("ab"));
        let nested = attributes.find(2).unwrap().nested();
        assert_eq!(nested.find(3).unwrap().be32(), Some(0x0102_0304));
        assert_eq!(nested.find(4).unwrap().payload, [1]);
    }

    #[test]
    fn truncated_input_ends_the_walk() {
        for bytes in [&[][..], &[1, 0], &[3, 0, 1, 0], &[200, 0, 1, 0, 5], &[4, 0]] {
            assert_eq!(Attributes(bytes).count(), 0, "{bytes:?}");
        }
        assert_eq!(parse_messages(&[255, 0, 0, 0, 1, 0, 0, 0]).count(), 0);
    }
}
