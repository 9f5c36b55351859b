//! The service data plane: Services and EndpointSlices become elements of one nftables table.
//!
//! `view` projects API objects, `plan` turns them into front ends and their endpoints, `diff` finds the smallest change
//! of slots; all three are pure. `layout` and `kernel` write nftables, `run` watches and drives. README.md shows a
//! packet's path. The binary and the node agent depend on this crate.

mod affinity;
mod diff;
mod flows;
mod frontend;
mod kernel;
mod layout;
mod pick;
mod plan;
mod programmed;
mod rules;
mod run;
mod view;
mod world;

pub use affinity::StaleClients;
pub use diff::{Changes, Slots, Step};
pub use frontend::{Affinity, Backends, Endpoint, Frontend, FrontendAddress, Origin, Protocol};
pub use kernel::{Kernel, ProxyConfig};
pub use pick::Pick;
pub use plan::{Locality, ServicePlan, plan};
pub use run::{Error, Proxy, remove, start};
pub use view::{EndpointView, PortView, ServiceView, SliceView, TrafficPolicy};
