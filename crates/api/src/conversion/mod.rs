//! Kinds that are served in two versions but stored in one: what each says, in the other's words. Pure, over JSON.

pub mod autoscaling;
pub mod event;
