//! One query: checked, answered from the cluster's records or by others, made to fit.

use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;

use hickory_proto::op::{Edns, Header, HeaderCounts, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, rdata::CNAME};
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::NetError;
use hickory_server::net::runtime::{Time, TokioTime};
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::{MessageResponse, MessageResponseBuilder};

use crate::facts::View;
use crate::forward::Forward;
use crate::reply::{LONGEST_DATAGRAM, Reply, SHORTEST_DATAGRAM};
use crate::walk;
use crate::zone::{Outcome, TTL, Zone};

pub struct Handler<V> {
    pub zone: Zone,
    pub view: V,
    pub forward: std::sync::Arc<Forward>,
    /// The host's search list, which pods inherit.
    pub searches: Vec<Name>,
}

impl<V: View + Unpin + 'static> Handler<V> {
    async fn reply(&self, from: IpAddr, name: &Name, kind: RecordType) -> Reply {
        let first = self.one(name, kind).await;
        let addresses = matches!(kind, RecordType::A | RecordType::AAAA);
        if first.code != ResponseCode::NXDomain || !first.authoritative || !addresses {
            return first;
        }
        let Some(namespace) = self.view.searches_from(from) else { return first };
        for next in walk::candidates(&self.zone, &self.view, &self.searches, &namespace, name) {
            let mut found = self.one(&next, kind).await;
            match found.code {
                ResponseCode::NXDomain => {}
                ResponseCode::NoError => {
                    found.answers.insert(0, Record::from_rdata(name.clone(), TTL, RData::CNAME(CNAME(next))));
                    return found;
                }
                // The client walks on by itself, and learns of the failure where it happens.
                _ => return first,
            }
        }
        first
    }

    async fn one(&self, name: &Name, kind: RecordType) -> Reply {
        match self.zone.answer(&self.view, name, kind) {
            Outcome::Ours(reply) => reply,
            Outcome::Foreign => self.forward.lookup(name, kind).await,
            Outcome::Alias(mut reply, target) => {
                let found = self.forward.lookup(&target, kind).await;
                if found.code == ResponseCode::ServFail {
                    return found;
                }
                // The code is that of the last name (RFC 6604).
                reply.code = found.code;
                reply.answers.extend(found.answers);
                reply.authority = found.authority;
                reply
            }
        }
    }

    async fn respond(&self, request: &Request) -> Reply {
        if request.metadata.op_code != OpCode::Query {
            return Reply::code(ResponseCode::NotImp);
        }
        if request.version() > 0 {
            return Reply::code(ResponseCode::BADVERS);
        }
        let Ok(info) = request.request_info() else { return Reply::code(ResponseCode::FormErr) };
        if info.query.query_class() != DNSClass::IN {
            return Reply::code(ResponseCode::Refused);
        }
        let name = info.query.original().name();
        let mut reply = self.reply(info.src.ip(), name, info.query.query_type()).await;
        if info.protocol == Protocol::Udp {
            reply.fit(name, usize::from(datagram(request)));
        }
        reply
    }

    /// One datagram's answer; `None` for what is no query at all.
    pub async fn answer(&self, packet: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
        let request = Request::from_bytes(packet.to_vec(), from, Protocol::Udp).ok()?;
        let kept = Kept::default();
        self.handle_request::<_, TokioTime>(&request, kept.clone()).await;
        kept.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }
}

/// What the client takes, as far as we send so much.
fn datagram(request: &Request) -> u16 {
    let asked = request.edns.as_ref().map_or(SHORTEST_DATAGRAM, Edns::max_payload);
    asked.clamp(SHORTEST_DATAGRAM, LONGEST_DATAGRAM)
}

#[async_trait::async_trait]
impl<V: View + Unpin + 'static> RequestHandler for Handler<V> {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut send: R) -> ResponseInfo {
        let reply = self.respond(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = reply.code;
        metadata.authoritative = reply.authoritative;
        metadata.truncation = reply.truncated;
        metadata.recursion_available = true;
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(datagram(request)).set_dnssec_ok(asked.flags().dnssec_ok);
            edns
        });
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &edns {
            builder.edns(edns);
        }
        let response = builder.build(metadata, &reply.answers, &[], &reply.authority, &reply.additional);
        send.send_response(response).await.unwrap_or_else(|error| {
            tracing::debug!(error = &error as &dyn std::error::Error, "an answer was not sent");
            Header { metadata, counts: HeaderCounts::default() }.into()
        })
    }
}

/// Keeps the answer's bytes instead of sending them.
#[derive(Clone, Default)]
struct Kept(std::sync::Arc<Mutex<Option<Vec<u8>>>>);

#[async_trait::async_trait]
impl ResponseHandler for Kept {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut bytes = Vec::with_capacity(512);
        let info = response.destructive_emit(&mut BinEncoder::new(&mut bytes))?;
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(bytes);
        Ok(info)
    }
}

#[cfg(test)]
#[path = "handler_tests.rs"]
mod tests;
