//! Pods that standard CNI plug-ins connect: Debian's `containernetworking-plugins`, and one that fails as it is told to.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Cluster, NODE_IP, NODE_IP6, OUTSIDE_IP, OUTSIDE_IP6, Options, Place, eventually, get, must, run};

/// Folders of configurations, of programs and of what plug-ins remember.
struct PlugIns(TempDir);

impl PlugIns {
    fn new(list: &Value) -> Result<Self> {
        let made = Self(tempfile::Builder::new().prefix("sampan-cni-").tempdir().context("a folder")?);
        for folder in ["conf", "bin"] {
            std::fs::create_dir(made.path(folder)).with_context(|| format!("creating {folder}"))?;
        }
        std::fs::write(made.configuration(), list.to_string()).context("writing a configuration")?;
        Ok(made)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn configuration(&self) -> PathBuf {
        self.path("conf").join("10-pods.conflist")
    }

    fn options(&self, more: &[&str]) -> Options {
        let (conf, bin) = (self.path("conf").display().to_string(), self.path("bin").display().to_string());
        let mut arguments = vec!["--cni-conf-dir".into(), conf, "--cni-bin-dir".into(), format!("{bin},/usr/lib/cni")];
        arguments.extend(more.iter().map(ToString::to_string));
        Options { arguments, ..Options::tutorial() }
    }

    /// The addresses that host-local has given.
    fn leases(&self, network: &str) -> Result<Vec<IpAddr>> {
        let folder = self.path("leases").join(network);
        let entries = std::fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let names: Vec<String> = names.collect::<Result<_>>()?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }
}

fn host_local(plug_ins: &Path, ranges: &[&str]) -> Value {
    let ranges: Vec<Value> = ranges.iter().map(|subnet| json!([{ "subnet": subnet }])).collect();
    let routes = [json!({"dst": "0.0.0.0/0"}), json!({"dst": "::/0"})];
    json!({"type": "host-local", "dataDir": plug_ins, "ranges": ranges, "routes": routes[..ranges.len()]})
}

/// Rewritten once the folder is known.
fn with_leases(mut list: Value, plug_ins: &PlugIns, ranges: &[&str]) -> Result<()> {
    list["plugins"][0]["ipam"] = host_local(&plug_ins.path("leases"), ranges);
    std::fs::write(plug_ins.configuration(), list.to_string()).context("writing the configuration")
}

fn readiness(cluster: &Cluster) -> Result<(String, String, String)> {
    let node = cluster.object(&["node", "one"])?;
    let conditions = node["status"]["conditions"].as_array().context("conditions")?;
    let ready = conditions.iter().find(|one| one["type"] == "Ready").context("a condition Ready")?;
    let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
    Ok((text("status"), text("reason"), text("message")))
}

fn nginx(name: &str, ports: &Value) -> String {
    let container = json!({"name": "web", "image": "nginx", "imagePullPolicy": "IfNotPresent", "ports": ports});
    let metadata = json!({"name": name, "labels": {"run": name, "all": "web"}});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}).to_string()
}

fn service(name: &str, selector: &Value, more: &Value) -> String {
    let mut spec = json!({"selector": selector, "ports": [{"port": 80}], "ipFamilyPolicy": "PreferDualStack"});
    if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
        spec.extend(more.clone());
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}).to_string()
}

/// Asks from inside a pod, by curl.
fn ask(cluster: &Cluster, pod: &str, url: &str) -> Result<()> {
    let answer = cluster.kubectl(&["exec", pod, "--", "curl", "-sS", "-m", "5", "-o", "/dev/null", url])?;
    ensure!(answer.success, "{pod} asks {url}: {}", answer.stderr);
    Ok(())
}

/// From whom the last request to a pod came, as it saw it.
fn last_client(cluster: &Cluster, pod: &str) -> Result<IpAddr> {
    let log = cluster.kubectl(&["logs", pod])?.ok();
    let line = log.lines().rfind(|line| line.contains("\"GET ")).context("a request in the log")?;
    let client = line.split(' ').next().unwrap_or_default();
    client.parse().with_context(|| format!("{line:?} names no client"))
}

