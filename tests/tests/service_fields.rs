//! What a Service can say beyond its port: every other way in, endpoints made by hand, addresses and where they are from.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use tests::{Cluster, NODE_IP, Options, Place, eventually, get, must};

fn on_a_cluster(options: Options, test: impl FnOnce(&Cluster) -> Result<()>) {
    must((|| {
        let cluster = Cluster::start(options)?;
        test(&cluster)?;
        cluster.finish()
    })());
}

const BALANCED: &str = "
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  # Somebody else gives it its addresses.
  loadBalancerClass: example.org/balancer
  externalIPs: [198.18.0.7]
  ports: [{port: 80}]
  selector: {run: my-nginx}
";

#[test]
fn every_way_in_leads_to_the_pods() {
    on_a_cluster(Options::tutorial(), |cluster| {
        cluster.run_my_nginx()?;
        cluster.apply(BALANCED)?;
        let pods = cluster.pods("run=my-nginx")?;
        let ips: BTreeSet<IpAddr> = pods.values().copied().collect();
        eventually("endpoints", || cluster.endpoints_are("web", &ips));
        let status = r#"{"status":{"loadBalancer":{"ingress":[{"ip":"198.18.0.8"}]}}}"#;
        let patch = ["patch", "service", "web", "--subresource=status", "--type=merge", "-p", status];
        cluster.kubectl(&patch)?.ok();
        let object = cluster.object(&["service", "web"])?;
        let number =
            |value: &serde_json::Value| value.as_u64().and_then(|port| u16::try_from(port).ok()).context("a port");
        let node_port = number(&object["spec"]["ports"][0]["nodePort"])?;
        let health = number(&object["spec"]["healthCheckNodePort"])?;
        let (pod, _) = pods.first_key_value().context("a pod")?;
        let (node, pod, outside) = (Place::node(cluster)?, Place::pod(cluster, pod)?, Place::outside(cluster)?);
        for (from, address) in [
            (&pod, SocketAddr::new("198.18.0.7".parse()?, 80)),
            (&pod, SocketAddr::new("198.18.0.8".parse()?, 80)),
            (&node, SocketAddr::new("127.0.0.1".parse()?, node_port)),
            (&node, SocketAddr::new(NODE_IP.parse()?, node_port)),
            (&outside, SocketAddr::new(NODE_IP.parse()?, node_port)),
        ] {
            eventually("an answer", || from.run(|| get(address, "/")).map(drop).with_context(|| address.to_string()));
        }
        let asked = SocketAddr::new(NODE_IP.parse()?, health);
        eventually("health", || {
            let answer = outside.run(|| get(asked, "/healthz"))?;
            ensure!(answer.status == 200 && answer.body.contains("\"localEndpoints\": 2"), "{answer:?}");
            Ok(())
        });
        cluster.kubectl(&["scale", "deployment/my-nginx", "--replicas=0"])?.ok();
        eventually("no health", || {
            let answer = outside.run(|| get(asked, "/healthz"))?;
            ensure!(answer.status == 503 && answer.body.contains("\"localEndpoints\": 0"), "{answer:?}");
            Ok(())
        });
        Ok(())
    });
}

fn by_hand(ip: IpAddr) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: by-hand}}
spec: {{ports: [{{port: 80}}]}}
---
apiVersion: v1
kind: Endpoints
metadata: {{name: by-hand}}
subsets: [{{addresses: [{{ip: {ip}}}], ports: [{{port: 80}}]}}]
"
    )
}

#[test]
fn endpoints_made_by_hand_are_mirrored_and_served() {
    on_a_cluster(Options::tutorial(), |cluster| {
        cluster.run_my_nginx()?;
        let pods = cluster.pods("run=my-nginx")?;
        let (_, ip) = pods.first_key_value().context("a pod")?;
        cluster.apply(&by_hand(*ip))?;
        let address = cluster.service("by-hand")?;
        let node = Place::node(cluster)?;
        eventually("an answer", || node.run(|| get(address, "/")).map(drop));
        let selector = "kubernetes.io/service-name=by-hand";
        let slices = cluster.object(&["endpointslices", "-l", selector])?;
        let slice = &slices["items"][0];
        let by = &slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"];
        assert_eq!(by, "endpointslicemirroring-controller.k8s.io");
        assert_eq!(slice["metadata"]["ownerReferences"][0]["kind"], "Endpoints");
        cluster.kubectl(&["delete", "endpoints", "by-hand"])?.ok();
        eventually("no slice", || {
            let left = cluster.object(&["endpointslices", "-l", selector])?;
            ensure!(left["items"].as_array().is_some_and(Vec::is_empty), "{left}");
            Ok(())
        });
        Ok(())
    });
}

