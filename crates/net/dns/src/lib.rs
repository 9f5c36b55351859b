//! The cluster's DNS, in process on every node.
//!
//! ```text
//! pod ─▶ 10.43.0.10:53 (a local address of the node, no translation)
//!          │ sockets held by the keeper, so that queries queue while this process restarts
//!          ▼
//!       handler ── below the cluster domain ─▶ records (pure, from watched Services and EndpointSlices)
//!          └────── any other name ──────────▶ the host's resolvers
//! ```
//! Follows the Kubernetes DNS specification 1.1.0. May depend on `machinery/client` and `base`.

mod handler;
pub mod keeper;
mod records;
mod watched;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use base_sys::route::{RouteKind, RouteSpec};
use base_tasks::Tasks;
use hickory_resolver::TokioResolver;
use hickory_server::Server;
use machinery_client::kube::Client;

use crate::handler::Handler;
use crate::watched::Watched;

/// A TCP client that says nothing for this long is let go.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Answers queued for one TCP client.
const TCP_QUEUE: usize = 32;

#[derive(Clone, Debug)]
pub struct Config {
    /// The address DNS is answered on, port 53.
    pub address: Ipv4Addr,
    /// Without dots at its ends: `cluster.local`.
    pub domain: String,
    /// Where the keeper listens.
    pub keeper: keeper::Paths,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("getting the sockets of the cluster DNS")]
    Keeper(#[from] keeper::Error),
    #[error("using the sockets of the cluster DNS")]
    Socket(#[source] std::io::Error),
    #[error("the cluster domain {domain:?} is not a domain name")]
    Domain { domain: String },
    #[error("making {address} an address of this node")]
    Route {
        address: Ipv4Addr,
        #[source]
        source: base_sys::route::Error,
    },
}

/// Starts answering under `tasks`; returns once the sockets are open.
pub async fn start(tasks: &Tasks, client: &Client, config: Config) -> Result<(), Error> {
    if hickory_proto::rr::Name::from_ascii(&config.domain).is_err() || config.domain.is_empty() {
        return Err(Error::Domain { domain: config.domain });
    }
    make_local(config.address)?;
    let sockets = {
        let (paths, address) = (config.keeper.clone(), config.address);
        tokio::task::spawn_blocking(move || keeper::sockets(&paths, address))
            .await
            .map_err(|error| Error::Socket(std::io::Error::other(error)))??
    };
    let udp = tokio::net::UdpSocket::from_std(sockets.udp).map_err(Error::Socket)?;
    let tcp = tokio::net::TcpListener::from_std(sockets.tcp).map_err(Error::Socket)?;
    let watched = Watched::start(tasks, client);
    let forward = forwarder();
    let domain = config.domain.to_lowercase();
    let inner = tasks.clone();
    tasks.spawn("serve", async move {
        // Until the lists are in, queries wait in the sockets: a wrong "no such name" would be remembered by clients.
        watched.synced().await;
        let mut server = Server::new(Handler::new(domain, watched, forward));
        server.register_socket(udp);
        server.register_listener(tcp, TCP_IDLE, TCP_QUEUE);
        if let Err(error) = server.block_until_done().await
            && !inner.is_cancelled()
        {
            tracing::error!(error = &error as &dyn std::error::Error, "the cluster DNS stopped");
        }
    });
    Ok(())
}

/// Gives the address back to the network.
///
/// # Errors
/// The kernel's, except that the address is already gone.
pub fn remove_address(address: Ipv4Addr) -> Result<(), base_sys::route::Error> {
    let mut routes = base_sys::route::Route::open()?;
    match routes.apply([base_sys::route::Request::delete_route(&local_route(address))]) {
        Err(error) if error.errno() == Some(nix::errno::Errno::ESRCH as i32) => Ok(()),
        other => other,
    }
}

/// A local route makes the kernel accept packets to the address without any device carrying it.
fn make_local(address: Ipv4Addr) -> Result<(), Error> {
    let add = || {
        let mut routes = base_sys::route::Route::open()?;
        routes.apply([base_sys::route::Request::set_route(&local_route(address))])
    };
    add().map_err(|source| Error::Route { address, source })
}

fn local_route(address: Ipv4Addr) -> RouteSpec {
    /// The loopback device is the first of every network namespace.
    const LOOPBACK: u32 = 1;
    RouteSpec { kind: RouteKind::Local, ..RouteSpec::to_link(address, 32, LOOPBACK) }
}

/// The host's own resolvers; `None` where it has none, and foreign names are refused.
fn forwarder() -> Option<TokioResolver> {
    let builder = TokioResolver::builder_tokio()
        .inspect_err(|error| {
            tracing::warn!(error = error as &dyn std::error::Error, "the host names no resolvers; foreign names fail");
        })
        .ok()?;
    builder.build().ok()
}

/// Where a data directory keeps the keeper's socket.
pub fn keeper_paths(data_dir: &std::path::Path, cgroup: &str) -> keeper::Paths {
    let dir: PathBuf = data_dir.join("dns");
    keeper::Paths { socket: dir.join("keeper.sock"), directory: dir, cgroup: cgroup.to_owned() }
}
