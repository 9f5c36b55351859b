//! Whatever is wrong with what it is given: a clear error that names the field or the cause, nothing changed, and the
//! server goes on.

mod access;
mod bodies;
mod host;
mod manifests;
mod pods;
mod requests;

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