#[test]
fn endpoints_of_many_slices_made_by_hand_are_all_served() {
    on_a_cluster(Options::default(), |cluster| {
        cluster.apply(
            "apiVersion: v1\nkind: Service\nmetadata: {name: many}\nspec: {ports: [{name: http, port: 80, targetPort: 8080}]}",
        )?;
        let mut wanted = BTreeSet::new();
        // The last one of the second slice does not serve.
        for (slice, count) in [(1_u8, 100_u8), (2, 51)] {
            let endpoint = |last: u8| {
                let ready = (slice, last) != (2, 51);
                serde_json::json!({"addresses": [format!("10.99.{slice}.{last}")], "conditions": {"ready": ready}})
            };
            let ips = (1..=count).filter(|last| (slice, *last) != (2, 51));
            wanted.extend(ips.map(|last| SocketAddr::new([10, 99, slice, last].into(), 8080)));
            let object = serde_json::json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": format!("many-{slice}"), "labels": {"kubernetes.io/service-name": "many"}},
                "ports": [{"name": "http", "port": 8080}],
                "endpoints": (1..=count).map(endpoint).collect::<Vec<_>>(),
            });
            cluster.apply(&object.to_string())?;
        }
        let address = cluster.service("many")?;
        eventually("a hundred and fifty", || {
            let programmed = cluster.programmed(address)?.context("not there")?;
            ensure!(programmed == wanted, "{} of {}", programmed.len(), wanted.len());
            Ok(())
        });
        cluster.kubectl(&["delete", "endpointslice", "many-1"])?.ok();
        wanted.retain(|one| one.ip() >= IpAddr::from([10, 99, 2, 0]));
        eventually("those of the other", || {
            let programmed = cluster.programmed(address)?.context("not there")?;
            ensure!(programmed == wanted, "{} of {}", programmed.len(), wanted.len());
            Ok(())
        });
        Ok(())
    });
}

#[test]
fn a_balancer_may_do_without_node_ports_and_protocols_are_passed_on() {
    let options = Options { arguments: vec!["--disable-agent".into()], ..Options::default() };
    on_a_cluster(options, |cluster| {
        let balancer = |name: &str, more: &str| {
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: LoadBalancer, selector: {{app: web}}, \
                 {more}ports: [{{port: 80, appProtocol: kubernetes.io/h2c}}]}}\n"
            )
        };
        cluster.apply(&balancer("with", ""))?;
        cluster.apply(&balancer("without", "allocateLoadBalancerNodePorts: false, "))?;
        let node_port = |name: &str| -> Result<Option<u64>> {
            Ok(cluster.object(&["service", name])?["spec"]["ports"][0]["nodePort"].as_u64())
        };
        assert!(node_port("with")?.is_some() && node_port("without")?.is_none());
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {app: web}}\n\
                   spec: {containers: [{name: web, image: web}]}\n";
        cluster.apply(pod)?;
        let status = r#"{"status":{"podIP":"10.42.0.9","podIPs":[{"ip":"10.42.0.9"}],
            "conditions":[{"type":"Ready","status":"True"}]}}"#;
        cluster.kubectl(&["patch", "pod", "web", "--subresource=status", "--type=merge", "-p", status])?.ok();
        eventually("the protocol in the slice", || {
            let slices = cluster.object(&["endpointslices", "-l", "kubernetes.io/service-name=with"])?;
            let port = &slices["items"][0]["ports"][0];
            ensure!(port["appProtocol"] == "kubernetes.io/h2c", "{slices:#}");
            Ok(())
        });
        Ok(())
    });
}

