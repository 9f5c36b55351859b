//! The black-box harness: the real binary in a network namespace of its own, the real kubectl, the real kernel.
//!
//! A [`Cluster`] owns a namespace, a data directory and a server process; dropping it runs `sampan uninstall`, and
//! [`Cluster::finish`] also asserts that nothing was left behind. Tests need root and fail without it.

mod api;
mod backend;
mod cluster;
mod containerd;
mod cri;
mod dns;
mod driver;
mod echo;
mod fabric;
mod host;

mod kubeconfig;
mod kubectl;
mod objects;
mod place;
pub mod protobuf;
mod session;
mod table;
mod traffic;
mod wait;
mod webhook;
mod wire;

pub use api::{Api, Reply};
pub use backend::{Asked, Backend, Trust, authority};
pub use cluster::{Cluster, Node, Options, with_every_kubectl};
pub use containerd::Containerd;
pub use dns::{Dig, Resolver};
pub use driver::{Driver, Fault, Options as DriverOptions};
pub use echo::{Echo, Transport};

pub use host::{NODE_IP, NODE_IP6, Namespace, OUTSIDE_IP, OUTSIDE_IP6, binary, image, repository, run};
pub use kubectl::{Answer, kubectl_1_20, kubectls, spdy_kubectls};
pub use place::{Place, first_process, processes};
pub use session::Session;
pub use traffic::{Load, Outcome, Response, get};
pub use wait::eventually;
pub use webhook::Webhook;
pub use wire::{Connector, Http, JSON, PROTOBUF, Stream, Whole, without_node};

/// Panics with the whole chain of an error.
pub fn must<T>(result: anyhow::Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{error:#}"))
}

/// Asserts that a text has all of these in it, in this order.
#[track_caller]
pub fn in_order(text: &str, needles: &[&str]) {
    let mut rest = text;
    for needle in needles {
        let Some(at) = rest.find(needle) else {
            panic!("{needle:?} is missing, or not where it should be, in:\n{text}")
        };
        rest = &rest[at + needle.len()..];
    }
}
