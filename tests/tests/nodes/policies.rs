//! NetworkPolicies and the cluster DNS where pods are on different nodes.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Dig, Place, eventually, must, run};

use super::{one_on_each, three};

const SILENCE: Duration = Duration::from_millis(900);

#[test]
fn every_node_keeps_its_pods_traffic_to_the_policies_and_answers_names() {
    must((|| {
        let cluster = three()?;
        let pods: Vec<_> = one_on_each(&cluster)?.into_iter().collect();
        let [(one, (first, first_ip)), (two, (second, second_ip)), (_, (third, _))] = &pods[..] else {
            panic!("three pods: {pods:?}")
        };
        let places = [first, second, third].map(|pod| Place::pod(&cluster, pod));
        let [first, second, third] = places;
        let (first, second, third) = (first?, second?, third?);
        // A question that left its node would not be answered.
        for node in cluster.nodes()? {
            let rules = "add table inet quiet; add chain inet quiet out { type filter hook postrouting priority 0; }; \
                add rule inet quiet out oifname eth0 meta l4proto { tcp, udp } th dport 53 drop";
            run("nsenter", &[&format!("--net=/run/netns/{}", node.namespace), "nft", rules])?;
        }
        for place in [&first, &second, &third] {
            let dig = Dig::ask(place, &["kubernetes.default.svc.cluster.local", "A"])?;
            ensure!(dig.status == "NOERROR" && dig.answer.len() == 1, "{dig:?}");
        }
        let reaches = |from: &Place, to: &std::net::IpAddr| -> Result<bool> {
            match from.run(|| TcpStream::connect_timeout(&SocketAddr::new(*to, 80), SILENCE)) {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == ErrorKind::TimedOut => Ok(false),
                Err(error) => Err(error).with_context(|| format!("{to} is neither reached nor silent")),
            }
        };
        ensure!(reaches(&third, first_ip)? && reaches(&second, first_ip)?, "open without policies");

        let on = |node: &str| json!({"podSelector": {"matchLabels": {"on": node}}});
        let policy = |name: &str, on: &str, more: Value| {
            let mut spec = json!({"podSelector": {"matchLabels": {"on": on}}});
            for (key, value) in more.as_object().context("fields")? {
                spec[key] = value.clone();
            }
            let meta = json!({"name": name});
            let object =
                json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec});
            cluster.apply(&object.to_string())
        };
        policy("ingress", one, json!({"ingress": [{"from": [on(two)], "ports": [{"port": "http"}]}]}))?;
        eventually("who is not allowed is kept out of another node's pod", || {
            ensure!(!reaches(&third, first_ip)?, "still reached");
            Ok(())
        });
        ensure!(reaches(&second, first_ip)?, "a peer on another node");
        policy("egress", two, json!({"policyTypes": ["Egress"], "egress": []}))?;
        eventually("a pod is kept in on its own node", || {
            ensure!(!reaches(&second, first_ip)?, "still reached");
            Ok(())
        });
        ensure!(reaches(&third, second_ip)?, "and answers whoever asks");
        cluster.finish()
    })());
}
