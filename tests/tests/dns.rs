//! The cluster's DNS as dig, glibc and busybox see it: every form of name of the Kubernetes DNS specification, and all that
//! is asked of others.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, Dig, OUTSIDE_IP, Options, Place, Resolver, eventually, must};

const ZONE: &str = "cluster.local";
const SOA: &str = "cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local.";

fn on_a_cluster(test: impl FnOnce(&Cluster) -> Result<()>) {
    must((|| {
        let cluster = Cluster::start(Options::tutorial())?;
        test(&cluster)?;
        cluster.finish()
    })());
}

fn apply(cluster: &Cluster, object: &Value) -> Result<()> {
    cluster.apply(&object.to_string())
}

fn service(cluster: &Cluster, name: &str, spec: &Value) -> Result<()> {
    apply(cluster, &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}))
}

fn sleeper(cluster: &Cluster, name: &str, spec: &Value) -> Result<()> {
    let mut pod = json!({"containers": [{"name": "main", "image": "busybox:1.37", "command": ["sleep", "infinity"]}]});
    for (key, value) in spec.as_object().context("fields")? {
        if key == "container" {
            for (key, value) in value.as_object().context("fields")? {
                pod["containers"][0][key] = value.clone();
            }
        } else {
            pod[key] = value.clone();
        }
    }
    let metadata = json!({"name": name, "labels": {"app": name, "kind": "pet"}});
    apply(cluster, &json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}))
}

fn address(cluster: &Cluster, pod: &str) -> Result<String> {
    cluster.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=60s"])?.ok();
    let pod = cluster.object(&["pod", pod])?;
    Ok(pod["status"]["podIP"].as_str().context("an address")?.to_owned())
}

/// Endpoints by hand, of a Service without a selector.
fn slice(cluster: &Cluster, service: &str, kind: &str, addresses: &[String]) -> Result<()> {
    let endpoints: Vec<Value> = addresses.iter().map(|address| json!({"addresses": [address]})).collect();
    let metadata = json!({"name": format!("{service}-{}", kind.to_lowercase()), "labels": {"kubernetes.io/service-name": service}});
    let ports = json!([{"name": "http", "port": 80, "protocol": "TCP"}]);
    apply(
        cluster,
        &json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata, "addressType": kind,
            "endpoints": endpoints, "ports": ports}),
    )
}

/// Asks from `place` until the records are these, in any order.
#[track_caller]
fn answers(place: &Place, name: &str, kind: &str, wanted: &[String]) -> Dig {
    eventually(&format!("{name} {kind}"), || {
        let dig = Dig::ask(place, &[name, kind])?;
        let mut found = dig.answer.clone();
        found.sort();
        let mut wanted = wanted.to_vec();
        wanted.sort();
        ensure!(dig.status == "NOERROR" && found == wanted, "{dig:?}, not {wanted:?}");
        ensure!(dig.flags == ["qr", "aa", "rd", "ra"], "{dig:?}");
        ensure!(!wanted.is_empty() || dig.authority.iter().any(|record| record.starts_with(SOA)), "{dig:?}");
        Ok(dig)
    })
}

#[track_caller]
fn no_such_name(place: &Place, name: &str, kind: &str) {
    eventually(&format!("no {name} {kind}"), || {
        let dig = Dig::ask(place, &[name, kind])?;
        ensure!(dig.status == "NXDOMAIN" && dig.answer.is_empty(), "{dig:?}");
        ensure!(dig.authority.len() == 1 && dig.authority[0].contains(" 5 IN SOA ns.dns.cluster.local."), "{dig:?}");
        Ok(())
    });
}

#[test]
fn every_form_of_name_is_answered() {
    on_a_cluster(|cluster| {
        let node = Place::node(cluster)?;
        the_zone(&node)?;
        services_with_an_address(cluster, &node)?;
        headless_services(cluster, &node)?;
        aliases(cluster, &node)?;
        pods_and_namespaces(cluster, &node)?;
        large_answers(cluster, &node)?;
        odd_questions(&node)
    });
}

