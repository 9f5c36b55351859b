//! `pods/log`, `pods/exec`, `pods/attach` and `pods/portforward`: which container, which options, then on to the node, which
//! speaks every protocol that clients do.

use std::sync::{Arc, Weak};

use base_meta::field::{self, Path};
use base_meta::{Gvk, Status};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::Pod;
use machinery_registry::{Body, Registry, RequestContext, SubresourceHandler};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::PodStrategy;
use crate::core::node::NodeStrategy;
use crate::core::node_proxy::{NodeAddress, NodeProxy, check_method};

/// What a value in a query may not hold as it is.
const QUERY: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'&').add(b'+').add(b'<').add(b'>').add(b'=');

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Log,
    Exec,
    Attach,
    PortForward,
}

pub(crate) struct Streams {
    pub(crate) kind: Stream,
    pub(crate) pods: Weak<Registry<PodStrategy>>,
    pub(crate) nodes: Arc<Registry<NodeStrategy>>,
    pub(crate) proxy: NodeProxy,
}

#[async_trait::async_trait]
impl SubresourceHandler for Streams {
    /// A WebSocket's handshake is a GET; who may only read shall not run commands by it.
    fn also_needs(&self) -> Option<&'static str> {
        (self.kind != Stream::Log).then_some("create")
    }

    async fn handle(&self, ctx: &RequestContext, name: &str, request: Request<Body>) -> Result<Response<Body>, Status> {
        check_method(&request)?;
        let pods = self.pods.upgrade().ok_or_else(|| Status::service_unavailable("the server is shutting down"))?;
        let pod = pods.get_typed(ctx, name).await?;
        let query = Query::parse(request.uri().query().unwrap_or(""));
        let plan = plan(self.kind, &pod, &query)?;
        let Some(node) = plan.node else {
            // A pod without a node has said nothing yet.
            return Ok(nothing());
        };
        let node_ctx = RequestContext { namespace: None, subresource: None, ..ctx.clone() };
        let node = self.nodes.get_typed(&node_ctx, &node).await?;
        self.proxy.forward(&NodeAddress::of(&node)?, &plan.path, request).await
    }
}

fn nothing() -> Response<Body> {
    let mut response = Response::new(http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    response
}

/// Which node, and what to ask it.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    node: Option<String>,
    path: String,
}

fn plan(kind: Stream, pod: &Pod, query: &Query) -> Result<Plan, Status> {
    let name = pod.metadata.name.as_deref().unwrap_or("");
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
    if kind == Stream::Log {
        check_log_options(name, query)?;
    }
    let container = || {
        api::pod::containers::pick(pod, query.first("container"))
            .map_err(|error| Status::bad_request(error.to_string()))
    };
    // Ports are the pod's.
    let container = if kind == Stream::PortForward { None } else { Some(container()?) };
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).filter(|node| !node.is_empty());
    if node.is_none() && kind != Stream::Log {
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let (verb, options) = match kind {
        Stream::Log => ("containerLogs", log_options(query)),
        Stream::Exec => {
            if query.first("command").is_empty() {
                return Err(Status::bad_request("you must specify at least one command for the container"));
            }
            let mut options = stream_options(query)?;
            options.extend(query.all("command").map(|part| ("command", part.to_owned())));
            ("exec", options)
        }
        Stream::Attach => ("attach", stream_options(query)?),
        Stream::PortForward => ("portForward", ports(query)?),
    };
    let mut path = format!("/{verb}/{namespace}/{name}");
    if let Some(container) = container {
        path.push_str(&format!("/{container}"));
    }
    for (index, (key, value)) in options.iter().enumerate() {
        path.push_str(&format!("{}{key}={}", if index == 0 { '?' } else { '&' }, utf8_percent_encode(value, QUERY)));
    }
    Ok(Plan { node, path })
}

