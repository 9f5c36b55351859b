//! NetworkPolicies as their documentation has them, applied with kubectl, between real pods of one node.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, OUTSIDE_IP, Options, Place, eventually, must};

/// A dropped packet is sent again after a second: who has no answer by then has none.
const SILENCE: Duration = Duration::from_millis(900);

fn on_a_cluster(test: impl FnOnce(&Cluster) -> Result<()>) {
    must((|| {
        let cluster = Cluster::start(Options::tutorial())?;
        test(&cluster)?;
        cluster.finish()
    })());
}

fn pod(cluster: &Cluster, namespace: &str, name: &str, image: &str, container: &Value) -> Result<()> {
    let mut main = json!({"name": "main", "image": image, "imagePullPolicy": "IfNotPresent"});
    for (key, value) in container.as_object().context("fields")? {
        main[key] = value.clone();
    }
    let metadata = json!({"name": name, "namespace": namespace, "labels": {"app": name}});
    let spec = json!({"containers": [main], "restartPolicy": "Never", "terminationGracePeriodSeconds": 0});
    cluster.apply(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}).to_string())
}

fn sleeper(cluster: &Cluster, namespace: &str, name: &str) -> Result<()> {
    pod(cluster, namespace, name, "busybox:1.37", &json!({"command": ["sleep", "infinity"]}))
}

fn address(cluster: &Cluster, namespace: &str, name: &str) -> Result<IpAddr> {
    let named = format!("pod/{name}");
    cluster.kubectl(&["wait", "-n", namespace, "--for=condition=Ready", &named, "--timeout=60s"])?.ok();
    let pod = cluster.object(&["-n", namespace, &named])?;
    pod["status"]["podIP"].as_str().context("an address")?.parse().context("an address")
}

fn policy(cluster: &Cluster, name: &str, spec: &Value) -> Result<()> {
    let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec});
    cluster.apply(&object.to_string())
}

fn without_policies(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["delete", "networkpolicies", "--all"])?.ok();
    Ok(())
}

fn reaches(place: &Place, to: IpAddr, port: u16) -> Result<bool> {
    match place.run(|| TcpStream::connect_timeout(&SocketAddr::new(to, port), SILENCE)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::TimedOut => Ok(false),
        Err(error) => Err(error).with_context(|| format!("{to}:{port} is neither reached nor silent")),
    }
}

#[track_caller]
fn becomes(what: &str, place: &Place, to: (IpAddr, u16), wanted: bool) {
    eventually(what, || {
        ensure!(reaches(place, to.0, to.1)? == wanted, "{to:?} is{} reached", if wanted { " not" } else { "" });
        Ok(())
    });
}

/// With busybox's own client, for pods of other namespaces. (Its own limit, `-T`, makes Debian's build of it crash.)
fn fetches(cluster: &Cluster, namespace: &str, from: &str, to: IpAddr, port: u16) -> Result<bool> {
    let url = format!("http://{to}:{port}/");
    let answer =
        cluster.kubectl(&["exec", "-n", namespace, from, "--", "timeout", "1", "wget", "-q", "-O", "-", &url])?;
    Ok(answer.success)
}

