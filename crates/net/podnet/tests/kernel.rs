//! The pod network against the real kernel, in fresh network namespaces. Needs root.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use base_sys::netns::NetNs;
use base_sys::route::{Request, Route};
use net_podnet::{Error, PodNet, PodNetConfig};

const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);

/// Runs the story inside a fresh "node" namespace: loopback with the node's address, and no default route.
fn on_a_node(story: impl AsyncFnOnce(PodNetConfig) + Send) {
    let directory = tempfile::tempdir().unwrap();
    let config = PodNetConfig {
        state_dir: directory.path().join("net"),
        host_state_dir: directory.path().join("run"),
        node_cidr: "10.42.0.0/24".parse().unwrap(),
        service_cidr: "10.43.0.0/16".parse().unwrap(),
        node_ip: NODE,
        interface_prefix: "smp0a1".into(),
        mtu: None,
    };
    NetNs::create()
        .unwrap()
        .run(|| {
            Route::open().unwrap().apply([Request::link_up(1), Request::add_address(1, NODE, 32)]).unwrap();
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(story(config));
        })
        .unwrap();
}

fn path(netns: &NetNs) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", netns.fd().as_raw_fd()))
}

fn state_of_this_namespace() -> String {
    let run = |program: &str, arguments: &[&str]| {
        String::from_utf8(Command::new(program).args(arguments).output().unwrap().stdout).unwrap()
    };
    let sysctl = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    [
        run("ip", &["-j", "link"]),
        run("ip", &["-j", "route", "show", "table", "all"]),
        run("ip", &["-j", "neigh"]),
        run("nft", &["list", "ruleset"]),
        sysctl,
    ]
    .join("\n")
}

/// Connects from `client` and returns the peer address that the server in `server` saw.
fn seen_source(client: Option<&NetNs>, server: &NetNs, address: SocketAddr) -> Ipv4Addr {
    let listener = server.run(|| TcpListener::bind(("0.0.0.0", address.port())).unwrap()).unwrap();
    let connect = || {
        let mut stream = TcpStream::connect(address).unwrap();
        let mut word = [0; 2];
        stream.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"ok");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| match client {
            Some(netns) => netns.run(connect).unwrap(),
            None => connect(),
        });
        let (mut stream, peer) = listener.accept().unwrap();
        stream.write_all(b"ok").unwrap();
        match peer.ip() {
            std::net::IpAddr::V4(ip) => ip,
            std::net::IpAddr::V6(ip) => panic!("{ip}"),
        }
    })
}

#[test]
fn pods_and_the_node_reach_each_other_with_their_own_addresses() {
    on_a_node(async |config| {
        let net = PodNet::open(config).unwrap();
        let (a, b) = (NetNs::create().unwrap(), NetNs::create().unwrap());
        let ip_a = net.attach("a", &path(&a)).await.unwrap().ip;
        let ip_b = net.attach("b", &path(&b)).await.unwrap().ip;
        assert_ne!(ip_a, ip_b);
        assert_eq!(seen_source(Some(&a), &b, (ip_b, 80).into()), ip_a);
        assert_eq!(seen_source(Some(&b), &a, (ip_a, 80).into()), ip_b);
        assert_eq!(seen_source(None, &a, (ip_a, 80).into()), NODE);
        // Itself, by its own address and by loopback.
        assert_eq!(seen_source(Some(&a), &a, (ip_a, 80).into()), ip_a);
        assert_eq!(seen_source(Some(&a), &a, (Ipv4Addr::LOCALHOST, 80).into()), Ipv4Addr::LOCALHOST);
        // The node, from a pod.
        let here = NetNs::current().unwrap();
        assert_eq!(seen_source(Some(&a), &here, (NODE, 8080).into()), ip_a);
    });
}

#[test]
fn attaching_again_returns_the_same_address_also_after_a_restart() {
    on_a_node(async |config| {
        let pod = NetNs::create().unwrap();
        let net = PodNet::open(config.clone()).unwrap();
        let first = net.attach("a", &path(&pod)).await.unwrap();
        assert_eq!(net.attach("a", &path(&pod)).await.unwrap(), first);
        drop(net);

        let net = PodNet::open(config).unwrap();
        assert_eq!(net.attach("a", &path(&pod)).await.unwrap(), first);
        assert_eq!(net.address("a"), Some(first.ip));

        // A second sandbox never shares it, and neither does the successor of a removed one.
        let other = NetNs::create().unwrap();
        let second = net.attach("b", &path(&other)).await.unwrap();
        assert_ne!(second.ip, first.ip);
        net.detach("a").await.unwrap();
        net.detach("a").await.unwrap();
        let third = net.attach("c", &path(&pod)).await.unwrap();
        assert!(![first.ip, second.ip].contains(&third.ip));
    });
}

