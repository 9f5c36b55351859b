//! The cluster's DNS, in process on every node. README.md shows the path of a query and what is answered.
//!
//! Follows the Kubernetes DNS specification 1.1.0. May depend on `machinery/client` and `base`.

mod facts;
#[cfg(test)]
mod fixture;
mod forward;
mod handler;
mod host;
mod index;
pub mod keeper;
mod records;
mod reply;
mod settings;
mod walk;
mod watched;
mod zone;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base_sys::route::{IpCidr, RouteKind, RouteSpec, host_prefix};
use base_tasks::Tasks;
use hickory_server::Server;
use machinery_client::kube::Client;

pub use facts::{Endpoint, Port, Protocol, ServiceFacts, ServiceKind, SliceFacts, View};
pub use forward::Forward;
pub use handler::Handler;
pub use zone::Zone;

use crate::watched::Watched;

/// A TCP client that says nothing for this long is let go.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Answers queued for one TCP client.
const TCP_QUEUE: usize = 32;

#[derive(Clone, Debug)]
pub struct Config {
    /// The address DNS is answered on, port 53.
    pub address: IpAddr,
    /// Without dots at its ends: `cluster.local`.
    pub domain: String,
    /// Of pods and Services: nobody else knows the names of these addresses.
    pub ranges: Vec<IpCidr>,
    /// The pods of this node have their searches walked.
    pub node_name: String,
    /// The host's `resolv.conf`.
    pub resolv_conf: PathBuf,
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
        address: IpAddr,
        #[source]
        source: base_sys::route::Error,
    },
}

/// Starts answering under `tasks`; returns once the sockets are open.
pub async fn start(tasks: &Tasks, client: &Client, config: Config) -> Result<(), Error> {
    let here = vec![config.address];
    let zone = Zone::new(&config.domain, here.clone(), config.ranges.clone());
    let Some(zone) = zone else { return Err(Error::Domain { domain: config.domain }) };
    make_local(config.address)?;
    let sockets = {
        let (paths, address) = (config.keeper.clone(), config.address);
        tokio::task::spawn_blocking(move || keeper::sockets(&paths, address))
            .await
            .map_err(|error| Error::Socket(std::io::Error::other(error)))??
    };
    let udp = tokio::net::UdpSocket::from_std(sockets.udp).map_err(Error::Socket)?;
    let tcp = tokio::net::TcpListener::from_std(sockets.tcp).map_err(Error::Socket)?;
    let view = Watched::start(tasks, client, &config.node_name);
    let searches = host::searches(&config.resolv_conf);
    let forward = Arc::new(Forward::new(here, config.resolv_conf));
    watched::follow_settings(tasks, client, &forward);
    let inner = tasks.clone();
    tasks.spawn("serve", async move {
        // Until the lists are in, queries wait in the sockets: a wrong "no such name" would be remembered by clients.
        view.synced().await;
        let mut server = Server::new(Handler { zone, view, forward, searches });
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
pub fn remove_address(address: IpAddr) -> Result<(), base_sys::route::Error> {
    let mut routes = base_sys::route::Route::open()?;
    match routes.apply([base_sys::route::Request::delete_route(&local_route(address))]) {
        Err(error) if error.errno() == Some(nix::errno::Errno::ESRCH as i32) => Ok(()),
        other => other,
    }
}

/// A local route makes the kernel accept packets to the address without any device carrying it.
fn make_local(address: IpAddr) -> Result<(), Error> {
    let add = || {
        let mut routes = base_sys::route::Route::open()?;
        routes.apply([base_sys::route::Request::set_route(&local_route(address))])
    };
    add().map_err(|source| Error::Route { address, source })
}

fn local_route(address: IpAddr) -> RouteSpec {
    /// The loopback device is the first of every network namespace.
    const LOOPBACK: u32 = 1;
    RouteSpec { kind: RouteKind::Local, ..RouteSpec::to_link(address, host_prefix(address), LOOPBACK) }
}

/// Where a data directory keeps the keeper's socket.
pub fn keeper_paths(data_dir: &std::path::Path, cgroup: &str) -> keeper::Paths {
    let dir: PathBuf = data_dir.join("dns");
    keeper::Paths { socket: dir.join("keeper.sock"), directory: dir, cgroup: cgroup.to_owned() }
}
