use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use hickory_proto::op::{Message, MessageType, Query};
use hickory_proto::rr::rdata::{A, SOA};
use tokio::net::UdpSocket;

use super::*;
use crate::fixture::{Fixture, ip, zone};
use crate::settings::Settings;

/// The pod whose searches are walked.
const POD: &str = "10.42.0.5";
const STRANGER: &str = "10.42.0.6";

fn handler(settings: &Settings) -> Handler<Fixture> {
    let forward = Arc::new(Forward::new(vec![ip("10.3.0.10")], "/nonexistent".into()));
    forward.configure(settings);
    Handler { zone: zone(), view: Fixture::new(), forward, searches: Vec::new() }
}

fn upstream(servers: &[SocketAddr]) -> Settings {
    Settings { upstream: Some(servers.to_vec()), ..Settings::default() }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(42, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message
}

async fn send(handler: &Handler<Fixture>, from: &str, message: &Message) -> Message {
    let packet = message.to_vec().expect("encodes");
    let answer = handler.answer(&packet, SocketAddr::new(ip(from), 4242)).await.expect("an answer");
    let answer = Message::from_vec(&answer).expect("decodes");
    assert_eq!((answer.metadata.id, answer.metadata.message_type), (42, MessageType::Response));
    answer
}

async fn ask(handler: &Handler<Fixture>, from: &str, name: &str) -> (ResponseCode, Vec<String>) {
    let answer = send(handler, from, &question(name, RecordType::A)).await;
    (answer.metadata.response_code, answer.answers.iter().map(ToString::to_string).collect())
}

/// A resolver that knows `example.org` and `www.example.com`, and how often it was asked.
async fn resolver() -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let address = socket.local_addr().expect("an address");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let (length, peer) = socket.recv_from(&mut buffer).await.expect("a query");
            count.fetch_add(1, Ordering::Relaxed);
            let query = Message::from_vec(&buffer[..length]).expect("decodes");
            let mut answer = Message::response(query.metadata.id, OpCode::Query);
            let name = query.queries[0].name().clone();
            answer.add_query(query.queries[0].clone());
            if ["example.org.", "www.example.com."].contains(&name.to_lowercase().to_ascii().as_str()) {
                answer.answers = vec![Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 7)))];
            } else {
                answer.metadata.response_code = ResponseCode::NXDomain;
                let soa = SOA::new(Name::root(), Name::root(), 1, 1, 1, 1, 30);
                answer.authorities = vec![Record::from_rdata(Name::root(), 30, RData::SOA(soa))];
            }
            socket.send_to(&answer.to_vec().expect("encodes"), peer).await.expect("sent");
        }
    });
    (address, asked)
}

