//! What IPv6 needs of its own, and what a cluster of two families must keep.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, Load, Options, Place, eventually, get, must, run};

use crate::balancers::{addresses, holders};
use crate::reach::everybody_reaches_every_pod;
use crate::{echo, one_on_each, three_of};

fn two() -> Result<Cluster> {
    Cluster::start(Options { nodes: 2, ip_family: Some("dual"), ..Options::tutorial() })
}

/// Addresses and containers of all pods, which a restart must not change.
fn pods(cluster: &Cluster) -> Result<Vec<String>> {
    let list = cluster.object(&["pods"])?;
    let items = list["items"].as_array().context("pods")?;
    let text = |pod: &Value| {
        let containers = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
        let containers: Vec<_> = containers.map(|one| (&one["containerID"], &one["restartCount"])).collect();
        format!("{} {} {containers:?}", pod["metadata"]["name"], pod["status"]["podIPs"])
    };
    Ok(items.iter().map(text).collect())
}

fn heard_since(cluster: &Cluster, node: &str, since: &str) -> Result<()> {
    let lease = cluster.object(&["lease", node, "-n", "kube-node-lease"])?;
    let renewed = lease["spec"]["renewTime"].as_str().context("a renewal")?;
    ensure!(renewed > since, "{node} was last heard of at {renewed}, before {since}");
    Ok(())
}

fn now(cluster: &Cluster) -> Result<String> {
    Ok(cluster.node("date", &["-u", "+%Y-%m-%dT%H:%M:%S.%6N"])?.ok().trim().to_owned())
}

#[test]
fn a_cluster_of_two_families_outlives_its_server_and_its_agents() {
    must((|| {
        let cluster = two()?;
        one_on_each(&cluster)?;
        cluster.apply(
            "apiVersion: v1\nkind: Service\nmetadata: {name: echo}\nspec: {ipFamilyPolicy: RequireDualStack, \
             selector: {app: echo}, ports: [{port: 80}]}",
        )?;
        let nodes = cluster.nodes()?;
        let place = Arc::new(Place::of(&nodes[0])?);
        let ips = cluster.service_ips("echo")?;
        ensure!(ips.len() == 2, "{ips:?}");
        for ip in &ips {
            eventually("every backend", || {
                let answers = (0..20).map(|_| place.run(|| get(*ip, "/"))).collect::<Result<Vec<_>>>()?;
                let both = ["echo-n1", "echo-n2"];
                ensure!(both.iter().all(|one| answers.iter().any(|it| it.body.contains(one))), "{answers:?}");
                Ok(())
            });
        }
        let before = pods(&cluster)?;
        let loads: Vec<Load> = ips.iter().map(|ip| Load::start(&place, *ip)).collect();
        for node in [&nodes[1], &nodes[0]] {
            let since = now(&cluster)?;
            cluster.restart_node(node, |_| Ok(()))?;
            eventually("the node is heard of again", || heard_since(&cluster, &node.name, &since));
        }
        loads.iter().for_each(|load| load.go_on_for(200));
        for load in loads {
            load.stop().assert_perfect("n1");
        }
        let after = pods(&cluster)?;
        ensure!(before == after, "{before:?}\n{after:?}");
        cluster.apply(&echo("late-n2", "n2"))?;
        cluster.kubectl(&["wait", "--for=condition=Ready", "pod/late-n2", "--timeout=60s"])?.ok();
        let late = cluster.pod_ips("late-n2")?;
        ensure!(late.len() == 2 && late[0].is_ipv4() && late[1].is_ipv6(), "{late:?}");
        cluster.kubectl(&["delete", "pod", "late-n2"])?.ok();
        everybody_reaches_every_pod(&cluster)?;
        cluster.finish()
    })());
}

/// A megabyte from one pod to another, which only comes with packets that fit the way.
fn much_comes(cluster: &Cluster, from: &str, to: &str, address: IpAddr) -> Result<()> {
    const MUCH: usize = 1 << 20;
    let (sender, receiver) = (Place::pod(cluster, from)?, Place::pod(cluster, to)?);
    let listener = receiver.run(|| TcpListener::bind(SocketAddr::new(address, 9000))).context("listening")?;
    let sending = std::thread::spawn(move || -> Result<()> {
        let mut stream = sender.run(|| TcpStream::connect((address, 9000))).context("connecting")?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        Ok(stream.write_all(&vec![7; MUCH])?)
    });
    let (mut stream, _) = listener.accept().context("accepting")?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).with_context(|| format!("{from} to {address}: {} bytes came", all.len()))?;
    sending.join().expect("no panic")?;
    ensure!(all.len() == MUCH, "{from} to {address}: {} bytes came", all.len());
    Ok(())
}

