//! Transactions: what to change, sent as one batch that the kernel applies whole or not at all.

use std::borrow::Cow;
use std::io;

use super::Family;
use super::expr::{Expr, Verdict};
use super::set::{Element, Set};
use crate::netlink::{self, Message, Protocol, Socket};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("talk to nftables")]
    Netlink(#[from] netlink::Error),
    #[error("nftables transaction: {operation}")]
    Rejected {
        operation: String,
        #[source]
        source: io::Error,
    },
    #[error("nftables transaction: the kernel did not acknowledge it")]
    NoAnswer,
}

impl Error {
    /// Whether the kernel refused because something named does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Rejected { source, .. } if source.raw_os_error() == Some(libc::ENOENT))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    Filter,
    Nat,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub name: String,
    /// Where the chain hangs and its priority; `None` for a chain that others jump to.
    pub base: Option<(ChainKind, Hook, i32)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub chain: String,
    pub exprs: Vec<Expr>,
    /// Shown by `nft list`; at most 120 bytes.
    pub comment: Cow<'static, str>,
}

// Message types are the subsystem's number (10) in the high byte.
const NEW_TABLE: u16 = 0x0a00;
const DEL_TABLE: u16 = 0x0a02;
const NEW_CHAIN: u16 = 0x0a03;
const DEL_CHAIN: u16 = 0x0a05;
const NEW_RULE: u16 = 0x0a06;
const DEL_RULE: u16 = 0x0a08;
const NEW_SET: u16 = 0x0a09;
const NEW_ELEMENTS: u16 = 0x0a0c;
const DEL_ELEMENTS: u16 = 0x0a0e;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
/// An attribute's length is sixteen bits; stop well before it overflows.
const ELEMENTS_BYTES: usize = 60_000;