fn the_zone(node: &Place) -> Result<()> {
    answers(node, "dns-version.cluster.local", "TXT", &["dns-version.cluster.local. 28800 IN TXT \"1.1.0\"".into()]);
    let dig = answers(node, ZONE, "NS", &["cluster.local. 5 IN NS kube-dns.kube-system.svc.cluster.local.".into()]);
    assert_eq!(dig.additional, ["kube-dns.kube-system.svc.cluster.local. 5 IN A 10.43.0.10"]);
    let dig = Dig::ask(node, &[ZONE, "SOA"])?;
    assert!(
        dig.answer.len() == 1 && dig.answer[0].starts_with(SOA) && dig.answer[0].ends_with(" 7200 1800 86400 5"),
        "{dig:?}"
    );
    answers(node, ZONE, "A", &[]);
    answers(node, "svc.cluster.local", "A", &[]);
    Ok(())
}

fn services_with_an_address(cluster: &Cluster, node: &Place) -> Result<()> {
    let ports = json!([{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    service(cluster, "web", &json!({"clusterIP": "10.43.7.7", "ports": ports}))?;
    let web = "web.default.svc.cluster.local";
    answers(node, web, "A", &[format!("{web}. 5 IN A 10.43.7.7")]);
    answers(node, web, "AAAA", &[]);
    answers(node, "WEB.default.svc.Cluster.Local", "A", &["WEB.default.svc.Cluster.Local. 5 IN A 10.43.7.7".into()]);
    for (port, number) in [("_http._tcp", 80), ("_dns._udp", 53)] {
        let dig =
            answers(node, &format!("{port}.{web}"), "SRV", &[format!("{port}.{web}. 5 IN SRV 0 100 {number} {web}.")]);
        assert_eq!(dig.additional, [format!("{web}. 5 IN A 10.43.7.7")]);
    }
    no_such_name(node, &format!("_http._udp.{web}"), "SRV");
    answers(node, "7.7.43.10.in-addr.arpa", "PTR", &[format!("7.7.43.10.in-addr.arpa. 5 IN PTR {web}.")]);
    no_such_name(node, "8.7.43.10.in-addr.arpa", "PTR");
    no_such_name(node, "none.default.svc.cluster.local", "A");
    cluster.kubectl(&["delete", "service", "web"])?.ok();
    no_such_name(node, web, "A");
    no_such_name(node, "7.7.43.10.in-addr.arpa", "PTR");
    Ok(())
}

fn headless_services(cluster: &Cluster, node: &Place) -> Result<()> {
    let spec = json!({"clusterIP": "None", "selector": {"kind": "pet"}, "ports": [{"name": "https", "port": 443, "targetPort": 8443}]});
    service(cluster, "pets", &spec)?;
    let pets = "pets.default.svc.cluster.local";
    // No endpoint is ready yet.
    no_such_name(node, pets, "A");
    sleeper(cluster, "first", &json!({"hostname": "my-pet", "subdomain": "pets"}))?;
    sleeper(cluster, "second", &json!({"hostname": "stray", "subdomain": "elsewhere"}))?;
    let probe = json!({"exec": {"command": ["test", "-e", "/ready"]}, "periodSeconds": 1});
    sleeper(cluster, "third", &json!({"container": {"readinessProbe": probe}}))?;
    let (first, second) = (address(cluster, "first")?, address(cluster, "second")?);
    // A hostname counts below the Service that the subdomain names, and only there.
    let dashed = second.replace('.', "-");
    answers(node, pets, "A", &[format!("{pets}. 5 IN A {first}"), format!("{pets}. 5 IN A {second}")]);
    answers(node, &format!("my-pet.{pets}"), "A", &[format!("my-pet.{pets}. 5 IN A {first}")]);
    answers(node, &format!("{dashed}.{pets}"), "A", &[format!("{dashed}.{pets}. 5 IN A {second}")]);
    no_such_name(node, &format!("stray.{pets}"), "A");
    no_such_name(node, &format!("third.{pets}"), "A");
    let srv = |label: &str| format!("_https._tcp.{pets}. 5 IN SRV 0 50 8443 {label}.{pets}.");
    let dig = answers(node, &format!("_https._tcp.{pets}"), "SRV", &[srv("my-pet"), srv(&dashed)]);
    let mut additional = dig.additional;
    additional.sort();
    assert_eq!(additional, [format!("{dashed}.{pets}. 5 IN A {second}"), format!("my-pet.{pets}. 5 IN A {first}")]);
    let reverse = |ip: &str| format!("{}.in-addr.arpa", ip.split('.').rev().collect::<Vec<_>>().join("."));
    answers(node, &reverse(&first), "PTR", &[format!("{}. 5 IN PTR my-pet.{pets}.", reverse(&first))]);

    // One that is not ready is published where the Service says so, and everywhere once it is.
    let all = json!({"clusterIP": "None", "selector": {"app": "third"}, "publishNotReadyAddresses": true, "ports": [{"port": 80}]});
    service(cluster, "early", &all)?;
    let third = eventually("an address", || {
        let pod = cluster.object(&["pod", "third"])?;
        Ok(pod["status"]["podIP"].as_str().context("not yet")?.to_owned())
    });
    answers(
        node,
        "early.default.svc.cluster.local",
        "A",
        &[format!("early.default.svc.cluster.local. 5 IN A {third}")],
    );
    cluster.kubectl(&["exec", "third", "--", "touch", "/ready"])?.ok();
    let every = [&first, &second, &third].map(|ip| format!("{pets}. 5 IN A {ip}"));
    answers(node, pets, "A", &every);
    cluster.kubectl(&["delete", "pod", "second", "third", "--now"])?.ok();
    answers(node, pets, "A", &every[..1]);

    // IPv6 endpoints have AAAA and PTR.
    service(cluster, "six", &json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}))?;
    slice(cluster, "six", "IPv6", &["2001:db8::5".into()])?;
    answers(
        node,
        "six.default.svc.cluster.local",
        "AAAA",
        &["six.default.svc.cluster.local. 5 IN AAAA 2001:db8::5".into()],
    );
    let reverse = "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
    answers(node, reverse, "PTR", &[format!("{reverse}. 5 IN PTR 2001-db8--5.six.default.svc.cluster.local.")]);
    Ok(())
}

fn aliases(cluster: &Cluster, node: &Place) -> Result<()> {
    service(
        cluster,
        "inside",
        &json!({"type": "ExternalName", "externalName": "kubernetes.default.svc.cluster.local"}),
    )?;
    let inside = "inside.default.svc.cluster.local. 5 IN CNAME kubernetes.default.svc.cluster.local.".to_owned();
    let kubernetes = "kubernetes.default.svc.cluster.local. 5 IN A 10.43.0.1".to_owned();
    answers(node, "inside.default.svc.cluster.local", "A", &[inside.clone(), kubernetes]);
    answers(node, "inside.default.svc.cluster.local", "CNAME", &[inside]);
    Ok(())
}

fn pods_and_namespaces(cluster: &Cluster, node: &Place) -> Result<()> {
    let name = "10-42-0-9.default.pod.cluster.local";
    answers(node, name, "A", &[format!("{name}. 5 IN A 10.42.0.9")]);
    // A namespace without any Service exists as long as its object does.
    no_such_name(node, "bare.svc.cluster.local", "A");
    cluster.kubectl(&["create", "namespace", "bare"])?.ok();
    answers(node, "bare.svc.cluster.local", "A", &[]);
    answers(
        node,
        "10-42-0-9.bare.pod.cluster.local",
        "A",
        &["10-42-0-9.bare.pod.cluster.local. 5 IN A 10.42.0.9".into()],
    );
    cluster.kubectl(&["delete", "namespace", "bare"])?.ok();
    no_such_name(node, "bare.svc.cluster.local", "A");
    no_such_name(node, "10-42-0-9.bare.pod.cluster.local", "A");
    Ok(())
}

fn large_answers(cluster: &Cluster, node: &Place) -> Result<()> {
    service(cluster, "many", &json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}))?;
    let all: Vec<String> = (1..=100).map(|last| format!("10.42.9.{last}")).collect();
    slice(cluster, "many", "IPv4", &all)?;
    let many = "many.default.svc.cluster.local";
    eventually("a hundred addresses over TCP", || {
        let dig = Dig::ask(node, &[many, "A", "+tcp"])?;
        ensure!(dig.answer.len() == 100 && !dig.flags.contains(&"tc".to_owned()), "{dig:?}");
        Ok(())
    });
    // Datagrams of 512 bytes without EDNS, of what the client takes with it, of 1,232 at most.
    for (arguments, bytes) in [(&["+noedns"][..], 512), (&["+bufsize=900"], 900), (&["+bufsize=4096"], 1232)] {
        let dig = Dig::ask(node, &[&[many, "A", "+ignore"], arguments].concat())?;
        assert!(dig.flags.contains(&"tc".to_owned()), "{dig:?}");
        // Sixteen bytes each, and less than a hundred for all else.
        let most = bytes / 16;
        assert!(dig.answer.len() < most && dig.answer.len() + 7 > most, "{arguments:?}: {}", dig.answer.len());
    }
    // dig asks again over TCP by itself.
    assert_eq!(Dig::ask(node, &[many, "A"])?.answer.len(), 100);
    Ok(())
}

