//! What a Service does: its endpoints follow the pods, its address is its own, its connections are balanced.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use tests::{Cluster, NODE_IP, OUTSIDE_IP, Options, Place, eventually, first_process, get, must};

/// Starts a cluster, tests it, and asserts that nothing is left.
fn on_a_cluster(test: impl FnOnce(&Cluster) -> Result<()>) {
    on_a_cluster_with(&[], test);
}

fn on_a_cluster_with(arguments: &[&str], test: impl FnOnce(&Cluster) -> Result<()>) {
    must((|| {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let cluster = Cluster::start(Options { arguments, ..Options::tutorial() })?;
        test(&cluster)?;
        cluster.finish()
    })());
}

/// The ready pods of the Deployment `my-nginx`, once there are so many.
fn pods(cluster: &Cluster, count: usize) -> BTreeMap<String, IpAddr> {
    eventually("pods", || {
        let pods = cluster.pods("run=my-nginx")?;
        ensure!(pods.len() == count, "{pods:?}");
        Ok(pods)
    })
}

fn ips(pods: &BTreeMap<String, IpAddr>) -> BTreeSet<IpAddr> {
    pods.values().copied().collect()
}

/// A pod that nothing selects and that stays.
fn client(cluster: &Cluster, name: &str) -> Result<IpAddr> {
    let arguments = ["run", name, "--image=busybox", "--image-pull-policy=IfNotPresent", "--", "sleep", "infinity"];
    cluster.kubectl(&arguments)?.ok();
    cluster.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"])?.ok();
    cluster.pods(&format!("run={name}"))?.remove(name).context("the client pod")
}

#[test]
fn endpoints_follow_the_pods() {
    on_a_cluster(|cluster| {
        cluster.run_my_nginx()?;
        cluster.kubectl(&["expose", "deployment/my-nginx"])?.ok();
        let first = pods(cluster, 2);
        eventually("two endpoints", || cluster.endpoints_are("my-nginx", &ips(&first)));

        cluster.kubectl(&["scale", "deployment/my-nginx", "--replicas=4"])?.ok();
        cluster.rolled_out("my-nginx")?;
        let four = pods(cluster, 4);
        eventually("four endpoints", || cluster.endpoints_are("my-nginx", &ips(&four)));
        cluster.kubectl(&["scale", "deployment/my-nginx", "--replicas=2"])?.ok();
        let two = pods(cluster, 2);
        eventually("two endpoints again", || cluster.endpoints_are("my-nginx", &ips(&two)));

        let (victim, old) = two.first_key_value().context("a pod")?;
        cluster.kubectl(&["delete", "pod", victim])?.ok();
        cluster.rolled_out("my-nginx")?;
        let replaced = pods(cluster, 2);
        assert!(!replaced.contains_key(victim));
        assert!(replaced.values().all(|ip| ip != old), "{old} was given out again at once: {replaced:?}");
        eventually("the replacement", || cluster.endpoints_are("my-nginx", &ips(&replaced)));

        a_dead_process_is_noticed(cluster, &replaced)?;
        a_changed_selector_is_followed(cluster)
    });
}

fn a_dead_process_is_noticed(cluster: &Cluster, pods: &BTreeMap<String, IpAddr>) -> Result<()> {
    let (victim, ip) = pods.first_key_value().context("a pod")?;
    let restarts = || -> Result<i64> {
        let pod = cluster.object(&["pod", victim])?;
        pod["status"]["containerStatuses"][0]["restartCount"].as_i64().context("a count of restarts")
    };
    kill(first_process(cluster, victim)?, Signal::SIGKILL).context("killing nginx")?;
    eventually("a restart", || {
        let restarts = restarts()?;
        ensure!(restarts == 1, "{restarts} restarts");
        Ok(())
    });
    // The pod is the same, and so is its address.
    assert_eq!(cluster.pods("run=my-nginx")?.get(victim), Some(ip));
    eventually("it is back", || cluster.endpoints_are("my-nginx", &ips(pods)));
    // The second time it waits before it starts again; meanwhile nothing may lead to it.
    kill(first_process(cluster, victim)?, Signal::SIGKILL).context("killing nginx")?;
    let others = pods.values().copied().filter(|other| other != ip).collect();
    eventually("it is out", || cluster.endpoints_are("my-nginx", &others));
    cluster.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{victim}"), "--timeout=60s"])?.ok();
    assert_eq!(restarts()?, 2);
    eventually("it is back again", || cluster.endpoints_are("my-nginx", &ips(pods)));
    Ok(())
}

