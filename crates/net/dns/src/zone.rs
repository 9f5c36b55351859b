//! The cluster's own zone in DNS's terms: records with their owners and times, "no" with its SOA, aliases followed.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use base_sys::route::IpCidr;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{self, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::facts::View;
use crate::records::{self, Found, VERSION, Wanted};
use crate::reply::Reply;

/// Seconds; as CoreDNS's Kubernetes plug-in.
pub const TTL: u32 = 5;
/// The version changes with the binary only.
const VERSION_TTL: u32 = 28_800;
/// Aliases followed for one question, as CoreDNS does.
const ALIASES: usize = 8;

/// Names and addresses that this server answers for.
pub struct Zone {
    /// `cluster.local.`
    apex: Name,
    /// Without dots at its ends, lower case.
    domain: String,
    /// Where DNS is answered.
    here: Vec<IpAddr>,
    /// Addresses whose names nobody else knows.
    ranges: Vec<IpCidr>,
    /// Answers of several addresses begin with another one each time.
    turn: AtomicUsize,
}

pub enum Outcome {
    Ours(Reply),
    /// Somebody else's name.
    Foreign,
    /// The aliases so far; the last leads to a name that is somebody else's.
    Alias(Reply, Name),
}

impl Zone {
    /// `None` where the domain is no name.
    pub fn new(domain: &str, here: Vec<IpAddr>, ranges: Vec<IpCidr>) -> Option<Self> {
        let domain = domain.to_ascii_lowercase();
        let apex = Name::from_ascii(format!("{domain}.")).ok().filter(|_| !domain.is_empty())?;
        Some(Self { apex, domain, here, ranges, turn: AtomicUsize::new(0) })
    }

    /// A name relative to the zone, such as `svc`.
    pub fn name(&self, below: &str) -> Option<Name> {
        Name::from_ascii(format!("{below}.{}.", self.domain)).ok()
    }

    pub fn apex(&self) -> &Name {
        &self.apex
    }

    pub fn answer(&self, view: &dyn View, name: &Name, kind: RecordType) -> Outcome {
        if let Some(address) = reversed(name) {
            return self.pointers(view, name, address, kind);
        }
        let Some(labels) = self.below(name) else { return Outcome::Foreign };
        if matches!(kind, RecordType::AXFR | RecordType::IXFR) {
            return Outcome::Ours(Reply::code(ResponseCode::Refused));
        }
        if labels.is_empty() {
            return Outcome::Ours(self.at_the_apex(view, name, kind));
        }
        self.follow(view, name, labels, kind)
    }

    /// The labels left of the zone's apex, lower case; `None` for a name outside.
    fn below(&self, name: &Name) -> Option<Vec<String>> {
        if !self.apex.zone_of(name) {
            return None;
        }
        let count = usize::from(name.num_labels().saturating_sub(self.apex.num_labels()));
        // What is no text names nothing of ours.
        let text = |label: &[u8]| String::from_utf8_lossy(label).to_ascii_lowercase();
        Some(name.iter().take(count).map(text).collect())
    }

    fn follow(&self, view: &dyn View, name: &Name, labels: Vec<String>, kind: RecordType) -> Outcome {
        let mut reply = Reply::ours(ResponseCode::NoError);
        let (mut owner, mut labels) = (name.clone(), labels);
        loop {
            let words: Vec<&str> = labels.iter().map(String::as_str).collect();
            let Some(answer) = records::resolve(view, &self.here, &words, wanted(kind)) else {
                reply.code = ResponseCode::NXDomain;
                reply.authority = vec![self.soa(view, &self.apex)];
                return Outcome::Ours(reply);
            };
            if let [Found::Cname(target)] = &answer.records[..] {
                let Some(target) = absolute(target) else { return Outcome::Ours(reply) };
                let seen = reply.answers.iter().any(|record| record.name == target) || owner == target;
                reply.answers.push(Record::from_rdata(owner, TTL, RData::CNAME(CNAME(target.clone()))));
                if kind == RecordType::CNAME || seen || reply.answers.len() > ALIASES {
                    return Outcome::Ours(reply);
                }
                match self.below(&target) {
                    Some(next) => (owner, labels) = (target, next),
                    None => return Outcome::Alias(reply, target),
                }
                continue;
            }
            let mut found: Vec<Record> = answer.records.iter().filter_map(|found| self.record(&owner, found)).collect();
            self.rotate(&mut found);
            if found.is_empty() {
                reply.authority = vec![self.soa(view, &self.apex)];
            }
            reply.answers.append(&mut found);
            let address = |(name, ip): &(String, IpAddr)| Some(address_record(self.name(name)?, *ip));
            reply.additional = answer.additional.iter().filter_map(address).collect();
            return Outcome::Ours(reply);
        }
    }

