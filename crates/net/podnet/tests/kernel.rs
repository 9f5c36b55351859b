//! The pod network against the real kernel, in fresh network namespaces. Needs root.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use base_sys::netns::NetNs;
use base_sys::route::{Request, Route};
use net_podnet::{Error, Network, PodNet, PodNetConfig};

const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 77, 1));
const NODE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1));

fn network(node_ip: IpAddr, cluster: &str, service: &str, node: &str) -> Network {
    let [cluster_cidr, service_cidr, node_cidr] = [cluster, service, node].map(|text| text.parse().unwrap());
    Network { cluster_cidr, service_cidr, node_cidr, node_ip }
}

/// Runs the story inside a fresh "node" namespace: a bridge without ports has the node's addresses, and there is no
/// default route.
fn on_a_node(story: impl AsyncFnOnce(PodNetConfig) + Send) {
    let directory = tempfile::tempdir().unwrap();
    let config = PodNetConfig {
        state_dir: directory.path().join("net"),
        host_state_dir: directory.path().join("run"),
        networks: vec![
            network(NODE, "10.42.0.0/16", "10.43.0.0/16", "10.42.0.0/24"),
            network(NODE6, "fd42::/56", "fd43::/112", "fd42::/64"),
        ],
        interface_prefix: "smp0a1".into(),
        mtu: None,
    };
    NetNs::create()
        .unwrap()
        .run(|| {
            let mut route = Route::open().unwrap();
            // A link-local address comes up seconds later, in the middle of a comparison of the kernel's state.
            base_sys::sysctl::write("net/ipv6/conf/default/addr_gen_mode", "1").unwrap();
            route.apply([Request::link_up(1), Request::create_bridge("uplink")]).unwrap();
            base_sys::sysctl::write("net/ipv6/conf/default/addr_gen_mode", "0").unwrap();
            let uplink = route.link("uplink").unwrap().unwrap().index;
            route.apply([Request::add_address(uplink, NODE, 32), Request::add_address(uplink, NODE6, 128)]).unwrap();
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
    let parameters = [
        "ipv4/ip_forward",
        "ipv6/conf/all/forwarding",
        "ipv6/conf/uplink/accept_ra",
        "netfilter/nf_conntrack_tcp_be_liberal",
    ];
    let parameters = parameters.map(|name| std::fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap());
    [
        run("ip", &["-j", "link"]),
        run("ip", &["-j", "route", "show", "table", "all"]),
        run("ip", &["-6", "route", "show", "table", "all"]),
        run("ip", &["-j", "neigh"]),
        run("nft", &["list", "ruleset"]),
        parameters.concat(),
    ]
    .join("\n")
}

/// Connects from `client` and returns the peer address that the server in `server` saw.
fn seen_source(client: Option<&NetNs>, server: &NetNs, address: SocketAddr) -> IpAddr {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let listener = server.run(|| TcpListener::bind((any, address.port())).unwrap()).unwrap();
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
        peer.ip()
    })
}

#[test]
fn pods_and_the_node_reach_each_other_with_their_own_addresses() {
    on_a_node(async |config| {
        let net = PodNet::open(config).unwrap();
        let (a, b) = (NetNs::create().unwrap(), NetNs::create().unwrap());
        let ips_a = net.attach("a", &path(&a)).await.unwrap().ips;
        let ips_b = net.attach("b", &path(&b)).await.unwrap().ips;
        assert_eq!((ips_a[0].is_ipv4(), ips_a[1].is_ipv6(), ips_a.len()), (true, true, 2));
        let loopbacks = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        for (index, node) in [NODE, NODE6].into_iter().enumerate() {
            let (ip_a, ip_b, loopback) = (ips_a[index], ips_b[index], loopbacks[index]);
            assert_ne!(ip_a, ip_b);
            assert_eq!(seen_source(Some(&a), &b, (ip_b, 80).into()), ip_a);
            assert_eq!(seen_source(Some(&b), &a, (ip_a, 80).into()), ip_b);
            assert_eq!(seen_source(None, &a, (ip_a, 80).into()), node);
            // Itself, by its own address and by loopback.
            assert_eq!(seen_source(Some(&a), &a, (ip_a, 80).into()), ip_a);
            assert_eq!(seen_source(Some(&a), &a, (loopback, 80).into()), loopback);
            // The node, from a pod.
            let here = NetNs::current().unwrap();
            assert_eq!(seen_source(Some(&a), &here, (node, 8080).into()), ip_a);
        }
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
        assert_eq!(net.addresses("a"), first.ips);

        // A second sandbox never shares it, and neither does the successor of a removed one.
        let other = NetNs::create().unwrap();
        let second = net.attach("b", &path(&other)).await.unwrap();
        assert!(second.ips.iter().all(|ip| !first.ips.contains(ip)));
        net.detach("a").await.unwrap();
        net.detach("a").await.unwrap();
        let third = net.attach("c", &path(&pod)).await.unwrap();
        let before = [first.ips, second.ips].concat();
        assert!(third.ips.iter().all(|ip| !before.contains(ip)), "{third:?}");
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
        for ip in &lost.ips {
            std::fs::remove_file(config.state_dir.join("leases").join(ip.to_string())).unwrap();
        }
        drop(net);

        let net = PodNet::open(config).unwrap();
        net.reconcile(HashSet::from(["a".to_owned()])).await.unwrap();
        let links = Route::open().unwrap().links("smp0a1").unwrap();
        assert_eq!(links.iter().map(|link| &link.name).collect::<Vec<_>>(), [&kept.interface]);
        assert_eq!(links[0].alias.as_deref(), Some("a"));
        assert_eq!(seen_source(None, &a, (kept.ips[0], 80).into()), NODE);
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
            networks: vec![network(NODE, "10.44.0.0/16", "10.45.0.0/16", "10.44.0.0/24")],
            ..config.clone()
        };
        PodNet::open(other.clone()).unwrap();
        assert_ne!(state_of_this_namespace(), before);
        assert_eq!(base_sys::sysctl::read("net/netfilter/nf_conntrack_tcp_be_liberal").unwrap(), "1");

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
        let ip_a = net.attach("a", &path(&a)).await.unwrap().ips[0];
        let ip_b = net.attach("b", &path(&b)).await.unwrap().ips[0];
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
        assert_eq!(net.addresses("a"), Vec::<IpAddr>::new());
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
