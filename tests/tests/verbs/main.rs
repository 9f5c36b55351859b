//! Every verb of kubectl on every kind, with every kubectl at hand, against the real binary.

mod access;
mod admission;
mod aggregation;
mod apply;
mod certificates;
mod crd;
mod kinds_cluster;
mod kinds_workloads;
mod lifecycle;
mod policies;
mod port_forward;
mod reading;
mod rollout;
mod streams;
mod webhooks;
mod writing;

use tests::in_order;

/// The headings of a table, which may be of several words.
fn headings(text: &str) -> Vec<&str> {
    let first = text.lines().next().unwrap_or_default();
    first.split("  ").map(str::trim).filter(|heading| !heading.is_empty()).collect()
}

/// A container that runs until it is told to stop, and then stops at once.
const WAITER: &str = "trap 'exit 0' TERM; sleep 1000 & wait";
