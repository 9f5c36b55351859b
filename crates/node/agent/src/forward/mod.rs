//! port-forward: a client's connections to programs in a pod, by the pod's own loopback.
//!
//! Over SPDY ([`spdy`], raw or through a WebSocket) a session has as many connections as the client likes, each a pair of
//! streams; over a WebSocket's channels ([`channels`]) it has one for each port that the request names.

mod carry;
mod channels;
mod spdy;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

use crate::pods::View;
use crate::seams::{Connection, Runtime, chain, label};
use crate::streams::frame::Subprotocol;
use crate::upgrade::Offers;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// SPDY in the binary messages of a WebSocket: kubectl's from 1.31 on.
    Tunnel,
    Channels(Subprotocol),
    Spdy,
}

pub const OFFERS: Offers<Protocol> = Offers {
    web_socket: &[
        ("SPDY/3.1+portforward.k8s.io", Protocol::Tunnel),
        ("v4.channel.k8s.io", Protocol::Channels(Subprotocol::V4)),
        ("v4.base64.channel.k8s.io", Protocol::Channels(Subprotocol::V4Base64)),
        ("", Protocol::Channels(Subprotocol::V4)),
    ],
    spdy: &[("portforward.k8s.io", Protocol::Spdy)],
};

/// The pod that ports are forwarded to.
pub struct Target {
    pub runtime: Arc<dyn Runtime>,
    pub name: String,
    pub uid: String,
}

impl Target {
    /// # Errors
    /// What the client is told, in upstream's words.
    async fn dial(&self, port: u16) -> Result<Connection, String> {
        let sandboxes = self.runtime.list().await.map_err(|error| self.failure(port, &chain(&error)))?;
        let of_pod = |uid: Option<&String>| uid.is_some_and(|uid| *uid == self.uid);
        let mut of_pod = sandboxes.iter().filter(|sandbox| of_pod(sandbox.labels.get(label::POD_UID)));
        let Some(sandbox) = of_pod.find(|sandbox| sandbox.ready) else {
            return Err(self.failure(port, "no sandbox of it runs"));
        };
        let dialed = self.runtime.dial(&sandbox.id, port).await;
        // Upstream's kubelet is asked by the sandbox here, which has no uid.
        dialed.map_err(|error| format!("error forwarding port {port} to pod {}, uid : {}", sandbox.id, chain(&error)))
    }

    fn failure(&self, port: u16, cause: &str) -> String {
        format!("error forwarding port {port} to pod {}, uid {}: {cause}", self.name, self.uid)
    }
}

/// Resolves once there is nothing to forward to any more.
pub type Gone = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Serves an upgraded connection until the client hangs up or the pod is gone.
pub async fn serve(upgraded: Upgraded, protocol: Protocol, ports: Vec<u16>, target: Target, gone: Gone) {
    let socket = TokioIo::new(upgraded);
    match protocol {
        Protocol::Spdy => {
            let (read, write) = tokio::io::split(socket);
            spdy::serve(read, write, target, gone).await;
        }
        Protocol::Tunnel => {
            let socket = WebSocketStream::from_raw_socket(socket, Role::Server, None).await;
            let (sink, stream) = socket.split();
            let pieces = stream.filter_map(|message| std::future::ready(piece(message)));
            let sink = sink
                .with(|data: Bytes| std::future::ready(Ok::<_, tungstenite::Error>(Message::Binary(data))))
                .sink_map_err(std::io::Error::other);
            spdy::serve(StreamReader::new(pieces), SinkWriter::new(CopyToBytes::new(sink)), target, gone).await;
        }
        Protocol::Channels(subprotocol) => {
            let socket = WebSocketStream::from_raw_socket(socket, Role::Server, None).await;
            channels::serve(socket, subprotocol, ports, target, gone).await;
        }
    }
}

/// What a message adds to the bytes that are tunnelled.
fn piece(message: Result<Message, tungstenite::Error>) -> Option<std::io::Result<Bytes>> {
    match message {
        Ok(Message::Binary(data)) => Some(Ok(data)),
        Ok(Message::Text(text)) => Some(Ok(text.into())),
        Ok(Message::Close(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => None,
        Err(error) => Some(Err(std::io::Error::other(error))),
    }
}

/// Resolves once the pod is not on this node any more.
pub async fn gone(mut view: watch::Receiver<View>) {
    while view.changed().await.is_ok() {}
}

/// The ports of a request for channels: `port=80,81`, or `port` several times.
///
/// # Errors
/// What the client is told, in upstream's words.
pub fn ports<'a>(values: impl Iterator<Item = &'a str>) -> Result<Vec<u16>, String> {
    let mut ports = Vec::new();
    for value in values {
        if value.is_empty() {
            return Err("query parameter \"port\" cannot be empty".into());
        }
        for port in value.split(',') {
            ports.push(number(port)?);
        }
    }
    if ports.len() > channels::MOST {
        return Err(format!("{} ports are too many, at most {} are forwarded at once", ports.len(), channels::MOST));
    }
    if ports.is_empty() { Err("query parameter \"port\" is required".into()) } else { Ok(ports) }
}

fn number(port: &str) -> Result<u16, String> {
    let cause = match port.parse::<u16>() {
        Ok(0) => return Err(format!("port {port:?} must be > 0")),
        // Go takes no sign here.
        Ok(number) if !port.starts_with('+') => return Ok(number),
        Err(error) if *error.kind() == std::num::IntErrorKind::PosOverflow => "value out of range",
        Ok(_) | Err(_) => "invalid syntax",
    };
    Err(format!("unable to parse {port:?} as a port: strconv.ParseUint: parsing {port:?}: {cause}"))
}

#[cfg(test)]
mod tests;
