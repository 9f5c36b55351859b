//! "Connecting Applications with Services", command by command, with every kubectl at hand.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tests::{Cluster, Options, Place, eventually, get, must, repository, with_every_kubectl};

fn manifest() -> String {
    repository().join("examples/run-my-nginx.yaml").to_string_lossy().into_owned()
}

/// The words of each line.
fn table(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

/// The headings of a table, which may be of several words.
fn headings(text: &str) -> Vec<&str> {
    let first = text.lines().next().unwrap_or_default();
    first.split("  ").map(str::trim).filter(|heading| !heading.is_empty()).collect()
}

#[test]
fn pods_of_a_deployment_are_applied_and_listed() {
    must(with_every_kubectl(&Options::tutorial(), |cluster| {
        apply_says_what_it_did(cluster)?;
        cluster.rolled_out("my-nginx")?;
        pods_are_listed(cluster)?;
        other_output_forms(cluster)?;
        watching_shows_changes(cluster)
    }));
}

fn apply_says_what_it_did(cluster: &Cluster) -> Result<()> {
    let apply = || cluster.kubectl(&["apply", "-f", &manifest()]);
    assert_eq!(apply()?.ok(), "deployment.apps/my-nginx created\n");
    assert_eq!(apply()?.ok(), "deployment.apps/my-nginx unchanged\n");
    let edited = std::fs::read_to_string(manifest())?.replace("replicas: 2", "replicas: 3");
    assert_eq!(cluster.kubectl_input(&["apply", "-f", "-"], &edited)?.ok(), "deployment.apps/my-nginx configured\n");
    cluster.rolled_out("my-nginx")?;
    assert_eq!(cluster.pods("run=my-nginx")?.len(), 3);
    assert_eq!(apply()?.ok(), "deployment.apps/my-nginx configured\n");
    // Also gone, not only on the way out: the listings that follow count lines.
    eventually("two pods", || {
        let pods = cluster.object(&["pods", "-l", "run=my-nginx"])?;
        ensure!(pods["items"].as_array().map(Vec::len) == Some(2), "{pods}");
        Ok(())
    });
    Ok(())
}

fn pods_are_listed(cluster: &Cluster) -> Result<()> {
    let listed = cluster.kubectl(&["get", "pods", "-l", "run=my-nginx"])?.ok();
    assert_eq!(headings(&listed), ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    let wide = cluster.kubectl(&["get", "pods", "-l", "run=my-nginx", "-o", "wide"])?.ok();
    let columns = ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES"];
    assert_eq!(headings(&wide), columns);
    let rows = &table(&wide)[1..];
    assert_eq!(rows.len(), 2, "{wide}");
    let mut ips = BTreeSet::new();
    for row in rows {
        let [name, ready, status, restarts, _age, ip, node, nominated, gates] = row[..] else { panic!("{wide}") };
        assert!(name.starts_with("my-nginx-"), "{wide}");
        assert_eq!((ready, status, restarts), ("1/1", "Running", "0"), "{wide}");
        assert_eq!((node, nominated, gates), ("one", "<none>", "<none>"), "{wide}");
        ips.insert(ip.parse::<IpAddr>()?);
    }
    assert_eq!(ips.len(), 2, "each pod has its own address: {wide}");
    Ok(())
}

fn other_output_forms(cluster: &Cluster) -> Result<()> {
    let selected =
        |form: &str| Ok::<_, anyhow::Error>(cluster.kubectl(&["get", "pods", "-l", "run=my-nginx", "-o", form])?.ok());
    let pods = cluster.pods("run=my-nginx")?;
    let ips: BTreeSet<String> = pods.values().map(ToString::to_string).collect();

    let json: serde_json::Value = serde_json::from_str(&selected("json")?)?;
    let yaml: serde_json::Value = serde_norway::from_str(&selected("yaml")?)?;
    assert_eq!(json, yaml);
    assert_eq!((json["kind"].as_str(), json["items"].as_array().map(Vec::len)), (Some("List"), Some(2)));

    let path = selected("jsonpath={.items[*].status.podIP}")?;
    assert_eq!(path.split(' ').map(str::to_owned).collect::<BTreeSet<_>>(), ips);
    // As the tutorial asks for it.
    let template = selected("custom-columns=POD_IP:.status.podIPs")?;
    assert_eq!(template.lines().next(), Some("POD_IP"));
    for ip in &ips {
        assert!(template.contains(&format!("[map[ip:{ip}]]")), "{template}");
    }
    let names = selected("name")?;
    assert_eq!(names.lines().collect::<Vec<_>>(), pods.keys().map(|name| format!("pod/{name}")).collect::<Vec<_>>());
    Ok(())
}

/// `-w` prints a pod's changes until its end.
fn watching_shows_changes(cluster: &Cluster) -> Result<()> {
    let pods = cluster.pods("run=my-nginx")?;
    let victim = pods.keys().next().context("a pod")?;
    let mut watch = cluster.kubectl_command(&[
        "get",
        "pods",
        "-w",
        "-o",
        "custom-columns=N:.metadata.name,D:.metadata.deletionTimestamp",
    ]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().context("kubectl get -w")?;
    let mut lines = BufReader::new(watch.stdout.take().context("an output")?).lines();
    let mut until = |what: &str, found: &dyn Fn(&str) -> bool| -> Result<()> {
        for line in lines.by_ref() {
            if found(&line?) {
                return Ok(());
            }
        }
        anyhow::bail!("the watch ended before {what}")
    };
    until("it listed the pod", &|line| line.starts_with(victim.as_str()) && line.ends_with("<none>"))?;
    cluster.kubectl(&["delete", "pod", victim, "--wait=false"])?.ok();
    until("it showed the deletion", &|line| line.starts_with(victim.as_str()) && !line.ends_with("<none>"))?;
    let is_new = |line: &str| line.starts_with("my-nginx-") && !pods.keys().any(|name| line.starts_with(name.as_str()));
    until("it showed a replacement", &is_new)?;
    watch.kill().context("ending the watch")?;
    watch.wait().context("ending the watch")?;
    Ok(())
}

#[test]
fn pods_answer_on_their_own_addresses() {
    must(with_every_kubectl(&Options::tutorial(), |cluster| {
        cluster.run_my_nginx()?;
        let pods = cluster.pods("run=my-nginx")?;
        let ips: BTreeSet<IpAddr> = pods.values().copied().collect();
        assert_eq!(ips.len(), 2);
        for ip in ips {
            let page = cluster.node("curl", &["-sS", "--fail", &format!("http://{ip}/")])?.ok();
            assert!(page.contains("Welcome to nginx!"), "{page}");
            for (name, own) in &pods {
                // The path names who asks; the answering pod logs it with the address it saw.
                let url = format!("http://{ip}/?from-{own}");
                let page = cluster.kubectl(&["exec", name, "--", "curl", "-sS", "--fail", &url])?.ok();
                assert!(page.contains("Welcome to nginx!"), "{page}");
            }
        }
        for (name, ip) in &pods {
            for caller in pods.values() {
                eventually("the access log", || {
                    let log = cluster.kubectl(&["logs", name])?.ok();
                    let line = log.lines().find(|line| line.contains(&format!("from-{caller} ")));
                    let line = line.with_context(|| format!("{caller} is not in the log of {name}:\n{log}"))?;
                    ensure!(line.starts_with(&format!("{caller} ")), "{ip} saw another source address: {line}");
                    Ok(())
                });
            }
        }
        no_host_port_is_taken(cluster)
    }));
}

fn no_host_port_is_taken(cluster: &Cluster) -> Result<()> {
    let listening = cluster.node("ss", &["-H", "-l", "-t", "-n"])?.ok();
    let ports =
        listening.lines().filter_map(|line| line.split_whitespace().nth(3)?.rsplit(':').next()?.parse::<u16>().ok());
    let ports: BTreeSet<u16> = ports.collect();
    assert!(ports.contains(&6443) && !ports.contains(&80), "{listening}");
    for address in [tests::NODE_IP, "127.0.0.1"] {
        let refused = Place::node(cluster)?.run(|| get(SocketAddr::new(address.parse().expect("an address"), 80), "/"));
        let error = refused.err().with_context(|| format!("{address}:80 answered"))?;
        assert!(format!("{error:#}").contains("refused"), "{error:#}");
    }
    Ok(())
}

#[test]
fn a_service_gives_the_pods_one_address() {
    must(with_every_kubectl(&Options::tutorial(), |cluster| {
        cluster.run_my_nginx()?;
        assert_eq!(cluster.kubectl(&["expose", "deployment/my-nginx"])?.ok(), "service/my-nginx exposed\n");
        the_service_is_shown(cluster)?;
        the_service_answers(cluster)?;
        // Equally from a manifest.
        assert_eq!(cluster.kubectl(&["delete", "service", "my-nginx"])?.ok().lines().count(), 1);
        let created = cluster.kubectl_input(&["create", "-f", "-"], SERVICE)?.ok();
        assert_eq!(created, "service/my-nginx created\n");
        the_service_is_shown(cluster)?;
        the_service_answers(cluster)
    }));
}

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata:
  name: my-nginx
  labels:
    run: my-nginx
spec:
  ports:
  - port: 80
    protocol: TCP
  selector:
    run: my-nginx
";

fn the_service_is_shown(cluster: &Cluster) -> Result<()> {
    let shown = cluster.kubectl(&["get", "svc", "my-nginx"])?.ok();
    assert_eq!(headings(&shown), ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]);
    let address = cluster.service("my-nginx")?;
    let ip = address.ip().to_string();
    let row = &table(&shown)[1];
    assert_eq!(row[..5], ["my-nginx", "ClusterIP", &ip, "<none>", "80/TCP"], "{shown}");
    assert!(ip.starts_with("10.43."), "{ip} is not of the service range");

    let pods = cluster.pods("run=my-nginx")?;
    let ips: BTreeSet<IpAddr> = pods.values().copied().collect();
    eventually("endpoints", || cluster.endpoints_are("my-nginx", &ips));
    let same = |text: &str, suffix: &str| {
        let listed: BTreeSet<String> = text.split(',').map(str::to_owned).collect();
        listed == ips.iter().map(|ip| format!("{ip}{suffix}")).collect()
    };
    let slices = cluster.kubectl(&["get", "endpointslices", "-l", "kubernetes.io/service-name=my-nginx"])?.ok();
    assert_eq!(headings(&slices), ["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"]);
    let row = &table(&slices)[1];
    assert!(row[0].starts_with("my-nginx-") && row[1..3] == ["IPv4", "80"] && same(row[3], ""), "{slices}");
    let endpoints = cluster.kubectl(&["get", "ep", "my-nginx"])?.ok();
    assert_eq!(headings(&endpoints), ["NAME", "ENDPOINTS", "AGE"]);
    assert!(table(&endpoints)[1][0] == "my-nginx" && same(table(&endpoints)[1][1], ":80"), "{endpoints}");

    let described = cluster.kubectl(&["describe", "svc", "my-nginx"])?.ok();
    let field = |name: &str| described.lines().find_map(|line| Some(line.strip_prefix(name)?.trim()));
    assert_eq!(field("Selector:"), Some("run=my-nginx"), "{described}");
    assert_eq!(field("IP:"), Some(ip.as_str()), "{described}");
    assert_eq!(field("Port:"), Some("<unset>  80/TCP"), "{described}");
    assert_eq!(field("TargetPort:"), Some("80/TCP"), "{described}");
    assert!(field("Endpoints:").is_some_and(|list| same(list, ":80")), "{described}");
    Ok(())
}

fn the_service_answers(cluster: &Cluster) -> Result<()> {
    let url = format!("http://{}/", cluster.service("my-nginx")?.ip());
    let page = cluster.node("curl", &["-sS", "--fail", &url])?.ok();
    assert!(page.contains("Welcome to nginx!"), "{page}");
    // Both are backends as well: half of these reach the pod itself.
    for name in cluster.pods("run=my-nginx")?.keys() {
        for _ in 0..5 {
            let page = cluster.kubectl(&["exec", name, "--", "curl", "-sS", "--fail", &url])?.ok();
            assert!(page.contains("Welcome to nginx!"), "{page}");
        }
    }
    Ok(())
}

#[test]
fn pods_find_services_by_environment_and_by_name() {
    must(with_every_kubectl(&Options::tutorial(), |cluster| {
        own_services_exist(cluster)?;
        // Before its pods this time: only then are there variables.
        cluster.kubectl_input(&["create", "-f", "-"], SERVICE)?.ok();
        cluster.run_my_nginx()?;
        let ip = cluster.service("my-nginx")?.ip().to_string();
        let pods = cluster.pods("run=my-nginx")?;
        let pod = pods.keys().next().context("a pod")?;
        let environment = cluster.kubectl(&["exec", pod, "--", "printenv"])?.ok();
        for variable in [
            format!("MY_NGINX_SERVICE_HOST={ip}"),
            "MY_NGINX_SERVICE_PORT=80".to_owned(),
            format!("MY_NGINX_PORT=tcp://{ip}:80"),
            format!("MY_NGINX_PORT_80_TCP=tcp://{ip}:80"),
            "MY_NGINX_PORT_80_TCP_PROTO=tcp".to_owned(),
            "MY_NGINX_PORT_80_TCP_PORT=80".to_owned(),
            format!("MY_NGINX_PORT_80_TCP_ADDR={ip}"),
            "KUBERNETES_SERVICE_HOST=10.43.0.1".to_owned(),
            "KUBERNETES_SERVICE_PORT=443".to_owned(),
            "KUBERNETES_SERVICE_PORT_HTTPS=443".to_owned(),
        ] {
            assert!(environment.lines().any(|line| line == variable), "{variable} is not in\n{environment}");
        }
        for name in ["my-nginx", "my-nginx.default", "my-nginx.default.svc", "my-nginx.default.svc.cluster.local"] {
            let found = cluster.kubectl(&["exec", pod, "--", "getent", "ahostsv4", name])?.ok();
            assert_eq!(found.split_whitespace().next(), Some(ip.as_str()), "{name}: {found}");
            let url = format!("http://{name}/");
            let page = cluster.kubectl(&["exec", pod, "--", "curl", "-sS", "--fail", &url])?.ok();
            assert!(page.contains("Welcome to nginx!"), "{page}");
        }
        let missing =
            cluster.kubectl(&["exec", pod, "--", "getent", "ahostsv4", "nobody.default.svc.cluster.local"])?;
        assert!(!missing.success, "{missing:?}");
        Ok(())
    }));
}

fn own_services_exist(cluster: &Cluster) -> Result<()> {
    let services = cluster.kubectl(&["get", "services", "-A", "--no-headers"])?.ok();
    let rows = table(&services);
    assert_eq!(rows[0][..6], ["default", "kubernetes", "ClusterIP", "10.43.0.1", "<none>", "443/TCP"], "{services}");
    let dns = ["kube-system", "kube-dns", "ClusterIP", "10.43.0.10", "<none>", "53/UDP,53/TCP"];
    assert_eq!(rows[1][..6], dns, "{services}");
    let own = format!("{}:6443", tests::NODE_IP);
    let endpoints = cluster.kubectl(&["get", "endpoints", "kubernetes", "--no-headers"])?.ok();
    assert_eq!(table(&endpoints)[0][1], own, "{endpoints}");
    eventually("the API's address in the kernel", || {
        let programmed = cluster.programmed("10.43.0.1:443".parse()?)?;
        ensure!(programmed == Some([own.parse()?].into()), "{programmed:?}");
        Ok(())
    });
    let slices =
        cluster.object(&["endpointslices", "-n", "kube-system", "-l", "kubernetes.io/service-name=kube-dns"])?;
    let endpoints = &slices["items"][0]["endpoints"];
    assert!(endpoints.as_array().is_some_and(|list| !list.is_empty()), "{slices}");
    Ok(())
}
