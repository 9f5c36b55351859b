//! The few things read back from nftables: foreign chains that would drop pod traffic, and elements that the kernel
//! itself added (affinity), recovered at start.

use std::time::Duration;

use super::batch::{COMMENT, TABLE_COMMENT};
use super::set::KEY_END;
use super::{Error, Expiry, Family, Nft};
use crate::netlink::{self, Attributes, Message};

const GET_TABLE: u16 = 0x0a01;
const GET_CHAIN: u16 = 0x0a04;
const GET_RULE: u16 = 0x0a07;
const GET_ELEMENTS: u16 = 0x0a0d;
const HOOK_FORWARD: u32 = 2;
const POLICY_DROP: u32 = 0;
const GENMSG: usize = 4;
/// How often a dump is tried.
const DUMPS: usize = 5;

/// A base chain on the forward hook whose policy is drop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardDrop {
    pub family: Family,
    pub table: String,
    pub chain: String,
}

/// A rule as the kernel holds it, without what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRule {
    pub family: Family,
    pub table: String,
    pub chain: String,
    pub handle: u64,
    pub comment: String,
}

/// An element as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredElement {
    pub key: Vec<u8>,
    /// Of a range: each field's last value.
    pub last: Option<Vec<u8>>,
    /// Of a map with fields as data.
    pub data: Option<Vec<u8>>,
    pub expiry: Option<Expiry>,
}

impl Nft {
    /// Chains that drop forwarded IPv4 packets unless one of their rules accepts. Ours never do.
    pub fn forward_drops(&mut self) -> Result<Vec<ForwardDrop>, Error> {
        let mut found = Vec::new();
        self.socket.dump(Message::new(GET_CHAIN, 0, &[0; GENMSG]), |_, body| {
            let Some(family) = Family::of(body) else { return };
            let attributes = Attributes::after(body, GENMSG);
            let hook = attributes.find(4).and_then(|hook| hook.nested().find(1)?.be32());
            let policy = attributes.find(5).and_then(|policy| policy.be32());
            let table = attributes.find(1).and_then(|table| table.str()).unwrap_or_default();
            if hook == Some(HOOK_FORWARD) && policy == Some(POLICY_DROP) {
                let chain = attributes.find(3).and_then(|chain| chain.str()).unwrap_or_default();
                found.push(ForwardDrop { family, table: table.into(), chain: chain.into() });
            }
        })?;
        Ok(found)
    }

    /// Every rule with a comment in the tables that see IPv4.
    pub fn commented_rules(&mut self) -> Result<Vec<StoredRule>, Error> {
        retried(|| self.commented_rules_once())
    }

    fn commented_rules_once(&mut self) -> Result<Vec<StoredRule>, Error> {
        let mut found = Vec::new();
        self.socket.dump(Message::new(GET_RULE, 0, &[0; GENMSG]), |_, body| {
            let Some(family) = Family::of(body) else { return };
            let attributes = Attributes::after(body, GENMSG);
            let text = |kind| attributes.find(kind).and_then(|text| text.str()).unwrap_or_default().to_owned();
            let Some(handle) = attributes.find(3).and_then(|handle| handle.be64()) else { return };
            if let Some(comment) = attributes.find(COMMENT).and_then(|data| comment(data.payload)) {
                found.push(StoredRule { family, table: text(1), chain: text(2), handle, comment });
            }
        })?;
        Ok(found)
    }

    /// What the table's maker noted; `None` when there is no such table or no note.
    pub fn table_comment(&mut self, family: Family, table: &str) -> Result<Option<String>, Error> {
        retried(|| {
            let mut found = None;
            self.socket.dump(Message::new(GET_TABLE, 0, &[family.number(), 0, 0, 0]), |_, body| {
                let attributes = Attributes::after(body, GENMSG);
                if attributes.find(1).and_then(|name| name.str()) == Some(table) {
                    found = attributes.find(TABLE_COMMENT).and_then(|data| comment(data.payload));
                }
            })?;
            Ok(found)
        })
    }

    /// A set's or map's elements; empty when there is no such set.
    pub fn elements(&mut self, family: Family, table: &str, set: &str) -> Result<Vec<StoredElement>, Error> {
        retried(|| self.elements_once(family, table, set))
    }

    fn elements_once(&mut self, family: Family, table: &str, set: &str) -> Result<Vec<StoredElement>, Error> {
        let mut request = Message::new(GET_ELEMENTS, 0, &[family.number(), 0, 0, 0]);
        request.put_str(1, table).put_str(2, set);
        let mut found = Vec::new();
        let result = self.socket.dump(request, |_, body| {
            let Some(list) = Attributes::after(body, GENMSG).find(3) else { return };
            for element in list.nested() {
                let element = element.nested();
                let Some(key) = element.find(1).and_then(|key| key.nested().find(1)) else { continue };
                let value =
                    |kind| element.find(kind).and_then(|data| data.nested().find(1)).map(|data| data.payload.to_vec());
                let (data, last) = (value(2), value(KEY_END));
                let milliseconds = |kind| element.find(kind).and_then(|time| time.be64()).map(Duration::from_millis);
                let expiry = milliseconds(4).zip(milliseconds(5)).map(|(timeout, left)| Expiry { timeout, left });
                found.push(StoredElement { key: key.payload.to_vec(), last, data, expiry });
            }
        });
        match result {
            Err(netlink::Error::Receive(e)) if e.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
            Err(e) => Err(e.into()),
            Ok(()) => Ok(found),
        }
    }
}

/// Transactions of others, to whatever table, interrupt a dump.
fn retried<T>(mut dump: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 1..DUMPS {
        match dump() {
            Err(Error::Netlink(netlink::Error::Interrupted)) => {}
            result => return result,
        }
    }
    dump()
}

/// The comment among what a rule's maker noted: type, length, value, several times.
fn comment(mut notes: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = notes {
        let value = rest.get(..usize::from(*length))?;
        if *kind == 0 {
            let text = value.split(|byte| *byte == 0).next()?;
            return String::from_utf8(text.to_vec()).ok();
        }
        notes = &rest[value.len()..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_found_among_other_notes_and_damage_is_no_comment() {
        assert_eq!(comment(&[1, 2, 9, 9, 0, 3, b'h', b'i', 0]).as_deref(), Some("hi"));
        for bad in [&[][..], &[0], &[0, 5, b'h'], &[1, 1, 7], &[0, 2, 0xff, 0]] {
            assert_eq!(comment(bad), None, "{bad:?}");
        }
    }
}
