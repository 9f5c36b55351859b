//! NetworkPolicies: whom the pods of this node may talk to, as elements of one nftables table. README.md shows a packet's
//! path.
//!
//! `view` projects API objects, `plan` and `ranges` turn them into classes and what these may reach; all are pure. `layout` and
//! `kernel` write nftables, `run` watches and drives. The binary depends on this crate.

mod kernel;
mod layout;
mod plan;
mod ranges;
mod run;
mod view;
mod world;

pub use kernel::Kernel;
pub use plan::{Allowed, Class, Plan, Side, Snapshot, plan};
pub use ranges::Range;
pub use run::{Config, Error, Policies, remove, start};
pub use view::{
    Direction, Labels, NamedPort, Peer, PodView, PolicyView, PortRule, Ports, Protocol, Rule, namespace, pod, policy,
};
