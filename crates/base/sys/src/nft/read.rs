//! The few things read back from nftables: foreign chains that would drop pod traffic, and elements that the kernel
//! itself added (affinity), recovered at start.

use std::time::Duration;

use super::{Error, Expiry, Family, Nft};
use crate::netlink::{self, Attributes, Message};

const GET_CHAIN: u16 = 0x0a04;
const GET_ELEMENTS: u16 = 0x0a0d;
const HOOK_FORWARD: u32 = 2;
const POLICY_DROP: u32 = 0;
const GENMSG: usize = 4;
/// How often a dump is tried.
const DUMPS: usize = 5;

/// A base chain on the forward hook whose policy is drop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardDrop {
    pub table: String,
    pub chain: String,
}

/// An element as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredElement {
    pub key: Vec<u8>,
    pub data: Option<Vec<u8>>,
    pub expiry: Option<Expiry>,
}

impl Nft {
    /// Chains that drop forwarded IPv4 packets unless one of their rules accepts. Ours never do.
    pub fn forward_drops(&mut self) -> Result<Vec<ForwardDrop>, Error> {
        let mut found = Vec::new();
        self.socket.dump(Message::new(GET_CHAIN, 0, &[0; GENMSG]), |_, body| {
            let sees_ipv4 = matches!(body.first(), Some(1 | 2));
            let attributes = Attributes::after(body, GENMSG);
            let hook = attributes.find(4).and_then(|hook| hook.nested().find(1)?.be32());
            let policy = attributes.find(5).and_then(|policy| policy.be32());
            let table = attributes.find(1).and_then(|table| table.str()).unwrap_or_default();
            if sees_ipv4 && hook == Some(HOOK_FORWARD) && policy == Some(POLICY_DROP) {
                let chain = attributes.find(3).and_then(|chain| chain.str()).unwrap_or_default();
                found.push(ForwardDrop { table: table.into(), chain: chain.into() });
            }
        })?;
        Ok(found)
    }

    /// A set's or map's elements; empty when there is no such set.
    pub fn elements(&mut self, family: Family, table: &str, set: &str) -> Result<Vec<StoredElement>, Error> {
        // Transactions of others, to whatever table, interrupt a dump.
        for _ in 1..DUMPS {
            match self.elements_once(family, table, set) {
                Err(Error::Netlink(netlink::Error::Interrupted)) => {}
                result => return result,
            }
        }
        self.elements_once(family, table, set)
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
                let data = element.find(2).and_then(|data| data.nested().find(1)).map(|data| data.payload.to_vec());
                let milliseconds = |kind| element.find(kind).and_then(|time| time.be64()).map(Duration::from_millis);
                let expiry = milliseconds(4).zip(milliseconds(5)).map(|(timeout, left)| Expiry { timeout, left });
                found.push(StoredElement { key: key.payload.to_vec(), data, expiry });
            }
        });
        match result {
            Err(netlink::Error::Receive(e)) if e.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
            Err(e) => Err(e.into()),
            Ok(()) => Ok(found),
        }
    }
}