#[test]
fn packets_of_both_families_fit_a_narrow_way() {
    must((|| {
        let cluster = two()?;
        let nodes = cluster.nodes()?;
        one_on_each(&cluster)?;
        cluster.routes("dev eth0", 2)?;
        // The nodes' own connections find out by themselves what comes through; pods' do not.
        for node in &nodes {
            let file = "/proc/sys/net/ipv4/tcp_mtu_probing";
            run(
                "nsenter",
                &[&format!("--net=/run/netns/{}", node.namespace), "sh", "-c", &format!("echo 2 > {file}")],
            )?;
        }
        // A bridge passes over what is too large for a link, and tells nobody.
        cluster.node("ip", &["link", "set", &nodes[1].link, "mtu", "1400"])?.ok();
        for node in &nodes {
            cluster.restart_node(node, |_| Ok(()))?;
        }
        for family in ["-4", "-6"] {
            eventually("the route says what fits", || {
                let routes = run("ip", &["-n", &nodes[0].namespace, family, "route", "show", "proto", "83"])?;
                ensure!(routes.lines().any(|line| line.contains("mtu 1400")), "{routes}");
                Ok(())
            });
        }
        for pod in ["echo-n1", "echo-n2"] {
            eventually("the agent knows its pod again", || {
                let answer = cluster.kubectl(&["exec", pod, "--", "true"])?;
                ensure!(answer.success, "{answer:?}");
                Ok(())
            });
        }
        for ip in cluster.pod_ips("echo-n2")? {
            much_comes(&cluster, "echo-n1", "echo-n2", ip)?;
        }
        cluster.finish()
    })());
}

#[test]
fn an_address_of_ipv6_is_announced_by_one_node_and_by_another_once_that_is_gone() {
    must((|| {
        let arguments = ["--load-balancer-pool", "fd31:7::200-fd31:7::201"].map(str::to_owned).to_vec();
        let options = Options { nodes: 3, ip_family: Some("dual"), arguments, ..Options::tutorial() };
        let cluster = Cluster::start(options)?;
        one_on_each(&cluster)?;
        cluster.apply(
            "apiVersion: v1\nkind: Service\nmetadata: {name: six}\nspec: {type: LoadBalancer, ipFamilies: [IPv6], \
             selector: {app: echo}, ports: [{port: 80}]}",
        )?;
        let ip = eventually("an address", || addresses(&cluster, "six")?.first().copied().context("none"));
        ensure!(ip.is_ipv6(), "{ip}");
        let (outside, address) = (Place::outside(&cluster)?, SocketAddr::new(ip, 80));
        eventually("one node answers", || {
            let holders = holders(&cluster, ip)?;
            ensure!(holders.len() == 1, "{holders:?}");
            ensure!(outside.run(|| get(address, "/"))?.body.contains("echo-"), "not ours");
            Ok(())
        });
        // The hosts of that network know by which link it is reached.
        let neighbour =
            || -> Result<String> { Ok(cluster.node("ip", &["-6", "neigh", "show", "to", &ip.to_string()])?.ok()) };
        let before = neighbour()?;
        ensure!(before.contains("lladdr"), "{before}");
        let first = holders(&cluster, ip)?.remove(0);
        let cut = Instant::now();
        cluster.node("ip", &["link", "set", &first.link, "down"])?.ok();
        let answer = outside.run(|| get(address, "/"))?;
        ensure!(answer.body.contains("echo-"), "{answer:?}");
        ensure!(cut.elapsed() < Duration::from_secs(10), "the address came back after {:?}", cut.elapsed());
        let second = holders(&cluster, ip)?;
        ensure!(second.iter().any(|node| node.name != first.name), "{second:?}");
        let hardware =
            |text: &str| text.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).map(str::to_owned);
        ensure!(hardware(&before) != hardware(&neighbour()?), "{before} and still {}", neighbour()?);
        cluster.node("ip", &["link", "set", &first.link, "up"])?.ok();
        eventually("one node answers", || {
            let holders = holders(&cluster, ip)?;
            ensure!(holders.len() == 1, "{holders:?}");
            Ok(())
        });
        cluster.finish()
    })());
}

