//! port-forward, with every kubectl in every protocol it has.

use std::path::PathBuf;

use anyhow::{Context, Result};
use tests::{Api, Cluster, Options, Session, kubectl_1_20, kubectls, must, spdy_kubectls};

use crate::in_order;

/// nginx on port 80, and files on port 8080.
const PAIR: &str = "apiVersion: v1
kind: Pod
metadata: {name: pair}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: nginx, image: nginx}
  - name: files
    image: busybox:1.37
    command: [sh, -c, 'mkdir /www; head -c 16000000 /dev/urandom > /www/file; exec httpd -f -p 127.0.0.1:8080 -h /www']
    readinessProbe: {exec: {command: [wget, -q, -O, /dev/null, 'http://127.0.0.1:8080/file']}, periodSeconds: 1}
";

fn pair(cluster: &Cluster) -> Result<()> {
    cluster.apply(PAIR)?;
    cluster.kubectl(&["wait", "pod/pair", "--for=condition=Ready", "--timeout=60s"])?.ok();
    Ok(())
}

/// A running `kubectl port-forward`, and where it listens.
struct Forward {
    session: Session,
    addresses: Vec<String>,
}

impl Forward {
    fn start(cluster: &Cluster, to: &str, ports: &[u16]) -> Result<Self> {
        let wanted: Vec<String> = ports.iter().map(|port| format!(":{port}")).collect();
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let mut session = cluster.session(&[&["port-forward", to, "--address=127.0.0.1"], &wanted[..]].concat())?;
        let mut addresses = Vec::new();
        for port in ports {
            session.expect("Forwarding from ")?;
            let line = session.expect(&format!(" -> {port}\n"))?;
            addresses.push(line.split(' ').next().context("an address")?.to_owned());
        }
        Ok(Self { session, addresses })
    }

    fn curl(&self, cluster: &Cluster, number: usize, path: &str, more: &[&str]) -> Result<tests::Answer> {
        let url = format!("http://{}{path}", self.addresses[number]);
        cluster.node("curl", &[&["-sS", "--max-time", "60"], more, &[url.as_str()]].concat())
    }
}

/// With every kubectl, by WebSocket where it can and by SPDY.
fn with_every_protocol(test: impl Fn(&Cluster) -> Result<()>) -> Result<()> {
    let mut cluster = Cluster::start(Options::tutorial())?;
    let scripts = tempfile::tempdir().context("a folder for scripts")?;
    let all: Vec<PathBuf> = kubectls().into_iter().chain(spdy_kubectls(scripts.path())?).collect();
    for kubectl in all {
        let path = kubectl.display().to_string();
        cluster.kubectl = kubectl;
        test(&cluster).with_context(|| format!("with {path}"))?;
    }
    cluster.finish()
}

#[test]
fn connections_are_forwarded_until_the_pod_is_gone() {
    must(with_every_protocol(|cluster| {
        pair(cluster)?;
        let forward = Forward::start(cluster, "pod/pair", &[80, 8080])?;
        in_order(&forward.curl(cluster, 0, "/", &[])?.ok(), &["Welcome to nginx"]);
        // More than any buffer holds.
        let copy = cluster.write("file", "")?;
        forward.curl(cluster, 1, "/file", &["-o", &copy])?.ok();
        let sum = |text: String| text.split(' ').next().unwrap_or_default().to_owned();
        let there = cluster.kubectl(&["exec", "pair", "-c", "files", "--", "md5sum", "/www/file"])?.ok();
        assert_eq!(sum(cluster.node("md5sum", &[&copy])?.ok()), sum(there));
        many(cluster, &forward)?;
        in_order(&forward.curl(cluster, 1, "/none", &[])?.ok(), &["404"]);

        cluster.kubectl(&["delete", "pod", "pair", "--grace-period=1"])?.ok();
        let (status, said) = forward.session.finish()?;
        // kubectl 1.20 ends well all the same.
        assert_eq!(status.success(), is_1_20(cluster));
        in_order(&said, &["Handling connection for", "lost connection to pod"]);
        Ok(())
    }));
}

fn is_1_20(cluster: &Cluster) -> bool {
    cluster.kubectl == kubectl_1_20()
}

fn many(cluster: &Cluster, forward: &Forward) -> Result<()> {
    let each = ["-Z", "--parallel-max", "50", "-o", "/dev/null", "-w", "%{http_code}\n"];
    let codes = forward.curl(cluster, 0, "/?[1-300]", &each)?.ok();
    assert_eq!(codes.lines().filter(|code| *code == "200").count(), 300, "{codes}");
    Ok(())
}

#[test]
fn a_port_that_nobody_listens_on_is_told_of() {
    must(with_every_protocol(|cluster| {
        pair(cluster)?;
        let mut forward = Forward::start(cluster, "pod/pair", &[9, 80])?;
        let refused = forward.curl(cluster, 0, "/", &[])?;
        assert!(!refused.success, "{refused:?}");
        forward.session.expect("n error occurred forwarding")?;
        forward.session.expect("error forwarding port 9 to pod ")?;
        let cause = "inside namespace";
        forward.session.expect(cause)?;
        let cause = "IPv4: dial tcp4 127.0.0.1:9: connect: connection refused IPv6 dial tcp6 [::1]:9: connect: ";
        forward.session.expect(cause)?;
        // kubectl 1.20 goes on; later ones give up at the first error.
        if is_1_20(cluster) {
            in_order(&forward.curl(cluster, 1, "/", &[])?.ok(), &["Welcome to nginx"]);
        } else {
            let (status, said) = forward.session.finish()?;
            assert!(!status.success());
            in_order(&said, &["lost connection to pod"]);
        }
        // To the pod that is nothing.
        in_order(&Forward::start(cluster, "pod/pair", &[80])?.curl(cluster, 0, "/", &[])?.ok(), &["Welcome to nginx"]);
        cluster.kubectl(&["delete", "pod", "pair", "--grace-period=1"])?.ok();
        Ok(())
    }));
}

#[test]
fn ports_are_forwarded_by_channels_of_a_web_socket() {
    let test = || -> Result<()> {
        let cluster = Cluster::start(Options::tutorial())?;
        pair(&cluster)?;
        let api = Api::new(&cluster)?;
        for (protocol, base64) in [("v4.channel.k8s.io", false), ("v4.base64.channel.k8s.io", true)] {
            let path = "/api/v1/namespaces/default/pods/pair/portforward?ports=80&ports=9";
            let mut socket = Session::start(api.tls()?)?;
            socket.send(format!(
                "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                 Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
            ))?;
            socket.expect("101 Switching Protocols")?;
            socket.expect(protocol)?;
            let (kind, payload) = match base64 {
                false => (0x82, "\0GET / HTTP/1.0\r\n\r\n"),
                true => (0x81, "0R0VUIC8gSFRUUC8xLjANCg0K"),
            };
            // A frame whose mask is zeros.
            let mut frame = vec![kind, 0x80 | payload.len() as u8, 0, 0, 0, 0];
            frame.extend(payload.bytes());
            socket.send(frame)?;
            // "HTTP/1.1 200" and "error", or how base64 begins them.
            let expected =
                if base64 { ["3ZXJyb3Ig", "0SFRUUC8xLjEg"] } else { ["\u{3}error forwarding", "\0HTTP/1.1 200"] };
            let said = socket.finish()?.1;
            for expected in expected {
                assert!(said.contains(expected), "{expected:?} is missing in {said:?}");
            }
        }
        cluster.finish()
    };
    must(test());
}
