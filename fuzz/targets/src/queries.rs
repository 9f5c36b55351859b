//! Datagrams as any pod may send them to the cluster's DNS.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};

use hickory_proto::op::{Message, MessageType};
use machinery_client::ObjectKey;
use net_dns::{Endpoint, Forward, Handler, Port, Protocol, ServiceFacts, ServiceKind, SliceFacts, View, Zone};
use tokio::runtime::Runtime;

/// Longer ones would need a second datagram.
const LONGEST: usize = 1232;

struct Cluster;

const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 43, 0, 10));
const POD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 42, 0, 5));

impl View for Cluster {
    fn service(&self, _: &str, name: &str) -> Option<Arc<ServiceFacts>> {
        let kind = match name {
            "a" => ServiceKind::Cluster([SERVER].into()),
            "h" => ServiceKind::Headless,
            "x" => ServiceKind::External("x.b.svc.cluster.local".into()),
            "o" => ServiceKind::External("example.org".into()),
            _ => return None,
        };
        let ports = [Port { name: "p".into(), protocol: Protocol::Tcp, number: 1 }].into();
        Some(Arc::new(ServiceFacts { kind, ports }))
    }

    fn namespace_exists(&self, namespace: &str) -> bool {
        namespace == "b"
    }

    fn slices(&self, namespace: &str, name: &str) -> Vec<Arc<SliceFacts>> {
        let endpoint = |last| Endpoint { address: IpAddr::from([10, 42, 0, last]), hostname: None };
        let ports = [Port { name: "p".into(), protocol: Protocol::Tcp, number: 1 }].into();
        let service = ObjectKey::new(namespace, name);
        vec![Arc::new(SliceFacts { service, endpoints: (0..100).map(endpoint).collect(), ports })]
    }

    fn service_at(&self, address: IpAddr) -> Option<ObjectKey> {
        (address == SERVER).then(|| ObjectKey::new("b", "a"))
    }

    fn slices_at(&self, _: IpAddr) -> Vec<Arc<SliceFacts>> {
        self.slices("b", "h")
    }

    fn searches_from(&self, address: IpAddr) -> Option<Arc<str>> {
        (address == POD).then(|| "b".into())
    }

    fn serial(&self) -> u32 {
        1
    }
}

static SERVING: LazyLock<(Runtime, Handler<Cluster>)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let zone =
        Zone::new("cluster.local", vec![SERVER], vec!["10.42.0.0/15".parse().expect("a block")]).expect("a domain");
    // Nobody is asked: there is no such file.
    let forward = Arc::new(Forward::new(vec![SERVER], "/nonexistent".into()));
    (runtime, Handler { zone, view: Cluster, forward, searches: Vec::new() })
});

pub fn dns(data: &[u8]) {
    let (runtime, handler) = &*SERVING;
    let Some(answer) = runtime.block_on(handler.answer(data, SocketAddr::new(POD, 1))) else { return };
    assert!(answer.len() <= LONGEST.max(data.len() + 64), "{} bytes", answer.len());
    assert_eq!(answer[..2], data[..2], "another question's answer");
    match Message::from_vec(&answer) {
        Ok(decoded) => assert_eq!(decoded.metadata.message_type, MessageType::Response),
        // The question is given back as it came: one that points elsewhere into its packet points nowhere in the answer.
        Err(error) => assert!(data[12..].iter().any(|byte| *byte >= 0xc0), "{error}"),
    }
}
