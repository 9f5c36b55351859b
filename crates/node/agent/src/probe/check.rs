//! One probe attempt: HTTP, TCP or a command. Failures carry what the Event says.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{ExecAction, HTTPGetAction, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use crate::probe::Target;
use crate::seams::{ExecSpec, chain, words};

/// What an Event quotes of a command's output.
const OUTPUT_LIMIT: u64 = 10 * 1024;

pub(super) async fn check(probe: &Probe, target: &Target, timeout: Duration) -> Result<(), String> {
    if let Some(action) = &probe.exec {
        return exec(action, target, timeout).await;
    }
    if let Some(action) = &probe.http_get {
        return http_get(action, target, timeout).await;
    }
    if let Some(action) = &probe.tcp_socket {
        return tcp(action, target, timeout).await;
    }
    Err("missing probe handler: only exec, httpGet and tcpSocket are supported".into())
}

async fn exec(action: &ExecAction, target: &Target, timeout: Duration) -> Result<(), String> {
    let args = action.command.clone().unwrap_or_default();
    let command = args.join(" ");
    let spec = ExecSpec { args, tty: false, stdin: false, stdout: true, stderr: true };
    let run = async {
        let mut streams = target.runtime.exec(&target.container, spec).await.map_err(|error| chain(&error))?;
        let mut output = Vec::new();
        let mut errors = Vec::new();
        let stdout = async {
            if let Some(stream) = streams.stdout.take() {
                // A broken stream only shortens the quotation; the exit code decides.
                let _ = stream.take(OUTPUT_LIMIT).read_to_end(&mut output).await;
            }
        };
        let stderr = async {
            if let Some(stream) = streams.stderr.take() {
                let _ = stream.take(OUTPUT_LIMIT).read_to_end(&mut errors).await;
            }
        };
        let ((), (), code) = tokio::join!(stdout, stderr, streams.exit);
        output.extend(errors);
        match code {
            Ok(0) => Ok(()),
            Ok(_) => Err(String::from_utf8_lossy(&output).into_owned()),
            Err(error) => Err(chain(&error)),
        }
    };
    let expired = || format!("command timed out: {command:?} timed out after {}s", timeout.as_secs());
    tokio::time::timeout(timeout, run).await.unwrap_or_else(|_| Err(expired()))
}

fn port(port: &IntOrString, target: &Target) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = target.spec.ports.iter().flatten().find(|port| port.name.as_ref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0).ok_or_else(|| match port {
        IntOrString::Int(number) => format!("invalid port number: {number}"),
        IntOrString::String(name) => format!("couldn't find port: {name} in container {}", target.spec.name),
    })
}

async fn address(host: Option<&str>, port: u16, target: &Target) -> Result<SocketAddr, String> {
    match host.filter(|host| !host.is_empty()) {
        Some(host) => match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) => Ok(SocketAddr::new(ip, port)),
            Err(_) => {
                let found = tokio::net::lookup_host((host, port)).await.ok().and_then(|mut found| found.next());
                found.ok_or_else(|| format!("lookup {host}: no such host"))
            }
        },
        None => target.pod_ip.map(|ip| SocketAddr::new(ip, port)).ok_or_else(|| "pod has no address".to_owned()),
    }
}

async fn dial(address: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| format!("dial tcp {address}: {}", words(&error)))
}

async fn tcp(action: &TCPSocketAction, target: &Target, timeout: Duration) -> Result<(), String> {
    let address = address(action.host.as_deref(), port(&action.port, target)?, target).await?;
    match tokio::time::timeout(timeout, dial(address)).await {
        Ok(connected) => connected.map(drop),
        Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
    }
}

async fn http_get(action: &HTTPGetAction, target: &Target, timeout: Duration) -> Result<(), String> {
    let port = port(&action.port, target)?;
    let address = address(action.host.as_deref(), port, target).await?;
    let tls = action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
    let path = action.path.as_deref().unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let host = action.host.clone().filter(|host| !host.is_empty());
    let authority = host.map_or_else(|| address.to_string(), |host| format!("{host}:{port}"));
    let url = format!("{}://{authority}{path}", if tls { "https" } else { "http" });
    let attempt = async {
        let stream = dial(address).await?;
        if tls {
            let name = rustls_pki_types::ServerName::IpAddress(address.ip().into());
            let stream = connector().connect(name, stream).await.map_err(|error| words(&error))?;
            request(stream, action, &path, &authority).await
        } else {
            request(stream, action, &path, &authority).await
        }
    };
    let status = match tokio::time::timeout(timeout, attempt).await {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => return Err(format!("Get {url:?}: {error}")),
        Err(_) => return Err(format!("Get {url:?}: context deadline exceeded (Client.Timeout exceeded)")),
    };
    // A redirect counts as an answer; it is not followed, so a probe never leaves the pod.
    if (200..400).contains(&status) { Ok(()) } else { Err(format!("HTTP probe failed with statuscode: {status}")) }
}

async fn request<S>(stream: S, action: &HTTPGetAction, path: &str, authority: &str) -> Result<u16, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| chain(&error))?;
    let mut request = http::Request::get(path)
        .header("host", authority)
        .header("user-agent", "kube-probe/1.36")
        .header("accept", "*/*")
        .header("connection", "close");
    for header in action.http_headers.iter().flatten() {
        if header.name.eq_ignore_ascii_case("host") {
            request.headers_mut().map(|headers| headers.remove("host"));
        }
        request = request.header(&header.name, &header.value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| chain(&error))?;
    let answer = async { sender.send_request(request).await.map_err(|error| chain(&error)) };
    tokio::pin!(answer);
    // Dropping both closes the socket. When the connection ends first, the answer is there or never comes.
    let answer = tokio::select! {
        answer = &mut answer => answer,
        _ = connection => answer.await,
    };
    answer.map(|answer| answer.status().as_u16())
}

/// Probes do not verify certificates, as upstream's do not: the pod's own certificate names no address.
fn connector() -> tokio_rustls::TlsConnector {
    let config = machinery_dial::tls::config(machinery_dial::tls::Trust::Anyone, None);
    let mut config = config.expect("ring supports the default protocol versions");
    // Whatever the server speaks first.
    config.alpn_protocols.clear();
    tokio_rustls::TlsConnector::from(Arc::new(config))
}