#[test]
fn plug_ins_connect_pods_and_everything_leads_to_them() {
    must((|| {
        let list = json!({
            "cniVersion": "1.0.0", "name": "pods",
            "plugins": [
                {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true},
                {"type": "portmap", "capabilities": {"portMappings": true}},
            ],
        });
        let plug_ins = PlugIns::new(&list)?;
        with_leases(list, &plug_ins, &["10.42.0.0/24", "fd42::/64"])?;
        let both = format!("{NODE_IP},{NODE_IP6}");
        let families = [
            "--cluster-cidr",
            "10.42.0.0/16,fd42::/56",
            "--service-cidr",
            "10.43.0.0/16,fd43::/112",
            "--node-ip",
            &both,
        ];
        let mut cluster = Cluster::start(plug_ins.options(&families))?;
        a_missing_configuration_is_waited_for(&cluster, &plug_ins)?;
        services_and_ports_lead_to_pods(&cluster)?;
        pods_outlive_the_agent(&mut cluster)?;
        // What plug-ins leave for the next pod is theirs, and the operator's.
        cluster.kubectl(&["delete", "pods", "--all", "--grace-period=1"])?.ok();
        eventually("every address is free", || {
            let leases = plug_ins.leases("pods")?;
            ensure!(leases.is_empty(), "{leases:?}");
            Ok(())
        });
        cluster.node("ip", &["link", "delete", "cni0"])?.ok();
        for family in ["ip", "ip6"] {
            cluster.node("nft", &["delete", "table", family, "nat"])?.ok();
        }
        cluster.finish()
    })());
}