#[test]
fn reconcile_keeps_the_living_and_removes_the_rest() {
    on_a_node(async |config| {
        let (a, b) = (NetNs::create().unwrap(), NetNs::create().unwrap());
        let net = PodNet::open(config.clone()).unwrap();
        let kept = net.attach("a", &path(&a)).await.unwrap();
        let lost = net.attach("b", &path(&b)).await.unwrap();
        // A link without a lease: its file was lost.
        std::fs::remove_file(config.state_dir.join("leases").join(lost.ip.to_string())).unwrap();
        drop(net);

        let net = PodNet::open(config).unwrap();
        net.reconcile(HashSet::from(["a".to_owned()])).await.unwrap();
        let links = Route::open().unwrap().links("smp0a1").unwrap();
        assert_eq!(links.iter().map(|link| &link.name).collect::<Vec<_>>(), [&kept.interface]);
        assert_eq!(links[0].alias.as_deref(), Some("a"));
        assert_eq!(seen_source(None, &a, (kept.ip, 80).into()), NODE);
    });
}

#[test]
fn teardown_leaves_nothing() {
    on_a_node(async |config| {
        let before = state_of_this_namespace();
        let pod = NetNs::create().unwrap();
        let net = PodNet::open(config.clone()).unwrap();
        net.attach("a", &path(&pod)).await.unwrap();
        let other = PodNetConfig {
            interface_prefix: "smp0b2".into(),
            state_dir: config.state_dir.with_file_name("other"),
            service_cidr: "10.45.0.0/16".parse().unwrap(),
            ..config.clone()
        };
        PodNet::open(other.clone()).unwrap();
        assert_ne!(state_of_this_namespace(), before);

        PodNet::remove_all(&other).unwrap();
        assert_eq!(base_sys::sysctl::read("net/ipv4/ip_forward").unwrap(), "1", "the first still needs it");
        PodNet::remove_all(&config).unwrap();
        PodNet::remove_all(&config).unwrap();
        assert_eq!(state_of_this_namespace(), before);
        assert_eq!(std::fs::read_dir(&config.host_state_dir).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(config.state_dir.join("leases")).unwrap().count(), 0);
    });
}

#[test]
fn foreign_firewalls_let_pods_pass_and_get_their_rules_back() {
    let nft = |rules: &str| assert!(Command::new("nft").arg(rules).status().unwrap().success(), "{rules}");
    on_a_node(async |config| {
        let clean = state_of_this_namespace();
        nft("table ip filter { chain FORWARD { type filter hook forward priority filter; policy drop; }; }");
        let (a, b) = (NetNs::create().unwrap(), NetNs::create().unwrap());
        let net = PodNet::open(config.clone()).unwrap();
        let ip_a = net.attach("a", &path(&a)).await.unwrap().ip;
        let ip_b = net.attach("b", &path(&b)).await.unwrap().ip;
        assert_eq!(seen_source(Some(&a), &b, (ip_b, 80).into()), ip_a);
        // A second firewall that came later is met by the next pod, the first one stays as it is.
        nft("table inet late { chain forward { type filter hook forward priority 10; policy drop; }; }");
        let c = NetNs::create().unwrap();
        net.attach("c", &path(&c)).await.unwrap();
        assert_eq!(seen_source(Some(&b), &a, (ip_a, 80).into()), ip_b);
        let accepts = state_of_this_namespace().matches("comment \"sampan smp0a1: ").count();
        assert_eq!(accepts, 4, "two rules in each of two chains: {}", state_of_this_namespace());

        drop(net);
        PodNet::remove_all(&config).unwrap();
        let left = state_of_this_namespace();
        assert!(left.contains("policy drop") && !left.contains("smp0a1"), "{left}");
        nft("delete table ip filter; delete table inet late");
        assert_eq!(state_of_this_namespace(), clean);
    });
}

#[test]
fn bad_input_is_refused_and_leaves_no_lease() {
    on_a_node(async |config| {
        for prefix in ["", "toolong", "a/b"] {
            let config = PodNetConfig { interface_prefix: prefix.into(), ..config.clone() };
            assert!(matches!(PodNet::open(config), Err(Error::Prefix(_))), "{prefix:?}");
        }
        let net = PodNet::open(config).unwrap();
        assert!(matches!(net.attach("a", Path::new("/nonexistent")).await, Err(Error::NetNs { .. })));
        assert!(matches!(net.attach("a", Path::new("/proc/self/status")).await, Err(Error::Attach { .. })));
        assert_eq!(net.address("a"), None);
        assert_eq!(Route::open().unwrap().links("smp0a1").unwrap(), []);
    });
}

#[test]
fn attaching_is_quick() {
    on_a_node(async |config| {
        let net = PodNet::open(config).unwrap();
        let pods: Vec<NetNs> = (0..20).map(|_| NetNs::create().unwrap()).collect();
        let mut times = Vec::new();
        for (index, pod) in pods.iter().enumerate() {
            let start = Instant::now();
            net.attach(&index.to_string(), &path(pod)).await.unwrap();
            times.push(start.elapsed());
        }
        times.sort();
        // Ten times the budget: this guards against a mistake in kind, such as running a program.
        assert!(times[times.len() / 2].as_millis() < 30, "{times:?}");
        eprintln!("median {:?}, worst {:?}", times[times.len() / 2], times[times.len() - 1]);
    });
}
