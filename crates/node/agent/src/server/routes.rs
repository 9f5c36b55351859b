//! Paths to handlers.

use std::sync::Arc;

use api::pod::containers;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use machinery_client::ObjectKey;
use tokio::sync::watch;

use crate::logs::LogOptions;
use crate::pods::{Machine, View};
use crate::seams::ExecSpec;
use crate::server::{Body, attach, forward, granted, json, logs, refused, stats, text};
use crate::streams::{self, OFFERS, Protocol};
use crate::upgrade::Handshake;

pub(super) async fn route(machine: Arc<Machine>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let parts: Vec<_> = path.trim_matches('/').split('/').map(decode).collect();
    let parts: Vec<_> = parts.iter().map(String::as_str).collect();
    match (request.method(), parts.as_slice()) {
        (&Method::GET, ["healthz"]) => text(StatusCode::OK, "ok"),
        (&Method::GET, ["pods"]) => pods(&machine),
        (&Method::GET, ["metrics", "resource"]) => stats::resource(&machine).await,
        (&Method::GET, ["stats", "summary"]) => stats::summary(&machine, &query(&request)).await,
        (&Method::GET, ["containerLogs", namespace, pod, container]) => {
            let subject = match Subject::find(&machine, namespace, pod, container) {
                Ok(subject) => subject,
                Err((status, message)) => return text(status, message),
            };
            match LogOptions::parse(query(&request).iter().map(|(k, v)| (k.as_str(), v.clone())), Timestamp::now()) {
                Ok(options) => logs::logs(&machine, &subject, options),
                Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
            }
        }
        (&Method::GET | &Method::POST, [verb @ ("exec" | "attach"), namespace, pod, container]) => {
            match Subject::find(&machine, namespace, pod, container) {
                Ok(subject) => stream(&machine, &subject, *verb == "exec", request),
                Err((status, message)) => text(status, message),
            }
        }
        (&Method::GET | &Method::POST, ["portForward", namespace, pod]) => {
            forward::forward(&machine, namespace, pod, request)
        }
        (
            _,
            ["healthz" | "pods" | "containerLogs" | "exec" | "attach" | "portForward", ..]
            | ["metrics", "resource"]
            | ["stats", "summary"],
        ) => text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed\n"),
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

/// The container a request is about.
pub(super) struct Subject {
    pub pod: String,
    pub container: String,
    pub view: watch::Receiver<View>,
}

impl Subject {
    fn find(machine: &Machine, namespace: &str, pod: &str, container: &str) -> Result<Self, (StatusCode, String)> {
        let key = ObjectKey::new(namespace, pod);
        let missing = || (StatusCode::NOT_FOUND, format!("pod \"{pod}\" not found\n"));
        let view = machine.pods.get(&key).ok_or_else(missing)?;
        let known = {
            let current = view.borrow();
            containers::pick(&current.pod, container).map(ToOwned::to_owned)
        };
        let container = known.map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))?;
        Ok(Self { pod: pod.to_owned(), container, view })
    }
}

fn pods(machine: &Machine) -> Response<Body> {
    let items: Vec<_> = machine.pods.list();
    let items: Vec<_> = items.iter().map(|pod| &**pod).collect();
    let list = serde_json::json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items });
    json(&list)
}

fn stream(machine: &Machine, subject: &Subject, exec: bool, request: Request<Incoming>) -> Response<Body> {
    let handshake = match OFFERS.negotiate(request.headers()) {
        Ok(handshake) => handshake,
        Err(error) => return refused(&error),
    };
    let query = query(&request);
    let on = |names: [&str; 2]| {
        query.iter().any(|(name, value)| names.contains(&name.as_str()) && matches!(value.as_str(), "1" | "true"))
    };
    let tty = on(["tty", "tty"]);
    let spec = ExecSpec {
        args: query.iter().filter(|(name, _)| name == "command").map(|(_, value)| value.clone()).collect(),
        tty,
        stdin: on(["input", "stdin"]),
        stdout: on(["output", "stdout"]),
        stderr: on(["error", "stderr"]) && !tty,
    };
    if exec && spec.args.is_empty() {
        return text(StatusCode::BAD_REQUEST, "you must specify at least one command for the container\n");
    }
    if !spec.stdin && !spec.stdout && !spec.stderr {
        return text(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr\n");
    }
    let view = subject.view.borrow().containers.get(&subject.container).cloned().unwrap_or_default();
    let target = if exec {
        view.running.map(Target::Exec)
    } else {
        attach::Target::of(&view, &machine.read_logs).map(Target::Attach)
    };
    let Some(target) = target else {
        return text(StatusCode::BAD_REQUEST, format!("container not found (\"{}\")\n", subject.container));
    };
    run(machine, target, spec, handshake, request)
}

/// Grants the upgrade, and carries the streams as long as they last.
pub(crate) fn run(
    machine: &Machine,
    target: Target,
    spec: ExecSpec,
    handshake: Handshake<Protocol>,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (runtime, protocol) = (Arc::clone(&machine.runtime), handshake.protocol);
    let session = async move {
        let upgraded = match upgrade.await {
            Ok(upgraded) => TokioIo::new(upgraded),
            Err(error) => return tracing::debug!(%error, "stream upgrade failed"),
        };
        let wanted = spec.clone();
        let start = async move {
            match target {
                Target::Exec(container) => runtime.exec(&container, spec).await,
                Target::Attach(target) => target.attach(&*runtime, &spec).await,
            }
        };
        match protocol {
            Protocol::WebSocket(subprotocol) => streams::serve_web_socket(upgraded, subprotocol, start).await,
            Protocol::Spdy(version) => {
                let (read, write) = tokio::io::split(upgraded);
                streams::serve_spdy(read, write, version, wanted, start).await;
            }
        }
    };
    machine.sessions.spawn("stream", session);
    granted(handshake)
}

pub(crate) enum Target {
    /// In the running container of that id.
    Exec(String),
    Attach(attach::Target),
}

pub(super) fn query(request: &Request<Incoming>) -> Vec<(String, String)> {
    parse_query(request.uri().query().unwrap_or_default())
}

fn parse_query(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
        })
        .collect()
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_decode() {
        let want = [("command", "sh"), ("command", "-c"), ("command", "echo a b=c"), ("tty", "")];
        let got = parse_query("command=sh&command=-c&&command=echo+a%20b%3Dc&tty");
        assert_eq!(got, want.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(parse_query("%zz=%ff"), [("%zz".to_owned(), "\u{fffd}".to_owned())]);
    }
}