fn a_changed_selector_is_followed(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["patch", "service", "my-nginx", "-p", r#"{"spec":{"selector":{"run":"other"}}}"#])?.ok();
    eventually("no endpoints", || cluster.endpoints_are("my-nginx", &BTreeSet::new()));
    let pods = pods(cluster, 2);
    let (chosen, ip) = pods.first_key_value().context("a pod")?;
    // The pod leaves its ReplicaSet, which makes another.
    cluster.kubectl(&["label", "pod", chosen, "run=other", "--overwrite"])?.ok();
    eventually("the chosen pod", || cluster.endpoints_are("my-nginx", &BTreeSet::from([*ip])));
    cluster.kubectl(&["delete", "pod", chosen])?.ok();
    eventually("no endpoints again", || cluster.endpoints_are("my-nginx", &BTreeSet::new()));
    Ok(())
}

fn service(name: &str, field: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata:
  name: {name}
spec:
  ports:
  - port: 80
  selector:
    run: my-nginx
  {field}
"
    )
}

#[test]
fn cluster_ips_are_unique_and_come_back() {
    on_a_cluster(|cluster| {
        let create = |name: &str, spec: &str| cluster.kubectl_input(&["create", "-f", "-"], &service(name, spec));
        let many: Vec<String> = (0..30).map(|number| service(&format!("s{number}"), "")).collect();
        cluster.kubectl_input(&["create", "-f", "-"], &many.join("\n---\n"))?.ok();
        let list = cluster.object(&["services", "-A"])?;
        let items = list["items"].as_array().context("services")?;
        let given: BTreeSet<&str> = items.iter().filter_map(|item| item["spec"]["clusterIP"].as_str()).collect();
        assert_eq!(given.len(), 32, "thirty and the cluster's own two, all different: {given:?}");
        assert!(given.iter().all(|ip| ip.starts_with("10.43.")), "{given:?}");

        create("fixed", "clusterIP: 10.43.77.7")?.ok();
        assert_eq!(cluster.service("fixed")?, "10.43.77.7:80".parse()?);
        let taken = create("rival", "clusterIP: 10.43.77.7")?.error();
        let problem = "failed to allocate IP 10.43.77.7: provided IP is already allocated";
        assert!(taken.contains("The Service \"rival\" is invalid: spec.clusterIPs: Invalid value:"), "{taken}");
        assert!(taken.contains(problem), "{taken}");
        let foreign = create("foreign", "clusterIP: 192.0.2.1")?.error();
        assert!(foreign.contains("the provided IP (192.0.2.1) is not in the valid range"), "{foreign}");
        for refused in ["rival", "foreign"] {
            assert!(cluster.kubectl(&["get", "service", refused])?.error().contains("NotFound"));
        }
        let moved = cluster.kubectl(&["patch", "service", "fixed", "-p", r#"{"spec":{"clusterIP":"10.43.77.8"}}"#])?;
        assert!(moved.error().contains("may not change once set"));

        // Released on deletion, and free at once.
        cluster.kubectl(&["delete", "service", "fixed"])?.ok();
        create("rival", "clusterIP: 10.43.77.7")?.ok();
        eventually("the kernel knows it", || {
            cluster.programmed("10.43.77.7:80".parse()?)?.context("10.43.77.7:80 is not there")
        });
        cluster.kubectl(&["delete", "service", "rival"])?.ok();
        eventually("the kernel forgot it", || {
            let left = cluster.programmed("10.43.77.7:80".parse()?)?;
            ensure!(left.is_none(), "{left:?}");
            Ok(())
        });
        Ok(())
    });
}

#[test]
fn headless_services_are_names_only() {
    on_a_cluster(|cluster| {
        cluster.run_my_nginx()?;
        cluster.apply(&service("all", "clusterIP: None"))?;
        client(cluster, "client")?;
        let shown = cluster.kubectl(&["get", "service", "all", "--no-headers"])?.ok();
        assert_eq!(shown.split_whitespace().nth(2), Some("None"), "{shown}");
        let resolved = |name: &str| -> Result<BTreeSet<IpAddr>> {
            let answer = cluster.kubectl(&["exec", "client", "--", "nslookup", "-type=a", name])?;
            ensure!(answer.success, "{answer:?}");
            let addresses = answer.stdout.split("Name:").skip(1).filter_map(|one| one.split("Address:").nth(1));
            addresses.map(|ip| ip.trim().parse().context("an address")).collect()
        };
        let follows = |count: usize| {
            let pods = pods(cluster, count);
            eventually("the name leads to the pods", || {
                let found = resolved("all.default.svc.cluster.local")?;
                ensure!(found == ips(&pods), "{found:?}, not {pods:?}");
                Ok(())
            });
        };
        follows(2);
        cluster.kubectl(&["scale", "deployment/my-nginx", "--replicas=3"])?.ok();
        cluster.rolled_out("my-nginx")?;
        follows(3);
        cluster.kubectl(&["scale", "deployment/my-nginx", "--replicas=1"])?.ok();
        follows(1);
        Ok(())
    });
}

/// The source addresses that a pod's nginx logged for requests whose path contains `text`.
fn sources(cluster: &Cluster, pod: &str, text: &str) -> Result<Vec<String>> {
    let log = cluster.kubectl(&["logs", pod])?.ok();
    let lines = log.lines().filter(|line| line.contains(text));
    Ok(lines.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

#[test]
fn connections_are_balanced_and_keep_their_source() {
    balanced_connections("auto", |last| last);
}

#[test]
fn translated_connections_are_balanced_and_keep_their_source() {
    // Its own address would make the answer bypass the translation back.
    balanced_connections("off", |_| NODE_IP.parse().expect("an address"));
}

/// With `--socket-load-balancing`; `itself` is whom a pod sees calling that calls itself.
fn balanced_connections(sockets: &str, itself: fn(IpAddr) -> IpAddr) {
    on_a_cluster_with(&["--socket-load-balancing", sockets], |cluster| {
        cluster.run_my_nginx()?;
        cluster.kubectl(&["expose", "deployment/my-nginx"])?.ok();
        let pods = pods(cluster, 2);
        eventually("two endpoints", || cluster.endpoints_are("my-nginx", &ips(&pods)));
        let address = cluster.service("my-nginx")?;
        let client_ip = client(cluster, "client")?;

        for (from, place, source) in
            [("node", Place::node(cluster)?, NODE_IP.parse()?), ("client", Place::pod(cluster, "client")?, client_ip)]
        {
            let path = format!("/?from-{from}");
            place.run(|| (0..200).try_for_each(|_| get(address, &path).map(drop)))?;
            let counts = eventually("200 log lines", || {
                let logged = pods.keys().map(|pod| sources(cluster, pod, &path)).collect::<Result<Vec<_>>>()?;
                ensure!(logged.iter().flatten().count() == 200, "{} of 200", logged.iter().flatten().count());
                Ok(logged)
            });
            for sources in &counts {
                assert!((60..=140).contains(&sources.len()), "from {from}: {} of 200", sources.len());
                assert!(sources.iter().all(|one| *one == source.to_string()), "{source} became {sources:?}");
            }
        }
        // What is translated is known to connection tracking by the service's address.
        let of_the_service = ["-L", "-p", "tcp", "--orig-dst", &address.ip().to_string()];
        let flows = cluster.node("conntrack", &of_the_service)?.ok();
        assert_eq!(flows.contains("dport=80"), sockets == "off", "{flows}");
        for place in [Place::node(cluster)?, Place::pod(cluster, "client")?] {
            assert_eq!(place.run(|| TcpStream::connect(address)?.peer_addr())?, address);
        }
        an_affinity_keeps_a_client_at_one_pod(cluster, address)?;
        a_pod_reaches_itself(cluster, address, itself)?;
        without_endpoints_connections_are_refused(cluster, address)
    });
}

fn an_affinity_keeps_a_client_at_one_pod(cluster: &Cluster, address: SocketAddr) -> Result<()> {
    let place = Place::pod(cluster, "client")?;
    // The pods that answered twenty connections.
    let servers = |path: &str| -> Result<Vec<String>> {
        let before = pods(cluster, 2);
        place.run(|| (0..20).try_for_each(|_| get(address, path).map(drop)))?;
        let served = eventually("20 log lines", || {
            let count = |pod: &String| Ok((pod.clone(), sources(cluster, pod, path)?.len()));
            let counts = before.keys().map(count).collect::<Result<Vec<_>>>()?;
            ensure!(counts.iter().map(|(_, count)| count).sum::<usize>() == 20, "{counts:?}");
            Ok(counts)
        });
        Ok(served.into_iter().filter(|(_, count)| *count > 0).map(|(pod, _)| pod).collect())
    };
    let settle = |affinity: &str| -> Result<()> {
        let patch = format!(r#"{{"spec":{{"sessionAffinity":"{affinity}"}}}}"#);
        cluster.kubectl(&["patch", "service", "my-nginx", "-p", &patch])?.ok();
        Ok(())
    };
    settle("ClientIP")?;
    let described = cluster.kubectl(&["describe", "service", "my-nginx"])?.ok();
    assert!(described.lines().any(|line| line.starts_with("Session Affinity:") && line.ends_with("ClientIP")));
    // Nothing tells when the kernel follows a Service; from then on one pod answers.
    let mut rounds = 0..;
    let chosen = eventually("one pod", || {
        let servers = servers(&format!("/?stay-{}.", rounds.next().context("a number")?))?;
        ensure!(servers.len() == 1, "{servers:?}");
        Ok(servers)
    });
    assert_eq!(servers("/?again")?, chosen);
    cluster.kubectl(&["delete", "pod", &chosen[0]])?.ok();
    cluster.rolled_out("my-nginx")?;
    let next = servers("/?moved")?;
    assert!(next.len() == 1 && next != chosen, "{chosen:?}, then {next:?}");
    settle("None")?;
    eventually("both pods", || {
        let servers = servers(&format!("/?free-{}.", rounds.next().context("a number")?))?;
        ensure!(servers.len() == 2, "{servers:?}");
        Ok(())
    });
    Ok(())
}

/// With one pod left, its own Service can only lead back to it.
fn a_pod_reaches_itself(cluster: &Cluster, address: SocketAddr, itself: fn(IpAddr) -> IpAddr) -> Result<()> {
    cluster.kubectl(&["scale", "deployment/my-nginx", "--replicas=1"])?.ok();
    let last = pods(cluster, 1);
    eventually("one endpoint", || cluster.endpoints_are("my-nginx", &ips(&last)));
    let (name, ip) = last.first_key_value().context("a pod")?;
    let (place, caller) = (Place::pod(cluster, name)?, itself(*ip).to_string());
    place.run(|| (0..20).try_for_each(|_| get(address, "/?from-itself").map(drop)))?;
    eventually("20 log lines", || {
        let sources = sources(cluster, name, "from-itself")?;
        ensure!(sources.len() == 20, "{} of 20", sources.len());
        assert!(sources.iter().all(|source| *source == caller), "{sources:?}");
        Ok(())
    });
    Ok(())
}

fn without_endpoints_connections_are_refused(cluster: &Cluster, address: SocketAddr) -> Result<()> {
    cluster.kubectl(&["scale", "deployment/my-nginx", "--replicas=0"])?.ok();
    eventually("no endpoints", || cluster.endpoints_are("my-nginx", &BTreeSet::new()));
    for (from, place) in [("node", Place::node(cluster)?), ("pod", Place::pod(cluster, "client")?)] {
        // Also an address that no Service has, and a port that this one has not.
        for address in [address, SocketAddr::new(address.ip(), 81), "10.43.255.254:80".parse()?] {
            refused_at_once(&place, address).with_context(|| format!("from the {from}"))?;
        }
    }
    Ok(())
}

fn refused_at_once(place: &Place, address: SocketAddr) -> Result<()> {
    let start = Instant::now();
    let error = place.run(|| get(address, "/")).err().with_context(|| format!("{address} answered"))?;
    let (error, took) = (format!("{error:#}"), start.elapsed());
    ensure!(error.contains("refused"), "{address}: {error}");
    // A dropped packet would be sent again after a second.
    ensure!(took < Duration::from_secs(1), "{address}: refused only after {took:?}");
    Ok(())
}

#[test]
fn node_ports_answer_the_outside() {
    on_a_cluster(|cluster| {
        cluster.run_my_nginx()?;
        cluster.kubectl(&["expose", "deployment/my-nginx", "--type=NodePort"])?.ok();
        let pods = pods(cluster, 2);
        eventually("two endpoints", || cluster.endpoints_are("my-nginx", &ips(&pods)));
        let object = cluster.object(&["service", "my-nginx"])?;
        let port = object["spec"]["ports"][0]["nodePort"].as_u64().context("a node port")?;
        let port = u16::try_from(port).context("a port")?;
        assert!((30000..=32767).contains(&port), "{port}");
        let shown = cluster.kubectl(&["get", "service", "my-nginx", "--no-headers"])?.ok();
        assert!(shown.contains(&format!(" 80:{port}/TCP ")), "{shown}");
        eventually("the node port in the kernel", || {
            let programmed = cluster.programmed_node_port(port)?.context("not there")?;
            ensure!(programmed == pods.values().map(|ip| SocketAddr::new(*ip, 80)).collect(), "{programmed:?}");
            Ok(())
        });

        let address = SocketAddr::new(NODE_IP.parse()?, port);
        let client_ip = client(cluster, "client")?;
        let outside = Arc::new(Place::outside(cluster)?);
        for (from, place, source) in [
            // An endpoint on this node sees who really calls.
            ("outside", &*outside, OUTSIDE_IP.parse()?),
            ("node", &Place::node(cluster)?, NODE_IP.parse()?),
            ("client", &Place::pod(cluster, "client")?, client_ip),
        ] {
            let path = format!("/?from-{from}");
            place.run(|| (0..20).try_for_each(|_| get(address, &path).map(drop))).context(from)?;
            eventually("20 log lines", || {
                let logged = pods.keys().map(|pod| sources(cluster, pod, &path)).collect::<Result<Vec<_>>>()?.concat();
                ensure!(logged.len() == 20, "{} of 20", logged.len());
                assert!(logged.iter().all(|one| *one == IpAddr::to_string(&source)), "from {from}: {logged:?}");
                Ok(())
            });
        }
        // Nothing else of the node became reachable by that.
        refused_at_once(&outside, SocketAddr::new(address.ip(), 80))?;
        cluster.kubectl(&["delete", "service", "my-nginx"])?.ok();
        eventually("the node port is gone", || refused_at_once(&outside, address));
        Ok(())
    });
}