/// What one transaction does to one table, in order.
#[derive(Debug)]
pub struct Batch {
    family: Family,
    table: String,
    messages: Vec<Message>,
    /// Beside each message: what it does, for the error.
    operations: Vec<(&'static str, String)>,
}

impl Batch {
    pub fn new(family: Family, table: &str) -> Self {
        Self { family, table: table.into(), messages: Vec::new(), operations: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Creates the table; nothing happens when it exists.
    pub fn add_table(&mut self) {
        let table = self.table.clone();
        self.push(NEW_TABLE, libc::NLM_F_CREATE, ("create table", table), |_| {});
    }

    /// As [`Batch::add_table`], with a note that `nft list` shows; an existing table keeps its own.
    pub fn add_commented_table(&mut self, note: &str) {
        let table = self.table.clone();
        self.push(NEW_TABLE, libc::NLM_F_CREATE, ("create table", table), |m| {
            m.put(TABLE_COMMENT, &comment(note));
        });
    }

    /// A number that tells what this batch does from what others do; two runs of one program agree on it.
    pub fn fingerprint(&self) -> u64 {
        // FNV-1a: the standard library promises no hash that stays the same.
        let bytes = self.messages.iter().flat_map(|message| message.bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
    }

    /// Deletes the table with all its contents; refused when there is none.
    pub fn delete_table(&mut self) {
        let table = self.table.clone();
        self.push(DEL_TABLE, 0, ("delete table", table), |_| {});
    }

    pub fn add_chain(&mut self, chain: &Chain) {
        self.push(NEW_CHAIN, libc::NLM_F_CREATE, ("create chain", chain.name.clone()), |m| {
            m.put_str(3, &chain.name);
            if let Some((kind, hook, priority)) = chain.base {
                m.nest(4, |m| {
                    m.put_be32(1, hook as u32).put(2, &priority.to_be_bytes());
                });
                m.put_be32(5, 1); // policy accept
                m.put_str(
                    7,
                    match kind {
                        ChainKind::Filter => "filter",
                        ChainKind::Nat => "nat",
                    },
                );
            }
        });
    }

    pub fn delete_chain(&mut self, name: &str) {
        self.push(DEL_CHAIN, 0, ("delete chain", name.into()), |m| {
            m.put_str(3, name);
        });
    }

    pub fn add_set(&mut self, set: &Set) {
        let id = u32::try_from(self.messages.len()).expect("a batch is far below 2^32 messages") + 1;
        self.push(NEW_SET, libc::NLM_F_CREATE, ("create set", set.name.clone()), |m| set.encode(m, id));
    }

    /// Appends a rule to its chain.
    pub fn add_rule(&mut self, rule: &Rule) {
        self.rule(libc::NLM_F_CREATE | libc::NLM_F_APPEND, "add a rule to", rule);
    }

    /// Puts a rule before all others of its chain.
    pub fn insert_rule(&mut self, rule: &Rule) {
        self.rule(libc::NLM_F_CREATE, "insert a rule into", rule);
    }

    fn rule(&mut self, flags: i32, operation: &'static str, rule: &Rule) {
        self.push(NEW_RULE, flags, (operation, rule.chain.clone()), |m| {
            m.put_str(2, &rule.chain).nest(4, |m| rule.exprs.iter().for_each(|expr| expr.encode(m)));
            if !rule.comment.is_empty() {
                m.put(COMMENT, &comment(&rule.comment));
            }
        });
    }

    /// Deletes a rule by the number that the kernel gave it; a missing one is an error.
    pub fn delete_rule(&mut self, chain: &str, handle: u64) {
        self.push(DEL_RULE, 0, ("delete a rule of", chain.into()), |m| {
            m.put_str(2, chain).put_be64(3, handle);
        });
    }

    /// Adds elements, split over as many messages as they need. An existing key with other data is an error.
    pub fn add_elements(&mut self, set: &str, elements: impl IntoIterator<Item = Element>) {
        self.elements(NEW_ELEMENTS, libc::NLM_F_CREATE, "add elements to", set, elements);
    }

    /// Deletes elements by key; a missing one is an error.
    pub fn delete_elements(&mut self, set: &str, elements: impl IntoIterator<Item = Element>) {
        self.elements(DEL_ELEMENTS, 0, "delete elements of", set, elements);
    }

    fn elements(
        &mut self,
        kind: u16,
        flags: i32,
        operation: &'static str,
        set: &str,
        elements: impl IntoIterator<Item = Element>,
    ) {
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            self.push(kind, flags, (operation, set.into()), |m| {
                m.put_str(2, set);
                let start = m.size();
                m.nest(3, |m| {
                    while m.size() - start < ELEMENTS_BYTES {
                        let Some(element) = elements.next() else { break };
                        element.encode(m);
                    }
                });
            });
        }
    }

    /// Every nftables object's first attribute is its table's name, except the table's own, which is the same.
    fn push(&mut self, kind: u16, flags: i32, operation: (&'static str, String), fill: impl FnOnce(&mut Message)) {
        let flags = (libc::NLM_F_REQUEST | flags) as u16;
        let mut message = Message::new(kind, flags, &[self.family.number(), 0, 0, 0]);
        message.put_str(1, &self.table);
        fill(&mut message);
        self.messages.push(message);
        self.operations.push(operation);
    }
}

/// A table's attribute for what its maker wants to remember.
pub(super) const TABLE_COMMENT: u16 = 6;
/// A rule's attribute for the same.
pub(super) const COMMENT: u16 = 7;

/// `nft`'s encoding of a rule comment: type 0, length, text with its zero.
fn comment(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).expect("comments are short");
    let mut bytes = vec![0, length];
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}

/// An nftables socket, in the network namespace it was opened in.
#[derive(Debug)]
pub struct Nft {
    pub(super) socket: Socket,
}

impl Nft {
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open(Protocol::Netfilter)?;
        socket.allow_large_batches()?;
        Ok(Self { socket })
    }

    /// Applies the batch as one transaction. An error names the first operation that the kernel refused.
    pub fn commit(&mut self, batch: Batch) -> Result<(), Error> {
        let Batch { messages, operations, .. } = batch;
        if messages.is_empty() {
            return Ok(());
        }
        let mut all = Vec::with_capacity(messages.len() + 2);
        all.push(boundary(BATCH_BEGIN));
        all.extend(messages);
        // One acknowledgement tells that the transaction was committed; errors come unasked.
        if let Some(last) = all.last_mut() {
            last.add_flags(libc::NLM_F_ACK as u16);
        }
        all.push(boundary(BATCH_END));
        let first = self.socket.send(&mut all)?.wrapping_add(1);
        let replies = self.socket.replies()?;
        if let Some(refusal) = replies.iter().find(|reply| reply.errno != 0) {
            let index = refusal.sequence.wrapping_sub(first) as usize;
            let operation =
                operations.get(index).map_or_else(|| "commit".into(), |(what, name)| format!("{what} {name}"));
            return Err(Error::Rejected { operation, source: io::Error::from_raw_os_error(refusal.errno) });
        }
        if replies.is_empty() { Err(Error::NoAnswer) } else { Ok(()) }
    }

    /// Deletes the table if it exists.
    pub fn delete_table(&mut self, family: Family, table: &str) -> Result<(), Error> {
        let mut batch = Batch::new(family, table);
        batch.delete_table();
        match self.commit(batch) {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }
}

fn boundary(kind: u16) -> Message {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    Message::new(kind, libc::NLM_F_REQUEST as u16, &[0, 0, high, low])
}

impl From<Verdict> for Expr {
    fn from(verdict: Verdict) -> Self {
        Self::Verdict(verdict)
    }
}