fn a_missing_configuration_is_waited_for(cluster: &Cluster, plug_ins: &PlugIns) -> Result<()> {
    let aside = plug_ins.path("aside");
    std::fs::rename(plug_ins.configuration(), &aside).context("putting the configuration aside")?;
    eventually("the node is not ready", || {
        let (status, reason, message) = readiness(cluster)?;
        ensure!((&*status, &*reason) == ("False", "KubeletNotReady"), "{status} {reason} {message}");
        let trouble = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
                       message:Network plugin returns error: no network config found in ";
        ensure!(message.starts_with(trouble) && message.ends_with("cni plugin not initialized"), "{message}");
        Ok(())
    });
    // Put on the node by hand: the scheduler would not.
    let mut first: Value = serde_json::from_str(&nginx("first", &json!([{"containerPort": 80, "hostPort": 8080}])))?;
    first["spec"]["nodeName"] = "one".into();
    first["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
    cluster.apply(&first.to_string())?;
    eventually("an Event of the pod", || {
        let events = cluster.kubectl(&["get", "events", "--field-selector", "reason=FailedCreatePodSandBox"])?.ok();
        ensure!(events.contains("no network config found in"), "{events}");
        Ok(())
    });
    std::fs::write(plug_ins.configuration(), "{\"cniVersion\": \"1.0.0\", \"name\": \"pods\"}").context("a bad one")?;
    eventually("what is wrong is named", || {
        let (_, _, message) = readiness(cluster)?;
        ensure!(message.contains("10-pods.conflist: type: is required"), "{message}");
        Ok(())
    });
    std::fs::rename(&aside, plug_ins.configuration()).context("putting it back")?;
    cluster.kubectl(&["wait", "--for=condition=Ready", "node/one", "--timeout=30s"])?.ok();
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/first", "--timeout=30s"])?.ok();
    Ok(())
}

fn services_and_ports_lead_to_pods(cluster: &Cluster) -> Result<()> {
    cluster.apply(&nginx("second", &json!([{"containerPort": 80}])))?;
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/second", "--timeout=30s"])?.ok();
    let first = cluster.pod_ips("first")?;
    ensure!(first.len() == 2 && first[0].is_ipv4() && first[1].is_ipv6(), "{first:?}");
    for name in ["first", "second"] {
        let local = json!({"type": "NodePort", "externalTrafficPolicy": "Local"});
        cluster.apply(&service(name, &json!({ "run": name }), &local))?;
    }
    cluster.apply(&service("any", &json!({"all": "web"}), &json!({"type": "NodePort"})))?;
    let port = |name: &str| -> Result<u16> {
        let service = cluster.object(&["service", name])?;
        Ok(u16::try_from(service["spec"]["ports"][0]["nodePort"].as_u64().context("a node port")?)?)
    };
    let second = cluster.pod_ips("second")?;
    for (family, own) in second.iter().enumerate() {
        let services = cluster.service_ips("first")?;
        let own_service = cluster.service_ips("second")?;
        eventually("a pod of the same bridge, through a Service, sees who asks", || {
            ask(cluster, "second", &format!("http://{}", services[family]))?;
            let client = last_client(cluster, "first")?;
            ensure!(client == *own, "{client} is not {own}");
            Ok(())
        });
        eventually("a pod reaches itself", || ask(cluster, "second", &format!("http://{}", own_service[family])));
        ask(cluster, "second", &format!("http://{}", SocketAddr::new(first[family], 80)))?;
        eventually("the node reaches the Service", || {
            Place::node(cluster)?.run(|| get(services[family], "/")).map(drop)
        });
    }
    eventually("the name", || ask(cluster, "second", "http://first.default.svc.cluster.local"));
    let outside = Place::outside(cluster)?;
    let nodes: [(IpAddr, IpAddr); 2] =
        [(NODE_IP.parse()?, OUTSIDE_IP.parse()?), (NODE_IP6.parse()?, OUTSIDE_IP6.parse()?)];
    for (node, client) in nodes {
        for port in [port("first")?, 8080] {
            eventually("an outsider is seen by its own address", || {
                outside.run(|| get(SocketAddr::new(node, port), "/"))?;
                let seen = last_client(cluster, "first")?;
                ensure!(seen == client, "{seen} is not {client}");
                Ok(())
            });
        }
        let any = SocketAddr::new(node, port("any")?);
        eventually("a node port", || outside.run(|| get(any, "/")).map(drop));
    }
    eventually("a node port of loopback", || {
        let port = port("any")?;
        Place::node(cluster)?.run(|| get(SocketAddr::new([127, 0, 0, 1].into(), port), "/")).map(drop)
    });
    Ok(())
}

fn pods_outlive_the_agent(cluster: &mut Cluster) -> Result<()> {
    let described = |cluster: &Cluster| -> Result<Vec<String>> {
        let list = cluster.object(&["pods"])?;
        let items = list["items"].as_array().context("pods")?;
        let text = |pod: &Value| format!("{} {}", pod["status"]["podIPs"], pod["status"]["containerStatuses"]);
        Ok(items.iter().map(text).collect())
    };
    let before = described(cluster)?;
    cluster.stop_server(Signal::SIGKILL)?;
    cluster.start_server()?;
    cluster.kubectl(&["wait", "--for=condition=Ready", "node/one", "--timeout=30s"])?.ok();
    cluster.apply(&nginx("third", &json!([])))?;
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/third", "--timeout=30s"])?.ok();
    cluster.kubectl(&["delete", "pod", "third", "--grace-period=1"])?.ok();
    let after = described(cluster)?;
    ensure!(before == after, "{before:?}\n{after:?}");
    ask(cluster, "second", "http://first")
}

/// Passes on what came before; DEL fails until the file `allow` is beside it.
const FUSSY: &str = r#"#!/bin/sh
here=$(dirname "$0")
told=$(cat)
case $CNI_COMMAND in
ADD) echo "$told" | sed 's/.*"prevResult":\({.*}\),"type".*/\1/' ;;
DEL) [ -e "$here/allow" ] || { echo '{"cniVersion":"1.0.0","code":11,"msg":"not now","details":"try later"}'; exit 1; } ;;
esac
"#;

