//! Sockets that are balanced when they connect, against the real kernel: in a cgroup of each test's own. Needs root.
#![allow(clippy::unwrap_used)]

mod topology;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use machinery_client::ObjectKey;
use net_proxy::{Affinity, EndpointView, Family, ProxyConfig, ServiceView, SocketConfig};
use topology::driven::{self, Cluster};
use topology::{Peer, config, on_a_node, open, service, udp, udp_call};

/// A cgroup with this process in it, and a directory for pins; both are gone afterwards.
struct Ground {
    root: PathBuf,
    cgroup: PathBuf,
    directory: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let mounts = base_sys::mounts::all().unwrap();
        let root = mounts.into_iter().find(|mounted| mounted.kind == "cgroup2").unwrap().at;
        let cgroup = root.join(format!("sampan-test-{}", std::process::id()));
        std::fs::create_dir(&cgroup).unwrap();
        enter(&cgroup);
        Self { root, cgroup, directory: tempfile::tempdir().unwrap() }
    }

    fn pins(&self) -> PathBuf {
        self.directory.path().join("bpf")
    }

    fn config(&self) -> ProxyConfig {
        let sockets = SocketConfig { pins: self.pins(), cgroup: Some(self.cgroup.clone()) };
        ProxyConfig { sockets: Some(sockets), ..config() }
    }
}

fn enter(cgroup: &Path) {
    std::fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string()).unwrap();
}

impl Drop for Ground {
    fn drop(&mut self) {
        net_proxy::remove_sockets(&self.pins()).unwrap();
        enter(&self.root);
        std::fs::remove_dir(&self.cgroup).unwrap();
    }
}

fn story(story: impl AsyncFnOnce(&Ground, Cluster) + Send) {
    let ground = Ground::new();
    on_a_node(|| driven::story(ground.config(), async |cluster| story(&ground, cluster).await));
}

const ESTABLISHED: &str = "01";

/// Where a connection of the calling thread's namespace leads, by the kernel's table: behind any answer of `getpeername`.
fn leads_to(stream: &TcpStream) -> SocketAddr {
    let local = stream.local_addr().unwrap().port();
    for table in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap();
        for line in text.lines().skip(1) {
            let mut fields = line.split_whitespace().skip(1);
            let (from, to) = (address(fields.next().unwrap()), address(fields.next().unwrap()));
            // A port may lead to several peers, of which all but one are closed.
            if from.port() == local && fields.next() == Some(ESTABLISHED) {
                return to;
            }
        }
    }
    panic!("no connection from port {local}")
}

/// Words of the machine's byte order, in hexadecimal digits; the port is a number.
fn address(field: &str) -> SocketAddr {
    let (ip, port) = field.split_once(':').unwrap();
    let word = |at: usize| u32::from_str_radix(&ip[at..at + 8], 16).unwrap().to_ne_bytes();
    let ip = match ip.len() {
        8 => IpAddr::from(word(0)),
        _ => {
            let octets: [u8; 16] = [0, 8, 16, 24].map(word).concat().try_into().unwrap();
            Ipv6Addr::from(octets).to_canonical()
        }
    };
    SocketAddr::new(ip, u16::from_str_radix(port, 16).unwrap())
}

/// Connects from where the calling thread is: who answered, and where the connection leads. The socket names the address
/// that it was told.
fn connect(to: impl Into<SocketAddr>) -> (IpAddr, SocketAddr) {
    let to = to.into();
    let (stream, (server, _)) = open(to).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), to);
    (server, leads_to(&stream))
}

fn ready(pods: &[&Peer], family: Family) -> Vec<EndpointView> {
    pods.iter().map(|pod| EndpointView::ready(pod.ip(family), "here")).collect()
}

fn serving(last: u8) -> Peer {
    let pod = Peer::pod(last);
    pod.serve(8080);
    pod
}

/// Its network namespace, as the container runtime names it.
async fn enter_sandbox(cluster: &Cluster, name: &str, peer: &Peer) {
    use std::os::fd::AsRawFd;
    let path = PathBuf::from(format!("/proc/self/fd/{}", peer.netns.fd().as_raw_fd()));
    cluster.proxy.namespaces().enter(name, &path).await;
}

