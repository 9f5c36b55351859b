//! An answer on its way to a client, and how it is made to fit.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};

/// The longest datagram sent: what passes every link unfragmented (the DNS flag day of 2020), unless the client takes less.
pub const LONGEST_DATAGRAM: u16 = 1232;
/// What a client without EDNS takes.
pub const SHORTEST_DATAGRAM: u16 = 512;

#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub code: ResponseCode,
    pub authoritative: bool,
    pub truncated: bool,
    pub answers: Vec<Record>,
    /// The SOA record of "no".
    pub authority: Vec<Record>,
    pub additional: Vec<Record>,
}

impl Reply {
    pub fn code(code: ResponseCode) -> Self {
        Self {
            code,
            authoritative: false,
            truncated: false,
            answers: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
        }
    }

    /// Of the cluster's own zone.
    pub fn ours(code: ResponseCode) -> Self {
        Self { authoritative: true, ..Self::code(code) }
    }

    /// Leaves out what does not fit `limit` bytes: additional records first and silently, then answers, which the client
    /// is told to ask for again over TCP. The question and the client's EDNS count, too.
    pub fn fit(&mut self, question: &Name, limit: usize) {
        if self.upper_bound(question) <= limit {
            return;
        }
        // The encoder writes a name in full before it finds that it can point to it: without room for that, it would cut
        // the answer by itself, and the client's EDNS with it.
        let owners = self.answers.iter().map(|record| record.name.len());
        let limit = limit.saturating_sub(owners.chain([question.len()]).max().unwrap_or_default());
        if self.size(question) > limit {
            self.additional.clear();
        }
        // Half of what is left at a time would be faster; answers of so many records are rare.
        while self.size(question) > limit && (!self.answers.is_empty() || !self.authority.is_empty()) {
            self.truncated = true;
            if self.answers.pop().is_none() {
                self.authority.clear();
            }
        }
    }

    /// Bytes without any compression.
    fn upper_bound(&self, question: &Name) -> usize {
        // Owner, type, class, TTL and length; the data of our own record types is two names and 22 bytes at most.
        let record = |record: &Record| match record.record_type() {
            RecordType::A => record.name.len() + 14,
            RecordType::AAAA => record.name.len() + 26,
            _ => usize::from(SHORTEST_DATAGRAM),
        };
        let all = self.answers.iter().chain(&self.authority).chain(&self.additional);
        FIXED + question.len() + all.map(record).sum::<usize>()
    }

    fn size(&self, question: &Name) -> usize {
        let mut message = Message::new(0, MessageType::Response, OpCode::Query);
        message.add_query(hickory_proto::op::Query::query(question.clone(), RecordType::A));
        message.answers.clone_from(&self.answers);
        message.authorities.clone_from(&self.authority);
        message.additionals.clone_from(&self.additional);
        message.edns = Some(Edns::new());
        // What cannot be encoded does not fit, either.
        message.to_vec().map_or(usize::MAX, |bytes| bytes.len())
    }
}

/// Header, type and class of the question, and EDNS.
const FIXED: usize = 12 + 5 + 11;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::rr::RData;

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).expect("a name")
    }

    fn many(count: u8) -> Reply {
        let owner = name("db.default.svc.cluster.local.");
        let record = |last| Record::from_rdata(owner.clone(), 5, RData::A(Ipv4Addr::new(10, 42, 0, last).into()));
        Reply { answers: (0..count).map(record).collect(), ..Reply::ours(ResponseCode::NoError) }
    }

    #[test]
    fn what_does_not_fit_is_cut_and_said_to_be() {
        let question = name("db.default.svc.cluster.local.");
        let mut reply = many(100);
        reply.fit(&question, 512);
        assert!(reply.truncated);
        // 28 bytes and the question twice, then 16 for each address behind a pointer.
        assert_eq!(reply.answers.len(), (512 - 28 - 2 * question.len()) / 16);

        let mut reply = many(20);
        reply.fit(&question, 512);
        assert!(!reply.truncated && reply.answers.len() == 20);
    }

    #[test]
    fn additional_records_go_first_and_nobody_is_told() {
        let question = name("_sql._tcp.db.default.svc.cluster.local.");
        let mut reply = many(20);
        reply.additional = many(60).answers;
        reply.fit(&question, 512);
        assert!(!reply.truncated && reply.answers.len() == 20 && reply.additional.is_empty());
    }
}