    fn record(&self, owner: &Name, found: &Found) -> Option<Record> {
        let (ttl, data) = match found {
            Found::Address(ip) => return Some(address_record(owner.clone(), *ip)),
            Found::Srv { weight, port, target } => (TTL, RData::SRV(SRV::new(0, *weight, *port, self.name(target)?))),
            Found::Cname(target) => (TTL, RData::CNAME(CNAME(absolute(target)?))),
            Found::Version => (VERSION_TTL, RData::TXT(TXT::new(vec![VERSION.to_owned()]))),
        };
        Some(Record::from_rdata(owner.clone(), ttl, data))
    }

    fn rotate(&self, records: &mut [Record]) {
        if records.len() > 1 {
            let by = self.turn.fetch_add(1, Ordering::Relaxed) % records.len();
            records.rotate_left(by);
        }
    }

    fn at_the_apex(&self, view: &dyn View, name: &Name, kind: RecordType) -> Reply {
        let mut reply = Reply::ours(ResponseCode::NoError);
        match kind {
            RecordType::SOA => reply.answers = vec![self.soa(view, name)],
            RecordType::NS => {
                // The Service that this server is, where there is one.
                let service = self.here.iter().find_map(|address| view.service_at(*address));
                let below =
                    service.map_or_else(|| "ns.dns".into(), |key| format!("{}.{}.svc", key.name, key.namespace));
                if let Some(server) = self.name(&below) {
                    reply.additional = self.here.iter().map(|ip| address_record(server.clone(), *ip)).collect();
                    reply.answers = vec![Record::from_rdata(name.clone(), TTL, RData::NS(NS(server)))];
                }
            }
            _ => reply.authority = vec![self.soa(view, &self.apex)],
        }
        reply
    }

    fn pointers(&self, view: &dyn View, name: &Name, address: IpAddr, kind: RecordType) -> Outcome {
        let names = records::reverse(view, address);
        if names.is_empty() && !self.ranges.iter().any(|range| range.contains(address)) {
            return Outcome::Foreign;
        }
        let mut reply = Reply::ours(ResponseCode::NoError);
        if names.is_empty() {
            reply.code = ResponseCode::NXDomain;
        } else if kind == RecordType::PTR {
            let record =
                |below: &String| Some(Record::from_rdata(name.clone(), TTL, RData::PTR(PTR(self.name(below)?))));
            reply.answers = names.iter().filter_map(record).collect();
        }
        if reply.answers.is_empty() {
            reply.authority = vec![self.soa(view, &name.trim_to(2))];
        }
        Outcome::Ours(reply)
    }

    /// Says how long "no" may be remembered.
    fn soa(&self, view: &dyn View, owner: &Name) -> Record {
        let below = |label: &str| self.name(label).unwrap_or_else(Name::root);
        let soa = SOA::new(below("ns.dns"), below("hostmaster"), view.serial(), 7200, 1800, 86400, TTL);
        Record::from_rdata(owner.clone(), TTL, RData::SOA(soa))
    }
}

fn address_record(owner: Name, ip: IpAddr) -> Record {
    let data = match ip {
        IpAddr::V4(ip) => RData::A(rdata::A(ip)),
        IpAddr::V6(ip) => RData::AAAA(rdata::AAAA(ip)),
    };
    Record::from_rdata(owner, TTL, data)
}

fn absolute(text: &str) -> Option<Name> {
    Name::from_ascii(format!("{}.", text.trim_end_matches('.'))).ok()
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` stands for.
fn reversed(name: &Name) -> Option<IpAddr> {
    // Thirty-two nibbles or four octets, and the two labels of the zone.
    if !matches!(name.num_labels(), 6 | 34) {
        return None;
    }
    let block = name.to_lowercase().parse_arpa_name().ok()?;
    (block.prefix_len() == block.max_prefix_len()).then(|| block.addr())
}

fn wanted(kind: RecordType) -> Wanted {
    match kind {
        RecordType::A => Wanted::A,
        RecordType::AAAA => Wanted::Aaaa,
        RecordType::SRV => Wanted::Srv,
        RecordType::TXT => Wanted::Txt,
        _ => Wanted::Other,
    }
}

#[cfg(test)]
#[path = "zone_tests.rs"]
mod tests;
