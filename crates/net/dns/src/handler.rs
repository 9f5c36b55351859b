//! One query: ours, or the host's resolvers'.

use hickory_proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_proto::rr::rdata::{self, CNAME, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_resolver::TokioResolver;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use crate::records::{self, Found, View, Wanted};

/// Seconds; as CoreDNS's Kubernetes plug-in.
const TTL: u32 = 5;

pub struct Handler<V> {
    /// `cluster.local`.
    domain: String,
    view: V,
    forward: Option<TokioResolver>,
}

struct Reply {
    code: ResponseCode,
    authoritative: bool,
    answers: Vec<Record>,
    soa: Vec<Record>,
}

impl Reply {
    fn failure(code: ResponseCode) -> Self {
        Self { code, authoritative: false, answers: Vec::new(), soa: Vec::new() }
    }
}

impl<V: View> Handler<V> {
    pub fn new(domain: String, view: V, forward: Option<TokioResolver>) -> Self {
        Self { domain, view, forward }
    }

    /// The labels left of the cluster domain, in one string; `None` for a foreign name.
    fn below<'n>(&self, name: &'n str) -> Option<&'n str> {
        let rest = name.trim_end_matches('.').strip_suffix(&self.domain)?;
        if rest.is_empty() { Some("") } else { rest.strip_suffix('.') }
    }

    async fn reply(&self, name: &Name, kind: RecordType) -> Reply {
        let text = name.to_lowercase().to_ascii();
        let Some(below) = self.below(&text) else { return self.forwarded(name, kind).await };
        let labels: Vec<&str> = below.split('.').filter(|label| !label.is_empty()).collect();
        let wanted = match kind {
            RecordType::A => Wanted::A,
            RecordType::AAAA => Wanted::Aaaa,
            RecordType::SRV => Wanted::Srv,
            RecordType::TXT => Wanted::Txt,
            _ => Wanted::Other,
        };
        let soa = || self.soa().into_iter().collect();
        match records::resolve(&self.view, &labels, wanted) {
            None => Reply { authoritative: true, soa: soa(), ..Reply::failure(ResponseCode::NXDomain) },
            Some(found) => {
                let answers: Vec<Record> = found.iter().filter_map(|found| self.record(name, found)).collect();
                let soa = if answers.is_empty() { soa() } else { Vec::new() };
                Reply { code: ResponseCode::NoError, authoritative: true, answers, soa }
            }
        }
    }

    fn record(&self, name: &Name, found: &Found) -> Option<Record> {
        let absolute = |text: &str| Name::from_ascii(format!("{}.", text.trim_end_matches('.'))).ok();
        let data = match found {
            Found::Address(std::net::IpAddr::V4(ip)) => RData::A(rdata::A(*ip)),
            Found::Address(std::net::IpAddr::V6(ip)) => RData::AAAA(rdata::AAAA(*ip)),
            Found::Cname(target) => RData::CNAME(CNAME(absolute(target)?)),
            Found::Srv { port, target } => {
                RData::SRV(SRV::new(0, 100, *port, absolute(&format!("{target}.{}", self.domain))?))
            }
            Found::Txt(text) => RData::TXT(TXT::new(vec![(*text).to_owned()])),
        };
        Some(Record::from_rdata(name.clone(), TTL, data))
    }

    /// Says how long "no" may be remembered.
    fn soa(&self) -> Option<Record> {
        let domain = Name::from_ascii(format!("{}.", self.domain)).ok()?;
        let server = Name::from_ascii(format!("ns.dns.{}.", self.domain)).ok()?;
        let mailbox = Name::from_ascii(format!("hostmaster.{}.", self.domain)).ok()?;
        let soa = SOA::new(server, mailbox, 1, 7200, 1800, 86400, TTL);
        Some(Record::from_rdata(domain, TTL, RData::SOA(soa)))
    }

    async fn forwarded(&self, name: &Name, kind: RecordType) -> Reply {
        let Some(forward) = &self.forward else { return Reply::failure(ResponseCode::ServFail) };
        // Absolute: the host's search list is not for pods.
        let mut absolute = name.clone();
        absolute.set_fqdn(true);
        match forward.lookup(absolute, kind).await {
            Ok(lookup) => Reply {
                code: ResponseCode::NoError,
                authoritative: false,
                answers: lookup.answers().to_vec(),
                soa: Vec::new(),
            },
            Err(error) if error.is_nx_domain() => Reply::failure(ResponseCode::NXDomain),
            Err(error) if error.is_no_records_found() => Reply::failure(ResponseCode::NoError),
            Err(error) => {
                tracing::debug!(%name, error = &error as &dyn std::error::Error, "forwarding a query failed");
                Reply::failure(ResponseCode::ServFail)
            }
        }
    }
}

#[async_trait::async_trait]
impl<V: View + Unpin + 'static> RequestHandler for Handler<V> {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut respond: R) -> ResponseInfo {
        let builder = MessageResponseBuilder::from_message_request(request);
        let reply = match request.request_info() {
            Ok(info) if info.query.query_class() == DNSClass::IN => {
                self.reply(info.query.original().name(), info.query.query_type()).await
            }
            Ok(_) => Reply::failure(ResponseCode::Refused),
            Err(_) => Reply::failure(ResponseCode::FormErr),
        };
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = reply.code;
        metadata.authoritative = reply.authoritative;
        metadata.recursion_available = true;
        let failed = Header { metadata, counts: HeaderCounts::default() };
        let response = builder.build(metadata, &reply.answers, &[], &reply.soa, &[]);
        respond.send_response(response).await.unwrap_or_else(|error| {
            tracing::debug!(error = &error as &dyn std::error::Error, "an answer was not sent");
            failed.into()
        })
    }
}
