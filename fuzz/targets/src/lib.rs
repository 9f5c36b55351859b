//! The parsers of outside data, each as a function of any bytes: it returns, within time and memory that the input's length
//! justifies, and panics only where a law is broken. libFuzzer and this crate's own tests call the same functions.

#![allow(clippy::result_large_err)] // as the registry does

mod answers;
mod calls;
mod frames;
mod images;
mod kinds;
mod networks;
mod queries;
mod texts;

#[cfg(test)]
mod tests;

pub type Target = fn(&[u8]);

pub const TARGETS: &[(&str, Target)] = &[
    ("body", kinds::body),
    ("patch", kinds::patch),
    ("protobuf", kinds::protobuf),
    ("continue_token", kinds::continue_token),
    ("selectors", texts::selectors),
    ("expression", texts::expression),
    ("definition", texts::definition),
    ("quantity", texts::quantity),
    ("ownership", texts::ownership),
    ("admission_answer", answers::admission),
    ("conversion_answer", answers::conversion),
    ("spdy", frames::spdy),
    ("cri", calls::cri),
    ("layer", images::layer),
    ("image", images::image),
    ("image_name", images::name),
    ("dns", queries::dns),
    ("cni", networks::cni),
];

/// Panics also where there is no target of this name.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(target, _)| *target == name).expect("a target of this name");
    target(data);
}
