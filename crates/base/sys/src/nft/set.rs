//! Sets and maps: their declaration and their elements.

use std::time::Duration;

use super::expr::Verdict;
use crate::netlink::Message;

/// A key or data field's type. The kernel only cares for its length; `nft list` prints by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Ipv4Address = 7,
    Ipv6Address = 8,
    Protocol = 12,
    Port = 13,
    Mark = 19,
}

impl Type {
    fn length(self) -> u32 {
        match self {
            Self::Ipv4Address | Self::Mark => 4,
            Self::Ipv6Address => 16,
            Self::Protocol => 1,
            Self::Port => 2,
        }
    }
}

/// What a map's elements hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataKind {
    Fields(Vec<Type>),
    Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    pub name: String,
    /// More than one field makes a concatenation, at most five.
    pub key: Vec<Type>,
    /// `None` for a plain set.
    pub data: Option<DataKind>,
    /// Rules may add elements, at most so many at a time, and each expires.
    pub dynamic: Option<u32>,
    /// Elements are ranges of keys.
    pub ranges: bool,
}

/// One element; `key` and field data as [`concat`] pads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    pub key: Vec<u8>,
    /// Of a set of ranges: each field's last value.
    pub last: Option<Vec<u8>>,
    pub data: Option<Data>,
    /// Of a dynamic set; an element without it stays until deleted.
    pub expiry: Option<Expiry>,
}

impl Element {
    pub fn new(key: Vec<u8>, data: Option<Data>) -> Self {
        Self { key, last: None, data, expiry: None }
    }

    /// From `key` to `last`, field by field.
    pub fn range(key: Vec<u8>, last: Vec<u8>) -> Self {
        Self { last: Some(last), ..Self::new(key, None) }
    }
}

/// When an element expires; the kernel counts in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// From the last time a rule refreshed it.
    pub timeout: Duration,
    /// From now on.
    pub left: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    Fields(Vec<u8>),
    Verdict(Verdict),
}

/// Joins fields the way registers hold them: each padded to four bytes.
pub fn concat(fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(fields.len() * 4);
    for field in fields {
        bytes.extend_from_slice(field);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

const FLAG_INTERVAL: u32 = 0x4;
const FLAG_MAP: u32 = 0x8;
const FLAG_TIMEOUT: u32 = 0x10;
const FLAG_EVAL: u32 = 0x20;
const FLAG_CONCAT: u32 = 0x80;
const TYPE_VERDICT: u32 = 0xffff_ff00;
/// Bits `nft` uses for each field's type in a concatenation.
const TYPE_BITS: u32 = 6;

impl Set {
    /// Appends the attributes after the table's name. `id` is any number that is unique in the batch.
    pub(super) fn encode(&self, m: &mut Message, id: u32) {
        let mut flags = 0;
        if self.key.len() > 1 {
            flags |= FLAG_CONCAT;
        }
        if self.data.is_some() {
            flags |= FLAG_MAP;
        }
        if self.ranges {
            flags |= FLAG_INTERVAL;
        }
        if self.dynamic.is_some() {
            flags |= FLAG_TIMEOUT | FLAG_EVAL;
        }
        m.put_str(2, &self.name).put_be32(3, flags).put_be32(4, type_code(&self.key)).put_be32(5, length(&self.key));
        match &self.data {
            Some(DataKind::Fields(fields)) => {
                m.put_be32(6, type_code(fields)).put_be32(7, length(fields));
            }
            Some(DataKind::Verdict) => {
                m.put_be32(6, TYPE_VERDICT);
            }
            None => {}
        }
        if self.key.len() > 1 || self.dynamic.is_some() {
            m.nest(9, |m| {
                if let Some(size) = self.dynamic {
                    m.put_be32(1, size);
                }
                // The kernel wants the length of each field before it takes the concatenation flag.
                if self.key.len() > 1 {
                    m.nest(2, |m| {
                        for field in &self.key {
                            m.nest(1, |m| {
                                m.put_be32(1, field.length());
                            });
                        }
                    });
                }
            });
        }
        m.put_be32(10, id);
        m.put(13, &self.byte_orders());
    }
}

impl Set {
    /// `nft`'s note to itself on how to print single fields: type, length, then 1 for host and 2 for network order.
    fn byte_orders(&self) -> Vec<u8> {
        let order = |fields: &[Type]| match fields {
            [Type::Mark] => 1_u32.to_ne_bytes(),
            _ => 2_u32.to_ne_bytes(),
        };
        let mut bytes = vec![0, 4];
        bytes.extend_from_slice(&order(&self.key));
        if let Some(DataKind::Fields(fields)) = &self.data {
            bytes.extend_from_slice(&[1, 4]);
            bytes.extend_from_slice(&order(fields));
        }
        bytes
    }
}

/// An element's attribute for where its range ends.
pub(super) const KEY_END: u16 = 10;

impl Element {
    pub(super) fn encode(&self, m: &mut Message) {
        m.nest(1, |m| {
            m.nest(1, |m| {
                m.put(1, &self.key);
            });
            if let Some(last) = &self.last {
                m.nest(KEY_END, |m| {
                    m.put(1, last);
                });
            }
            match &self.data {
                Some(Data::Fields(value)) => {
                    m.nest(2, |m| {
                        m.put(1, value);
                    });
                }
                Some(Data::Verdict(verdict)) => {
                    m.nest(2, |m| put_data(m, verdict));
                }
                None => {}
            }
            if let Some(expiry) = self.expiry {
                m.put_be64(4, milliseconds(expiry.timeout)).put_be64(5, milliseconds(expiry.left));
            }
        });
    }
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Appends a verdict as `nft_data`.
pub(super) fn put_data(m: &mut Message, verdict: &Verdict) {
    let (code, chain): (i32, Option<&str>) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
        Verdict::Return => (-5, None),
    };
    m.nest(2, |m| {
        m.put(1, &code.to_be_bytes());
        if let Some(chain) = chain {
            m.put_str(2, chain);
        }
    });
}

fn type_code(fields: &[Type]) -> u32 {
    fields.iter().fold(0, |code, field| code << TYPE_BITS | *field as u32)
}

fn length(fields: &[Type]) -> u32 {
    match fields {
        [one] => one.length(),
        many => many.iter().map(|field| field.length().next_multiple_of(4)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_padded_to_registers() {
        assert_eq!(concat(&[&[10, 0, 0, 1], &[6], &[0, 80]]), [10, 0, 0, 1, 6, 0, 0, 0, 0, 80, 0, 0]);
        assert_eq!(length(&[Type::Ipv4Address, Type::Protocol, Type::Port]), 12);
        assert_eq!(length(&[Type::Port]), 2);
        assert_eq!(length(&[Type::Ipv6Address, Type::Port]), 20);
    }
}