fn odd_questions(node: &Place) -> Result<()> {
    let kubernetes = "kubernetes.default.svc.cluster.local";
    for (arguments, status) in [
        (&["version.bind", "CH", "TXT"][..], "REFUSED"),
        (&[kubernetes, "A", "+opcode=NOTIFY"], "NOTIMP"),
        (&[kubernetes, "A", "+edns=1", "+noednsnegotiation"], "BADVERS"),
        (&[ZONE, "AXFR"], "REFUSED"),
        (&[kubernetes, "ANY", "+notcp"], "NOERROR"),
        (&[kubernetes, "TYPE65280"], "NOERROR"),
    ] {
        let dig = Dig::ask(node, arguments)?;
        assert_eq!(dig.status, status, "{arguments:?}: {dig:?}");
    }
    Ok(())
}

#[test]
fn other_names_are_asked_of_others() {
    on_a_cluster(|cluster| {
        let (node, outside) = (Place::node(cluster)?, Place::outside(cluster)?);
        let at = |port: u16| SocketAddr::new(OUTSIDE_IP.parse().expect("an address"), port);
        let upstream = Resolver::start(&outside, at(53), &[("www.example.com", [192, 0, 2, 53].into())])?;
        let stub = Resolver::start(&outside, at(5300), &[("db.corp.test", [192, 0, 2, 99].into())])?;
        let settings = |data: Value| {
            let metadata = json!({"name": "sampan-dns", "namespace": "kube-system"});
            apply(cluster, &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}))
        };
        let forwarded = |name: &str, wanted: &str| {
            eventually(name, || {
                let dig = Dig::ask(&node, &[name, "A"])?;
                ensure!(dig.status == "NOERROR" && dig.answer.iter().any(|record| record.ends_with(wanted)), "{dig:?}");
                ensure!(dig.flags == ["qr", "rd", "ra"], "not the cluster's own: {dig:?}");
                Ok(())
            });
        };
        let upstream_at = json!([OUTSIDE_IP]).to_string();
        let stub_at = json!({"corp.test": [format!("{OUTSIDE_IP}:5300")]}).to_string();
        settings(json!({"upstreamNameservers": upstream_at, "stubDomains": stub_at}))?;
        forwarded("www.example.com", "IN A 192.0.2.53");
        forwarded("db.corp.test", "IN A 192.0.2.99");
        assert_eq!((stub.asked("www.example.com"), upstream.asked("db.corp.test")), (0, 0));

        // Remembered, "no" as well where its server says for how long; over TCP, too.
        let before = upstream.asked("www.example.com");
        for _ in 0..5 {
            assert_eq!(Dig::ask(&node, &["www.example.com", "A", "+tcp"])?.answer.len(), 1);
        }
        assert_eq!(upstream.asked("www.example.com"), before);
        let dig = Dig::ask(&node, &["gone.example.com", "A"])?;
        assert_eq!((dig.status.as_str(), dig.answer.len()), ("NXDOMAIN", 0), "{dig:?}");

        // An alias that leads out.
        service(cluster, "out", &json!({"type": "ExternalName", "externalName": "www.example.com"}))?;
        eventually("the alias and its address", || {
            let dig = Dig::ask(&node, &["out.default.svc.cluster.local", "A"])?;
            ensure!(dig.answer.len() == 2, "{dig:?}");
            ensure!(dig.answer[0] == "out.default.svc.cluster.local. 5 IN CNAME www.example.com.", "{dig:?}");
            ensure!(dig.answer[1].ends_with("IN A 192.0.2.53"), "{dig:?}");
            Ok(())
        });
        pods_search(cluster, &upstream)?;

        // What cannot be read changes nothing.
        settings(json!({"upstreamNameservers": "not a list", "stubDomains": stub_at}))?;
        eventually("the warning", || {
            ensure!(cluster.log().contains("its settings cannot be read"), "not logged");
            Ok(())
        });
        forwarded("www.example.com", "IN A 192.0.2.53");

        // Nobody there: a failure, before the client gives up.
        settings(json!({"upstreamNameservers": json!(["198.51.100.200"]).to_string()}))?;
        eventually("new settings", || {
            let begin = Instant::now();
            let dig = Dig::ask(&node, &["www.example.com", "A"])?;
            ensure!(dig.status == "SERVFAIL", "{dig:?}");
            ensure!(begin.elapsed().as_secs() < 5, "after {:?}", begin.elapsed());
            Ok(())
        });
        cluster.kubectl(&["delete", "configmap", "sampan-dns", "-n", "kube-system"])?.ok();
        Ok(())
    });
}