#[test]
fn policies_know_blocks_of_ipv6_on_every_node() {
    must((|| {
        let cluster = three_of("dual")?;
        one_on_each(&cluster)?;
        let ips = |node: &str| cluster.pod_ips(&format!("echo-{node}"));
        let (first, second, third) = (ips("n1")?, ips("n2")?, ips("n3")?);
        let reaches = |from: &str, to: IpAddr| -> Result<bool> {
            let place = Place::pod(&cluster, from)?;
            let tried = place.run(|| TcpStream::connect_timeout(&(to, 80).into(), Duration::from_millis(900)));
            Ok(tried.is_ok())
        };
        for from in ["echo-n2", "echo-n3"] {
            ensure!(reaches(from, first[0])? && reaches(from, first[1])?, "open without policies");
        }
        let policy = |name: &str, spec: Value| {
            let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"name": name}, "spec": spec});
            cluster.apply(&object.to_string())
        };
        let block = json!({"cidr": "fd42::/56", "except": [format!("{}/128", second[1])]});
        policy(
            "ingress",
            json!({"podSelector": {"matchLabels": {"on": "n1"}}, "ingress": [{"from": [{"ipBlock": block}]}]}),
        )?;
        eventually("who is excepted is kept out", || {
            ensure!(!reaches("echo-n2", first[1])?, "still reached");
            Ok(())
        });
        ensure!(reaches("echo-n3", first[1])?, "another of the block");
        ensure!(!reaches("echo-n3", first[0])?, "the other family has no block");
        let only = json!({"cidr": format!("{}/128", second[1])});
        policy(
            "egress",
            json!({"podSelector": {"matchLabels": {"on": "n3"}}, "policyTypes": ["Egress"],
                "egress": [{"to": [{"ipBlock": only}]}]}),
        )?;
        eventually("a pod is kept in", || {
            ensure!(!reaches("echo-n3", first[1])?, "still reached");
            Ok(())
        });
        ensure!(reaches("echo-n3", second[1])?, "the address that is allowed");
        ensure!(!reaches("echo-n3", second[0])?, "the same pod by its other address");
        ensure!(reaches("echo-n2", third[1])?, "and who asks it is answered");
        cluster.finish()
    })());
}

/// A router outside says that it is one, as one does every few minutes.
fn advertise(outside: &Place) -> Result<()> {
    use socket2::{Domain, Protocol, SockAddr, Socket, Type};
    const LINK: &str = "fe80::7";
    // Type 134, hop limit 64, a router for half an hour; the kernel fills the checksum in.
    let message = [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    outside.run(|| -> Result<()> {
        let index = nix::net::if_::if_nametoindex("eth0")?;
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        let own = std::net::SocketAddrV6::new(LINK.parse()?, 0, 0, index);
        socket.bind(&SockAddr::from(own)).context("binding to the link-local address")?;
        socket.set_multicast_hops_v6(255)?;
        socket.set_multicast_if_v6(index)?;
        let all = std::net::SocketAddrV6::new("ff02::1".parse()?, 0, 0, index);
        socket.send_to(&message, &SockAddr::from(all)).context("advertising")?;
        Ok(())
    })
}

fn default_routes(namespace: &str) -> Result<String> {
    run("ip", &["-n", namespace, "-6", "route", "show", "default", "proto", "ra"])
}

#[test]
fn a_route_that_was_advertised_stays_and_later_ones_are_taken() {
    must((|| {
        let both = format!("{},{}", tests::NODE_IP, tests::NODE_IP6);
        let families = [
            "--cluster-cidr",
            "10.42.0.0/16,fd42::/56",
            "--service-cidr",
            "10.43.0.0/16,fd43::/112",
            "--node-ip",
            &both,
        ];
        let prepare = |namespace: &tests::Namespace| -> Result<()> {
            run("ip", &["-n", &namespace.outside, "address", "add", "fe80::7/64", "dev", "eth0", "nodad"])?;
            eventually("the advertised route", || {
                advertise(&Place::named(&namespace.outside)?)?;
                ensure!(default_routes(&namespace.name)?.contains("via fe80::7"), "no route yet");
                Ok(())
            });
            Ok(())
        };
        let arguments = families.iter().map(ToString::to_string).collect();
        let mut cluster = Cluster::start(Options { arguments, prepare: Some(prepare), ..Options::default() })?;
        let name = cluster.namespace.name.clone();
        let accepts = |cluster: &Cluster| -> Result<String> {
            Ok(cluster.node("cat", &["/proc/sys/net/ipv6/conf/eth0/accept_ra"])?.ok().trim().to_owned())
        };
        ensure!(default_routes(&name)?.contains("via fe80::7"), "the route went when the node began to forward");
        ensure!(accepts(&cluster)? == "2", "accept_ra is {}", accepts(&cluster)?);
        run("ip", &["-n", &name, "-6", "route", "delete", "default", "proto", "ra"])?;
        eventually("the next advertisement is taken", || {
            advertise(&Place::outside(&cluster)?)?;
            ensure!(default_routes(&name)?.contains("via fe80::7"), "no route yet");
            Ok(())
        });
        cluster.stop_server(nix::sys::signal::Signal::SIGTERM)?;
        cluster.sampan(&["uninstall"])?.ok();
        ensure!(accepts(&cluster)? == "1", "accept_ra is {} afterwards", accepts(&cluster)?);
        run("ip", &["-n", &name, "-6", "route", "flush", "proto", "ra"])?;
        cluster.finish()
    })());
}