#[test]
fn the_node_and_its_pods_connect_to_endpoints_themselves() {
    for family in Family::ALL {
        story(async |_, cluster| {
            let web = service(family, 9);
            let (a, pod, stranger) = (serving(2), Peer::pod(8), Peer::pod(9));
            let endpoint = SocketAddr::new(a.ip(family), 8080);
            cluster.add(driven::key(), ServiceView { cluster_ips: vec![web], ..Cluster::web() });
            cluster.set_views(1, ready(&[&a], family)).await;
            enter_sandbox(&cluster, "pod", &pod).await;

            assert_eq!(connect((web, 80)), (endpoint.ip(), endpoint));
            assert_eq!(pod.netns.run(|| connect((web, 80))).unwrap(), (endpoint.ip(), endpoint));
            // One that nobody told us of is answered by way of translation.
            let service = SocketAddr::new(web, 80);
            assert_eq!(stranger.netns.run(|| connect(service)).unwrap(), (endpoint.ip(), service));
            if let IpAddr::V4(four) = web {
                // As Java's sockets have it.
                assert_eq!(connect((four.to_ipv6_mapped(), 80)), (endpoint.ip(), endpoint));
            }
            // The endpoint's own connections, and those to its address, are as they were.
            assert_eq!(connect(endpoint), (endpoint.ip(), endpoint));
            enter_sandbox(&cluster, "endpoint", &a).await;
            assert_eq!(a.netns.run(|| connect(service)).unwrap(), (endpoint.ip(), endpoint));
            // Datagrams are translated.
            assert_eq!(udp_call(&udp(family), (web, 53).into()).unwrap().0, endpoint.ip());

            cluster.proxy.namespaces().leave("pod").await;
            assert_eq!(pod.netns.run(|| connect(service)).unwrap(), (endpoint.ip(), service));
            enter_sandbox(&cluster, "pod", &pod).await;
            cluster.proxy.namespaces().keep(&["endpoint".into()]).await;
            assert_eq!(pod.netns.run(|| connect(service)).unwrap(), (endpoint.ip(), service));
        });
    }
}

#[test]
fn connections_spread_over_the_endpoints_and_leave_those_that_go() {
    story(async |_, cluster| {
        let web = SocketAddr::new(driven::WEB, 80);
        let pods = [2, 3, 4].map(serving);
        let [a, b, c] = &pods;
        cluster.add_service();
        let spread = |pods: &[&Peer]| {
            let mut hits: BTreeMap<IpAddr, u32> = pods.iter().map(|pod| (pod.ip(Family::V4), 0)).collect();
            for _ in 0..80 * pods.len() {
                let (server, to) = connect(web);
                assert_eq!(server, to.ip());
                *hits.get_mut(&server).unwrap() += 1;
            }
            // More than five standard deviations of fair draws.
            assert!(hits.values().all(|hits| hits.abs_diff(80) < 40), "{hits:?}");
        };
        cluster.set_views(1, ready(&[a], Family::V4)).await;
        spread(&[a]);
        cluster.set_views(2, ready(&[a, b, c], Family::V4)).await;
        spread(&[a, b, c]);
        cluster.set_views(3, ready(&[b, c], Family::V4)).await;
        spread(&[b, c]);
        cluster.set_views(4, Vec::new()).await;
        let refused = TcpStream::connect(web).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        cluster.set_views(5, ready(&[a], Family::V4)).await;
        spread(&[a]);
    });
}

#[test]
fn no_connection_fails_while_endpoints_come_and_go() {
    story(async |_, cluster| {
        let pods = [2, 3, 4].map(serving);
        let [a, b, c] = &pods;
        cluster.add_service();
        cluster.set_views(1, ready(&[a, b], Family::V4)).await;
        let over = AtomicBool::new(false);
        let here = base_sys::netns::NetNs::current().unwrap();
        std::thread::scope(|scope| {
            let load = scope.spawn(|| {
                let connect_on = || {
                    let mut made = 0;
                    while !over.load(Ordering::Relaxed) {
                        open((driven::WEB, 80)).unwrap();
                        made += 1;
                    }
                    made
                };
                here.run(connect_on).unwrap()
            });
            let turns = [vec![a, b, c], vec![c, b], vec![b], vec![a, b]];
            for (revision, pods) in (2..).zip(turns.iter().cycle().take(60)) {
                tokio::task::block_in_place(|| {
                    tokio::runtime::Handle::current().block_on(cluster.set_views(revision, ready(pods, Family::V4)));
                });
            }
            over.store(true, Ordering::Relaxed);
            assert!(load.join().unwrap() > 50);
        });
    });
}