#[test]
fn of_two_services_with_one_external_address_the_older_has_it_and_the_other_is_told() {
    on_a_cluster(Options::tutorial(), |cluster| {
        // The first by name, where both are made within one second.
        for name in ["elder", "younger"] {
            cluster.apply(&format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  \
                 terminationGracePeriodSeconds: 1\n  containers:\n  - name: web\n    image: nginx\n    imagePullPolicy: \
                 IfNotPresent\n    command: [sh, -c]\n    args: [\"hostname > /usr/share/nginx/html/index.html; exec nginx \
                 -g 'daemon off;'\"]\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: \
                 {{app: {name}}}, externalIPs: [203.0.113.7], ports: [{{port: 80}}]}}\n"
            ))?;
        }
        cluster.outside("ip", &["route", "add", "203.0.113.7", "via", NODE_IP])?.ok();
        let outside = Place::outside(cluster)?;
        let answered_by = |name: &str| {
            eventually("an answer of the right one", || {
                let answer = outside.run(|| get("203.0.113.7:80".parse()?, "/"))?;
                ensure!(answer.body.trim() == name, "{answer:?}");
                Ok(())
            });
        };
        cluster.kubectl(&["wait", "--for=condition=Ready", "pods", "--all", "--timeout=60s"])?.ok();
        answered_by("elder");
        eventually("an event", || {
            let events = cluster.kubectl(&["get", "events", "--field-selector", "reason=AddressInUse"])?.ok();
            let wanted = "203.0.113.7 port 80/TCP leads to the Service default/elder, which is older";
            ensure!(events.contains("service/younger") && events.contains(wanted), "{events}");
            Ok(())
        });
        cluster.kubectl(&["delete", "service", "elder"])?.ok();
        answered_by("younger");
        Ok(())
    });
}

#[test]
fn addresses_of_two_families_are_shown_and_ranges_are_held() {
    let arguments =
        ["--disable-agent", "--cluster-cidr=10.42.0.0/16,fd42::/56", "--service-cidr=10.43.0.0/16,fd43::/108"];
    let options = Options { arguments: arguments.map(str::to_owned).into(), ..Options::default() };
    on_a_cluster(options, |cluster| {
        let spec = "apiVersion: v1\nkind: Service\nmetadata: {name: NAME}\nspec: {ports: [{port: 80}], MORE}\n";
        let service = |name: &str, more: &str| cluster.apply(&spec.replace("NAME", name).replace("MORE", more));
        service("both", "ipFamilyPolicy: RequireDualStack")?;
        let object = cluster.object(&["service", "both"])?;
        let ips: Vec<String> = serde_json::from_value(object["spec"]["clusterIPs"].clone())?;
        assert!(ips.len() == 2 && ips[0].starts_with("10.43.") && ips[1].starts_with("fd43::"), "{ips:?}");
        for ip in &ips {
            let shown = eventually("an IPAddress", || {
                let answer = cluster.kubectl(&["get", "ipaddress", ip, "--no-headers"])?;
                ensure!(answer.success, "{answer:?}");
                Ok(answer.stdout)
            });
            assert!(shown.contains("services/default/both"), "{shown}");
        }
        cluster.kubectl(&["delete", "service", "both"])?.ok();
        for ip in &ips {
            eventually("no IPAddress", || {
                let answer = cluster.kubectl(&["get", "ipaddress", ip])?;
                ensure!(!answer.success, "{answer:?}");
                Ok(())
            });
        }
        // A further range gives addresses, and stays while one of them is in use.
        let range = "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: more}\n\
                     spec: {cidrs: [10.77.0.0/24]}\n";
        cluster.apply(range)?;
        cluster.kubectl(&["wait", "--for=condition=Ready", "servicecidr/more", "--timeout=60s"])?.ok();
        service("far", "clusterIP: 10.77.0.9")?;
        eventually("its IPAddress", || {
            ensure!(cluster.kubectl(&["get", "ipaddress", "10.77.0.9"])?.success, "not there");
            Ok(())
        });
        cluster.kubectl(&["delete", "servicecidr", "more", "--wait=false"])?.ok();
        eventually("it is held", || {
            let cidr = cluster.object(&["servicecidr", "more"])?;
            let ready = &cidr["status"]["conditions"][0];
            ensure!(ready["status"] == "False" && ready["reason"] == "Terminating", "{cidr}");
            Ok(())
        });
        cluster.kubectl(&["delete", "service", "far"])?.ok();
        eventually("it is gone", || {
            ensure!(!cluster.kubectl(&["get", "servicecidr", "more"])?.success, "it is there");
            Ok(())
        });
        Ok(())
    });
}
