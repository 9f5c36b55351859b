//! From changes of objects to packets: the driver against the real kernel. Needs root.
#![allow(clippy::unwrap_used)]

mod topology;

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use base_tasks::Tasks;
use machinery_client::{Change, ObjectKey};
use net_proxy::{EndpointView, PortView, Protocol, Proxy, ServiceView, SliceView};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use topology::{Peer, call, config, on_a_node, ruleset, udp_call};

const WEB: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 9);

struct Cluster {
    services: UnboundedSender<Change<ServiceView>>,
    slices: UnboundedSender<Change<SliceView>>,
    proxy: Proxy,
    tasks: Tasks,
}

impl Cluster {
    fn start() -> Self {
        let (services, service_changes) = unbounded_channel();
        let (slices, slice_changes) = unbounded_channel();
        let tasks = Tasks::root("test");
        let proxy = Proxy::drive(&tasks, service_changes, slice_changes, config()).unwrap();
        Self { services, slices, proxy, tasks }
    }

    /// A Service with TCP port 80 and UDP port 53.
    fn add_service(&self) {
        let port = |name: &str, protocol, port| PortView { name: name.into(), protocol, port, node_port: None };
        let view = ServiceView {
            cluster_ips: vec![WEB],
            ports: vec![port("web", Protocol::Tcp, 80), port("dns", Protocol::Udp, 53)],
            ..ServiceView::default()
        };
        self.services.send(Change::Applied { key: key(), old: None, new: Arc::new(view) }).unwrap();
    }

    /// Publishes the slice and waits until the kernel follows it.
    async fn set_endpoints(&self, revision: u64, pods: &[(&Peer, bool)]) {
        let endpoint = |(pod, ready): &(&Peer, bool)| EndpointView {
            ip: pod.ip,
            ready: *ready,
            serving: true,
            terminating: !ready,
            node: Some("here".into()),
        };
        let view = SliceView {
            service: key(),
            revision,
            ports: vec![("web".into(), Protocol::Tcp, 8080), ("dns".into(), Protocol::Udp, 8080)],
            endpoints: pods.iter().map(endpoint).collect(),
        };
        self.slices.send(Change::Applied { key: key(), old: None, new: Arc::new(view) }).unwrap();
        self.proxy.programmed().wait_for(|programmed| *programmed >= revision).await.unwrap();
    }
}

fn key() -> ObjectKey {
    ObjectKey::new("default", "web")
}

fn story(story: impl AsyncFnOnce(Cluster) + Send) {
    on_a_node(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let cluster = Cluster::start();
            let tasks = cluster.tasks.clone();
            story(cluster).await;
            tasks.shutdown(Duration::from_secs(5)).await;
        });
    });
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
            let (proxy, ip) = (cluster.proxy.clone(), a.ip);
            async move { proxy.withdrawn(ip).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        cluster.set_endpoints(2, &[(&a, false), (&b, true)]).await;
        waiting.await.unwrap();
        for _ in 0..20 {
            assert_eq!(call((WEB, 80)).unwrap().0, b.ip);
        }
        // The last one leaves too: still the last resort, yet withdrawn.
        cluster.set_endpoints(3, &[(&b, false)]).await;
        cluster.proxy.withdrawn(b.ip).await;
        assert_eq!(call((WEB, 80)).unwrap().0, b.ip);
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
        assert_eq!(udp_call(&socket, (WEB, 53).into()).unwrap().0, a.ip);
        udp_call(&other, (a.ip, 8080).into()).unwrap();
        cluster.set_endpoints(2, &[(&b, true)]).await;
        // The same socket, so the same flow.
        assert_eq!(udp_call(&socket, (WEB, 53).into()).unwrap().0, b.ip);
        assert_eq!(udp_call(&other, (a.ip, 8080).into()).unwrap().0, a.ip);
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
        assert_eq!(call((WEB, 80)).unwrap().0, b.ip);
    });
}
