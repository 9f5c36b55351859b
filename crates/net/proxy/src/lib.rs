//! The service data plane: Services, EndpointSlices and the host ports of pods become elements of one nftables table.
//!
//! `view` projects API objects, `plan` turns them into front ends and their endpoints, `diff` finds the smallest change
//! of slots; all three are pure. `layout` and `kernel` write nftables, `stored` reads an earlier run's; `sockets` spares
//! local connections the translation; `planes` has both follow the same plan. `run` watches and drives, `health` tells load balancers where endpoints are. README.md shows a packet's path. The binary and the
//! node agent depend on this crate.

mod affinity;
mod diff;
mod flows;
mod frontend;
mod health;
mod host_ports;
mod kernel;
mod layout;
mod loopback;
mod network;
mod pick;
mod plan;
mod planes;
mod programmed;
mod rules;
mod run;
mod shape;
mod slice_view;
mod sockets;
mod stored;
mod view;
mod world;

pub use affinity::StaleClients;
pub use diff::{Changes, Slots, Step};
pub use frontend::{Affinity, Backends, Endpoint, Family, Frontend, FrontendAddress, Origin, Otherwise, Protocol};
pub use host_ports::{HostPort, HostPorts};
pub use kernel::Kernel;
pub use loopback::ROUTE_LOOPBACK;
pub use network::{Links, Network, ProxyConfig, Tunnel};
pub use pick::Pick;
pub use plan::{Locality, ServicePlan, plan};
pub use run::{Error, Feeds, Proxy, Zone, remove, start};
pub use slice_view::{EndpointView, SliceView};
pub use sockets::{Error as SocketError, Namespaces, SocketConfig, remove as remove_sockets};
pub use view::{PortView, ServiceView, TrafficPolicy};