#[test]
fn a_pod_is_gone_once_its_plug_ins_have_let_go_and_uninstall_makes_them() {
    must((|| {
        let list = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp"}, {"type": "fussy"}]});
        let plug_ins = PlugIns::new(&list)?;
        with_leases(list, &plug_ins, &["10.42.0.0/24"])?;
        let fussy = plug_ins.path("bin").join("fussy");
        std::fs::write(&fussy, FUSSY).context("writing a plug-in")?;
        std::fs::set_permissions(&fussy, PermissionsExt::from_mode(0o755)).context("making it a program")?;
        let mut cluster = Cluster::start(plug_ins.options(&[]))?;
        for name in ["goes", "stays"] {
            cluster.apply(&nginx(name, &json!([])))?;
        }
        cluster.kubectl(&["wait", "--for=condition=Ready", "pod/goes", "pod/stays", "--timeout=30s"])?.ok();
        let leases = plug_ins.leases("pods")?;
        ensure!(leases.len() == 2, "{leases:?}");
        cluster.kubectl(&["delete", "pod", "goes", "--grace-period=1", "--wait=false"])?.ok();
        eventually("an Event says why the pod does not go", || {
            let events = cluster.kubectl(&["get", "events", "--field-selector", "reason=FailedKillPod"])?.ok();
            ensure!(events.contains("plugin type=\"fussy\" failed (del): not now; try later"), "{events}");
            Ok(())
        });
        cluster.kubectl(&["get", "pod", "goes"])?.ok();
        // Who lets go is another process than who connected; the configuration is not there any more.
        cluster.stop_server(Signal::SIGKILL)?;
        std::fs::remove_file(plug_ins.configuration()).context("removing the configuration")?;
        std::fs::write(plug_ins.path("bin").join("allow"), "").context("letting go")?;
        cluster.start_server()?;
        cluster.kubectl(&["wait", "--for=delete", "pod/goes", "--timeout=60s"])?.ok();
        let leases = plug_ins.leases("pods")?;
        ensure!(leases == cluster.pod_ips("stays")?, "{leases:?}");
        cluster.stop_server(Signal::SIGKILL)?;
        cluster.finish()?;
        let leases = plug_ins.leases("pods")?;
        ensure!(leases.is_empty(), "uninstall left {leases:?}");
        Ok(())
    })());
}

#[test]
fn nodes_of_up_have_plug_ins_of_their_own_and_services_lead_across() {
    must((|| {
        let list = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp"}]});
        let plug_ins = PlugIns::new(&list)?;
        for (number, node) in ["n1", "n2"].iter().enumerate() {
            let mut own = list.clone();
            let (leases, subnet) = (plug_ins.path("leases").join(node), format!("10.42.{number}.0/24"));
            own["plugins"][0]["ipam"] = host_local(&leases, &[&subnet]);
            std::fs::create_dir(plug_ins.path("conf").join(node)).context("a node's folder")?;
            let path = plug_ins.path("conf").join(node).join("10-pods.conflist");
            std::fs::write(path, own.to_string()).context("writing a node's configuration")?;
        }
        let up = ["--cni-conf-dir".to_owned(), plug_ins.path("conf").display().to_string()].to_vec();
        let cluster = Cluster::start(Options { nodes: 2, up, ..Options::tutorial() })?;
        let nodes = cluster.nodes()?;
        // Ways between nodes are the plug-ins' business, or here the operator's.
        for (own, other, number) in [(0, 1, 1), (1, 0, 0)] {
            let (subnet, via) = (format!("10.42.{number}.0/24"), nodes[other].address().to_string());
            run("ip", &["-n", &nodes[own].namespace, "route", "add", &subnet, "via", &via])?;
        }
        for node in ["n1", "n2"] {
            let mut pod: Value = serde_json::from_str(&nginx(&format!("on-{node}"), &json!([])))?;
            pod["spec"]["nodeName"] = node.into();
            cluster.apply(&pod.to_string())?;
        }
        cluster.kubectl(&["wait", "--for=condition=Ready", "pod/on-n1", "pod/on-n2", "--timeout=60s"])?.ok();
        let seen_by_its_own = |what: &str, from: &str, to: &str| -> Result<()> {
            let own = cluster.pod_ips(from)?[0];
            cluster.apply(&service(to, &json!({ "run": to }), &json!({})))?;
            eventually(what, || {
                ask(&cluster, from, &format!("http://{to}"))?;
                let client = last_client(&cluster, to)?;
                ensure!(client == own, "{client} is not {own}");
                Ok(())
            });
            Ok(())
        };
        seen_by_its_own("a Service of another node's pod", "on-n1", "on-n2")?;
        seen_by_its_own("and back", "on-n2", "on-n1")?;
        let service = cluster.service("on-n2")?;
        eventually("the other node", || Place::of(&nodes[0])?.run(|| get(service, "/")).map(drop));
        cluster.finish()
    })());
}