#[test]
fn the_documentations_policies_do_what_it_says() {
    on_a_cluster(|cluster| {
        cluster.kubectl(&["create", "namespace", "myproject"])?.ok();
        cluster.kubectl(&["label", "namespace", "myproject", "project=myproject"])?.ok();
        // A probe comes from the node, which no policy keeps out.
        let serve = "echo hello > /tmp/index.html; httpd -h /tmp -p 9090; exec httpd -f -h /tmp -p 8080";
        let probe = json!({"httpGet": {"port": 8080}, "periodSeconds": 1});
        let server = json!({"command": ["sh", "-c", serve], "readinessProbe": probe,
            "ports": [{"name": "web", "containerPort": 8080}]});
        pod(cluster, "default", "server", "busybox:1.37", &server)?;
        for name in ["friend", "stranger"] {
            sleeper(cluster, "default", name)?;
        }
        sleeper(cluster, "myproject", "colleague")?;
        let server = address(cluster, "default", "server")?;
        let (friend_ip, _) = (address(cluster, "default", "friend")?, address(cluster, "default", "stranger")?);
        address(cluster, "myproject", "colleague")?;
        let [friend, stranger] = ["friend", "stranger"].map(|name| Place::pod(cluster, name));
        let (friend, stranger, outside) = (friend?, stranger?, Place::outside(cluster)?);
        let route = format!("{server}/32");
        cluster.outside("ip", &["route", "add", &route, "via", tests::NODE_IP])?.ok();
        for place in [&friend, &stranger, &outside] {
            ensure!(reaches(place, server, 8080)?, "open without policies");
        }

        policy(cluster, "default-deny-ingress", &json!({"podSelector": {}, "policyTypes": ["Ingress"]}))?;
        becomes("default deny", &friend, (server, 8080), false);
        ensure!(!reaches(&outside, server, 8080)? && !fetches(cluster, "myproject", "colleague", server, 8080)?);
        ensure!(reaches(&Place::node(cluster)?, server, 8080)?, "its own node always reaches a pod");

        let from = |peers: Value, ports: Value| json!({"podSelector": {"matchLabels": {"app": "server"}}, "ingress": [{"from": peers, "ports": ports}]});
        let friends = json!([{"podSelector": {"matchLabels": {"app": "friend"}}}]);
        policy(cluster, "allow", &from(friends.clone(), json!([{"port": "web"}])))?;
        becomes("a named port for a friend", &friend, (server, 8080), true);
        ensure!(!reaches(&friend, server, 9090)? && !reaches(&stranger, server, 8080)?);
        ensure!(fetches(cluster, "default", "friend", server, 8080)?);

        policy(cluster, "allow", &from(friends, json!([{"port": 9000, "endPort": 9100}])))?;
        becomes("a range of ports", &friend, (server, 9090), true);
        ensure!(!reaches(&friend, server, 8080)?);

        let project = json!([{"namespaceSelector": {"matchLabels": {"project": "myproject"}}}]);
        policy(cluster, "allow", &from(project, json!([])))?;
        eventually("another namespace", || {
            ensure!(fetches(cluster, "myproject", "colleague", server, 8080)?, "not reached");
            Ok(())
        });
        ensure!(!reaches(&friend, server, 8080)?);
        cluster.kubectl(&["label", "namespace", "myproject", "project-"])?.ok();
        eventually("a namespace without its label", || {
            ensure!(!fetches(cluster, "myproject", "colleague", server, 8080)?, "still reached");
            Ok(())
        });

        let block = |except: &[&str]| json!([{"ipBlock": {"cidr": "198.51.100.0/24", "except": except}}]);
        policy(cluster, "allow", &from(block(&[]), json!([{"port": 8080}])))?;
        becomes("a block", &outside, (server, 8080), true);
        policy(cluster, "allow", &from(block(&[&format!("{OUTSIDE_IP}/32")]), json!([{"port": 8080}])))?;
        becomes("an exception", &outside, (server, 8080), false);

        policy(cluster, "allow-all", &json!({"podSelector": {}, "ingress": [{}]}))?;
        becomes("allow all", &stranger, (server, 9090), true);
        without_policies(cluster)?;

        policy(
            cluster,
            "deny-egress",
            &json!({"podSelector": {"matchLabels": {"app": "friend"}}, "policyTypes": ["Egress"]}),
        )?;
        becomes("default deny egress", &friend, (server, 8080), false);
        ensure!(reaches(&stranger, server, 8080)?);
        // The node answers DNS itself.
        let dig = tests::Dig::ask(&friend, &["kubernetes.default.svc.cluster.local", "A"])?;
        ensure!(dig.status == "NOERROR", "{dig:?}");
        let to = json!({"podSelector": {"matchLabels": {"app": "friend"}}, "policyTypes": ["Egress"],
            "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "server"}}}], "ports": [{"port": "web"}]}]});
        policy(cluster, "allow-egress", &to)?;
        becomes("egress to a named port", &friend, (server, 8080), true);
        ensure!(!reaches(&friend, server, 9090)?);
        ensure!(address(cluster, "default", "friend")? == friend_ip);
        without_policies(cluster)?;
        becomes("open again", &friend, (server, 9090), true);
        Ok(())
    });
}

#[test]
fn a_policy_cuts_open_connections_and_binds_a_pods_first_packet() {
    on_a_cluster(|cluster| {
        pod(cluster, "default", "server", "nginx", &json!({}))?;
        sleeper(cluster, "default", "client")?;
        let server = address(cluster, "default", "server")?;
        address(cluster, "default", "client")?;
        let client = Place::pod(cluster, "client")?;
        let mut stream = eventually("nginx", || {
            client.run(|| TcpStream::connect_timeout(&SocketAddr::new(server, 80), SILENCE)).context("not yet")
        });
        head(&mut stream)?;
        policy(cluster, "deny", &json!({"podSelector": {"matchLabels": {"app": "server"}}}))?;
        becomes("no new connections", &client, (server, 80), false);
        let error = head(&mut stream).expect_err("the old one is cut");
        ensure!(format!("{error:#}").contains("silent"), "{error:#}");

        first_packets(cluster, server)
    });
}

/// One request that leaves the connection open.
fn head(stream: &mut TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    stream.write_all(b"HEAD / HTTP/1.1\r\nHost: server\r\n\r\n")?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        ensure!(stream.read(&mut byte).context("silent")? == 1, "closed");
        answer.extend(byte);
    }
    Ok(())
}

/// Pods whose only process connects at once, beside policies that are already there.
fn first_packets(cluster: &Cluster, server: IpAddr) -> Result<()> {
    without_policies(cluster)?;
    let eager = |name: &str| {
        let connect = format!("timeout 2 wget -q -O /dev/null http://{server}/ && echo reached || echo denied");
        pod(cluster, "default", name, "busybox:1.37", &json!({"command": ["sh", "-c", connect]}))
    };
    let printed = |name: &str| -> Result<String> {
        let named = format!("pod/{name}");
        cluster.kubectl(&["wait", "--for=jsonpath={.status.phase}=Succeeded", &named, "--timeout=60s"])?.ok();
        // Before or after it the shell tells of the time limit.
        let log = cluster.kubectl(&["logs", name])?.ok();
        let said = log.lines().find(|line| ["reached", "denied"].contains(line));
        said.map(ToOwned::to_owned).with_context(|| format!("{name} printed {log:?}"))
    };
    eager("free")?;
    assert_eq!(printed("free")?, "reached");
    let names: Vec<String> = (0..8).map(|number| format!("bound-{number}")).collect();
    policy(
        cluster,
        "egress",
        &json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["server"]}]},
        "policyTypes": ["Egress"]}),
    )?;
    for name in &names {
        eager(name)?;
    }
    for name in &names {
        assert_eq!(printed(name)?, "denied", "{name}");
    }
    without_policies(cluster)
}