/// The node's names for the streams.
fn stream_options(query: &Query) -> Result<Vec<(&'static str, String)>, Status> {
    let mut options: Vec<(&'static str, String)> = Vec::new();
    let names = [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];
    for (name, theirs) in names {
        if query.flag(name) {
            options.push((theirs, "1".to_owned()));
        }
    }
    if options.iter().all(|(name, _)| *name == "tty") {
        return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    if query.flag("tty") {
        // A terminal has one output.
        options.retain(|(name, _)| *name != "error");
    }
    Ok(options)
}

/// Only a WebSocket's channels have ports in the request; the node checks that they are there when they are needed.
fn ports(query: &Query) -> Result<Vec<(&'static str, String)>, Status> {
    let mut ports = Vec::new();
    for port in query.all("ports").flat_map(|ports| ports.split(',')) {
        let number: i32 = port
            .parse()
            .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {port:?}: invalid syntax")))?;
        ports.push(number.to_string());
    }
    Ok(if ports.is_empty() { Vec::new() } else { vec![("port", ports.join(","))] })
}

fn log_options(query: &Query) -> Vec<(&'static str, String)> {
    let mut options = Vec::new();
    for name in ["follow", "previous", "timestamps"] {
        if query.flag(name) {
            options.push((name, "true".to_owned()));
        }
    }
    for name in ["sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"] {
        let value = query.first(name);
        if !value.is_empty() {
            options.push((name, value.to_owned()));
        }
    }
    options
}

fn check_log_options(pod: &str, query: &Query) -> Result<(), Status> {
    let mut errors = Vec::new();
    let number = |name: &str, least: i64, message: &str, errors: &mut Vec<field::Error>| {
        let text = query.first(name);
        if text.is_empty() {
            return Ok(());
        }
        let value: i64 = text
            .parse()
            .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?;
        if value < least {
            errors.push(field::Error::invalid(&Path::new(name), value, message));
        }
        Ok(())
    };
    number("tailLines", 0, "must be greater than or equal to 0", &mut errors)?;
    number("limitBytes", 1, "must be greater than 0", &mut errors)?;
    if !query.first("sinceSeconds").is_empty() && !query.first("sinceTime").is_empty() {
        errors.push(field::Error::forbidden(
            &Path::new(""),
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ));
    }
    number("sinceSeconds", 1, "must be greater than 0", &mut errors)?;
    let since = query.first("sinceTime");
    if !since.is_empty() && since.parse::<jiff::Timestamp>().is_err() {
        errors.push(field::Error::invalid(&Path::new("sinceTime"), since, "must be an RFC 3339 time"));
    }
    let stream = query.first("stream");
    if !matches!(stream, "" | "All" | "Stdout" | "Stderr") {
        errors.push(field::Error::not_supported(&Path::new("stream"), stream, &["All", "Stderr", "Stdout"]));
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(&Gvk::of("", "v1", "PodLogOptions"), pod, &errors)) }
}

/// A decoded query: names may repeat.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Self {
        let decode = |part: &str| {
            let spaced = part.replace('+', " ");
            percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
        };
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        };
        Self(text.split('&').filter(|part| !part.is_empty()).map(pair).collect())
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    fn first(&self, name: &str) -> &str {
        self.0.iter().find(|(have, _)| have == name).map_or("", |(_, value)| value)
    }

    /// As Go's ParseBool, where a bare name is true.
    fn flag(&self, name: &str) -> bool {
        self.0.iter().any(|(have, value)| {
            have == name && matches!(value.as_str(), "" | "1" | "t" | "T" | "true" | "True" | "TRUE")
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(node: &str, containers: &[&str]) -> Pod {
        let containers: Vec<_> = containers.iter().map(|name| json!({"name": name})).collect();
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "default"},
            "spec": {"nodeName": node, "containers": containers}}))
        .expect("a pod")
    }

    fn path(kind: Stream, query: &str) -> String {
        plan(kind, &pod("n", &["c"]), &Query::parse(query)).expect("a plan").path
    }

    #[test]
    fn the_node_is_asked_in_its_own_words() {
        assert_eq!(
            path(Stream::Exec, "command=sh&command=-c&command=echo+a%26b&stdin=true&stdout=true&stderr=true&tty=true"),
            "/exec/default/p/c?input=1&output=1&tty=1&command=sh&command=-c&command=echo%20a%26b"
        );
        assert_eq!(path(Stream::Attach, "stdout=1&stderr=1"), "/attach/default/p/c?output=1&error=1");
        assert_eq!(
            path(Stream::Log, "follow=true&tailLines=5&timestamps=false&container=c"),
            "/containerLogs/default/p/c?follow=true&tailLines=5"
        );
    }

    #[test]
    fn ports_are_the_pods_and_need_no_container() {
        let two = pod("n", &["c", "d"]);
        let path = |query| plan(Stream::PortForward, &two, &Query::parse(query)).map(|plan| plan.path);
        assert_eq!(path("").expect("a plan"), "/portForward/default/p");
        assert_eq!(path("ports=80&ports=81,82").expect("a plan"), "/portForward/default/p?port=80,81,82");
        let refused = path("ports=http").expect_err("refused");
        assert_eq!(
            (refused.code, refused.message.as_str()),
            (400, "strconv.ParseInt: parsing \"http\": invalid syntax")
        );
        let waiting = plan(Stream::PortForward, &pod("", &["c"]), &Query::parse("")).expect_err("refused");
        assert_eq!(waiting.message, "pod p does not have a host assigned");
    }

    #[test]
    fn bad_questions_never_leave() {
        let refuse = |kind, pod: &Pod, query: &str| plan(kind, pod, &Query::parse(query)).expect_err("refused");
        let (one, two, waiting) = (pod("n", &["c"]), pod("n", &["c", "d"]), pod("", &["c"]));
        let table = [
            (refuse(Stream::Exec, &one, "stdout=1"), 400, "you must specify at least one command for the container"),
            (refuse(Stream::Exec, &one, "command=x"), 400, "you must specify at least 1 of stdin, stdout, stderr"),
            (refuse(Stream::Exec, &waiting, "command=x&stdout=1"), 400, "pod p does not have a host assigned"),
            (refuse(Stream::Log, &two, ""), 400, "a container name must be specified for pod p, choose one of: [c d]"),
            (refuse(Stream::Log, &one, "container=x"), 400, "container x is not valid for pod p"),
            (
                refuse(Stream::Log, &one, "tailLines=-1"),
                422,
                "PodLogOptions \"p\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                refuse(Stream::Log, &one, "sinceSeconds=0"),
                422,
                "PodLogOptions \"p\" is invalid: sinceSeconds: Invalid value: 0: must be greater than 0",
            ),
            (refuse(Stream::Log, &one, "tailLines=x"), 400, "strconv.ParseInt: parsing \"x\": invalid syntax"),
        ];
        for (status, code, message) in table {
            assert_eq!((status.code, status.message.as_str()), (code, message));
        }
    }

    #[test]
    fn a_pod_without_a_node_has_no_log() {
        let plan = plan(Stream::Log, &pod("", &["c"]), &Query::parse("")).expect("a plan");
        assert_eq!(plan.node, None);
    }
}
