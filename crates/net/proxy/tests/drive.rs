//! From changes of objects to packets: the driver against the real kernel. Needs root.
#![allow(clippy::unwrap_used)]

mod topology;

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use machinery_client::{Change, ObjectKey};
use net_proxy::{EndpointView, Family, PortView, Protocol, ServiceView, TrafficPolicy, Zone};
use topology::driven::{Cluster, WEB, key};
use topology::{Peer, call, config, on_a_node, ruleset, udp_call};

fn story(story: impl AsyncFnOnce(Cluster) + Send) {
    on_a_node(|| topology::driven::story(config(), story));
}

fn two_pods() -> [Peer; 2] {
    [2, 3].map(|last| {
        let pod = Peer::pod(last);
        pod.serve(8080);
        pod
    })
}

#[test]
fn endpoints_follow_and_a_withdrawal_is_acknowledged() {
    story(async |cluster| {
        let [a, b] = two_pods();
        cluster.add_service();
        cluster.set_endpoints(1, &[(&a, true), (&b, true)]).await;
        call((WEB, 80)).unwrap();

        let waiting = tokio::spawn({
            let (proxy, ip) = (cluster.proxy.clone(), a.ip(Family::V4));
            async move { proxy.withdrawn(ip).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        cluster.set_endpoints(2, &[(&a, false), (&b, true)]).await;
        waiting.await.unwrap();
        for _ in 0..20 {
            assert_eq!(call((WEB, 80)).unwrap().0, b.ip(Family::V4));
        }
        // The last one leaves too: still the last resort, yet withdrawn.
        cluster.set_endpoints(3, &[(&b, false)]).await;
        cluster.proxy.withdrawn(b.ip(Family::V4)).await;
        assert_eq!(call((WEB, 80)).unwrap().0, b.ip(Family::V4));
        // The driver writes nothing when nothing changes for packets.
        let before = ruleset();
        cluster.set_endpoints(4, &[(&b, false)]).await;
        assert_eq!(ruleset(), before);
    });
}

#[test]
fn a_udp_flow_moves_when_its_endpoint_is_withdrawn() {
    story(async |cluster| {
        let [a, b] = two_pods();
        cluster.add_service();
        cluster.set_endpoints(1, &[(&a, true)]).await;
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let other = UdpSocket::bind("0.0.0.0:0").unwrap();
        assert_eq!(udp_call(&socket, (WEB, 53).into()).unwrap().0, a.ip(Family::V4));
        udp_call(&other, (a.ip(Family::V4), 8080).into()).unwrap();
        cluster.set_endpoints(2, &[(&b, true)]).await;
        // The same socket, so the same flow.
        assert_eq!(udp_call(&socket, (WEB, 53).into()).unwrap().0, b.ip(Family::V4));
        assert_eq!(udp_call(&other, (a.ip(Family::V4), 8080).into()).unwrap().0, a.ip(Family::V4));
    });
}

#[test]
fn a_damaged_table_is_written_anew() {
    story(async |cluster| {
        let [a, b] = two_pods();
        cluster.add_service();
        cluster.set_endpoints(1, &[(&a, true)]).await;
        net_proxy::remove(&config().table).unwrap();
        cluster.set_endpoints(2, &[(&b, true)]).await;
        assert_eq!(call((WEB, 80)).unwrap().0, b.ip(Family::V4));
    });
}

/// Waits until calls are answered by exactly these.
fn answered_by(pods: &[&Peer]) {
    let wanted: BTreeSet<IpAddr> = pods.iter().map(|pod| pod.ip(Family::V4)).collect();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        let answers: BTreeSet<IpAddr> = (0..40).map(|_| call((WEB, 80)).unwrap().0).collect();
        if answers == wanted {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{answers:?}, not {wanted:?}");
    }
}

#[test]
fn suspicions_and_the_nodes_zone_move_traffic_and_back() {
    story(async |cluster| {
        let [a, b] = two_pods();
        cluster.add_service();
        let view = |pod: &Peer, node: &str, zone: &str| EndpointView {
            zones: vec![zone.into()],
            ..EndpointView::ready(pod.ip(Family::V4), node)
        };
        cluster.set_views(1, vec![view(&a, "n1", "near"), view(&b, "n2", "far")]).await;
        answered_by(&[&a, &b]);
        cluster.proxy.suspect(BTreeSet::from(["n1".into()]));
        answered_by(&[&b]);
        // All of them suspected: all of them used.
        cluster.proxy.suspect(BTreeSet::from(["n1".into(), "n2".into()]));
        answered_by(&[&a, &b]);
        cluster.proxy.suspect(BTreeSet::new());
        answered_by(&[&a, &b]);
        let here = ObjectKey::new("", "here");
        let zone = Arc::new(Zone(Some("far".into())));
        cluster.zones.send(Change::Applied { key: here.clone(), old: None, new: zone.clone() }).unwrap();
        answered_by(&[&b]);
        cluster.zones.send(Change::Deleted { key: here, old: zone }).unwrap();
        answered_by(&[&a, &b]);
    });
}

/// What a load balancer reads at the health check port.
fn health(port: u16) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    // Reset: it was closed meanwhile.
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

#[test]
fn the_health_check_port_tells_of_endpoints_here() {
    story(async |cluster| {
        let [a, _] = two_pods();
        let view = ServiceView {
            cluster_ips: vec![WEB],
            ports: vec![PortView { name: "web".into(), protocol: Protocol::Tcp, port: 80, node_port: None }],
            external: TrafficPolicy::Local,
            health_port: Some(31_999),
            ..ServiceView::default()
        };
        let old = Arc::new(view);
        cluster.services.send(Change::Applied { key: key(), old: None, new: old.clone() }).unwrap();
        let until = |wanted: &str| {
            let deadline = std::time::Instant::now() + Duration::from_secs(10);
            loop {
                let text = health(31_999).unwrap_or_default();
                if text.contains(wanted) {
                    return text.to_lowercase();
                }
                assert!(std::time::Instant::now() < deadline, "{text}");
            }
        };
        let none = until("\"localEndpoints\": 0,");
        assert!(none.starts_with("http/1.1 503"), "{none}");
        cluster.set_endpoints(1, &[(&a, true)]).await;
        let one = until("\"localEndpoints\": 1,");
        for part in [
            "http/1.1 200",
            "content-type: application/json",
            "x-content-type-options: nosniff",
            "x-load-balancing-endpoint-weight: 1",
            "\"namespace\": \"default\"",
            "\"name\": \"web\"",
            "\"serviceproxyhealthy\": true",
        ] {
            assert!(one.contains(part), "{part} is not in {one}");
        }
        cluster.services.send(Change::Deleted { key: key(), old }).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while health(31_999).is_some() {
            assert!(std::time::Instant::now() < deadline, "the port is still open");
        }
    });
}