/// glibc (nginx) and busybox follow the search that the server walked for them.
fn pods_search(cluster: &Cluster, upstream: &Resolver) -> Result<()> {
    cluster.kubectl(&["create", "namespace", "other"])?.ok();
    let spec = json!({"clusterIP": "10.43.9.9", "ports": [{"port": 80}]});
    apply(
        cluster,
        &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db", "namespace": "other"}, "spec": spec}),
    )?;
    sleeper(cluster, "busy", &json!({}))?;
    address(cluster, "busy")?;
    let pod = Place::pod(cluster, "busy")?;
    eventually("the walk", || {
        let dig = Dig::ask(&pod, &["db.other.default.svc.cluster.local", "A"])?;
        ensure!(dig.status == "NOERROR", "{dig:?}");
        let alias = "db.other.default.svc.cluster.local. 5 IN CNAME db.other.svc.cluster.local.";
        ensure!(dig.answer == [alias, "db.other.svc.cluster.local. 5 IN A 10.43.9.9"], "{dig:?}");
        Ok(())
    });
    let before = upstream.asked("www.example.com.default.svc.cluster.local");
    let dig = Dig::ask(&pod, &["www.example.com.default.svc.cluster.local", "A"])?;
    assert!(dig.answer.len() == 2 && dig.answer[1].starts_with("www.example.com. "), "{dig:?}");
    assert_eq!(upstream.asked("www.example.com.default.svc.cluster.local"), before);
    for missing in ["missing.default.svc.cluster.local", "www.example.com.other.svc.cluster.local"] {
        assert_eq!(Dig::ask(&pod, &[missing, "A"])?.status, "NXDOMAIN", "{missing}");
    }
    // busybox's own tool searches only for names without dots.
    let looked_up = cluster.kubectl(&["exec", "busy", "--", "nslookup", "db.other.default.svc.cluster.local"])?;
    ensure!(looked_up.stdout.contains("10.43.9.9"), "{}{}", looked_up.stdout, looked_up.stderr);

    cluster.run_my_nginx()?;
    let nginx = cluster.pods("run=my-nginx")?.into_keys().next().context("a pod")?;
    for (name, want) in [("db.other", "10.43.9.9"), ("www.example.com", "192.0.2.53"), ("kubernetes", "10.43.0.1")] {
        let found = cluster.kubectl(&["exec", &nginx, "--", "getent", "ahostsv4", name])?;
        ensure!(found.stdout.starts_with(want), "{name}: {}{}", found.stdout, found.stderr);
    }
    Ok(())
}
