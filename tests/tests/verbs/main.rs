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

/// The headings of a table, which may be of several words.
fn headings(text: &str) -> Vec<&str> {
    let first = text.lines().next().unwrap_or_default();
    first.split("  ").map(str::trim).filter(|heading| !heading.is_empty()).collect()
}

/// Asserts that a text has all of these in it, in this order.
#[track_caller]
fn in_order(text: &str, needles: &[&str]) {
    let mut rest = text;
    for needle in needles {
        let Some(at) = rest.find(needle) else {
            panic!("{needle:?} is missing, or not where it should be, in:\n{text}")
        };
        rest = &rest[at + needle.len()..];
    }
}

/// A container that runs until it is told to stop, and then stops at once.
const WAITER: &str = "trap 'exit 0' TERM; sleep 1000 & wait";