#[tokio::test]
async fn what_is_no_question_of_ours_is_refused_by_name() {
    let handler = handler(&Settings::default());
    let name = "web.default.svc.cluster.local.";
    let code = async |message: Message| send(&handler, STRANGER, &message).await.metadata.response_code;

    let mut chaos = question(name, RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(code(chaos).await, ResponseCode::Refused);
    let mut two = question(name, RecordType::A);
    two.add_query(two.queries[0].clone());
    assert_eq!(code(two).await, ResponseCode::FormErr);
    let mut none = question(name, RecordType::A);
    none.queries.clear();
    assert_eq!(code(none).await, ResponseCode::FormErr);
    let mut notify = question(name, RecordType::A);
    notify.metadata.op_code = OpCode::Notify;
    assert_eq!(code(notify).await, ResponseCode::NotImp);
    let mut newer = question(name, RecordType::A);
    newer.edns = Some(Edns::new());
    newer.edns.as_mut().expect("set").set_version(1);
    assert_eq!(u16::from(code(newer).await), u16::from(ResponseCode::BADVERS), "a number with two names");
    assert_eq!(handler.answer(b"too short", SocketAddr::new(ip(POD), 1)).await, None);
}

#[tokio::test]
async fn edns_is_answered_with_what_we_send_at_most() {
    let handler = handler(&Settings::default());
    for (asked, want) in [(None, None), (Some(400), Some(512)), (Some(900), Some(900)), (Some(4096), Some(1232))] {
        let mut message = question("web.default.svc.cluster.local.", RecordType::A);
        message.edns = asked.map(|size| {
            let mut edns = Edns::new();
            edns.set_max_payload(size);
            edns
        });
        let answer = send(&handler, STRANGER, &message).await;
        assert_eq!(answer.edns.as_ref().map(Edns::max_payload), want);
        assert_eq!(answer.answers.len(), 1);
    }
}

#[tokio::test]
async fn a_pods_search_is_walked_in_one_exchange() {
    let (address, _) = resolver().await;
    let handler = handler(&upstream(&[address]));
    let (code, answers) = ask(&handler, POD, "example.org.default.svc.cluster.local.").await;
    assert_eq!(code, ResponseCode::NoError);
    let [alias, record] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(alias, "example.org.default.svc.cluster.local. 5 IN CNAME example.org.");
    assert!(record.starts_with("example.org. ") && record.ends_with(" IN A 192.0.2.7"), "{record}");
    let (_, answers) = ask(&handler, POD, "db.other.default.svc.cluster.local.").await;
    assert_eq!(answers[1], "db.other.svc.cluster.local. 5 IN A 10.3.0.9");

    let (code, answers) = ask(&handler, POD, "no.where.default.svc.cluster.local.").await;
    assert_eq!((code, answers.len()), (ResponseCode::NXDomain, 0));
    let (code, _) = ask(&handler, STRANGER, "example.org.default.svc.cluster.local.").await;
    assert_eq!(code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn others_names_are_asked_for_once_and_spelled_as_asked() {
    let (address, asked) = resolver().await;
    let handler = handler(&upstream(&[address]));
    for _ in 0..3 {
        let (code, answers) = ask(&handler, STRANGER, "eXample.ORG.").await;
        assert_eq!(code, ResponseCode::NoError);
        assert!(answers[0].starts_with("eXample.ORG. "), "{answers:?}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    for _ in 0..3 {
        let answer = send(&handler, STRANGER, &question("gone.test.", RecordType::A)).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
        assert!(!answer.metadata.authoritative && answer.authorities.len() == 1, "{answer}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2, "no is remembered, too");
    let (code, answers) = ask(&handler, STRANGER, "foo.default.svc.cluster.local.").await;
    assert_eq!((code, answers.len()), (ResponseCode::NoError, 2), "{answers:?}");
}

#[tokio::test]
async fn stub_domains_have_servers_of_their_own() {
    let (address, _) = resolver().await;
    let stub = (Name::from_ascii("org.").expect("a name"), vec![address]);
    let handler = handler(&Settings { stubs: vec![stub], upstream: Some(Vec::new()) });
    assert_eq!(ask(&handler, STRANGER, "example.org.").await.0, ResponseCode::NoError);
    assert_eq!(ask(&handler, STRANGER, "www.example.com.").await.0, ResponseCode::ServFail, "nobody to ask");
}

/// Real time: the sockets are real, and so is the wait.
#[tokio::test]
async fn a_silent_server_is_passed_over_and_only_silence_fails_in_time() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let silent_at = silent.local_addr().expect("an address");
    let (address, _) = resolver().await;
    let both = handler(&upstream(&[silent_at, address]));
    assert_eq!(ask(&both, STRANGER, "example.org.").await.0, ResponseCode::NoError);

    let alone = handler(&upstream(&[silent_at]));
    let begin = Instant::now();
    assert_eq!(ask(&alone, STRANGER, "example.org.").await.0, ResponseCode::ServFail);
    assert!(begin.elapsed().as_secs() < 5, "clients have given up after {:?}", begin.elapsed());
}

#[tokio::test]
async fn this_server_does_not_ask_itself() {
    let own = SocketAddr::new(ip("10.3.0.10"), 53);
    let handler = handler(&upstream(&[own]));
    assert_eq!(ask(&handler, STRANGER, "example.org.").await.0, ResponseCode::ServFail);
}