#[test]
fn what_needs_more_than_a_choice_is_translated() {
    story(async |_, cluster| {
        let a = serving(2);
        let sticky = ObjectKey::new("default", "sticky");
        let (ip, endpoint) = (service(Family::V4, 7), SocketAddr::new(a.ip(Family::V4), 8080));
        let view = |affinity| ServiceView { cluster_ips: vec![ip], affinity, ..Cluster::web() };
        cluster.add(sticky.clone(), view(Some(Affinity::DEFAULT)));
        cluster.set_views_of(sticky.clone(), 1, ready(&[&a], Family::V4)).await;
        assert_eq!(connect((ip, 80)), (endpoint.ip(), (ip, 80).into()));
        cluster.add(sticky.clone(), view(None));
        cluster.set_views_of(sticky.clone(), 2, ready(&[&a], Family::V4)).await;
        assert_eq!(connect((ip, 80)), (endpoint.ip(), endpoint));
        cluster.add(sticky.clone(), view(Some(Affinity::DEFAULT)));
        cluster.set_views_of(sticky, 3, ready(&[&a], Family::V4)).await;
        assert_eq!(connect((ip, 80)), (endpoint.ip(), (ip, 80).into()));
    });
}

#[test]
fn sockets_are_balanced_while_the_binary_is_away_and_the_next_one_goes_on() {
    let ground = Ground::new();
    on_a_node(|| {
        driven::on_a_runtime(async || {
            let pods = [2, 3].map(serving);
            let [a, b] = &pods;
            let pod = Peer::pod(8);
            let to = |pod: &Peer| SocketAddr::new(pod.ip(Family::V4), 8080);
            let web = SocketAddr::new(driven::WEB, 80);
            let first = Cluster::start(ground.config());
            first.proxy.loaded().await;
            first.add_service();
            first.set_views(1, ready(&[a], Family::V4)).await;
            enter_sandbox(&first, "pod", &pod).await;
            first.stop().await;
            assert_eq!(connect(web).1, to(a));
            assert_eq!(pod.netns.run(|| connect(web)).unwrap().1, to(a));

            // It comes back to other endpoints, and to another Service in place of one that went.
            let second = Cluster::start(ground.config());
            second.proxy.loaded().await;
            let other = service(Family::V4, 6);
            second.add(driven::key(), ServiceView { cluster_ips: vec![other], ..Cluster::web() });
            second.set_views(2, ready(&[b], Family::V4)).await;
            assert_eq!(connect((other, 80)).1, to(b));
            assert_eq!(pod.netns.run(|| connect((other, 80))).unwrap().1, to(b));
            assert_eq!(TcpStream::connect(web).unwrap_err().kind(), ErrorKind::ConnectionRefused);
            // What the first run knew of pods, the second knows.
            second.proxy.namespaces().leave("pod").await;
            assert_eq!(pod.netns.run(|| connect((other, 80))).unwrap().1, SocketAddr::new(other, 80));
            second.stop().await;

            net_proxy::remove_sockets(&ground.pins()).unwrap();
            assert!(!ground.pins().exists());
            assert_eq!(connect((other, 80)).1, SocketAddr::new(other, 80));
            net_proxy::remove_sockets(&ground.pins()).unwrap();
        });
    });
}

#[test]
fn where_the_kernel_refuses_everything_is_translated() {
    let directory = tempfile::tempdir().unwrap();
    // No cgroup of version 2: nothing can be attached there.
    let cgroup = Some(directory.path().to_owned());
    let pins = directory.path().join("bpf");
    let refused = ProxyConfig { sockets: Some(SocketConfig { pins: pins.clone(), cgroup }), ..config() };
    on_a_node(|| {
        driven::story(refused, async |cluster| {
            let a = serving(2);
            cluster.add_service();
            cluster.set_views(1, ready(&[&a], Family::V4)).await;
            enter_sandbox(&cluster, "endpoint", &a).await;
            assert_eq!(connect((driven::WEB, 80)).1, SocketAddr::new(driven::WEB, 80));
            let answers: BTreeSet<IpAddr> = (0..10).map(|_| connect((driven::WEB, 80)).0).collect();
            assert_eq!(answers, BTreeSet::from([a.ip(Family::V4)]));
        });
    });
    net_proxy::remove_sockets(&pins).unwrap();
}
