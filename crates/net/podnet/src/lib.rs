//! The pod network of one node: addresses, links and routes.
//!
//! No bridge. Each pod gets a veth pair and one address of each of the node's blocks; the host routes to
//! them, and the pod's gateways are link-local addresses answered by the host end:
//!
//! ```text
//!   pod namespace                          node namespace
//!   eth0  10.42.0.5/32  ───── veth ─────   <prefix>0a2a0005   (no address, fixed hardware address)
//!   default via 169.254.1.1 onlink         10.42.0.5 dev <prefix>0a2a0005 src <node address>
//!   169.254.1.1 is ee:ee:ee:ee:ee:ee       10.42.0.5 is 0a:58:0a:2a:00:05
//! ```
//!
//! IPv6 looks the same, with the gateway fe80::1. All neighbour entries are permanent, so no packet ever waits for ARP
//! or NDP. Only links, routes and kernel parameters are
//! made here, and two accepting rules where another program's firewall would drop pods' packets; translation and
//! masquerading are net/proxy's table. [`fabric`] is the way to other nodes' pods, [`announce`] answers for
//! the addresses of load balancers. The node agent depends on this crate.

pub mod announce;
pub mod fabric;
mod firewall;
mod host;
mod lease;
mod link;
mod network;
mod podnet;

/// Letting a host forward packets, for whoever needs it: recorded, and given back when nobody does.
pub mod forwarding {
    pub use crate::host::Error;

    use std::net::IpAddr;
    use std::path::Path;

    use base_sys::route::Route;

    /// Shared by all Sampans of the host and emptied at boot.
    pub const STATE: &str = "/run/sampan";

    /// Between addresses of the families of `addresses`, for `user`, in the calling thread's network namespace.
    /// Idempotent.
    pub fn acquire(user: &str, addresses: &[IpAddr]) -> Result<(), Error> {
        let parameters = crate::host::forwarding(&mut Route::open()?, addresses)?;
        crate::host::acquire(Path::new(STATE), user, &parameters)
    }

    /// Ends `user`'s need.
    pub fn release(user: &str) -> Result<(), Error> {
        crate::host::release(Path::new(STATE), user)
    }
}

pub use network::Network;
pub use podnet::{Error, PodAddresses, PodNet, PodNetConfig};
