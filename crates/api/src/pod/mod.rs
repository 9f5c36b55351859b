//! Facts about pods that controllers, scheduler, printers and the agent must agree on.

pub mod conditions;
pub mod containers;
pub mod qos;
pub mod requests;

pub use conditions::{is_pod_available, is_pod_ready, is_terminal, set_condition};
pub use qos::qos_class;
