//! Supervised tasks and the work queue that reconcilers drain.
//!
//! Every task has an owner that awaits it; cancellation flows down one tree. Knows nothing of Kubernetes.

mod blocking;
mod queue;
mod tasks;

pub use blocking::blocking;
pub use queue::{Backoff, WorkQueue};
pub use tasks::{Shutdown, Tasks};
