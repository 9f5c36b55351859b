//! `/portForward`: the pod, the protocol, and for a WebSocket's channels the ports.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use machinery_client::ObjectKey;

use crate::forward::{self, Gone, OFFERS, Protocol, Target};
use crate::pods::Machine;
use crate::server::routes::query;
use crate::server::{Body, granted, refused, text};
use crate::upgrade::Handshake;

pub(super) fn forward(machine: &Machine, namespace: &str, pod: &str, request: Request<Incoming>) -> Response<Body> {
    let Some(view) = machine.pods.get(&ObjectKey::new(namespace, pod)) else {
        return text(StatusCode::NOT_FOUND, "pod does not exist\n");
    };
    let handshake = match OFFERS.negotiate(request.headers()) {
        Ok(handshake) => handshake,
        Err(error) => return refused(&error),
    };
    let protocol = handshake.protocol;
    let ports = match protocol {
        Protocol::Channels(_) => {
            let query = query(&request);
            let values = query.iter().filter(|(name, _)| name == "port").map(|(_, value)| value.as_str());
            match forward::ports(values) {
                Ok(ports) => ports,
                Err(error) => return text(StatusCode::BAD_REQUEST, format!("{error}\n")),
            }
        }
        Protocol::Tunnel | Protocol::Spdy => Vec::new(),
    };
    let uid = view.borrow().pod.metadata.uid.clone().unwrap_or_default();
    let target = Target { runtime: Arc::clone(&machine.runtime), name: pod.to_owned(), uid };
    let gone = Box::pin(forward::gone(view));
    run(machine, target, ports, gone, handshake, request)
}

/// Grants the upgrade, and carries what comes until the client hangs up or the pod is `gone`.
pub(crate) fn run(
    machine: &Machine,
    target: Target,
    ports: Vec<u16>,
    gone: Gone,
    handshake: Handshake<Protocol>,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let (upgrade, protocol) = (hyper::upgrade::on(&mut request), handshake.protocol);
    machine.sessions.spawn("port-forward", async move {
        match upgrade.await {
            Ok(upgraded) => forward::serve(upgraded, protocol, ports, target, gone).await,
            Err(error) => tracing::debug!(%error, "stream upgrade failed"),
        }
    });
    granted(handshake)
}
